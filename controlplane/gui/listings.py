"""Lists with filters and pages: one place for what the address bar says and the links around it.

A list's filters are a `Form` that is sent by GET, so each view has an address that can be kept.
Pages follow a cursor, not a number: the hundredth page costs as much as the first, and no row is
shown twice because newer ones came in between.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo
from http import HTTPStatus
from typing import Any, Final, Generic, TypeVar
from urllib.parse import urlencode

from fastapi import Request, Response

from controlplane.errors import ControlPlaneError, Invalid
from controlplane.gui.forms import Field, FilledForm, Form
from controlplane.gui.language import N_
from controlplane.gui.shell import Shell

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


def typed_times(
    filters: FilledForm, zone: tzinfo, fields: Sequence[Field] = TIMES
) -> dict[str, Any]:
    """Return the times of these fields; typed without a zone they are times of the viewer's."""
    found: dict[str, Any] = {}
    for one in fields:
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
    rows = found[:size]
    following = cursor(rows[-1]) if len(found) > size else None
    return show_page(request, filters, rows, following)


def show_page(
    request: Request,
    filters: FilledForm,
    rows: Sequence[Row],
    following: object | None,
    total: int | None = None,
) -> Listing[Row]:
    """Return one page; `following` says where the next one begins, None: there is none."""
    path = request.url.path
    is_first = not request.query_params.get(CURSOR)
    return Listing(
        path,
        filters,
        rows,
        first_url=None if is_first else listing_url(path, filters),
        next_url=None if following is None else listing_url(path, filters, **{CURSOR: following}),
        total=total,
    )


def show_log(
    shell: Shell,
    template: str,
    filters: FilledForm,
    export: str,
    find: Callable[[dict[str, Any]], Listing[Any]],
    *,
    time_fields: Sequence[Field] = TIMES,
    **values: Any,
) -> Response:
    """Answer with one page of a log, and with the way to `export`, all that the filters leave.

    `find` is given the times that were typed; what it raises as Invalid stands beside the filters.
    """
    times = typed_times(filters, shell.localizer.zone, time_fields)
    status = int(HTTPStatus.OK)
    try:
        listing = find(times)
    except Invalid as error:
        listing, status = show_refused(shell.request, filters, error), error.status
    url = export_url(export, filters, times)
    return shell.page(
        template, status=status, block="listing", listing=listing, export_url=url, **values
    )


def show_refused(request: Request, filters: FilledForm, error: ControlPlaneError) -> Listing[Any]:
    """Return a list without rows whose filters say what is wrong with them."""
    return Listing(request.url.path, filters.refused(error), ())
