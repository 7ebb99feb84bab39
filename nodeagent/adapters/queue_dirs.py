"""Renames between the live queue, `pending`, the mirrors and `retired`: all on one filesystem.

Only the lease guard calls this module, under its own lock and after its own look at the deadline.
Nothing is copied, and nothing is deleted but empty directories and, by `remove_retired`, mail that
another node owns. Each call may be killed at any line and repeated. Directories belong to Postfix's
user with mode 0700, or qmgr(8) dies.

A message of ours that is not whole, as a power loss may leave it, does not come back: it goes to
quarantine and is reported. Retired mail is not judged.

Long queue ids survive a move. Mail that waited in `incoming` or `active` comes back into
`incoming`, as qmgr(8) does at its own start; deferred and held mail keeps its place.
"""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nodeagent.adapters.durable import sync_filesystem
from nodeagent.adapters.whole_files import find_defect_at_rest
from nodeagent.core.names import is_queue_id
from nodeagent.core.queue_files import hashed_directory

MAIL_QUEUES: Final = ("incoming", "active", "deferred", "hold")
LOG_QUEUES: Final = ("defer", "bounce", "trace")
HASHED_QUEUES: Final = frozenset({"deferred", "defer"})
COMPLETE: Final = stat.S_IXUSR
BATCH: Final = 1000


@dataclass(frozen=True)
class QueueDirs:
    """Where the live queue is and where this node keeps what is not in it."""

    live: Path
    relay: Path
    owner: str = "postfix"

    @property
    def pending(self) -> Path:
        """Own queues set aside, one directory a fence."""
        return self.relay / "pending"

    @property
    def retired(self) -> Path:
        """Own mail that a receipt gave to another node, one directory a receipt."""
        return self.relay / "retired"

    @property
    def quarantine(self) -> Path:
        """Own messages that were not whole when they were to come back."""
        return self.relay / "quarantine"

    def make_directory(self, path: Path) -> None:
        """Create `path` and its parents below our roots as Postfix would: its user, 0700.

        It gets its owner before its name, so that a kill leaves none that Postfix cannot use.
        """
        if path.is_dir():
            return
        if path == self.relay:
            path.mkdir(mode=0o755, parents=True)
            return
        self.make_directory(path.parent)
        self.make_directory(self.relay)
        fresh = self.relay / "fresh"
        fresh.mkdir(mode=0o700, exist_ok=True)
        if os.geteuid() == 0:
            user = pwd.getpwnam(self.owner)
            os.chown(fresh, user.pw_uid, user.pw_gid)
        fresh.rename(path)


def files_below(directory: Path) -> Iterator[Path]:
    """Yield all below `directory` but directories; one that is not there has nothing."""
    if not directory.is_dir():
        return
    for entry in os.scandir(directory):
        if entry.is_dir(follow_symlinks=False):
            yield from files_below(Path(entry.path))
        else:
            yield Path(entry.path)


def has_files(directory: Path) -> bool:
    """Tell whether any file is below `directory`."""
    return next(files_below(directory), None) is not None


def pending_ids(dirs: QueueDirs) -> list[str]:
    """Return the queue id of every pending message that a receipt can name, in no order.

    Mail under a short id, from before the relay, was never pushed: nobody else can own it.
    """
    return [
        path.name
        for aside in sorted(dirs.pending.glob("*"))
        for queue in MAIL_QUEUES
        for path in files_below(aside / queue)
        if is_queue_id(path.name)
    ]


def set_aside(dirs: QueueDirs) -> int:
    """Rename the whole live queue into a new directory below `pending`; return its file count.

    Nothing of Postfix may run meanwhile. Files that cleanup(8) is still writing (mode 0600) go back
    into the live queue under the same name: they are new mail, which nobody else can have.
    Directories that an earlier call, killed, left without a successor are made in any case.
    """
    if not dirs.live.is_dir():
        return 0
    for queue in MAIL_QUEUES + LOG_QUEUES:
        dirs.make_directory(dirs.live / queue)
    if not any(has_files(dirs.live / queue) for queue in MAIL_QUEUES + LOG_QUEUES):
        return 0
    aside = dirs.pending / f"{time.time_ns():020d}"
    dirs.make_directory(aside)
    for queue in MAIL_QUEUES + LOG_QUEUES:
        (dirs.live / queue).rename(aside / queue)
        dirs.make_directory(dirs.live / queue)
    for path in list(files_below(aside / "incoming")):
        if not path.stat().st_mode & COMPLETE:
            _move(dirs, path, dirs.live / path.relative_to(aside))
    return sum(1 for _ in files_below(aside))


def _move(dirs: QueueDirs, source: str | Path, target: str | Path) -> None:
    try:
        os.rename(source, target)  # noqa: PTH104 - called for every message of a long queue
    except FileNotFoundError:
        dirs.make_directory(Path(target).parent)
        os.rename(source, target)  # noqa: PTH104 - the same


