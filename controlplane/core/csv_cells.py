"""Cells and lines of CSV on the way out (RFC 4180), so that no spreadsheet computes them.

A spreadsheet runs a cell that begins with one of `= + - @` as a formula. Such a cell gets an
apostrophe in front, and so does one that begins with an apostrophe: whoever takes one off again has
the cell as it was. A spreadsheet of another country splits at semicolons or tabs and not at commas,
and then the quotes of a cell do not hold its lines together: so what stands behind any of these
within a cell is guarded as if another cell began there.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

FORMULA_STARTS: Final = "=+-@\t\r\n"
GUARD: Final = "'"
_STARTS: Final = (GUARD, *FORMULA_STARTS)
_RUN: Final = r"""(?='|"*[=+\-@])"""
"""What gets a guard within a cell; quotes that stand before a formula may vanish."""
_UNGUARDED: Final = re.compile(rf"([;\t\r\n]){_RUN}")
_GUARDED: Final = re.compile(rf"([;\t\r\n])'{_RUN}")


def guarded(value: object) -> str:
    """Return a cell: nothing for None, a text without a formula, anything else as it is written."""
    if not isinstance(value, str):
        return "" if value is None else str(value)
    text = _UNGUARDED.sub(r"\1'", value)
    return f"{GUARD}{text}" if text.startswith(_STARTS) else text


def unguarded(cell: str) -> str:
    """Return what a cell of ours, or one that was typed, says; without space around it."""
    text = cell.strip()
    if GUARD not in text:
        return text
    if text[:1] == GUARD and text[1:].startswith(_STARTS):
        text = text[1:]
    return _GUARDED.sub(r"\1", text)


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
