"""The audit log: who changed what and when, with what it was before and what it is now."""

from __future__ import annotations

from typing import Any, Final

from fastapi import Request, Response

from controlplane.api.audit import AuditEntry, PagedAuditQuery, entry_of
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
from controlplane.gui.shell import ReadShell, page_router
from controlplane.store.audit import known_actions, list_entries
from controlplane.store.engine import ReadSession

router = page_router()

EXPORT: Final = "/api/v1/audit/export"
BEGINNING: Final = N_("The whole name, or its beginning with a *.")
FILTERS: Final = Form(
    (
        Field("actor", N_("Who"), hint=BEGINNING, attributes={"maxlength": "64"}),
        Field("action", N_("Action"), widget=Widget.SELECT, options=(ANY,)),
        Field("target", N_("Object"), hint=BEGINNING, attributes={"maxlength": "320"}),
        *TIMES,
    )
)


@router.get("/audit")
def audit_page(request: Request, shell: ReadShell, session: ReadSession) -> Response:
    """Show who changed what; the filters and the place in the list stand in the address."""
    actions = tuple(Option.of(one) for one in known_actions(session))
    filters = read_filters(request, FILTERS).with_options("action", (ANY, *actions))

    def find(times: dict[str, Any]) -> Listing[AuditEntry]:
        before = request.query_params.get(CURSOR)
        wanted = filters.build(PagedAuditQuery, limit=PAGE_SIZE + 1, before=before, **times)
        rows = list_entries(session, wanted.to_filter(wanted.before, wanted.limit))
        return cut_page(request, filters, [entry_of(row) for row in rows], lambda entry: entry.id)

    return show_log(shell, "audit.html", filters, EXPORT, find)
