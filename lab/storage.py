"""Where the hosts' disks lie: a directory of this machine, or memory if that will not do."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Final

from lab import kernel
from lab.errors import LabError
from lab.layout import STATE_DIR, Host

_DISKS: Final = STATE_DIR / "hosts"


def prepare() -> None:
    """Make an empty place for the disks, on which an overlay's upper layer can lie."""
    try:
        STATE_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
        _DISKS.mkdir(exist_ok=True)
    except OSError as error:
        raise LabError(f"Cannot make {STATE_DIR}: {error.strerror}.") from error
    if _carries_overlay(_DISKS):
        return
    sys.stderr.write(f"  {STATE_DIR} cannot carry an overlay: the disks are kept in memory\n")
    kernel.mount("tmpfs", _DISKS, "tmpfs", data="mode=700")
    if not _carries_overlay(_DISKS):
        raise LabError(
            "This machine cannot mount an overlay filesystem: load the kernel module `overlay`, or"
            " use a virtual machine of your own."
        )


def prepare_disk(host: Host) -> None:
    """Make the directories of a host's disk; what lies in them stays."""
    for directory in ("upper", "work", "root"):
        (host.disk / directory).mkdir(mode=0o755, parents=True, exist_ok=True)
    (host.spool / "postfix").mkdir(mode=0o755, parents=True, exist_ok=True)
    host.logs.mkdir(exist_ok=True)


def _carries_overlay(directory: Path) -> bool:
    probe = directory / "probe"
    layers = {name: probe / name for name in ("upper", "work", "root")}
    for layer in layers.values():
        layer.mkdir(parents=True)
    data = f"lowerdir=/,upperdir={layers['upper']},workdir={layers['work']},index=off"
    try:
        kernel.mount("overlay", layers["root"], "overlay", data=data)
    except OSError:
        return False
    else:
        kernel.unmount(layers["root"])
        return True
    finally:
        shutil.rmtree(probe)


def remove() -> None:
    """Delete all disks and the lab's own state."""
    for path in reversed(_mounts_below(STATE_DIR)):
        kernel.unmount(path, kernel.MNT_DETACH)
    if STATE_DIR.exists():
        shutil.rmtree(STATE_DIR)


def _mounts_below(directory: Path) -> list[Path]:
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    points = [Path(line.split()[4]) for line in lines]
    return [point for point in points if point.is_relative_to(directory)]
