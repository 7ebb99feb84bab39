"""The list of events: what happened on the nodes and in the control plane, newest first."""

from __future__ import annotations

from typing import Any, Final

from fastapi import Request, Response

from controlplane.api.events import EventFilter, EventView, find_events
from controlplane.core.attention import Severity
from controlplane.gui.forms import ANY, Field, Form, Option, Widget
from controlplane.gui.language import N_
from controlplane.gui.listings import (
    CURSOR,
    PAGE_SIZE,
    TIMES,
    Listing,
    cut_page,
    read_filters,
    show_log,
)
from controlplane.gui.node_options import with_nodes
from controlplane.gui.shell import ReadShell, page_router
from controlplane.store.engine import ReadSession
from nodeagent.core.actions import failure_kinds
from nodeagent.core.event_kinds import CONTROL_PLANE_KINDS, NODE_KINDS

router = page_router()

EXPORT: Final = "/api/v1/events/export"
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
    filters = with_nodes(session, read_filters(request, FILTERS))

    def find(times: dict[str, Any]) -> Listing[EventView]:
        before = request.query_params.get(CURSOR)
        wanted = filters.build(EventFilter, limit=PAGE_SIZE + 1, before=before, **times)
        found = find_events(session, wanted)
        return cut_page(request, filters, found, lambda event: event.number)

    return show_log(shell, "events.html", filters, EXPORT, find, severities=SEVERITIES)
