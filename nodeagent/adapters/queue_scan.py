"""Looks at the queue directories and reads what a queue file and its deferral log tell.

A directory whose own mtime has not moved since the last look is not read again: a queue of 100,000
waiting messages costs a stat(2) a directory. Now and then everything is read all the same.
"""

from __future__ import annotations

import mmap
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from nodeagent.core.envelope import Deferral, parse_deferrals, parse_envelope
from nodeagent.core.names import is_queue_id, is_stored_id
from nodeagent.core.queue_changes import Stamp
from nodeagent.core.queue_contract import (
    ADDRESS_LENGTH,
    HOST_LENGTH,
    LATEST_S,
    MOST_RECIPIENTS,
    REASON_LENGTH,
    QueuedMessage,
    QueueName,
)
from nodeagent.core.queue_files import MESSAGE_MODE, Kind, candidate_paths

LIVE: Final = (QueueName.INCOMING, QueueName.ACTIVE, QueueName.DEFERRED, QueueName.HOLD)
SETTLE_NS: Final = 2_000_000_000  # a directory that moved this lately may move again unnoticed
WHOLE_EVERY: Final = 30  # looks
DEFER_LOG_BYTES: Final = 256 * 1024
_IN_QUEUE = re.compile(r"/(?:incoming|active|deferred|hold)/")


class _Directory(NamedTuple):
    inode: int
    mtime_ns: int
    read_at_ns: int
    files: dict[str, Stamp]
    below: tuple[str, ...]


class QueueScan:
    """One node's live queue, and its queue set aside."""

    def __init__(self, live: Path, relay: Path) -> None:
        self._live = live
        self._relay = relay
        self._known: dict[str, _Directory] = {}
        self._looks = 0

    def look(self) -> dict[str, Stamp]:
        """Return every complete message by id; one that moves meanwhile may be missing once."""
        if self._looks % WHOLE_EVERY == 0:
            self._known.clear()
        self._looks += 1
        before, self._known = self._known, {}
        found: dict[str, Stamp] = {}
        for queue, root in self._places():
            for stamps in self._walk(str(root), queue, before):
                found.update(stamps)
        return found

    def _places(self) -> Iterator[tuple[QueueName, Path]]:
        """Yield the queues as mail passes through them, so that one on its way is not missed."""
        for aside in sorted(self._relay.glob("pending/*")):
            for queue in LIVE:
                yield QueueName.PENDING, aside / queue
        for queue in LIVE:
            yield queue, self._live / queue

    def _walk(
        self, path: str, queue: QueueName, before: dict[str, _Directory]
    ) -> Iterator[dict[str, Stamp]]:
        try:
            status = Path(path).stat()
            known = before.get(path)
            if known is None or not _is_same(known, status):
                known = _read(path, queue, status)
        except OSError:
            return  # gone, or moved aside: the next look sees where to
        self._known[path] = known
        yield known.files
        for name in known.below:
            yield from self._walk(f"{path}/{name}", queue, before)


def _is_same(known: _Directory, status: os.stat_result) -> bool:
    is_settled = known.mtime_ns < known.read_at_ns - SETTLE_NS
    return is_settled and (known.inode, known.mtime_ns) == (status.st_ino, status.st_mtime_ns)


def _read(path: str, queue: QueueName, status: os.stat_result) -> _Directory:
    read_at_ns = time.time_ns()
    files: dict[str, Stamp] = {}
    below = []
    with os.scandir(path) as entries:
        for entry in entries:
            if len(entry.name) == 1:
                below.append(entry.name)
            elif is_stored_id(entry.name):
                stamp = _stamp(entry, queue)
                if stamp is not None:
                    files[entry.name] = stamp
    return _Directory(status.st_ino, status.st_mtime_ns, read_at_ns, files, tuple(below))


def _stamp(entry: os.DirEntry[str], queue: QueueName) -> Stamp | None:
    try:
        status = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None
    if status.st_mode & 0o777 != MESSAGE_MODE:
        return None  # still being written
    return Stamp(queue, entry.path, status.st_mtime_ns, status.st_size)


def read_message(queue_id: str, stamp: Stamp) -> QueuedMessage | None:
    """Return what is known of a message, None when it has moved on or cannot be read."""
    try:
        with (
            Path(stamp.path).open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            envelope = parse_envelope(data)
    except (OSError, ValueError):  # mmap refuses an empty file
        return None
    if envelope is None:
        return None
    deferrals = read_deferrals(stamp.path)
    last = next((deferrals[one] for one in envelope.recipients if one in deferrals), None)
    return QueuedMessage(
        id=queue_id,
        queue=stamp.queue,
        arrived_at=min(envelope.arrived_at, LATEST_S),
        size_bytes=envelope.size_bytes,
        sender=envelope.sender[:ADDRESS_LENGTH],
        recipients=tuple(one[:ADDRESS_LENGTH] for one in envelope.recipients[:MOST_RECIPIENTS]),
        recipient_count=len(envelope.recipients),
        next_hop=last.host[:HOST_LENGTH] if last is not None and last.host else None,
        reason=last.reason[:REASON_LENGTH] if last is not None else "",
    )


def read_deferrals(path: str) -> dict[str, Deferral]:
    """Return the deferrals of the message at `path`; none when it was never tried."""
    root = path[: list(_IN_QUEUE.finditer(path))[-1].start()]
    for log in _deferral_logs(path.rpartition("/")[2]):
        try:
            with Path(root, log).open("rb") as file:
                return parse_deferrals(file.read(DEFER_LOG_BYTES).decode(errors="replace"))
        except OSError:
            continue
    return {}


def _deferral_logs(queue_id: str) -> Iterator[str]:
    if is_queue_id(queue_id):
        yield from candidate_paths(Kind.DEFER, queue_id)
    else:
        yield from (f"defer/{queue_id[0]}/{queue_id}", f"defer/{queue_id}")
