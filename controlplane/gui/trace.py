"""The message trace: a search over all nodes' mail logs, and what happened to one message."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import Path, Request, Response

from controlplane.api.trace import (
    LAST_NUMBER,
    PagedTraceQuery,
    TraceMessage,
    find_page,
    find_timeline,
)
from controlplane.core.trace import TraceStatus
from controlplane.gui.forms import ANY, Field, Form, Option, Widget
from controlplane.gui.language import N_
from controlplane.gui.listings import (
    CURSOR,
    PAGE_SIZE,
    TIMES,
    Listing,
    read_filters,
    show_log,
    show_page,
)
from controlplane.gui.shell import ReadShell, page_router
from controlplane.store.engine import ReadSession

router = page_router()

EXPORT: Final = "/api/v1/trace/export"
STATUSES: Final = {
    TraceStatus.OPEN: (N_("not finished"), "unknown"),
    TraceStatus.QUEUED: (N_("queued"), "info"),
    TraceStatus.DEFERRED: (N_("deferred"), "warn"),
    TraceStatus.DELIVERED: (N_("delivered"), "good"),
    TraceStatus.BOUNCED: (N_("bounced"), "bad"),
    TraceStatus.EXPIRED: (N_("expired"), "bad"),
    TraceStatus.DELETED: (N_("deleted"), "warn"),
    TraceStatus.REJECTED: (N_("rejected"), "bad"),
}
"""Words and tone of each status."""
DELIVERY_TONES: Final = {"sent": "good", "deferred": "warn", "bounced": "bad", "rejected": "bad"}
FILTERS: Final = Form(
    (
        Field("sender", N_("Sender"), hint=N_("An address, @domain, or a beginning with *.")),
        Field("recipient", N_("Recipient"), hint=N_("An address, @domain, or a beginning with *.")),
        Field("client", N_("Client"), hint=N_("An IP address or a host name.")),
        Field("queue_id", N_("Queue id")),
        Field("message_id", N_("Message-ID")),
        Field(
            "status",
            N_("Status"),
            widget=Widget.SELECT,
            options=(
                ANY,
                *(Option(one.value, words) for one, (words, _tone) in STATUSES.items()),
            ),
        ),
        *TIMES,
    )
)


@router.get("/trace")
def trace_page(request: Request, shell: ReadShell, session: ReadSession) -> Response:
    """Search messages; the filters and the place in the list stand in the address."""
    filters = read_filters(request, FILTERS)

    def find(times: dict[str, Any]) -> Listing[TraceMessage]:
        after = request.query_params.get(CURSOR)
        wanted = filters.build(PagedTraceQuery, limit=PAGE_SIZE, after=after, **times)
        page = find_page(session, wanted)
        return show_page(request, filters, page.messages, page.next)

    return show_log(shell, "trace.html", filters, EXPORT, find, statuses=STATUSES)


@router.get("/trace/{number}")
def message_page(
    number: Annotated[int, Path(ge=1, le=LAST_NUMBER)], shell: ReadShell, session: ReadSession
) -> Response:
    """Show everything that happened to one message, on every node."""
    return shell.page(
        "trace_message.html",
        timeline=find_timeline(session, number),
        statuses=STATUSES,
        tones=DELIVERY_TONES,
    )
