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
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import BaseModel, SecretStr, ValidationError

from controlplane.core.csv_cells import csv_text, unguarded
from controlplane.core.names import BadValue
from controlplane.core.spec import RecipientDomain, SenderPolicy, SenderRoute

BYTE_ORDER_MARK: Final = "\ufeff"
DELIMITERS: Final = ",;"


@dataclass(frozen=True)
class CsvList:
    """The columns of one list; `model` is None where an item is the text of the first column."""

    columns: tuple[str, ...]
    required: tuple[str, ...]
    model: type[BaseModel] | None = None
    write_only: tuple[str, ...] = ()


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
    text = text.removeprefix(BYTE_ORDER_MARK)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=True)
    items: dict[int, Any] = {}
    problems: dict[int, str] = {}
    columns: list[str] | None = None
    line = 1
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                pass
            elif columns is None:
                columns = [cell.strip().lower() for cell in cells]
                problem = _header_problem(shape, columns)
                if problem is not None:
                    return CsvRows(problems={line: problem})
            else:
                try:
                    items[line] = _read_line(shape, columns, cells)
                except BadValue as bad:
                    problems[line] = str(bad)
            line = reader.line_num + 1
    except csv.Error as error:
        problems[line] = f"This line is no CSV: {error}."
    if columns is None and not problems:
        problems[1] = f"The first line has to name the columns: {','.join(shape.columns)}."
    return CsvRows(items, problems)


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


def _read_line(shape: CsvList, columns: list[str], cells: list[str]) -> Any:
    """Return the item of one line; raises BadValue with the whole sentence."""
    if len(cells) != len(columns):
        raise BadValue(f"This line has {len(cells)} cells, the first line {len(columns)}.")
    values = {name: unguarded(cell) for name, cell in zip(columns, cells, strict=True)}
    for name in shape.required:
        if not values[name]:
            raise BadValue(f"{name} is empty.")
    if shape.model is None:
        return values[shape.columns[0]]
    given: dict[str, Any] = {name: value for name, value in values.items() if value}
    if "password" in given:
        given["password"] = SecretStr(given["password"])
    try:
        return shape.model(**given)
    except ValidationError as error:
        raise BadValue(_sentence(error)) from error


def _sentence(error: ValidationError) -> str:
    found = error.errors()[0]
    name = ".".join(str(part) for part in found["loc"])
    if found["type"] == "enum":
        return f"{name} has to be one of {found['ctx']['expected']}.".replace("'", "")
    if found["type"] == "int_parsing":
        return f"{name} has to be a whole number."
    return f"{name} cannot be used: {found['msg']}."
