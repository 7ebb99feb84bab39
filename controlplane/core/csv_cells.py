"""Cells and lines of CSV on the way out (RFC 4180), so that no spreadsheet computes them.

A spreadsheet runs a cell that begins with one of `= + - @` as a formula. Such a cell gets an
apostrophe in front, and so does one that begins with an apostrophe: whoever takes one off again has
the cell as it was.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

FORMULA_STARTS: Final = "=+-@\t\r"
GUARD: Final = "'"


def guarded(value: object) -> str:
    """Return a cell: nothing for None, a text without a formula, anything else as it is written."""
    if not isinstance(value, str):
        return "" if value is None else str(value)
    return f"{GUARD}{value}" if value.startswith((GUARD, *FORMULA_STARTS)) else value


def unguarded(cell: str) -> str:
    """Return what a cell of ours, or one that was typed, says; without space around it."""
    text = cell.strip()
    if text[:1] != GUARD:
        return text
    return text[1:] if text[1:2] in {GUARD, *FORMULA_STARTS} else text


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Return rows as lines that end in CR LF."""
    out = io.StringIO(newline="")
    csv.writer(out).writerows([guarded(value) for value in row] for row in rows)
    return out.getvalue()


def csv_lines(columns: Sequence[str], pages: Iterable[Sequence[Sequence[object]]]) -> Iterator[str]:
    """Yield the columns' names, then page by page what comes."""
    yield csv_text([columns])
    for page in pages:
        if page:
            yield csv_text(page)
