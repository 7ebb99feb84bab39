"""The quarantine's pages: what is held and why, a safe look into one mail, release and delete."""

from __future__ import annotations

from typing import Final

from fastapi import Request, Response

from controlplane.api.cluster_access import NodeKey
from controlplane.api.quarantine import (
    HeldView,
    QuarantineAction,
    QuarantinePage,
    QuarantineQuery,
    QuarantineVerb,
    held_detail,
    preview_view,
    quarantine_page,
    start_action,
    wish_preview,
)
from controlplane.api.queue_messages import QueueIdKey
from controlplane.errors import Invalid, NotFound
from controlplane.gui.forms import Field, Form, Posted, Widget
from controlplane.gui.language import N_
from controlplane.gui.listings import (
    CURSOR,
    PAGE_SIZE,
    Listing,
    read_filters,
    show_page,
    show_refused,
)
from controlplane.gui.message_choice import posted_action, read_asked, show_begun
from controlplane.gui.node_options import with_nodes
from controlplane.gui.policy_words import ANY, KIND_FILTER, SEVERITY_FILTER, WORDS
from controlplane.gui.shell import OperateShell, ReadShell, Shell, page_router
from controlplane.store.crypto import SecretBoxDep
from controlplane.store.engine import DatabaseDep, ReadSession, WriteSession
from controlplane.store.policy_quarantine import QuarantineFilter

router = page_router()

PAGE: Final = "/policy/quarantine"
VERBS: Final = {QuarantineVerb.RELEASE: N_("Release"), QuarantineVerb.DELETE: N_("Delete")}
FILTERS: Final = Form(
    (
        Field("node", N_("Node"), widget=Widget.SELECT, options=(ANY,)),
        Field("sender", N_("Sender"), attributes={"maxlength": "320"}),
        Field("recipient", N_("Recipient"), attributes={"maxlength": "320"}),
        Field(
            "rule",
            N_("Rule"),
            hint=N_("Its name, or a beginning with * at its end."),
            attributes={"maxlength": "100"},
        ),
        Field("type", N_("Kind"), widget=Widget.SELECT, options=KIND_FILTER),
        Field("severity", N_("Severity"), widget=Widget.SELECT, options=SEVERITY_FILTER),
    )
)


@router.get("/policy/quarantine")
def list_page(request: Request, shell: ReadShell, session: ReadSession) -> Response:
    """Show what is held, newest first."""
    filters = with_nodes(session, read_filters(request, FILTERS))
    after = request.query_params.get(CURSOR) or None
    try:
        page = quarantine_page(
            session, filters.build(QuarantineQuery, limit=PAGE_SIZE, after=after)
        )
    except Invalid as error:
        return _list(shell, show_refused(request, filters, error), None, error.status)
    return _list(shell, show_page(request, filters, page.messages, page.after, page.total), page)


def _list(
    shell: Shell, listing: Listing[HeldView], page: QuarantinePage | None, status: int = 200
) -> Response:
    return shell.page(
        "policy_quarantine.html",
        block="listing",
        status=status,
        listing=listing,
        page=page,
        verbs=VERBS,
        **WORDS,
    )


@router.post("/policy/quarantine")
def act_by_form(shell: OperateShell, posted: Posted, database: DatabaseDep) -> Response:
    """Release or delete what is ticked, or all that the filters leave."""
    body = posted_action(posted, FILTERS, QuarantineQuery, QuarantineFilter, QuarantineAction)
    return show_begun(shell, start_action(database, shell.signed_in.actor, body))


@router.get("/policy/quarantine/{name}/{queue_id}")
def held_page(
    name: NodeKey,
    queue_id: QueueIdKey,
    shell: ReadShell,
    session: ReadSession,
    box: SecretBoxDep,
) -> Response:
    """Show one mail: why it is held, and a look into it once its node has sent one."""
    asked = read_asked(shell, session, box, "preview")
    try:
        held = held_detail(session, name, queue_id)
    except NotFound:
        if asked is None:
            raise
        held = None
    return shell.page(
        "policy_held.html",
        block="preview",
        held=held,
        node=name,
        queue_id=queue_id,
        asked=asked,
        preview=None if asked is None else preview_view(asked),
        verbs=VERBS,
        **WORDS,
    )


@router.post("/policy/quarantine/{name}/{queue_id}/preview")
def ask_by_form(
    name: NodeKey, queue_id: QueueIdKey, shell: OperateShell, session: WriteSession
) -> Response:
    """Ask the node for headers and text; who looks at what is audited."""
    number = wish_preview(session, shell.signed_in.actor, name, queue_id)
    return shell.redirect(f"{PAGE}/{name}/{queue_id}?preview={number}")