def _way_back(dirs: QueueDirs, aside: Path, path: Path, retired: Mapping[str, int]) -> Path:
    """Return where one pending file belongs: retired, or its place in the live queue.

    The mtime of a receipt's directory says when something was put there last: its age counts anew
    from before the move.
    """
    relative = path.relative_to(aside)
    queue = relative.parts[0]
    if path.name in retired:
        receipt = dirs.retired / str(retired[path.name])
        dirs.make_directory(receipt)
        os.utime(receipt)
        return receipt / queue / path.name
    if queue == "active":
        return dirs.live / "incoming" / path.name
    return dirs.live / relative


def _defect_of(aside: Path, path: Path) -> str | None:
    """Return what is wrong with a pending message; logs and unfinished mail are not judged."""
    is_mail = path.relative_to(aside).parts[0] in MAIL_QUEUES and is_queue_id(path.name)
    if not is_mail or not path.lstat().st_mode & COMPLETE:
        return None
    return find_defect_at_rest(path)


def take_back(
    dirs: QueueDirs, retired: Mapping[str, int], report: Callable[[str], None], limit: int = BATCH
) -> bool:
    """Move up to `limit` pending files: into `retired` if listed there, else into the live queue.

    `retired` maps queue id to receipt number; `report` is told what went to quarantine instead.
    Returns True once nothing is pending any more.
    """
    moved = 0
    for aside in sorted(dirs.pending.glob("*")):
        for path in files_below(aside):
            if moved >= limit:
                return False
            moved += 1
            defect = None if path.name in retired else _defect_of(aside, path)
            if defect is None:
                _move(dirs, path, _way_back(dirs, aside, path, retired))
            else:
                name = f"{path.relative_to(aside).parts[0]}/{path.name}"
                report(f"{name} is not used: {defect}.")
                _move(dirs, path, dirs.quarantine / name.replace("/", "."))
        _remove_empty(aside)
    return True


def _remove_empty(directory: Path) -> None:
    """Remove a directory that has nothing but directories below it; raises OSError otherwise."""
    for entry in list(os.scandir(directory)):
        if entry.is_dir(follow_symlinks=False):
            _remove_empty(Path(entry.path))
    directory.rmdir()


def _names_in(directory: Path) -> Iterator[str]:
    """Yield what is in a flat directory; one that is not there has nothing."""
    if directory.is_dir():
        yield from (entry.name for entry in os.scandir(directory))


def _adopted_files(mirror: Path) -> Iterator[tuple[str, str, str]]:
    """Yield (kind, queue id, queue) of what an adoption places, in the order of placing.

    The bounce logs go first, so that a message never runs without its history. The deferral logs
    stay behind but for held mail: qmgr(8) removes the one of a message that it takes out of
    `incoming`, before the attempt that writes a new one.
    """
    for log in LOG_QUEUES:
        if log != "defer":
            yield from ((log, name, log) for name in _names_in(mirror / log))
    for name in _names_in(mirror / "hold"):
        if (mirror / "defer" / name).exists():
            yield "defer", name, "defer"
    yield from (("hold", name, "hold") for name in _names_in(mirror / "hold"))
    yield from (("mail", name, "incoming") for name in _names_in(mirror / "mail"))


def place_adopted(
    dirs: QueueDirs,
    mirror: Path,
    ids: frozenset[str],
    report: Callable[[str], None],
    limit: int = BATCH,
) -> bool:
    """Move up to `limit` of a receipt's files from a mirror into the live queue.

    A file whose name is taken in the live queue goes to the mirror's quarantine and is reported.
    Returns True once nothing of the receipt is left to be placed, and the renames are on disk.
    """
    moved = 0
    for kind, name, queue in _adopted_files(mirror):
        if name not in ids:
            continue
        if moved >= limit:
            return False
        moved += 1
        hashed = f"{hashed_directory(name)}/" if queue in HASHED_QUEUES else ""
        place = f"{dirs.live}/{queue}/{hashed}{name}"
        if os.path.lexists(place):
            report(f"{kind}/{name} is in the live queue already; the copy is kept.")
            place = f"{mirror}/quarantine/{kind}.{name}"
        _move(dirs, f"{mirror}/{kind}/{name}", place)
    sync_filesystem(dirs.live)
    return True


def retired_ages_s(dirs: QueueDirs) -> dict[int, float]:
    """Return, by receipt, how long ago mail was retired under it last, by the wall clock."""
    return {
        int(receipt.name): time.time() - receipt.stat().st_mtime
        for receipt in dirs.retired.glob("*")
        if receipt.name.isdigit()
    }


def remove_retired(
    dirs: QueueDirs, receipts: Iterable[int], older_than_s: float, limit: int = BATCH
) -> bool:
    """Remove up to `limit` files of those of these receipts that were retired that long ago.

    A clock that has jumped back makes an age negative, and then nothing is removed. Returns True
    once nothing is left to be removed.
    """
    removed = 0
    old = {number for number, age_s in retired_ages_s(dirs).items() if age_s >= older_than_s}
    for number in old.intersection(receipts):
        receipt = dirs.retired / str(number)
        for path in files_below(receipt):
            if removed >= limit:
                return False
            path.unlink()
            removed += 1
        shutil.rmtree(receipt)
    return True
