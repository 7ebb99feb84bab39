"""CSV that is read from the database while it is sent: any number of rows, little memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar

from fastapi.responses import StreamingResponse
from sqlmodel import Session

from controlplane.core.csv_cells import csv_lines
from controlplane.store.engine import Database

Row = TypeVar("Row")
EXPORT_PAGE: Final = 500
"""Rows of one snapshot: short enough that nobody waits behind it."""
CSV_ANSWER: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {"text/csv": {"schema": {"type": "string"}}}, "description": "One line each."}
}


def stream_csv(
    name: str, columns: Sequence[str], pages: Iterable[Sequence[Sequence[object]]]
) -> StreamingResponse:
    """Return a file `name`.csv of the rows of all pages."""
    headers = {"Content-Disposition": f'attachment; filename="{name}.csv"'}
    lines = csv_lines(columns, pages)
    return StreamingResponse(lines, media_type="text/csv; charset=utf-8", headers=headers)


def read_pages(
    database: Database, read: Callable[[Session, Row | None], Sequence[Row]], size: int
) -> Iterator[Sequence[Row]]:
    """Yield all that `read` finds, page by page, each from a short snapshot of its own.

    `read` is given the last row of the page before, None for the first page, and returns as many
    as `size` rows while there are more.
    """
    last: Row | None = None
    while True:
        with database.read() as session:
            rows = read(session, last)
        yield rows
        if len(rows) < size:
            return
        last = rows[-1]
