"""What all searches of logs share: places between pages, and texts that may end in a star."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Self, TypeVar

from sqlalchemy import ColumnElement, and_, literal, tuple_
from sqlmodel import col

from controlplane.errors import Invalid

Row = TypeVar("Row")
LAST_CHARACTER: Final = "\U0010ffff"
_CURSOR: Final = re.compile(r"([0-9]{1,10}(?:\.[0-9]{1,9})?)_([0-9]{1,18})")
_ADDRESS_PART: Final = re.compile(r"[0-9.]+|[0-9a-f]*:[0-9a-f:.]*")


@dataclass(frozen=True)
class Cursor:
    """The last entry of a page, by its time and number."""

    first_at: float
    number: int

    def text(self) -> str:
        """Return it for an address."""
        return f"{self.first_at:.9f}_{self.number}"

    @classmethod
    def read(cls, text: str) -> Self:
        """Return what `text` gave; raises Invalid for anything else."""
        found = _CURSOR.fullmatch(text)
        if found is None:
            sentence = "This is no `next` of an earlier page."
            raise Invalid(sentence, {"after": sentence})
        return cls(float(found[1]), int(found[2]))

    @classmethod
    def given(cls, text: str | None) -> Self | None:
        """Return where a page begins, None for the first one; raises Invalid."""
        return None if text is None else cls.read(text)


def cut_page(
    rows: Sequence[Row], limit: int, place: Callable[[Row], Cursor]
) -> tuple[Sequence[Row], str | None]:
    """Return the first `limit` of `limit + 1` rows that were asked for, and how to go on."""
    page = rows[:limit]
    return page, place(page[-1]).text() if len(rows) > limit else None


def is_between(at: Any, since_s: float | None, until_s: float | None) -> list[ColumnElement[bool]]:
    """Compare a time, in seconds since 1970, with the first that counts and the first that not."""
    meets = [] if since_s is None else [col(at) >= since_s]
    return meets if until_s is None else [*meets, col(at) < until_s]


def is_behind(at: Any, number: Any, after: Cursor | None) -> list[ColumnElement[bool]]:
    """Compare with the last entry of the page before, in a list with the newest first."""
    if after is None:
        return []
    place = tuple_(literal(after.first_at), literal(after.number))
    return [tuple_(col(at), col(number)) < place]


def is_address(key: Any, domain: Any, text: str) -> ColumnElement[bool]:
    """Compare an address in lower case, or with `@` in front its domain; `<>` is no sender."""
    text = text.strip().lower()
    if text == "<>":  # the null sender
        return col(key) == ""
    text = text.removeprefix("<").removesuffix(">")
    if text.startswith("@"):
        return begins(domain, text[1:])
    return begins(key, text)


def is_ip_text(text: str) -> bool:
    """Tell whether a text in lower case is an IP address or the beginning of one with a star."""
    return _ADDRESS_PART.fullmatch(text.removesuffix("*")) is not None


def plain_ip(text: str) -> str:
    """Return an IP address as it is stored; the beginning of one stays as it is."""
    with suppress(ValueError):
        return str(ipaddress.ip_address(text))
    return text


def begins(column: Any, text: str) -> ColumnElement[bool]:
    """Compare with a text that may end in a star."""
    if not text.endswith("*"):
        return col(column) == text
    start = text.removesuffix("*")
    return and_(col(column) >= start, col(column) < start + LAST_CHARACTER)


def domain_of(address: str) -> str:
    """Return what stands behind the last `@`; nothing without one."""
    return address.rpartition("@")[2] if "@" in address else ""
