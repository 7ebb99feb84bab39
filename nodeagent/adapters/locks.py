"""Locks between processes: flock(2) on a file that exists for nothing else."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from nodeagent.errors import Refused

LOCK_TIMEOUT_S: Final = 30.0
_POLL_S: Final = 0.01


@contextmanager
def locked(path: Path, timeout_s: float = LOCK_TIMEOUT_S) -> Iterator[int]:
    """Hold the lock file for the body (flock(2)); raises `Refused` if another holds it too long."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _wait_for_lock(descriptor, path, timeout_s)
        yield descriptor
    finally:
        os.close(descriptor)


def _wait_for_lock(descriptor: int, path: Path, timeout_s: float) -> None:
    until_s = time.monotonic() + timeout_s
    while not try_lock(descriptor):
        if time.monotonic() > until_s:
            raise Refused(f"{path} is locked by another process.")
        time.sleep(_POLL_S)


def try_lock(descriptor: int) -> bool:
    """Take the lock of an open file if nobody has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
