"""A snapshot: hard links to what a push has to send, right for one moment at which Postfix stood.

Theory of operation. What is known to have changed is linked while Postfix runs; that may take long
and some of it may move meanwhile. Then Postfix is frozen, the last events are taken in, and only
the keys that were touched since the beginning are looked at again. So the freeze's length depends
on what happened during the linking, not on the queue. A link shares the inode: what Postfix writes
in place afterwards is seen through it too, and raises an event for the next push.

A snapshot lives until its push is over: from one minute after the link on Postfix logs a warning
about every linked file it looks at.
"""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from nodeagent.adapters.queue_watch import QueueWatch
from nodeagent.core.names import is_queue_id
from nodeagent.core.push_plan import Changes, gone_keys, must_send, places_of
from nodeagent.core.queue_files import (
    DIRECTORIES,
    MAX_HASH_DEPTH,
    Facts,
    Key,
    Kind,
    candidate_paths,
    is_hash_directory,
    is_message,
)
from nodeagent.errors import AgentError


class EventsLost(AgentError):
    """Events of the queue were lost; the next push has to compare everything."""


class FreezeReport(Protocol):
    """What the freezer tells of a freeze; `length_ms` is right once the freeze has ended."""

    @property
    def length_ms(self) -> float:
        """How long Postfix stood."""


Freeze = AbstractContextManager[FreezeReport]
"""Postfix stands still in its body. Entering or leaving raises an `AgentError` where it was not
frozen all the while, or the lease guard objects; then the snapshot is worth nothing."""


@dataclass(frozen=True)
class Base:
    """What a snapshot is compared with: the mirror as it is known to be.

    `is_full`: look at everything; `trust_events`: no event was lost since `known` was true.
    """

    known: Mapping[Key, Facts]
    is_full: bool = False
    trust_events: bool = True


@dataclass(frozen=True)
class Snapshot:
    """One moment of the queue, as far as a push needs it."""

    path: Path
    puts: Mapping[Key, Facts]
    gone: frozenset[Key]
    listed: Mapping[Key, Facts] | None  # everything there is; None: only changes were looked at
    changes: Changes  # all that was taken from the log
    taken_at_s: float  # time.monotonic(), not later than the moment itself
    freeze_ms: float

    def discard(self) -> None:
        """Remove the links; the queue keeps its files."""
        shutil.rmtree(self.path, ignore_errors=True)


@dataclass
class _Draft:
    """A snapshot in the making: what was found, and which of it is linked."""

    path: Path
    base: Base
    changes: Changes
    found: dict[Key, Facts] = field(default_factory=dict)
    linked: dict[Key, int] = field(default_factory=dict)  # the inode

    def wants(self, key: Key, facts: Facts) -> bool:
        """Tell whether the mirror has to be sent this file."""
        base, changes = self.base, self.changes
        return must_send(key, facts, base.known, changes.written, trust_events=base.trust_events)


