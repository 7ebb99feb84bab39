"""The message trace that waits on this node for the control plane, in an SQLite file of its own.

Entries, their numbers and the place in the log up to which they were read change in one
transaction: killed at any line, the agent reads on where the stored entries end. Beyond its limit
the spool drops the oldest, a tenth of it at a time, and one gap with the number of the last of them
says how many there were.
"""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from nodeagent.adapters.mail_log import Position
from nodeagent.core.trace_wire import (
    MOST_ENTRIES,
    NumberedEntry,
    TraceBatch,
    TraceEntry,
    TraceKind,
)
from nodeagent.errors import BrokenState

BATCH_BYTES: Final = 1024 * 1024
ROW_BYTES: Final = 32
"""What an entry takes beside its text, about."""
SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS entries (
    number INTEGER PRIMARY KEY AUTOINCREMENT, size INTEGER NOT NULL, data TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""


class TraceSpool:
    """One spool; used by one thread, and by one process at a time."""

    def __init__(self, path: Path, limit_bytes: int) -> None:
        """Open or make it; one that cannot be read is put aside and raises `BrokenState`."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = path
        self._limit_bytes = limit_bytes
        try:
            self._open()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):  # such as a full disk
                raise BrokenState(f"{path} cannot be opened: {error}.") from error
            self._put_aside()
            raise BrokenState(f"{path} could not be read ({error}) and was put aside.") from error

    def _open(self) -> None:
        self._path.touch(mode=0o600)
        self._database = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=FULL")
        self._database.executescript(SCHEMA)
        with self._transaction():
            self._database.execute(
                "INSERT OR IGNORE INTO state VALUES ('stream', ?)", (uuid.uuid4().hex,)
            )
        self.stream = str(self._state("stream"))
        found = self._database.execute("SELECT coalesce(sum(size), 0) FROM entries").fetchone()
        self._size_bytes = int(found[0])

    def _put_aside(self) -> None:
        self._database.close()
        for suffix in ("", "-wal", "-shm"):
            part = self._path.with_name(self._path.name + suffix)
            if part.exists():
                part.rename(self._path.with_name(f"{self._path.name}.broken{suffix}"))

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        with self._database:  # commits, or rolls back on any exception
            yield

    def _state(self, name: str) -> str | None:
        found = self._database.execute("SELECT value FROM state WHERE name = ?", (name,)).fetchone()
        return None if found is None else str(found[0])

    def position(self) -> Position | None:
        """Return how far the log was read, None before the first line."""
        with _translated(self._path):
            text = self._state("position")
        try:
            return None if text is None else Position(**json.loads(text))
        except (TypeError, ValueError) as error:
            raise BrokenState(f"{self._path} holds no place in the log.") from error

    def append(self, entries: Sequence[TraceEntry], position: Position | None) -> None:
        """Keep what was read, and how far; it is on disk when this returns, or none of it is."""
        rows = [entry.model_dump_json(exclude_defaults=True) for entry in entries]
        sizes = [len(row.encode()) + ROW_BYTES for row in rows]
        with _translated(self._path), self._transaction():
            self._database.executemany(
                "INSERT INTO entries (size, data) VALUES (?, ?)", zip(sizes, rows, strict=True)
            )
            if position is not None:
                self._database.execute(
                    "INSERT OR REPLACE INTO state VALUES ('position', ?)",
                    (json.dumps(asdict(position)),),
                )
            size_bytes = self._size_bytes + sum(sizes)
            if size_bytes > self._limit_bytes:
                size_bytes = self._drop_oldest(size_bytes)
        self._size_bytes = size_bytes

    def _drop_oldest(self, size_bytes: int) -> int:
        """Put one gap in the place of the oldest entries; return the size that is left."""
        lost, last, at = 0, 0, 0.0
        goal_bytes = self._limit_bytes * 9 // 10
        rows = self._database.execute("SELECT number, size, data FROM entries ORDER BY number")
        for number, size, data in rows:
            if size_bytes <= goal_bytes:
                break
            entry = _read_entry(data)
            lost += (entry.lost or 0) if entry.kind is TraceKind.GAP else 1
            last, at = number, entry.at
            size_bytes -= size
        rows.close()
        text = f"{lost} lines were dropped: the control plane has not taken any for too long."
        gap = TraceEntry(at=at, kind=TraceKind.GAP, text=text, lost=lost).model_dump_json(
            exclude_defaults=True
        )
        self._database.execute("DELETE FROM entries WHERE number <= ?", (last,))
        row = (last, len(gap) + ROW_BYTES, gap)
        self._database.execute("INSERT INTO entries VALUES (?, ?, ?)", row)
        return size_bytes + row[1]

    def read(self) -> TraceBatch | None:
        """Return the oldest entries, as many as one batch takes; None if there are none."""
        found: list[NumberedEntry] = []
        left_bytes = BATCH_BYTES
        with _translated(self._path):
            rows = self._database.execute(
                "SELECT number, size, data FROM entries ORDER BY number LIMIT ?", (MOST_ENTRIES,)
            ).fetchall()
        for number, size, data in rows:
            left_bytes -= size
            if found and left_bytes < 0:
                break
            entry = _read_entry(data)
            found.append(NumberedEntry(number=number, entry=entry))
        return TraceBatch(stream=self.stream, entries=tuple(found)) if found else None

    def acknowledge(self, number: int) -> None:
        """Drop what the control plane has: everything up to this number."""
        with _translated(self._path), self._transaction():
            gone = self._database.execute(
                "SELECT coalesce(sum(size), 0) FROM entries WHERE number <= ?", (number,)
            ).fetchone()
            self._database.execute("DELETE FROM entries WHERE number <= ?", (number,))
        self._size_bytes -= int(gone[0])


def _read_entry(data: str) -> TraceEntry:
    """Return a stored entry; one that only another version of us can read is a gap."""
    try:
        return TraceEntry.model_validate_json(data)
    except ValidationError:
        text = "A line that another version of the agent had kept could not be read."
        return TraceEntry(at=time.time(), kind=TraceKind.GAP, text=text, lost=1)


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise BrokenState(f"{path} cannot be used: {error}.") from error
