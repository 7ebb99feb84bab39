"""Exports are read page by page: each row once, each page from a snapshot of its own."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlmodel import Session

from controlplane.api.csv_stream import read_pages, stream_csv
from controlplane.store.audit import Actor, AuditFilter, AuditRow, list_entries, record
from controlplane.store.engine import Database

QUIET = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@QUIET
@given(count=st.integers(0, 25), size=st.integers(1, 8))
def test_every_row_comes_once_in_its_order(
    sqlite_database: Database, count: int, size: int
) -> None:
    """Whether the last page is full, short, or empty because the one before was full."""
    asked: list[int | None] = []

    def read(_session: Session, last: int | None) -> list[int]:
        asked.append(last)
        first = 0 if last is None else last + 1
        return list(range(first, min(first + size, count)))

    pages = list(read_pages(sqlite_database, read, size))
    assert [row for page in pages for row in page] == list(range(count))
    assert all(len(page) == size for page in pages[:-1])
    assert len(pages[-1]) < size
    assert asked == [None, *(page[-1] for page in pages[:-1])]


def test_a_change_between_two_pages_waits_for_no_export(sqlite_database: Database) -> None:
    """No transaction is open while a page is sent: what is written meanwhile is on a later one."""

    def read(session: Session, last: AuditRow | None) -> list[AuditRow]:
        before = None if last is None else last.id
        return list(list_entries(session, AuditFilter(before_id=before, limit=2)))

    def write(target: str) -> None:
        with sqlite_database.write() as session:
            record(session, Actor("admin"), "test", target)

    for number in range(3):
        write(str(number))
    pages = read_pages(sqlite_database, read, 2)
    assert [row.target for row in next(pages)] == ["2", "1"]
    write("newer")
    assert [row.target for row in next(pages)] == ["0"]
    assert list(pages) == []


def test_nothing_is_read_before_it_is_asked_for(sqlite_database: Database) -> None:
    """A client that goes away after the first line costs one page."""
    asked: list[int | None] = []

    def read(_session: Session, last: int | None) -> list[int]:
        asked.append(last)
        return [7]

    pages = read_pages(sqlite_database, read, 1)
    assert asked == []
    assert next(pages) == [7]
    assert asked == [None]


@pytest.mark.parametrize("pages", [[], [[]], [[["a", 1]], []]])
def test_a_file_has_its_columns_whatever_was_found(pages: list[list[list[object]]]) -> None:
    """An empty export says what it would have had; its name is offered to the browser."""
    answer = stream_csv("things", ("name", "count"), pages)
    assert answer.headers["content-disposition"] == 'attachment; filename="things.csv"'
    assert answer.media_type == "text/csv; charset=utf-8"
