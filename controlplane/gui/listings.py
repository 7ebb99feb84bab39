"""Lists with filters and pages: one place for what the address bar says and the links around it.

A list's filters are a `Form` that is sent by GET, so each view has an address that can be kept.
Pages follow a cursor, not a number: the hundredth page costs as much as the first, and no row is
shown twice because newer ones came in between.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo
from typing import Any, Final, Generic, TypeVar
from urllib.parse import urlencode

from fastapi import Request

from controlplane.gui.forms import Field, FilledForm, Form
from controlplane.gui.language import N_

Row = TypeVar("Row")
PAGE_SIZE: Final = 50
CURSOR: Final = "before"
TIME: Final = {"placeholder": "2026-01-31 14:30"}
TIMES: Final = (
    Field("since", N_("Since"), attributes=TIME),
    Field("until", N_("Until"), attributes=TIME),
)
"""The two filters of a list that goes by time."""


@dataclass(frozen=True)
class Listing(Generic[Row]):
    """The rows of one page, the filters that chose them, and where the other pages are."""

    path: str
    filters: FilledForm
    rows: Sequence[Row]
    first_url: str | None = None
    """None on the first page."""
    next_url: str | None = None
    """None on the last page."""
    total: int | None = None
    """How many rows the filters leave, None when it was not counted."""


def read_filters(request: Request, form: Form) -> FilledForm:
    """Return the filters as the address says."""
    query = request.query_params
    return form.posted({one.name: query.getlist(one.name) for one in form.fields})


def typed_times(filters: FilledForm, zone: tzinfo) -> dict[str, Any]:
    """Return the times of `TIMES`; typed without a zone they are times of the viewer's."""
    found: dict[str, Any] = {}
    for one in TIMES:
        for text in filters.values.get(one.name, ()):
            try:
                at = datetime.fromisoformat(text.strip())
            except ValueError:
                continue  # the query says what is wrong with it
            found[one.name] = at if at.tzinfo is not None else at.replace(tzinfo=zone)
    return found


def export_url(path: str, filters: FilledForm, times: dict[str, Any]) -> str:
    """Return the address of an export of what these filters leave, its times with their zone."""
    zoned = {name: [at.isoformat()] for name, at in times.items()}
    return listing_url(path, replace(filters, values={**filters.values, **zoned}))


def listing_url(path: str, filters: FilledForm, **more: Any) -> str:
    """Return the address of a list with these filters; `more` is a cursor, for example."""
    pairs: list[tuple[str, str]] = [
        (name, value) for name, values in filters.values.items() for value in values if value
    ]
    pairs += [(name, str(value)) for name, value in more.items() if value is not None]
    return f"{path}?{urlencode(pairs)}" if pairs else path


def cut_page(
    request: Request,
    filters: FilledForm,
    found: Sequence[Row],
    cursor: Callable[[Row], object],
    *,
    size: int = PAGE_SIZE,
) -> Listing[Row]:
    """Return one page of `found`, which was read with `size + 1` as its limit.

    `cursor` says where the page after a row begins; it comes back as the parameter `before`.
    """
    path = request.url.path
    rows = found[:size]
    is_first = CURSOR not in request.query_params
    is_last = len(found) <= size
    return Listing(
        path,
        filters,
        rows,
        first_url=None if is_first else listing_url(path, filters),
        next_url=None if is_last else listing_url(path, filters, **{CURSOR: cursor(rows[-1])}),
    )
