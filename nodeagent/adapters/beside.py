"""Runs a module of ours as a process beside this one, again whenever it has ended."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import Final

import structlog

log = structlog.get_logger()

REST_S: Final = 5.0
STOP_WITHIN_S: Final = 5.0


class Beside:
    """Starts `python -m MODULE OUR_PID` and watches over it; `stop` ends both.

    The process asks for its parent too late to tell whether that is us: we may be gone by then.
    """

    def __init__(self, module: str) -> None:
        self._module = module
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._watch, name=module, daemon=True)

    def start(self) -> None:
        """Start it; one that cannot be started is tried again later."""
        self._thread.start()

    def stop(self) -> None:
        """End the process and do not start another."""
        self._stopping.set()
        if self._process is not None:
            self._process.terminate()
        self._thread.join(STOP_WITHIN_S)

    def _watch(self) -> None:
        while not self._stopping.is_set():
            try:
                command = [sys.executable, "-m", self._module, str(os.getpid())]
                self._process = subprocess.Popen(command)
            except OSError as error:
                log.warning("not started", module=self._module, reason=str(error))
            else:
                if self._stopping.is_set():
                    self._process.terminate()
                code = self._process.wait()
                if not self._stopping.is_set():
                    log.warning("ended", module=self._module, code=code)
            self._stopping.wait(REST_S)
