"""The few Linux system calls that Python 3.11 has no name for, with errors that name the target."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Final

MS_RDONLY: Final = 0x1
MS_NOSUID: Final = 0x2
MS_NODEV: Final = 0x4
MS_BIND: Final = 0x1000
MS_REC: Final = 0x4000
MS_PRIVATE: Final = 0x40000
MNT_DETACH: Final = 0x2
CLONE_NEWNET: Final = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, target: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), target)


def mount(source: str, target: Path | str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """Attach a filesystem as the manual page of the call has it."""
    result = _libc.mount(
        source.encode(),
        os.fsencode(target),
        kind.encode() or None,
        ctypes.c_ulong(flags),
        data.encode() or None,
    )
    _check(result, str(target))


def bind(source: Path | str, target: Path | str) -> None:
    """Show `source` and all that is mounted below it at `target` as well."""
    mount(os.fspath(source), target, flags=MS_BIND | MS_REC)


def unmount(target: Path | str, flags: int = 0) -> None:
    """Detach a filesystem, see umount2(2)."""
    _check(_libc.umount2(os.fsencode(target), flags), str(target))


def make_root(directory: Path) -> None:
    """Make `directory`, a mount point, this mount namespace's root and drop the old one.

    The same directory is given as the new root and as the place of the old one, which is then
    mounted over it; see the notes of pivot_root(2).
    """
    os.chdir(directory)
    _check(_libc.pivot_root(b".", b"."), str(directory))
    unmount(".", MNT_DETACH)
    os.chdir("/")


def enter_network(netns: str) -> None:
    """Move the calling thread into the named network namespace."""
    handle = os.open(f"/run/netns/{netns}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc.setns(handle, CLONE_NEWNET), netns)
    finally:
        os.close(handle)
