"""Where a push lies before it is judged: one directory a session, one below it a transfer.

A session proves that it lives by the lock it holds on its directory's lock file. A transfer is let
in only for a live session and only into a directory that did not exist before, so that an rsync(1)
that outlives its push can reach nothing that counts. What dead sessions left is removed by the next
one, after the mirror's journal has been replayed.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from nodeagent.adapters.locks import try_lock
from nodeagent.adapters.owner import Owner
from nodeagent.core.rsync_command import StagingPlace
from nodeagent.errors import Refused


class StagingSession:
    """The staging directory of one session; make it under the mirror's lock."""

    def __init__(self, mirror: Path) -> None:
        self.token = os.urandom(16).hex()
        self._path = mirror / "staging" / self.token
        self._path.mkdir(mode=0o700)
        self._lock = os.open(self._path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try_lock(self._lock)

    def close(self) -> None:
        """End the session; its files stay, because the mirror's journal may still need them."""
        os.close(self._lock)


def is_live(session: Path) -> bool:
    """Tell whether the session that made this directory still runs."""
    try:
        descriptor = os.open(session / "lock", os.O_RDWR)
    except OSError:
        return False
    try:
        return not try_lock(descriptor)
    finally:
        os.close(descriptor)


def make_place(mirror: Path, place: StagingPlace, owner: Owner) -> Path:
    """Make the directory of one transfer; raises `Refused` if its session is gone."""
    session = mirror / "staging" / place.token
    if not is_live(session):
        raise Refused("The session of this transfer has ended.")
    path = session / str(place.attempt)
    if path.exists():
        raise Refused("This transfer has been made before.")
    owner.make_directory(path)
    return path


def remove_dead_sessions(mirror: Path) -> None:
    """Remove what sessions left that have ended; the caller holds the mirror's lock."""
    for session in (mirror / "staging").iterdir():
        if not is_live(session):
            shutil.rmtree(session, ignore_errors=True)
