"""Which queue files were touched since the last push: inotify(7) on the queue directories.

Theory of operation. Every directory of the live queue is watched, hashed sub-directories as they
appear. Events become keys in `Changes`, one log for each reader (a reader is a push to one peer).
IN_ATTRIB is not asked for, because our own hard links raise it; so a file's completion (chmod to
0700) shows at its close, which comes after it, and in the meantime at the writes before it.

A thread reads all the time, so that the kernel's queue does not run over while nobody pushes.
`drain` takes in what is there now, for the moment of the freeze. Where events were lost, or a queue
directory was replaced (the lease guard renames them aside), everything is watched anew and each log
says that it is not complete: its reader has to compare everything.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from inotify_simple import Event, INotify, flags

from nodeagent.core.names import is_queue_id
from nodeagent.core.push_plan import Changes
from nodeagent.core.queue_files import (
    DIRECTORIES,
    MAX_HASH_DEPTH,
    Key,
    Kind,
    is_hash_directory,
    is_message,
)
from nodeagent.errors import ToolFailed

_MASK: Final = (
    flags.MOVED_TO
    | flags.MOVED_FROM
    | flags.DELETE
    | flags.MODIFY
    | flags.CLOSE_WRITE
    | flags.CREATE
    | flags.MOVE_SELF
    | flags.DELETE_SELF
    | flags.ONLYDIR
)
_LOST: Final = flags.Q_OVERFLOW | flags.MOVE_SELF | flags.DELETE_SELF | flags.UNMOUNT
_NEW_DIRECTORY: Final = flags.CREATE | flags.MOVED_TO
_POLL_MS: Final = 200
_GATHER_S: Final = 0.05
_MOST_KEYS: Final = 200_000  # beyond that a full comparison costs less than remembering


class Watched(NamedTuple):
    """One watched directory: what it holds and how many levels of hashing lie above it."""

    path: str
    kind: Kind
    depth: int


class QueueWatch:
    """Watches one live queue; make one a process and close it in the end."""

    def __init__(self, queue_directory: Path) -> None:
        self._root = queue_directory
        self._logs: list[Changes] = []
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._watches: dict[int, Watched] = {}
        self._identities: dict[str, tuple[int, int] | None] = {}
        self._is_lost = False
        self._inotify = _new_inotify()
        self._watch_all()
        self._thread = threading.Thread(target=self._read_on, name="queue-watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread and the watches."""
        self._stopping.set()
        self._thread.join()
        self._inotify.close()

    def open_log(self) -> Changes:
        """Return a log that all later events go into; it begins incomplete."""
        log = Changes(is_complete=False)
        with self._lock:
            self._logs.append(log)
        return log

    def close_log(self, log: Changes) -> None:
        """Stop noting events in a log."""
        with self._lock:
            self._logs = [other for other in self._logs if other is not log]

    def take(self, log: Changes) -> Changes:
        """Take in all events up to now and return what the log has, leaving it empty."""
        with self._lock:
            self._drain()
            taken = Changes(log.touched, log.written, log.is_complete)
            log.touched, log.written, log.is_complete = set(), set(), True
        return taken

    def give_back(self, log: Changes, changes: Changes) -> None:
        """Put back what was taken for a push that came to nothing."""
        with self._lock:
            log.add(changes)

    def _read_on(self) -> None:
        """Wait for events, let some gather, take them in; another thread may do so in between."""
        while not self._stopping.is_set():
            poll = select.poll()
            with self._lock:
                poll.register(self._inotify.fileno(), select.POLLIN)
            poll.poll(_POLL_MS)
            self._stopping.wait(_GATHER_S)
            with self._lock:
                self._drain()

    def _drain(self) -> None:
        while events := self._inotify.read(timeout=0):
            for event in events:
                self._is_lost = self._take_in(event) or self._is_lost
        if self._is_lost or self._identities != self._look_at_directories():
            self._start_anew()

    def _start_anew(self) -> None:
        self._is_lost = True
        for log in self._logs:
            log.is_complete = False
        fresh = _new_inotify()
        self._inotify.close()
        self._inotify = fresh
        self._watch_all()
        self._is_lost = False

    def _look_at_directories(self) -> dict[str, tuple[int, int] | None]:
        return {name: _identity(self._root / name) for name in DIRECTORIES}

    def _watch_all(self) -> None:
        self._watches.clear()
        self._identities = self._look_at_directories()
        for name, kind in DIRECTORIES.items():
            for _key in self._watch(Watched(str(self._root / name), kind, 0)):
                pass

    def _watch(self, directory: Watched) -> Iterator[Key]:
        """Watch a directory and those below it; yield the files that are in them already."""
        try:
            number = self._inotify.add_watch(directory.path, _MASK)
            entries = list(os.scandir(directory.path))
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise ToolFailed(f"{directory.path} cannot be watched: {error.strerror}.") from error
        self._watches[number] = directory
        for entry in entries:
            if is_queue_id(entry.name):
                yield Key(directory.kind, entry.name)
            elif directory.depth < MAX_HASH_DEPTH and is_hash_directory(entry.name):
                yield from self._watch(Watched(entry.path, directory.kind, directory.depth + 1))

    def _take_in(self, event: Event) -> bool:
        """Note one event; True if it says that events were or will be lost."""
        directory = self._watches.get(event.wd)
        if event.mask & flags.IGNORED:
            self._watches.pop(event.wd, None)
            return False
        if event.mask & _LOST:
            return directory is not None or bool(event.mask & flags.Q_OVERFLOW)
        if directory is None:
            return False
        if event.mask & flags.ISDIR:
            self._take_in_directory(event, directory)
        elif is_queue_id(event.name):
            self._note(Key(directory.kind, event.name), is_written=bool(event.mask & flags.MODIFY))
        return False

    def _take_in_directory(self, event: Event, parent: Watched) -> None:
        """Watch a new hash directory; a log in it may have been written to before, mail not."""
        if event.mask & _NEW_DIRECTORY and is_hash_directory(event.name):
            path = f"{parent.path}/{event.name}"
            for key in self._watch(Watched(path, parent.kind, parent.depth + 1)):
                self._note(key, is_written=not is_message(key.kind))

    def _note(self, key: Key, *, is_written: bool) -> None:
        for log in self._logs:
            log.note(key, is_written=is_written)
            if len(log.touched) > _MOST_KEYS:
                log.touched, log.written, log.is_complete = set(), set(), False


def _new_inotify() -> INotify:
    try:
        return INotify()
    except OSError as error:
        raise ToolFailed(f"The queue cannot be watched: {error.strerror}.") from error


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
