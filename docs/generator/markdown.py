"""Pages, tables and values in Markdown."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Final

NOTE: Final = "<!-- Written by docs/generate.py. Do not edit. -->"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; a bar in a cell is escaped."""
    lines = [list(headings), ["---"] * len(headings), *(list(row) for row in rows)]
    shown = ([cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in shown)


def page(title: str, *parts: str) -> str:
    """Return one whole page."""
    return "\n\n".join([NOTE, f"# {title}", *(part.strip() for part in parts)]) + "\n"


def first_sentence(text: str | None) -> str:
    """Return the first line of a docstring."""
    return inspect.cleandoc(text or "").partition("\n")[0]


def shown(value: object) -> str:
    """Return a value as code; nothing for none."""
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        value = f"{value:g}"
    return "" if value is None or value in ("", ()) else f"`{value}`"
