"""Whose the queue files are; Postfix throws away what does not belong to its user."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import NamedTuple, Self


class Owner(NamedTuple):
    """Whose the queue files are: Postfix's user, in a test without root the caller."""

    uid: int
    gid: int

    @classmethod
    def named(cls, user: str = "postfix") -> Self:
        """Return the owner for a user's name; without root only the caller can own anything."""
        if os.geteuid() != 0:
            return cls(os.geteuid(), os.getegid())
        entry = pwd.getpwnam(user)
        return cls(entry.pw_uid, entry.pw_gid)

    def make_directory(self, path: Path) -> None:
        """Make a directory that this owner may use, mode 0700."""
        path.mkdir(mode=0o700, exist_ok=True)
        if os.geteuid() == 0:
            os.chown(path, self.uid, self.gid)
