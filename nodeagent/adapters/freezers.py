"""Stopping every Postfix process at one instant and letting them go on: one small class each.

A freezer is chosen for a running master process by `find_freezer`, in the order of what the host
offers: the control group of Postfix (v2 `cgroup.freeze`, then the v1 freezer), the Docker container
it runs in, the systemd unit, and as the last resort `postfix stop` and `postfix start`. A frozen
listener still completes TCP handshakes, so clients wait and none is refused; only the last resort
breaks sessions.
"""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path
from typing import Final, Protocol

import structlog

from nodeagent.adapters import control_groups
from nodeagent.adapters.control_groups import CGROUP_ROOT
from nodeagent.errors import ToolFailed

log = structlog.get_logger()

FROZEN_WITHIN_S: Final = 0.5
COMMAND_LIMIT_S: Final = 30.0
_CONTAINER_ID: Final = re.compile(r"(?:docker[-/])([0-9a-f]{64})")


class StillRunning(ToolFailed):
    """Not every process of Postfix stood in time."""


class Freezer(Protocol):
    """`freeze` returns once nothing of Postfix runs any more; both are idempotent.

    Raises `ToolFailed` when the state is not reached; the caller then thaws.
    """

    name: str

    def freeze(self, within_s: float = FROZEN_WITHIN_S) -> None:
        """Stop every process of Postfix; the kernel's own freezers give up after `within_s`."""

    def thaw(self) -> None:
        """Let them go on."""


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError as error:
        raise ToolFailed(f"Cannot write {text!r} to {path}: {error.strerror}.") from error


def _wait_for(path: Path, wanted: str, within_s: float) -> None:
    deadline_s = time.monotonic() + within_s
    while wanted not in _read(path):
        if time.monotonic() > deadline_s:
            raise StillRunning(f"{path} does not say {wanted!r} after {within_s:g} s.")
        time.sleep(0.0002)


def _read(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError as error:
        raise ToolFailed(f"Cannot read {path}: {error.strerror}.") from error


class CgroupV2Freezer:
    """The `cgroup.freeze` file of Postfix's own control group (cgroup-v2.rst)."""

    name = "cgroup-v2"

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def freeze(self, within_s: float = FROZEN_WITHIN_S) -> None:
        """Write 1 and wait until `cgroup.events` says frozen."""
        _write(self._directory / "cgroup.freeze", "1")
        _wait_for(self._directory / "cgroup.events", "frozen 1", within_s)

    def thaw(self) -> None:
        """Write 0."""
        _write(self._directory / "cgroup.freeze", "0")


class CgroupV1Freezer:
    """The freezer controller of Postfix's own control group (freezer-subsystem.rst)."""

    name = "cgroup-v1"

    def __init__(self, directory: Path) -> None:
        self._state = directory / "freezer.state"

    def freeze(self, within_s: float = FROZEN_WITHIN_S) -> None:
        """Write FROZEN and wait until the state, which passes through FREEZING, says so."""
        _write(self._state, "FROZEN")
        _wait_for(self._state, "FROZEN", within_s)

    def thaw(self) -> None:
        """Write THAWED."""
        _write(self._state, "THAWED")


class DockerFreezer:
    """`docker pause` of the container that Postfix's master runs in."""

    name = "docker"

    def __init__(self, container_id: str) -> None:
        self._container_id = container_id

    def _call(self, verb: str) -> None:
        import docker  # noqa: PLC0415 - only hosts with containers pay for the import
        from docker.errors import DockerException  # noqa: PLC0415

        try:
            container = docker.from_env(timeout=2).containers.get(self._container_id)
            if (container.status == "paused") is not (verb == "pause"):
                getattr(container, verb)()
        except DockerException as error:
            raise ToolFailed(f"Docker refuses to {verb} {self._container_id[:12]}.") from error

    def freeze(self, within_s: float = FROZEN_WITHIN_S) -> None:  # noqa: ARG002 - the engine's own
        """Pause the container."""
        self._call("pause")

    def thaw(self) -> None:
        """Unpause the container."""
        self._call("unpause")


class CommandFreezer:
    """Two commands: `systemctl freeze/thaw UNIT`, or `postfix stop/start` as the last resort.

    Where they fail when there is nothing to do, `is_running` is the command that tells: it succeeds
    while Postfix runs.
    """

    def __init__(
        self,
        name: str,
        freeze: tuple[str, ...],
        thaw: tuple[str, ...],
        is_running: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self._freeze = freeze
        self._thaw = thaw
        self._is_running = is_running

    def _is_done(self, *, is_thawed: bool) -> bool:
        if not self._is_running:
            return False
        return (_run(self._is_running).returncode == 0) is is_thawed

    def freeze(self, within_s: float = FROZEN_WITHIN_S) -> None:  # noqa: ARG002 - the tool's own
        """Run the first command."""
        if not self._is_done(is_thawed=False):
            _check(self._freeze)

    def thaw(self) -> None:
        """Run the second command."""
        if not self._is_done(is_thawed=True):
            _check(self._thaw)


def _run(command: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    words = " ".join(command)
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=COMMAND_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ToolFailed(f"`{words}` did not end within {COMMAND_LIMIT_S:g} s.") from error
    except OSError as error:
        raise ToolFailed(f"`{words}` cannot be run: {error.strerror}.") from error


def _check(command: tuple[str, ...]) -> None:
    done = _run(command)
    if done.returncode != 0:
        complaint = done.stderr.strip()[:200] or f"it ended with {done.returncode}."
        raise ToolFailed(f"`{' '.join(command)}` failed: {complaint}")


LAST_RESORT: Final = CommandFreezer(
    "stop-start", ("postfix", "stop"), ("postfix", "start"), is_running=("postfix", "status")
)


def _is_within(path: str, parent: str) -> bool:
    return path == parent or path.startswith(parent.rstrip("/") + "/")


def _own_cgroup_freezer(pid: int, own_pid: int, root: Path) -> Freezer | None:
    """Find the control group that holds the master but not this process."""
    theirs, ours = control_groups.paths_of(pid), control_groups.paths_of(own_pid)
    for mount in (root, root / "unified"):
        directory = mount / theirs.get("", "/").lstrip("/")
        if (
            not _is_within(ours.get("", "/"), theirs.get("", "/"))
            and (directory / "cgroup.freeze").exists()
        ):
            return CgroupV2Freezer(directory)
    path = theirs.get("freezer", "/")
    directory = root / "freezer" / path.lstrip("/")
    if not _is_within(ours.get("freezer", "/"), path) and (directory / "freezer.state").exists():
        return CgroupV1Freezer(directory)
    return None


def find_freezer(master_pid: int, own_pid: int, root: Path = CGROUP_ROOT) -> Freezer:
    """Return the gentlest freezer that this host offers for the Postfix with this master."""
    freezer = _own_cgroup_freezer(master_pid, own_pid, root)
    if freezer is not None:
        return freezer
    paths = control_groups.paths_of(master_pid)
    container = _CONTAINER_ID.search(" ".join(paths.values()))
    if container is not None:
        return DockerFreezer(container.group(1))
    unit = control_groups.unit_of(paths)
    if unit is not None:
        return CommandFreezer("systemd", ("systemctl", "freeze", unit), ("systemctl", "thaw", unit))
    return LAST_RESORT
