"""Files that must be on disk before anybody relies on them."""

from __future__ import annotations

import ctypes
import json
import os
from pathlib import Path
from typing import Any

from nodeagent.errors import BrokenState


def sync_directory(path: Path) -> None:
    """Have the names in a directory on disk (fsync(2) of the directory)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_filesystem(path: Path) -> None:
    """Have everything written below the filesystem of `path` on disk (syncfs(2))."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error), str(path))
    finally:
        os.close(descriptor)


def write_durably(path: Path, data: bytes) -> None:
    """Write a file that only root may read, whole or not at all; it and its name are on disk."""
    temporary = path.with_name(path.name + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    sync_directory(path.parent)


def remove_durably(path: Path) -> None:
    """Remove a file if it is there; its absence is on disk."""
    path.unlink(missing_ok=True)
    sync_directory(path.parent)


def read_json(path: Path) -> dict[str, Any] | None:
    """Return a JSON object, None if there is no file; raises `BrokenState` if it is unreadable."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise BrokenState(f"{path} cannot be read.") from error
    if not isinstance(content, dict):
        raise BrokenState(f"{path} does not hold a JSON object.")
    return content
