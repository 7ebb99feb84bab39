"""The policy hook as a real process, in directories of a test's own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nodeagent.errors import AgentError
from nodeagent.policy.courier import HookConnection
from nodeagent.policy.engine.sections import Entry
from nodeagent.policy.stored_policy import StoredPolicy
from tests.policy.policies import manifest_of

SCRIPT = """
import sys
from pathlib import Path
import uvloop
from nodeagent.core.log_format import configure_log
from nodeagent.policy.hook import serve
from nodeagent.settings import load_settings
configure_log()
uvloop.run(serve(load_settings(), Path(sys.argv[1])))
"""
START_S = 60.0


class HookProcess:
    """One hook; `put` gives it a policy as the courier would."""

    def __init__(self, home: Path, run: Path) -> None:
        self.run = run
        self.directory = home / "policy-home"
        (self.directory / "policy").mkdir(parents=True, exist_ok=True)
        self.stored = StoredPolicy(self.directory / "policy")
        self.milter = run / "milter.sock"
        self.process: subprocess.Popen[bytes] | None = None
        self._log = home / "hook.log"

    def start(self) -> None:
        """Start it and wait until it listens to its courier."""
        control = self.run / "courier.sock"
        control.unlink(missing_ok=True)
        environment = os.environ | {"RELAY_AGENT_POLICY_DIRECTORY": str(self.directory)}
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", SCRIPT, str(self.run)],
                env=environment,
                stdout=log,
                stderr=log,
                cwd=Path(__file__).parents[2],
            )
        self.wait_for(lambda: _is_listening(control))

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until it holds, as long as the hook runs."""
        until_s = time.monotonic() + START_S
        while not condition():
            assert self.process is not None
            assert self.process.poll() is None, self.log
            assert time.monotonic() < until_s, self.log
            time.sleep(0.02)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it; return its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(START_S)

    @property
    def log(self) -> str:
        """Return what it printed."""
        return self._log.read_text()

    def ask(self, operation: str, **fields: Any) -> dict[str, Any]:
        """Ask over its own socket; raises `Refused`."""
        connection = HookConnection(self.run / "courier.sock", START_S)
        try:
            return connection.call(operation, **fields)
        finally:
            connection.close()

    def put(self, *entries: Entry, revision: int = 1, **settings: Any) -> str:
        """Put a policy on the disk and have it loaded; return why it was not."""
        manifest, bodies = manifest_of(entries, revision, **settings)
        for name, body in bodies.items():
            self.stored.keep_section(name, body)
        self.stored.offer(manifest)
        try:
            self.ask("load")
        except AgentError as error:
            return str(error)
        self.stored.take_offer()
        return ""


def _is_listening(path: Path) -> bool:
    """Tell whether connections are taken there; uvloop binds first, and listens a moment later."""
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


@contextmanager
def running_hook(home: Path, run: Path) -> Iterator[HookProcess]:
    """Run a hook, and end it with the test."""
    hook = HookProcess(home, run)
    hook.start()
    try:
        yield hook
    finally:
        if hook.process is not None and hook.process.poll() is None:
            hook.process.kill()
            hook.process.wait(START_S)
