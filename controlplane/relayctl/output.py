"""Prints answers: tables for people, JSON for programs, one sentence for errors."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from controlplane.relayctl.errors import CtlError

PIPE_WIDTH: Final = 200
MINUTE_S: Final = 60
_COMMANDS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters but tab and line feed, and what turns the direction of writing."""

Columns = Mapping[str, str | Callable[[Any], object]]
"""The columns of a list, by heading: the name of a field, or what works a cell out of an item."""

JsonFlag = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]


def _console(*, is_error: bool = False) -> Console:
    stream = sys.stderr if is_error else sys.stdout
    width = None if stream.isatty() else PIPE_WIDTH
    return Console(file=stream, width=width, markup=False, highlight=False, soft_wrap=False)


def print_json(data: Any, *, is_one_line: bool = False) -> None:
    """Print an answer for programs."""
    indent = None if is_one_line else 2
    sys.stdout.write(json.dumps(data, indent=indent, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def print_done(answer: object, sentence: str, *, as_json: bool) -> None:
    """Print what a change led to: the answer for programs, a sentence for people."""
    if as_json:
        print_json(answer)
    else:
        print_line(sentence)


def given(**values: object) -> dict[str, object]:
    """Return the options that were given."""
    return {name: value for name, value in values.items() if value is not None}


def print_line(text: str) -> None:
    """Print one line for people."""
    _console().print(Text(visible(text)), soft_wrap=True)


def print_note(text: str) -> None:
    """Print one line that is no part of the answer."""
    _console(is_error=True).print(Text(visible(text)), soft_wrap=True)


def print_table(headings: Sequence[str], rows: Iterable[Sequence[object]], empty: str) -> None:
    """Print rows under headings, or the sentence `empty` when there are none."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    listed = list(rows)
    for row in listed:
        table.add_row(*(Text(visible(cell(value))) for value in row))
    if listed:
        _console().print(table)
    else:
        print_line(empty)


def print_list(
    listed: Sequence[Mapping[str, Any]],
    columns: Columns,
    empty: str,
    *,
    as_json: bool,
) -> None:
    """Print a list: JSON for programs, a table for people."""
    if as_json:
        print_json(listed)
        return
    rows = [
        tuple(
            one[column] if isinstance(column, str) else column(one) for column in columns.values()
        )
        for one in listed
    ]
    print_table(tuple(columns), rows, empty)


def print_more(after: str | None) -> None:
    """Say how to go on, if there is more."""
    if after is not None:
        print_note(f"There is more: --after {after}")


def print_one(answer: Mapping[str, Any], *, as_json: bool) -> None:
    """Print one thing with all its fields."""
    if as_json:
        print_json(answer)
    else:
        print_facts(answer)


def print_facts(facts: Mapping[str, object]) -> None:
    """Print names and values, one a line."""
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in facts.items():
        table.add_row(Text(name, style="bold"), Text(visible(cell(value))))
    _console().print(table)


def print_error(error: CtlError) -> None:
    """Print one sentence, and one for each field at fault."""
    console = _console(is_error=True)
    console.print(Text(visible(f"relayctl: {error.detail}")), soft_wrap=True)
    for name, sentence in error.fields.items():
        if sentence not in error.detail or len(error.fields) > 1:
            console.print(Text(visible(f"  {name}: {sentence}")), soft_wrap=True)


def visible(text: str) -> str:
    """Return a text that no terminal obeys: a stranger wrote the headers of a mail."""
    return _COMMANDS.sub("\ufffd", text)


def cell(value: object) -> str:
    """Return a value as people read it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(cell(one) for one in value) or "none"
    return str(value)


def age(seconds: float | None) -> str:
    """Return how long ago something was."""
    if seconds is None:
        return "never"
    if seconds < MINUTE_S:
        return f"{seconds:.1f} s ago"
    return f"{seconds / MINUTE_S:.0f} min ago"
