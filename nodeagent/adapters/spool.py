"""Entries that wait on this node for the control plane, in an SQLite file of their own.

Entries, their numbers and what is noted beside them change in one transaction: killed at any line,
a spool holds all of an `append` or nothing. Beyond its limit it drops what is worth least, and of
that the oldest, a tenth of the spool at a time; one gap with the number of the last of them says
how many there were. One process may append while another reads and acknowledges.
"""

from __future__ import annotations

import sqlite3
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Final, Generic

from pydantic import ValidationError

from nodeagent.core.stream_wire import GAP, MOST_ENTRIES, Batch, EntryT
from nodeagent.errors import BrokenState

GAP_LENGTH: Final = 500
BATCH_BYTES: Final = 1024 * 1024
ROW_BYTES: Final = 32
"""What an entry takes beside its text, about."""
SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS entries (
    number INTEGER PRIMARY KEY AUTOINCREMENT, size INTEGER NOT NULL, data TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""


class Spool(Generic[EntryT]):
    """One spool; used by one thread of a process. Subclasses say what its entries are."""

    model: type[EntryT]
    batch: type[Batch[EntryT]]
    worth: ClassVar[str] = "NULL"
    """An SQL expression over `data`: entries with more of it are dropped later."""

    def gap(self, text: str, lost: int | None, at: float | None = None) -> EntryT:
        """Return what stands for `lost` entries (None: unknown) up to `at` (None: now)."""
        values = {"at": time.time() if at is None else at, "kind": GAP, "text": text[:GAP_LENGTH]}
        return self.model.model_validate({**values, "lost": lost})

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
        self._size_bytes = self._stored_bytes()

    def _stored_bytes(self) -> int:
        found = self._database.execute("SELECT coalesce(sum(size), 0) FROM entries").fetchone()
        return int(found[0])

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

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise BrokenState(f"{self._path} cannot be used: {error}.") from error

    def _state(self, name: str) -> str | None:
        found = self._database.execute("SELECT value FROM state WHERE name = ?", (name,)).fetchone()
        return None if found is None else str(found[0])

    def state(self, name: str) -> str | None:
        """Return what was noted beside the entries under this name."""
        with self._translated():
            return self._state(name)

    def keep(self, entries: Sequence[EntryT], state: Mapping[str, str]) -> None:
        """Add entries and note `state`; on disk when this returns, or none of it is."""
        rows = [entry.model_dump_json(exclude_defaults=True) for entry in entries]
        sizes = [len(row.encode()) + ROW_BYTES for row in rows]
        with self._translated(), self._transaction():
            self._database.executemany(
                "INSERT INTO entries (size, data) VALUES (?, ?)", zip(sizes, rows, strict=True)
            )
            self._database.executemany(
                "INSERT OR REPLACE INTO state VALUES (?, ?)", list(state.items())
            )
            size_bytes = self._size_bytes + sum(sizes)
            if size_bytes > self._limit_bytes:  # by what is known here; others take entries away
                size_bytes = self._stored_bytes()
            if size_bytes > self._limit_bytes:
                size_bytes = self._drop_some(size_bytes)
        self._size_bytes = size_bytes

    def _drop_some(self, size_bytes: int) -> int:
        """Put one gap in the place of what is worth least; return the size that is left."""
        lost, last, at = 0, 0, 0.0
        dropped: list[tuple[int]] = []
        goal_bytes = self._limit_bytes * 9 // 10
        in_order = f"SELECT number FROM entries ORDER BY {self.worth}, number"  # noqa: S608 - ours
        numbers = self._database.execute(in_order)
        for (number,) in numbers:
            if size_bytes <= goal_bytes:
                break
            size, data = self._database.execute(
                "SELECT size, data FROM entries WHERE number = ?", (number,)
            ).fetchone()
            entry = self._read_entry(data)
            lost += (entry.lost or 0) if entry.kind == GAP else 1
            last, at = max((last, at), (number, entry.at))
            dropped.append((number,))
            size_bytes -= size
        numbers.close()
        text = f"{lost} lines were dropped: the control plane has not taken any for too long."
        gap = self.gap(text, lost, at).model_dump_json(exclude_defaults=True)
        self._database.executemany("DELETE FROM entries WHERE number = ?", dropped)
        row = (last, len(gap) + ROW_BYTES, gap)
        self._database.execute("INSERT INTO entries VALUES (?, ?, ?)", row)
        return size_bytes + row[1]

    def read(self) -> Batch[EntryT] | None:
        """Return the oldest entries, as many as one batch takes; None if there are none."""
        found: list[dict[str, object]] = []
        left_bytes = BATCH_BYTES
        with self._translated():
            rows = self._database.execute(
                "SELECT number, size, data FROM entries ORDER BY number LIMIT ?", (MOST_ENTRIES,)
            ).fetchall()
        for number, size, data in rows:
            left_bytes -= size
            if found and left_bytes < 0:
                break
            found.append({"number": number, "entry": self._read_entry(data)})
        if not found:
            return None
        return self.batch.model_validate({"stream": self.stream, "entries": found})

    def acknowledge(self, number: int) -> None:
        """Drop what the control plane has: everything up to this number."""
        with self._translated(), self._transaction():
            gone = self._database.execute(
                "SELECT coalesce(sum(size), 0) FROM entries WHERE number <= ?", (number,)
            ).fetchone()
            self._database.execute("DELETE FROM entries WHERE number <= ?", (number,))
        self._size_bytes -= int(gone[0])

    def _read_entry(self, data: str) -> EntryT:
        """Return a stored entry; one that only another version of us can read is a gap."""
        try:
            return self.model.model_validate_json(data)
        except ValidationError:
            text = "A line that another version of the agent had kept could not be read."
            return self.gap(text, 1)
