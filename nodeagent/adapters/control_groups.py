"""Which control groups a process is in, and moving another one there (cgroups(7))."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from nodeagent.errors import ToolFailed

CGROUP_ROOT: Final = Path("/sys/fs/cgroup")
_UNIT: Final = re.compile(r"/([^/]+\.service)$")


def paths_of(pid: int) -> dict[str, str]:
    """Return {controller list: path} of a process as /proc/PID/cgroup gives it."""
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return {}
    fields = [line.split(":", 2) for line in lines]
    return {controllers: path for _hierarchy, controllers, path in fields}


def unit_of(paths: dict[str, str]) -> str | None:
    """Return the systemd service that these paths belong to."""
    found = _UNIT.search(paths.get("name=systemd") or paths.get("", ""))
    return found.group(1) if found is not None else None


def _directories(controllers: str, path: str, root: Path) -> tuple[Path, ...]:
    """Where a hierarchy may be mounted: v2 alone or beside v1, v1 by its controllers."""
    mounts = (
        (root, root / "unified") if not controllers else (root / controllers.rpartition("=")[2],)
    )
    return tuple(mount / path.lstrip("/") for mount in mounts)


def move(pid: int, paths: dict[str, str], root: Path = CGROUP_ROOT) -> None:
    """Move a process to `paths` in every hierarchy where it is elsewhere."""
    present = paths_of(pid)
    for controllers, path in paths.items():
        if present.get(controllers) == path:
            continue
        for directory in _directories(controllers, path, root):
            members = directory / "cgroup.procs"
            try:
                if members.exists():
                    members.write_text(str(pid))
            except ProcessLookupError:
                return
            except OSError as error:
                raise ToolFailed(f"Cannot move {pid} to {directory}: {error.strerror}.") from error
