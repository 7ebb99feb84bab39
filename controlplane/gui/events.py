"""The list of events: what happened on the nodes and in the control plane, newest first."""

from __future__ import annotations

from typing import Any, Final

from fastapi import Request, Response
from sqlalchemy import select
from sqlmodel import col

from controlplane.api.events import EventFilter, EventView, find_events
from controlplane.core.attention import Severity
from controlplane.errors import Invalid
from controlplane.gui.forms import Field, Form, Option, Widget
from controlplane.gui.language import N_
from controlplane.gui.listings import (
    CURSOR,
    PAGE_SIZE,
    TIMES,
    Listing,
    cut_page,
    export_url,
    read_filters,
    typed_times,
)
from controlplane.gui.shell import ReadShell, Shell, page_router
from controlplane.store.cluster_tables import NodeRow
from controlplane.store.engine import ReadSession
from nodeagent.core.actions import failure_kinds
from nodeagent.core.event_kinds import CONTROL_PLANE_KINDS, NODE_KINDS

router = page_router()

EXPORT: Final = "/api/v1/events/export"
ANY: Final = Option("", N_("Any"))
KINDS: Final = sorted({*CONTROL_PLANE_KINDS, *NODE_KINDS, *failure_kinds()})
SEVERITIES: Final = {
    Severity.BAD: N_("serious"),
    Severity.WARN: N_("warning"),
    Severity.INFO: N_("information"),
}
FILTERS: Final = Form(
    (
        Field("node", N_("Node"), widget=Widget.SELECT, options=(ANY,)),
        Field(
            "kind",
            N_("Kind"),
            widget=Widget.SELECT,
            options=(ANY, *(Option.of(one) for one in KINDS)),
        ),
        Field(
            "severity",
            N_("Severity"),
            widget=Widget.SELECT,
            options=(ANY, *(Option(one.value, words) for one, words in SEVERITIES.items())),
        ),
        Field("text", N_("Text"), hint=N_("Any part of it."), attributes={"maxlength": "200"}),
        *TIMES,
    )
)


@router.get("/events")
def events_page(request: Request, shell: ReadShell, session: ReadSession) -> Response:
    """Show events; the filters and the place in the list stand in the address."""
    names = session.execute(select(col(NodeRow.name)).order_by(col(NodeRow.name))).scalars()
    filters = read_filters(request, FILTERS).with_options(
        "node", (ANY, *(Option.of(name) for name in names))
    )
    times = typed_times(filters, shell.localizer.zone)
    try:
        before = request.query_params.get(CURSOR)
        wanted = filters.build(EventFilter, limit=PAGE_SIZE + 1, before=before, **times)
    except Invalid as error:
        refused: Listing[EventView] = Listing(request.url.path, filters.refused(error), ())
        return _page(shell, refused, times, error.status)
    found = find_events(session, wanted)
    return _page(shell, cut_page(request, filters, found, lambda event: event.number), times)


def _page(
    shell: Shell, listing: Listing[EventView], times: dict[str, Any], status: int = 200
) -> Response:
    return shell.page(
        "events.html",
        status=status,
        block="listing",
        listing=listing,
        severities=SEVERITIES,
        export_url=export_url(EXPORT, listing.filters, times),
    )
