"""The files of one mirror: its layout, its listing, and the check that a copy is whole.

`<root>/<queue>/{mail,hold,defer,bounce,trace}/<id>`, flat; beside them `state.json`, `lock`,
`journal.json`, `receipt.json`, `staging/` and `quarantine/`. The files belong to Postfix's user,
because an adoption only renames them; everything else is root's.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from nodeagent.adapters.durable import sync_directory, sync_filesystem
from nodeagent.adapters.owner import Owner
from nodeagent.adapters.whole_files import find_defect_at_rest
from nodeagent.core.names import is_queue_id
from nodeagent.core.queue_files import (
    MESSAGE_KINDS,
    Facts,
    Key,
    Kind,
    find_defect,
    is_message,
    mode_of,
)

_FEW: Final = 8  # up to here fsync(2) of each file is cheaper than one syncfs(2)


class MirrorFiles:
    """Reads and moves the queue files below one mirror's directory; the caller has the lock."""

    def __init__(self, path: Path, owner: Owner) -> None:
        self.path = path
        self.owner = owner

    def prepare(self) -> None:
        """Make the mirror's directories."""
        self.path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        self.path.mkdir(mode=0o700, exist_ok=True)
        for name in ("staging", "quarantine"):
            (self.path / name).mkdir(mode=0o700, exist_ok=True)
        for kind in Kind:
            if not (self.path / kind).is_dir():
                self.owner.make_directory(self.path / kind)

    def place_of(self, key: Key) -> Path:
        """Return where a key's file is, if the mirror has it."""
        return self.path / key.kind / key.id

    def names(self, kind: Kind) -> Iterator[str]:
        """Yield the queue ids of one kind."""
        for entry in os.scandir(self.path / kind):
            if is_queue_id(entry.name):
                yield entry.name

    def keys(self) -> set[Key]:
        """Return every key that the mirror has."""
        return {Key(kind, name) for kind in Kind for name in self.names(kind)}

    def has(self, key: Key) -> bool:
        """Tell whether the mirror has a file for this key."""
        return os.path.lexists(self.place_of(key))

    def count_messages(self) -> int:
        """Return how many messages the mirror has."""
        return sum(1 for kind in MESSAGE_KINDS for _ in self.names(kind))

    def manifest(self) -> dict[Key, Facts]:
        """Return every key with its size and modification time."""
        found: dict[Key, Facts] = {}
        for kind in Kind:
            for entry in os.scandir(self.path / kind):
                if is_queue_id(entry.name):
                    status = entry.stat(follow_symlinks=False)
                    facts = Facts(status.st_size, status.st_mtime_ns)
                    found[Key(kind, entry.name)] = facts
        return found

    def defect_of(self, key: Key, path: Path, size: int) -> str | None:
        """Return what is wrong with a file that was sent for `key`, None if it is good.

        A log may have grown while it was read: the rest comes with the next push.
        """
        try:
            status = path.lstat()
        except FileNotFoundError:
            return "it was announced but not sent"
        defect = self._defect_of_status(key, status)
        if defect is None and is_message(key.kind):
            if status.st_size != size:
                return f"it has {status.st_size} bytes instead of {size}"
            return find_defect(path.read_bytes())
        if defect is None and status.st_size < size:
            return f"it has {status.st_size} bytes instead of {size} or more"
        return defect

    def defect_at_rest(self, key: Key) -> str | None:
        """Return what is wrong with a message in the mirror; reads it whole only in doubt."""
        path = f"{self.path}/{key.kind}/{key.id}"  # an adoption looks at every message of a queue
        return self._defect_of_status(key, os.lstat(path)) or find_defect_at_rest(path)

    def _defect_of_status(self, key: Key, status: os.stat_result) -> str | None:
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            return "it is not a plain file of its own"
        if status.st_uid != self.owner.uid:
            return f"it belongs to user {status.st_uid}"
        if stat.S_IMODE(status.st_mode) != mode_of(key.kind):
            return f"its mode is {stat.S_IMODE(status.st_mode):04o}"
        return None

    def quarantine(self, key: Key, path: Path) -> bool:
        """Move a bad file into quarantine; True if none of this key is there yet."""
        target = self.path / "quarantine" / f"{key.kind}.{key.id}"
        is_new = not os.path.lexists(target)
        try:
            path.rename(target)
        except FileNotFoundError:
            return is_new
        return is_new

    def sync_staged(self, paths: Iterable[Path]) -> None:
        """Have the content of staged files on disk before anything names them."""
        files = list(paths)
        if len(files) > _FEW:
            sync_filesystem(self.path)
            return
        for path in files:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def move_in(self, keys: Iterable[Key], staging: Path) -> bool:
        """Put staged files in place; what is in place already stays. False: some are nowhere."""
        is_complete = True
        for key in keys:
            source = staging / key.kind / key.id
            if os.path.lexists(source):
                source.rename(self.place_of(key))
            elif not os.path.lexists(self.place_of(key)):
                is_complete = False
        return is_complete

    def remove(self, keys: Iterable[Key]) -> None:
        """Remove files; those that are gone already are no error."""
        for key in keys:
            self.place_of(key).unlink(missing_ok=True)

    def sync_names(self, keys: Iterable[Key]) -> None:
        """Have the names of these files, or their absence, on disk."""
        for kind in {key.kind for key in keys}:
            sync_directory(self.path / kind)

    def messages(self) -> Iterator[Key]:
        """Yield every message key, whole or not."""
        for kind in MESSAGE_KINDS:
            for name in self.names(kind):
                yield Key(kind, name)
