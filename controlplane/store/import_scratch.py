"""What a file names, checked, in order, each entry once: on the disk, however much it is.

A private database without a name: SQLite keeps it in a file that has none either, so nothing is
left of it when the process dies.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from itertools import islice
from types import TracebackType
from typing import Any, Final, Self

from pydantic_core import from_json, to_json

AT_ONCE: Final = 5000
CACHE_KIB: Final = 16_384


class ImportScratch:
    """Entries by a key; for one thread, and gone when it is left."""

    def __init__(self) -> None:
        self._connection = sqlite3.connect("", isolation_level=None)
        self._connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        self._connection.execute("PRAGMA temp_store = FILE")
        self._connection.execute("CREATE TABLE entry (key TEXT, body BLOB)")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._connection.close()

    def keep(self, entries: Iterable[tuple[str, dict[str, Any]]]) -> None:
        """Take in entries and their keys, in the order of the file."""
        rows = ((key, to_json(values)) for key, values in entries)
        self._connection.execute("BEGIN")
        self._connection.executemany("INSERT INTO entry VALUES (?, ?)", rows)
        self._connection.execute("COMMIT")

    def parts(self, size: int) -> Iterator[list[dict[str, Any]]]:
        """Yield the entries in the order of their keys, `size` at a time.

        Of those with one key the last counts. In this order a large list is written to few pages
        of the database's index at a time, and not to all of them again and again.
        """
        source = self._distinct()
        while part := list(islice(source, size)):
            yield from_json(b"[" + b",".join(part) + b"]")

    def _distinct(self) -> Iterator[bytes]:
        found = self._connection.execute("SELECT key, body FROM entry ORDER BY key, rowid")
        last = found.fetchone()
        if last is None:
            return
        while rows := found.fetchmany(AT_ONCE):
            for row in rows:
                if row[0] != last[0]:
                    yield last[1]
                last = row
        yield last[1]
