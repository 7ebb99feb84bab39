"""The running Postfix: its processes, flush, reload and restart, and what is being delivered."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from nodeagent.adapters import control_groups
from nodeagent.adapters.clock import boot_time_s
from nodeagent.errors import ToolFailed

SYSTEMD: Final = Path("/run/systemd/system")
SUPERVISED_WITHIN_S: Final = 20.0
"""How long a supervisor may take: one that was told of quick ends waits for seconds."""
COMMAND_LIMIT_S: Final = 30
POLL_S: Final = 0.02

DELIVERY_PROGRAMS: Final = frozenset(
    {"qmgr", "oqmgr", "nqmgr", "smtp", "lmtp", "pipe", "local", "virtual", "error", "discard"}
)
"""Daemons of master(5) that take mail out of the queue; `relay` and `retry` run smtp and error."""


class ProcessStat(NamedTuple):
    """What proc(5) says of one process."""

    name: str
    state: str
    parent: int


class Place(NamedTuple):
    """Who keeps a master running, and where it runs."""

    unit: str | None  # of systemd
    is_supervised: bool  # `postfix start-fg`: something waits for its end and starts it again
    groups: dict[str, str]


def _place_of(pid: int) -> Place:
    groups = control_groups.paths_of(pid)
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        arguments = []
    unit = control_groups.unit_of(groups) if SYSTEMD.is_dir() else None
    return Place(unit, bool({b"-s", b"-i"}.intersection(arguments)), groups)


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
        self._place: Place | None = None

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

    def pids(self) -> frozenset[int]:
        """Return the processes that the master has started and that still run."""
        return frozenset(pid for pid, _name in self._children())

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

    def wait_for_deliveries(self, until_s: float) -> None:
        """Return once no delivery is under way, or at `until_s` of the boot's clock."""
        while self.busy_deliverers() and boot_time_s() < until_s:
            time.sleep(POLL_S)

    def _run(self, *command: str) -> None:
        """Run a command; its output goes to a file, because what it leaves behind keeps that open.

        (`postfix reload` has postsuper(1) look through the whole queue in the background.)
        """
        shown = f"`{' '.join(command)}`"
        with tempfile.TemporaryFile() as output:
            try:
                done = subprocess.run(
                    command, stdout=output, stderr=output, timeout=COMMAND_LIMIT_S, check=False
                )
            except subprocess.TimeoutExpired as error:
                raise ToolFailed(f"{shown} did not end within {COMMAND_LIMIT_S} s.") from error
            output.seek(0)
            said = output.read().decode(errors="replace").strip()
        if done.returncode != 0:
            raise ToolFailed(f"{shown} failed: {said[-300:] or 'the mail log says why.'}")

    def flush(self) -> None:
        """Have every queued message tried now, `postqueue -f` (postqueue(1))."""
        self._run("postqueue", *self._config, "-f")

    def reload(self) -> None:
        """Have Postfix read its configuration again; running sessions end by themselves."""
        self._run("postfix", *self._config, "reload")

    def restart(self) -> None:
        """Stop and start it where it was: sessions break, and for about a second nobody answers.

        In the same unit, under the same supervisor or in the same control groups: a master that ran
        in the agent's own would be frozen together with the agent. Not during a freeze of ours.
        """
        master = self.master_pid()
        if master is not None:
            self._place = _place_of(master)
        place = self._place or Place(None, is_supervised=False, groups={})
        if place.unit is not None:
            self._run("systemctl", "restart", place.unit)
            return
        if master is not None and place.is_supervised:
            self._end(master)
        elif master is not None:
            self._run("postfix", *self._config, "stop")
        if not (place.is_supervised and self._is_started_again()):
            self._start_in(place.groups)

    def _end(self, master: int) -> None:
        """Stop a master that comes back: `postfix stop` would take the next for it, and kill it.

        (It looks once a second, for 5 s, whether any master runs.)
        """
        with suppress(ProcessLookupError):
            os.kill(master, signal.SIGTERM)
        until_s = time.monotonic() + COMMAND_LIMIT_S
        while self.master_pid() == master:
            if time.monotonic() > until_s:
                raise ToolFailed(f"Postfix did not end within {COMMAND_LIMIT_S} s.")
            time.sleep(POLL_S)

    def _is_started_again(self) -> bool:
        until_s = time.monotonic() + SUPERVISED_WITHIN_S
        while self.master_pid() is None and time.monotonic() < until_s:
            time.sleep(0.05)
        return self.master_pid() is not None

    def _start_in(self, groups: dict[str, str]) -> None:
        try:
            self._run("postfix", *self._config, "start")
        except ToolFailed:
            if self.master_pid() is None:
                raise  # else somebody was faster, such as a supervisor that had given up waiting
        master = self.master_pid()
        if master is None:
            raise ToolFailed("Postfix was started and does not run.")
        control_groups.move(master, groups)  # what it starts from now on is born there
        for pid in self.pids():
            control_groups.move(pid, groups)


def _has_open(pid: int, prefix: str) -> bool:
    try:
        links = [str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return False
    return any(link.startswith(prefix) for link in links)