class Snapshots:
    """Takes snapshots of one live queue into a directory on the same filesystem."""

    def __init__(self, root: Path, queue_directory: Path, watch: QueueWatch) -> None:
        self._root = root
        self._queue = queue_directory
        self._watch = watch
        self._number = 0

    def remove_leftovers(self) -> None:
        """Remove what a killed process left; call it before the first snapshot."""
        if self._root.is_dir():
            for leftover in self._root.iterdir():
                shutil.rmtree(leftover)
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)

    def take(self, log: Changes, base: Base, freeze: Freeze) -> Snapshot:
        """Take one; on any error nothing is left behind and `log` has its changes again."""
        draft = self._begin(log, base)
        with ExitStack() as undo:
            undo.callback(self._undo, draft, log)
            if base.is_full:
                self._look_everywhere(draft)
            else:
                _check(draft.changes)
                self._look_again(draft, draft.changes)
            with freeze as report:
                taken_at_s = time.monotonic()
                late = self._watch.take(log)
                draft.changes.add(late)
                _check(late)
                self._look_again(draft, late)
            undo.pop_all()
        return self._finish(draft, taken_at_s, report.length_ms)

    def _undo(self, draft: _Draft, log: Changes) -> None:
        shutil.rmtree(draft.path, ignore_errors=True)
        self._watch.give_back(log, draft.changes)

    def _begin(self, log: Changes, base: Base) -> _Draft:
        self._number += 1
        path = self._root / str(self._number)
        path.mkdir(mode=0o700, parents=True)
        for kind in Kind:
            (path / kind).mkdir(mode=0o700)
        changes = self._watch.take(log)
        if not changes.is_complete:
            base = replace(base, trust_events=False)
        return _Draft(path, base, changes)

    def _finish(self, draft: _Draft, taken_at_s: float, freeze_ms: float) -> Snapshot:
        puts = {key: draft.found[key] for key in draft.linked}
        if draft.base.is_full:
            gone = frozenset(key for key in draft.base.known if key not in draft.found)
        else:
            gone = gone_keys(draft.changes, draft.found, draft.base.known)
        return Snapshot(
            path=draft.path,
            puts=puts,
            gone=gone,
            listed=dict(draft.found) if draft.base.is_full else None,
            changes=draft.changes,
            taken_at_s=taken_at_s,
            freeze_ms=freeze_ms,
        )

    def _look_everywhere(self, draft: _Draft) -> None:
        """Find every file; one that moves meanwhile is missed here and looked at again later."""
        for kind, entry in self._scan():
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if _is_complete(kind, status):
                self._take_up(draft, Key(kind, entry.name), entry.path, status)

    def _scan(self) -> Iterator[tuple[Kind, os.DirEntry[str]]]:
        for name, kind in DIRECTORIES.items():
            for entry in _entries(self._queue / name, MAX_HASH_DEPTH):
                yield kind, entry

    def _look_again(self, draft: _Draft, changes: Changes) -> None:
        """Look where the touched keys are now; put right what was found of them before."""
        for key in places_of(changes.touched):
            path, status = self._locate(key)
            if status is None:
                draft.found.pop(key, None)
                if draft.linked.pop(key, None) is not None:
                    (draft.path / key.kind / key.id).unlink()
            else:
                self._take_up(draft, key, path, status)

    def _locate(self, key: Key) -> tuple[str, os.stat_result | None]:
        root = str(self._queue)
        for candidate in candidate_paths(key.kind, key.id):
            path = f"{root}/{candidate}"
            try:
                status = os.lstat(path)
            except OSError:
                continue
            if _is_complete(key.kind, status):
                return path, status
        return "", None

    def _take_up(self, draft: _Draft, key: Key, path: str, status: os.stat_result) -> None:
        facts = Facts(status.st_size, status.st_mtime_ns)
        draft.found[key] = facts
        if not draft.wants(key, facts) or draft.linked.get(key) == status.st_ino:
            return
        target = draft.path / key.kind / key.id
        target.unlink(missing_ok=True)
        try:
            os.link(path, target, follow_symlinks=False)
        except FileNotFoundError:
            draft.found.pop(key)
            draft.linked.pop(key, None)
            return
        draft.linked[key] = status.st_ino


def _check(changes: Changes) -> None:
    if not changes.is_complete:
        raise EventsLost


def _is_complete(kind: Kind, status: os.stat_result) -> bool:
    """Tell whether cleanup(8) has finished a message; logs are whole at any time."""
    if not stat.S_ISREG(status.st_mode):
        return False
    return not is_message(kind) or bool(status.st_mode & stat.S_IXUSR)


def _entries(directory: Path | str, depth: int) -> Iterable[os.DirEntry[str]]:
    try:
        entries = list(os.scandir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if is_queue_id(entry.name):
            yield entry
        elif depth and is_hash_directory(entry.name):
            yield from _entries(entry.path, depth - 1)
