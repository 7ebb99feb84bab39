"""The queue: all nodes' messages in one list, one message, and what is done with many of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Final

from fastapi import Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from controlplane.api.cluster_access import NodeKey
from controlplane.api.queue_actions import (
    ActionBody,
    ActionKey,
    ActionView,
    action_views,
    cancel_by,
    confirm_by,
    start_action,
)
from controlplane.api.queue_messages import (
    MessagePage,
    MessageView,
    PageFilter,
    QueueIdKey,
    ask_headers,
    message_page,
    read_message,
)
from controlplane.errors import Conflict, Invalid, NotFound
from controlplane.gui.forms import ANY, Field, Form, Option, Posted, Widget
from controlplane.gui.language import N_
from controlplane.gui.listings import (
    CURSOR,
    PAGE_SIZE,
    Listing,
    read_filters,
    show_page,
    show_refused,
)
from controlplane.gui.live import LiveDep, Topic
from controlplane.gui.message_choice import posted_action, read_asked, show_begun
from controlplane.gui.node_options import with_nodes
from controlplane.gui.shell import OperateShell, ReadShell, Shell, page_router
from controlplane.store.cluster import ClusterStore
from controlplane.store.crypto import SecretBoxDep
from controlplane.store.engine import DatabaseDep, ReadSession, WriteSession
from controlplane.store.queue_actions import list_actions, read_action
from controlplane.store.queue_search import QueueFilter
from nodeagent.core.queue_contract import QueueName, QueueVerb

router = page_router()

SHOWN_ACTIONS: Final = 20
ACTIONS_EVERY_S: Final = 1.0
VERBS: Final = {
    QueueVerb.HOLD: N_("Hold"),
    QueueVerb.RELEASE: N_("Release"),
    QueueVerb.REQUEUE: N_("Requeue"),
    QueueVerb.FLUSH: N_("Try now"),
    QueueVerb.DELETE: N_("Delete"),
}
STATES: Final = {
    "selecting": N_("selecting"),
    "unconfirmed": N_("not confirmed"),
    "running": N_("running"),
    "finished": N_("finished"),
    "cancelled": N_("cancelled"),
}
AGES: Final = (
    ANY,
    Option("600", N_("10 minutes")),
    Option("3600", N_("1 hour")),
    Option("21600", N_("6 hours")),
    Option("86400", N_("1 day")),
    Option("259200", N_("3 days")),
)
FILTERS: Final = Form(
    (
        Field("node", N_("Node"), widget=Widget.SELECT, options=(ANY,)),
        Field(
            "queue",
            N_("Queue"),
            widget=Widget.SELECT,
            options=(ANY, *(Option.of(one.value) for one in QueueName)),
        ),
        Field("sender", N_("Sender")),
        Field("recipient", N_("Recipient")),
        Field("domain", N_("Domain or next hop")),
        Field("reason", N_("Reason")),
        Field("older_than_s", N_("Older than"), widget=Widget.SELECT, options=AGES),
        Field("oldest_first", N_("Oldest first"), widget=Widget.CHECKBOX),
    )
)


@dataclass(frozen=True)
class Actions:
    """The last actions; equal to itself while nothing has moved."""

    shown: tuple[ActionView, ...]
    verbs: Mapping[QueueVerb, str]
    states: Mapping[str, str]


def read_actions(store: ClusterStore) -> Actions:
    """Return the last actions and how far they have come."""
    with store.database.read() as session:
        views = action_views(session, list_actions(session, SHOWN_ACTIONS))
    return Actions(tuple(views), VERBS, STATES)


TOPIC: Final = Topic("queue-actions", read_actions, "queue_actions.html", "live", ACTIONS_EVERY_S)


@router.get("/queue")
def queue_page(request: Request, shell: ReadShell, session: ReadSession) -> Response:
    """Show one page of the list; filters and place stand in the address."""
    filters = with_nodes(session, read_filters(request, FILTERS))
    try:
        wanted = filters.build(
            PageFilter, limit=PAGE_SIZE, after=request.query_params.get(CURSOR) or None
        )
        page = message_page(session, wanted)
    except Invalid as error:
        return _list(shell, show_refused(request, filters, error), None, error.status)
    return _list(shell, show_page(request, filters, page.messages, page.after, page.total), page)


def _list(
    shell: Shell, listing: Listing[MessageView], page: MessagePage | None, status: int = 200
) -> Response:
    return shell.page(
        "queue.html", block="listing", listing=listing, page=page, verbs=VERBS, status=status
    )


@router.post("/queue")
def act_by_form(shell: OperateShell, posted: Posted, database: DatabaseDep) -> Response:
    """Begin an action on what is ticked, or on all that the filters leave."""
    body = posted_action(posted, FILTERS, PageFilter, QueueFilter, ActionBody)
    return show_begun(shell, start_action(database, shell.signed_in.actor, body))


@router.get("/queue/actions")
def actions_page(shell: ReadShell, database: DatabaseDep, box: SecretBoxDep) -> Response:
    """Show the last actions and how far they have come."""
    return shell.page("queue_actions.html", state=read_actions(ClusterStore(database, box)))


@router.get("/queue/actions/live", response_class=EventSourceResponse)
async def follow_actions(shell: ReadShell, live: LiveDep) -> AsyncIterator[ServerSentEvent]:
    """Show how the actions go on."""
    async for event in live.stream(shell, TOPIC):
        yield event


@router.get("/queue/actions/{number}")
def action_page(number: ActionKey, shell: ReadShell, session: ReadSession) -> Response:
    """Show one action, and ask for its confirmation where it needs one."""
    (view,) = action_views(session, [read_action(session, number)])
    return shell.page("queue_action.html", action=view, verbs=VERBS, states=STATES)


@router.post("/queue/actions/{number}/confirm")
def confirm_by_form(
    number: ActionKey, shell: OperateShell, posted: Posted, session: WriteSession
) -> Response:
    """Let a delete run that has selected as many messages as were shown."""
    count = (posted.get("count") or [""])[0]
    if not count.isdecimal():
        raise Invalid("Some values cannot be used; nothing was changed.")
    confirm_by(session, shell.signed_in.actor, number, int(count[:9]))
    return shell.done("/queue/actions", shell.text(N_("Action %(number)s."), number=number))


@router.post("/queue/actions/{number}/cancel")
def cancel_by_form(number: ActionKey, shell: OperateShell, session: WriteSession) -> Response:
    """Withdraw what was not done yet."""
    try:
        cancel_by(session, shell.signed_in.actor, number)
    except Conflict:  # it ended while the page was looked at, which the next page shows
        return shell.redirect("/queue/actions")
    return shell.done("/queue/actions", shell.text(N_("The rest is withdrawn.")))


@router.get("/queue/messages/{name}/{queue_id}")
def message_page_of(
    name: NodeKey,
    queue_id: QueueIdKey,
    shell: ReadShell,
    session: ReadSession,
    box: SecretBoxDep,
) -> Response:
    """Show one message, and the headers once its node has sent them."""
    headers = read_asked(shell, session, box, "headers")
    try:
        message = read_message(name, queue_id, session)
    except NotFound:
        if headers is None:
            raise
        message = None
    return shell.page(
        "queue_message.html",
        block="headers",
        message=message,
        node=name,
        queue_id=queue_id,
        headers=headers,
        verbs=VERBS,
    )


@router.post("/queue/messages/{name}/{queue_id}/headers")
def ask_by_form(
    name: NodeKey, queue_id: QueueIdKey, shell: OperateShell, session: WriteSession
) -> Response:
    """Ask the node for the headers of one message."""
    asked = ask_headers(name, queue_id, shell.signed_in, session)
    return shell.redirect(f"/queue/messages/{name}/{queue_id}?headers={asked.id}")
