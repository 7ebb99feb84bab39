"""CSV that is read from the database while it is sent: any number of rows, little memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from fastapi.responses import StreamingResponse

from controlplane.core.csv_cells import csv_lines

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
