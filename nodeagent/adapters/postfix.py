"""The running Postfix: its processes, its flush and reload, and whether a delivery is under way."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Final, NamedTuple

from nodeagent.errors import ToolFailed

DELIVERY_PROGRAMS: Final = frozenset(
    {"qmgr", "oqmgr", "nqmgr", "smtp", "lmtp", "pipe", "local", "virtual", "error", "discard"}
)
"""Daemons of master(5) that take mail out of the queue; `relay` and `retry` run smtp and error."""


class ProcessStat(NamedTuple):
    """What proc(5) says of one process."""

    name: str
    state: str
    parent: int


def _stat(pid: int) -> ProcessStat:
    text = Path(f"/proc/{pid}/stat").read_text()
    name, _, rest = text.partition("(")[2].rpartition(")")
    state, parent = rest.split()[:2]
    return ProcessStat(name, state, int(parent))


class Postfix:
    """One Postfix instance, known by its queue directory."""

    def __init__(self, queue_directory: Path, config_directory: Path | None = None) -> None:
        self.queue_directory = queue_directory
        self._config = ("-c", str(config_directory)) if config_directory is not None else ()

    def master_pid(self) -> int | None:
        """Return the pid of the running master, None when there is none."""
        try:
            pid = int((self.queue_directory / "pid/master.pid").read_text().strip())
            process = _stat(pid)
        except (OSError, ValueError):
            return None
        is_master = process.name == "master" and process.state != "Z"
        return pid if is_master else None

    def _children(self) -> list[tuple[int, str]]:
        master = self.master_pid()
        if master is None:
            return []
        found: list[tuple[int, str]] = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                process = _stat(int(entry.name))
            except OSError:
                continue
            if process.parent == master:
                found.append((int(entry.name), process.name))
        return found

    def deliverers(self) -> list[tuple[int, str]]:
        """Return (pid, program) of the queue manager and of every delivery agent."""
        return [(pid, name) for pid, name in self._children() if name in DELIVERY_PROGRAMS]

    def signal_deliverers(self, number: signal.Signals, only: str | None = None) -> None:
        """Send a signal to the queue manager and all delivery agents, or only to one program."""
        for pid, name in self.deliverers():
            if only in {None, name}:
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    continue

    def busy_deliverers(self) -> int:
        """Count the delivery agents that have a queue file open: their delivery is under way."""
        active = str(self.queue_directory / "active") + "/"
        return sum(
            1
            for pid, name in self.deliverers()
            if name not in {"qmgr", "oqmgr", "nqmgr"} and _has_open(pid, active)
        )

    def _run(self, *command: str) -> None:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        if done.returncode != 0:
            raise ToolFailed(f"`{' '.join(command)}` failed: {done.stderr.strip()[-300:]}")

    def flush(self) -> None:
        """Have every queued message tried now, `postqueue -f` (postqueue(1))."""
        self._run("postqueue", *self._config, "-f")

    def reload(self) -> None:
        """Have Postfix read its configuration again; running sessions end by themselves."""
        self._run("postfix", *self._config, "reload")


def _has_open(pid: int, prefix: str) -> bool:
    try:
        links = [str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return False
    return any(link.startswith(prefix) for link in links)
