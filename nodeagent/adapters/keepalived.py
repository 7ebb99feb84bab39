"""keepalived as the agent sees it: its notify fifo, its track file, and whether it runs."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from nodeagent.core.contract import VrrpState

NOTIFY_LINE: Final = re.compile(rb'INSTANCE "?([^"\s]+)"? (MASTER|BACKUP|FAULT|STOP)')


class Keepalived:
    """The state per VRRP instance as the ordered notify fifo told it (keepalived.conf(5))."""

    def __init__(self, run_directory: Path, pid_file: Path = Path("/run/keepalived.pid")) -> None:
        self.fifo = run_directory / "vrrp.fifo"
        self._fault = run_directory / "fault"
        self._pid_file = pid_file
        self._states: dict[str, VrrpState] = {}

    def prepare(self) -> None:
        """Make the fifo and the track file, so that keepalived can start before the agent."""
        if not self.fifo.exists():
            os.mkfifo(self.fifo, 0o600)
        if not self._fault.exists():
            self.set_fault(is_fault=False)

    @property
    def state(self) -> VrrpState:
        """MASTER if any instance is, else FAULT if any is, else BACKUP; UNKNOWN before any news."""
        for state in (VrrpState.MASTER, VrrpState.FAULT, VrrpState.BACKUP):
            if state in self._states.values():
                return state
        return VrrpState.UNKNOWN

    def take_in(self, line: bytes) -> bool:
        """Note one line of the fifo; tell whether it meant anything."""
        found = NOTIFY_LINE.search(line)
        if found is None:
            return False
        name, state = found.group(1).decode(errors="replace"), found.group(2).decode()
        self._states[name] = VrrpState.UNKNOWN if state == "STOP" else VrrpState(state)
        return True

    def watch(self, on_change: Callable[[], None]) -> threading.Thread:
        """Read the fifo for ever in a thread of its own; open for writing too, so it never ends."""

        def read() -> None:
            with os.fdopen(os.open(self.fifo, os.O_RDWR), "rb", buffering=0) as fifo:
                rest = b""
                while True:
                    *lines, rest = (rest + fifo.read(4096)).split(b"\n")
                    news = [line for line in lines if self.take_in(line)]
                    if news:
                        on_change()

        thread = threading.Thread(target=read, name="notify-fifo", daemon=True)
        thread.start()
        return thread

    def is_fault_set(self) -> bool:
        """Tell whether the track file holds this node in FAULT."""
        try:
            return self._fault.read_text().strip() not in {"", "0"}
        except OSError:
            return False

    def set_fault(self, *, is_fault: bool) -> None:
        """Write the track file in place: keepalived watches the file it has opened by inotify."""
        self._fault.write_text("1\n" if is_fault else "0\n")

    def is_running(self) -> bool | None:
        """Tell whether keepalived runs; None where it was never started."""
        try:
            pid = int(self._pid_file.read_text().strip())
        except (OSError, ValueError):
            return None
        try:
            return Path(f"/proc/{pid}/comm").read_text().strip() == "keepalived"
        except OSError:
            return False
