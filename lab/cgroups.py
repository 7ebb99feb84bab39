"""Control groups: every host has one, with one inside it for each of its services.

Theory of operation. A machine offers the unified hierarchy (cgroup v2), the v1 freezer, or both. A
host's processes join the same path in every hierarchy that there is, so that whatever the node
agent prefers for freezing Postfix finds a group of Postfix alone. Freezing is hierarchical: a host
that stands still and goes on leaves a freeze of the agent's inside it as it was.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from lab.errors import LabError
from lab.layout import CGROUP_NAME

CGROUP_FS: Final = Path("/sys/fs/cgroup")
_SETTLE_S: Final = 10.0


def unified_root() -> Path | None:
    """Where the cgroup v2 hierarchy is mounted, if at all."""
    for root in (CGROUP_FS, CGROUP_FS / "unified"):
        if (root / "cgroup.controllers").exists():
            return root
    return None


def v1_freezer_root() -> Path | None:
    """Where the v1 freezer hierarchy is mounted, if at all."""
    root = CGROUP_FS / "freezer"
    return root if (root / "cgroup.procs").exists() else None


def _hierarchies() -> tuple[Path, ...]:
    found = tuple(root for root in (unified_root(), v1_freezer_root()) if root is not None)
    if not found:
        raise LabError("This machine has neither cgroup v2 nor the v1 freezer at /sys/fs/cgroup.")
    return found


def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _SETTLE_S
    while not condition():
        if time.monotonic() > deadline:
            raise LabError(f"{what} took longer than {_SETTLE_S:g} s.")
        time.sleep(0.002)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="ascii")
    except OSError as error:
        raise LabError(f"Cannot write {text!r} to {path}: {error.strerror}.") from error


class HostGroup:
    """The control group of one host, in every hierarchy."""

    def __init__(self, host: str) -> None:
        self._name = f"{CGROUP_NAME}/{host}"
        self._paths = tuple(root / self._name for root in _hierarchies())
        freezable = [path for path in self._paths if path.parents[1] == unified_root()]
        self._freezing = (freezable or list(self._paths))[0]

    def create(self) -> None:
        """Make the group; it may exist already."""
        for path in self._paths:
            try:
                path.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise LabError(f"Cannot make the cgroup {path}: {error.strerror}.") from error

    def join(self, service: str) -> None:
        """Move the calling process into this host's group for `service`."""
        for path in self._paths:
            (path / service).mkdir(parents=True, exist_ok=True)
            _write(path / service / "cgroup.procs", "0")

    def holds(self, pid: int) -> bool:
        """Tell whether the process is one of this host's."""
        try:
            lines = Path(f"/proc/{pid}/cgroup").read_text(encoding="ascii").splitlines()
        except OSError:
            return False
        return any(f"{line.split(':', 2)[2]}/".startswith(f"/{self._name}/") for line in lines)

    def pids(self) -> set[int]:
        """All processes of the host, as this machine numbers them."""
        found: set[int] = set()
        for group in self._groups():
            with suppress(OSError):
                text = (group / "cgroup.procs").read_text(encoding="ascii")
                found.update(int(word) for word in text.split())
        return found

    @property
    def is_frozen(self) -> bool:
        """Tell whether the host as a whole was made to stand still."""
        with suppress(OSError):
            if self._is_v1:
                state = (self._freezing / "freezer.self_freezing").read_text(encoding="ascii")
            else:
                state = (self._freezing / "cgroup.freeze").read_text(encoding="ascii")
            return state.strip() == "1"
        return False

    def freeze(self) -> None:
        """Make every process of the host stand still; returns when they do."""
        if self._is_v1:
            _write(self._freezing / "freezer.state", "FROZEN")
        else:
            _write(self._freezing / "cgroup.freeze", "1")
        _until(self._stands_still, f"Freezing {self._name}")

    def thaw(self) -> None:
        """Let the host go on; what it froze inside itself stays frozen."""
        if self._is_v1:
            _write(self._freezing / "freezer.state", "THAWED")
        else:
            _write(self._freezing / "cgroup.freeze", "0")

    def kill(self) -> None:
        """End every process at one moment, frozen or not: none sees another one die."""
        if not self._freezing.exists():
            return
        if self.pids():
            self.freeze()
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for group in self._groups():
            for name, text in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
                if (group / name).exists():
                    _write(group / name, text)
        _until(lambda: not self.pids(), f"Ending the processes of {self._name}")

    def remove(self) -> None:
        """Take the group away, which must be empty of processes."""
        for group in self._groups():
            _until(lambda group=group: _is_removed(group), f"Removing {group}")  # type: ignore[misc]

    @property
    def _is_v1(self) -> bool:
        return self._freezing.parents[1] == v1_freezer_root()

    def _stands_still(self) -> bool:
        if self._is_v1:
            state = (self._freezing / "freezer.state").read_text(encoding="ascii")
            return state.strip() == "FROZEN"
        return "frozen 1" in (self._freezing / "cgroup.events").read_text(encoding="ascii")

    def _groups(self) -> Iterator[Path]:
        """All groups of the host, the innermost first."""
        for path in self._paths:
            for directory, _, _ in os.walk(path, topdown=False):
                yield Path(directory)


def _is_removed(group: Path) -> bool:
    try:
        group.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def remove_all() -> None:
    """Kill and remove the groups of all hosts, also of those this version does not know."""
    for root in _hierarchies():
        lab = root / CGROUP_NAME
        if not lab.is_dir():
            continue
        for host in [entry.name for entry in lab.iterdir() if entry.is_dir()]:
            group = HostGroup(host)
            group.kill()
            group.remove()
        _until(lambda lab=lab: _is_removed(lab), f"Removing {lab}")  # type: ignore[misc]
