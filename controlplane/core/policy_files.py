"""Files of the mail policy's lists: CSV and JSON of any length, read entry by entry.

JSON is an array of objects with nothing behind it, or one object after the other, with commas or
without. Whatever cannot be used is a sentence beside its line (CSV) or its place (JSON), both
counted from 1.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Final, TextIO

from pydantic import ValidationError

from controlplane.core.csv_lists import CsvList, csv_items, first_sentence
from controlplane.core.names import BadValue
from controlplane.core.policy_drafts import Draft

CHUNK_BYTES: Final = 65_536
LONGEST_OBJECT: Final = 2 * CHUNK_BYTES
_BETWEEN: Final = re.compile(r"[\s,]*")
_DECODER: Final = json.JSONDecoder()
_NO_OBJECT: Final = "What follows is no JSON object, or does not end."
_GOES_ON: Final = "The array has ended, but the file goes on."

Values = dict[str, Any]
Quick = Callable[[Values], Values | None]
Found = Draft | Values | BadValue
"""Values are what `Quick` made of an entry that needs no draft."""


def csv_drafts(
    model: type[Draft], file: BinaryIO, quick: Quick | None = None
) -> Iterator[tuple[int, Found]]:
    """Yield the drafts of a CSV file by their lines."""
    fields = model.model_fields
    required = tuple(name for name, field in fields.items() if field.is_required())
    shape = CsvList(tuple(fields), required, model, quick=quick)
    return _decoded(file, lambda text: csv_items(shape, text))


def json_drafts(
    model: type[Draft], file: BinaryIO, quick: Quick | None = None
) -> Iterator[tuple[int, Found]]:
    """Yield the drafts of a JSON file by their places."""
    return _decoded(file, lambda text: _json_items(model, text, quick))


def _decoded(
    file: BinaryIO, read: Callable[[TextIO], Iterator[tuple[int, Found]]]
) -> Iterator[tuple[int, Found]]:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    place = 0
    try:
        for place, found in read(text):
            yield place, found
    except UnicodeDecodeError:
        yield place + 1, BadValue("What follows is not written in UTF-8.")
    finally:
        text.detach()


def _json_items(
    model: type[Draft], text: TextIO, quick: Quick | None
) -> Iterator[tuple[int, Found]]:
    for place, value in enumerate(_json_values(text), start=1):
        if isinstance(value, BadValue):
            yield place, value
            return
        if not isinstance(value, dict):
            yield place, BadValue(_NO_OBJECT)
            continue
        if quick is not None and (found := quick(value)) is not None:
            yield place, found
            continue
        try:
            yield place, model.model_validate(value)
        except ValidationError as error:
            yield place, BadValue(first_sentence(error))


def _json_values(text: TextIO) -> Iterator[Any]:
    """Yield one value after the other; a BadValue is the last one."""
    waiting = text.read(CHUNK_BYTES).lstrip("\ufeff \t\r\n")
    is_array = waiting.startswith("[")
    start = 1 if is_array else 0
    is_end = False
    while True:
        start = _after(waiting, start)
        if is_array and waiting[start : start + 1] == "]":
            if not _is_end(waiting[start + 1 :], text):
                yield BadValue(_GOES_ON)
            break
        try:
            value, end = _DECODER.raw_decode(waiting, start)
        except (ValueError, RecursionError):
            if is_end and start == len(waiting) and not is_array:
                break
            if is_end or len(waiting) - start > LONGEST_OBJECT:
                yield BadValue(_NO_OBJECT)
                break
            more = text.read(CHUNK_BYTES)
            waiting, start, is_end = waiting[start:] + more, 0, not more
            continue
        yield value
        start = end


def _is_end(rest: str, text: TextIO) -> bool:
    """Tell whether nothing but white space follows; a part of the file at a time."""
    while not rest.strip():
        rest = text.read(CHUNK_BYTES)
        if not rest:
            return True
    return False


def _after(text: str, start: int) -> int:
    found = _BETWEEN.match(text, start)
    return found.end() if found is not None else start
