"""CSV for the lists of mail settings: what a spreadsheet program writes and reads (RFC 4180).

Theory of operation. The first line names the columns; further ones may come in any order, and a
column that is left out has its default. A comma or a semicolon separates, whichever the first line
uses: spreadsheets follow their country. `read_csv` says everything that is wrong with the shape of
the lines, one sentence a line; whether the values can be used is for `validation` to say.

On the way out `csv_cells` puts an apostrophe in front of what a spreadsheet would run as a formula;
on the way in it goes again, so that a list survives the round trip unchanged. Passwords never go
out.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final, TextIO

from pydantic import BaseModel, SecretStr, ValidationError

from controlplane.core.csv_cells import csv_text, unguarded
from controlplane.core.names import BadValue
from controlplane.core.spec import RecipientDomain, SenderPolicy, SenderRoute

BYTE_ORDER_MARK: Final = "\ufeff"
DELIMITERS: Final = ",;"
LONGEST_LINE: Final = 65_536


@dataclass(frozen=True)
class CsvList:
    """The columns of one list; `model` is None where an item is the text of the first column.

    `quick` makes an item of a line's values without the model; None: the model has to judge.
    """

    columns: tuple[str, ...]
    required: tuple[str, ...]
    model: type[BaseModel] | None = None
    write_only: tuple[str, ...] = ()
    quick: Callable[[dict[str, Any]], Any] | None = None


DOMAINS_CSV: Final = CsvList(
    ("name", "next_hop", "port", "tls_mode"), required=("name",), model=RecipientDomain
)
POLICIES_CSV: Final = CsvList(
    ("domain", "action", "reply_text"), required=("domain", "action"), model=SenderPolicy
)
ROUTES_CSV: Final = CsvList(
    ("sender", "next_hop", "port", "tls_mode", "username"),
    required=("sender", "next_hop"),
    model=SenderRoute,
    write_only=("password",),
)
NETWORKS_CSV: Final = CsvList(("network",), required=("network",))


@dataclass(frozen=True)
class CsvRows:
    """The items by their lines, and what is wrong with the other lines."""

    items: Mapping[int, Any] = field(default_factory=dict)
    problems: Mapping[int, str] = field(default_factory=dict)


def read_csv(shape: CsvList, text: str) -> CsvRows:
    """Return the items of a CSV text; a line is counted as an editor counts it, from 1."""
    items: dict[int, Any] = {}
    problems: dict[int, str] = {}
    for line, found in csv_items(shape, io.StringIO(text, newline="")):
        if isinstance(found, BadValue):
            problems[line] = str(found)
        else:
            items[line] = found
    return CsvRows(items, problems)


def csv_items(shape: CsvList, file: TextIO) -> Iterator[tuple[int, Any]]:
    """Yield each line's number and its item, or a BadValue that says why there is none.

    A file of any length is read line by line; a first line that cannot be used is the only one.
    """
    columns: list[str] | None = None
    line = 1
    try:
        lines = _lines(file)
        first = _first_line(lines)
        reader = csv.reader(chain(first, lines), delimiter=_delimiter("".join(first)), strict=True)
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                pass
            elif columns is None:
                columns = [cell.strip().lower() for cell in cells]
                problem = _header_problem(shape, columns)
                if problem is not None:
                    yield line, BadValue(problem)
                    return
            else:
                yield line, _item(shape, columns, cells)
            line = reader.line_num + 1
    except csv.Error as error:
        yield line, BadValue(f"This line is no CSV: {error}.")
        return
    if columns is None:
        wanted = ",".join(shape.columns)
        yield 1, BadValue(f"The first line has to name the columns: {wanted}.")


def _lines(file: TextIO) -> Iterator[str]:
    """Give the lines; raises csv.Error for one that would be read in pieces."""
    while line := file.readline(LONGEST_LINE):
        if len(line) == LONGEST_LINE and not line.endswith("\n"):
            raise csv.Error(f"it is longer than {LONGEST_LINE} characters")
        yield line


def _first_line(lines: Iterator[str]) -> list[str]:
    """Return what stands before the first line that has something in it, and this line."""
    found: list[str] = []
    for line in lines:
        found.append(line if found else line.removeprefix(BYTE_ORDER_MARK))
        if found[-1].strip():
            break
    return found


def write_csv(shape: CsvList, items: Iterable[Any]) -> str:
    """Return the items as CSV with lines that end in CR LF, formulas disarmed, no password."""
    rows: list[list[object]] = []
    for item in items:
        values = {shape.columns[0]: item} if shape.model is None else item.model_dump(mode="json")
        rows.append([values[column] for column in shape.columns])
    return csv_text([shape.columns, *rows])


def _delimiter(text: str) -> str:
    first = text.lstrip("\r\n").partition("\n")[0]
    return max(DELIMITERS, key=first.count)


def _header_problem(shape: CsvList, columns: list[str]) -> str | None:
    known = (*shape.columns, *shape.write_only)
    missing = [name for name in shape.required if name not in columns]
    unknown = [name for name in columns if name not in known]
    if missing or len(set(columns)) < len(columns):
        return f"The first line has to name the columns: {','.join(shape.columns)}."
    if unknown:
        return f'There is no column "{unknown[0][:60]}"; the columns are {",".join(known)}.'
    return None


def _item(shape: CsvList, columns: list[str], cells: list[str]) -> Any:
    try:
        return _read_line(shape, columns, cells)
    except BadValue as bad:
        return bad


def _read_line(shape: CsvList, columns: list[str], cells: list[str]) -> Any:
    """Return the item of one line; raises BadValue with the whole sentence."""
    if len(cells) != len(columns):
        raise BadValue(f"This line has {len(cells)} cells, the first line {len(columns)}.")
    cleaned = zip(columns, map(unguarded, cells), strict=True)
    given: dict[str, Any] = {name: value for name, value in cleaned if value}
    for name in shape.required:
        if name not in given:
            raise BadValue(f"{name} is empty.")
    if shape.model is None:
        return given[shape.columns[0]]
    if shape.quick is not None and (found := shape.quick(given)) is not None:
        return found
    if "password" in given:
        given["password"] = SecretStr(given["password"])
    try:
        return shape.model(**given)
    except ValidationError as error:
        raise BadValue(first_sentence(error)) from error


def first_sentence(error: ValidationError) -> str:
    """Return what is wrong with an item, in one sentence."""
    found = error.errors()[0]
    name = ".".join(str(part) for part in found["loc"])
    if found["type"] == "value_error":
        return f"{found['ctx']['error']}".rstrip(".") + "."
    if found["type"] == "enum":
        return f"{name} has to be one of {found['ctx']['expected']}.".replace("'", "")
    if found["type"] == "int_parsing":
        return f"{name} has to be a whole number."
    return f"{name} cannot be used: {found['msg']}."
