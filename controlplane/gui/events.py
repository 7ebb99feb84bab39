"""The list of events: what happened on the nodes and in the control plane, newest first."""

from __future__ import annotations

from typing import Final

from fastapi import Request, Response
from sqlalchemy import select
from sqlmodel import col

from controlplane.api.events import EventFilter, EventView, find_events
from controlplane.errors import Invalid
from controlplane.gui.forms import Field, Form, Option, Widget
from controlplane.gui.language import N_
from controlplane.gui.listings import CURSOR, PAGE_SIZE, Listing, cut_page, read_filters
from controlplane.gui.shell import ReadShell, page_router
from controlplane.store.cluster_tables import NodeRow
from controlplane.store.engine import ReadSession
from nodeagent.core.event_kinds import CONTROL_PLANE_KINDS, NODE_KINDS

router = page_router()

ANY: Final = Option("", N_("Any"))
FILTERS: Final = Form(
    (
        Field("node", N_("Node"), widget=Widget.SELECT, options=(ANY,)),
        Field(
            "kind",
            N_("Kind"),
            widget=Widget.SELECT,
            options=(
                ANY,
                *(Option.of(one) for one in sorted({*CONTROL_PLANE_KINDS, *NODE_KINDS})),
            ),
        ),
    )
)


@router.get("/events")
def events_page(request: Request, shell: ReadShell, session: ReadSession) -> Response:
    """Show events; the filters and the place in the list stand in the address."""
    names = session.execute(select(col(NodeRow.name)).order_by(col(NodeRow.name))).scalars()
    filters = read_filters(request, FILTERS).with_options(
        "node", (ANY, *(Option.of(name) for name in names))
    )
    try:
        wanted = filters.build(
            EventFilter, limit=PAGE_SIZE + 1, before=request.query_params.get(CURSOR)
        )
    except Invalid as error:
        refused: Listing[EventView] = Listing(request.url.path, filters.refused(error), ())
        return shell.page("events.html", status=error.status, block="listing", listing=refused)
    found = find_events(session, wanted)
    listing = cut_page(request, filters, found, lambda event: event.number)
    return shell.page("events.html", block="listing", listing=listing)
