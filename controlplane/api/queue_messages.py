"""The messages of all nodes' queues in one list: filters, pages, one message, its headers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Path, Query, status
from pydantic import BaseModel, Field
from sqlmodel import Session

from controlplane.api.cluster_access import NOT_FOUND, NodeKey
from controlplane.api.permissions import READ, OperateCaller
from controlplane.errors import NotFound
from controlplane.store import audit
from controlplane.store.clock import read_clock_s
from controlplane.store.crypto import SecretBoxDep
from controlplane.store.engine import DatabaseDep, ReadSession, WriteSession
from controlplane.store.queue_headers import Headers, ask_for_headers, read_headers
from controlplane.store.queue_search import (
    QueueFilter,
    find_message,
    find_messages,
    list_states,
)
from controlplane.store.queue_tables import QueueMessageRow
from nodeagent.core.names import STORED_ID_PATTERN
from nodeagent.core.queue_contract import QueueName

router = APIRouter(prefix="/api/v1/queue", tags=["queue"])

MOST_ROWS = 500
QueueIdKey = Annotated[str, Path(pattern=STORED_ID_PATTERN, description="Postfix's queue id.")]


class MessageView(BaseModel):
    """One message as its node last listed it."""

    node: str
    queue_id: str
    queue: QueueName = Field(description="`pending`: set aside until the node's lease is proved.")
    arrived_at: datetime = Field(description="By the node's clock.")
    age_s: float
    size_bytes: int
    sender: str = Field(description="Empty: a bounce.")
    recipients: list[str] = Field(description="Those still to be served, the first 20.")
    recipient_count: int = Field(description="All that are still to be served.")
    next_hop: str | None = Field(description="Last tried; null when the node cannot tell.")
    reason: str = Field(description="Of the last deferral; empty when there was none.")


class ListView(BaseModel):
    """How fresh one node's list is."""

    node: str
    messages: int
    is_complete: bool = Field(description="False: the node is still sending it.")
    listed_age_s: float | None = Field(description="Null: the list was never whole.")
    reported_age_s: float


class MessagePage(BaseModel):
    """One page of the list."""

    messages: list[MessageView]
    total: int = Field(description="How many messages match in all.")
    after: str | None = Field(description="Continues behind this page; null: there is no more.")
    nodes: list[ListView]


class PageFilter(QueueFilter):
    """Which messages, and which page of them."""

    oldest_first: bool = False
    after: str | None = Field(default=None, max_length=200)
    limit: int = Field(default=50, ge=1, le=MOST_ROWS)


class HeadersWanted(BaseModel):
    """The node was asked; the answer is there within seconds, under this number."""

    id: int


class HeadersView(BaseModel):
    """A message's headers; they are kept for ten minutes."""

    node: str
    queue_id: str
    is_answered: bool = Field(description="False: the node has not answered yet.")
    headers: str | None = Field(description="Null: not answered, or not in the live queue.")
    deferrals: list[str] = Field(description="The last deferral of each recipient.")


@router.get("/messages", dependencies=[READ])
def list_messages(wanted: Annotated[PageFilter, Query()], session: ReadSession) -> MessagePage:
    """List messages, newest first, as the nodes last listed them; mirrors are copies, not shown."""
    return message_page(session, wanted)


def message_page(session: Session, wanted: PageFilter) -> MessagePage:
    """Return one page of the list."""
    page = find_messages(
        session,
        wanted,
        after=wanted.after,
        limit=wanted.limit,
        is_oldest_first=wanted.oldest_first,
    )
    now_s = read_clock_s(session)
    return MessagePage(
        messages=[message_view(row, now_s) for row in page.rows],
        total=page.total,
        after=page.after,
        nodes=[ListView(**vars(one)) for one in list_states(session)],
    )


@router.get("/messages/{name}/{queue_id}", dependencies=[READ], responses=NOT_FOUND)
def read_message(name: NodeKey, queue_id: QueueIdKey, session: ReadSession) -> MessageView:
    """Show one message's envelope, and why it was deferred last."""
    return message_view(_message(session, name, queue_id), read_clock_s(session))


@router.post(
    "/messages/{name}/{queue_id}/headers",
    status_code=status.HTTP_202_ACCEPTED,
    responses=NOT_FOUND,
)
def ask_headers(
    name: NodeKey, queue_id: QueueIdKey, caller: OperateCaller, session: WriteSession
) -> HeadersWanted:
    """Ask the node for the headers of one message; who looks at what is audited."""
    _message(session, name, queue_id)
    request = ask_for_headers(session, name, queue_id, caller.actor.name)
    audit.record(session, caller.actor, "queue.headers", f"{name}/{queue_id}")
    return HeadersWanted(id=request)


@router.get("/headers/{number}", responses=NOT_FOUND)
def show_headers(
    number: Annotated[int, Path(ge=1, le=2**31 - 1)],
    caller: OperateCaller,
    database: DatabaseDep,
    box: SecretBoxDep,
) -> HeadersView:
    """Show the headers that the caller asked for."""
    with database.read() as session:
        return _headers_view(read_headers(session, number, caller.actor.name, box))


def _message(session: Session, node: str, queue_id: str) -> QueueMessageRow:
    row = find_message(session, node, queue_id)
    if row is None:
        raise NotFound(f"{node} lists no message {queue_id}.")
    return row


def message_view(row: QueueMessageRow, now_s: float) -> MessageView:
    """Return a row as it is shown; `now_s` is the database's clock."""
    return MessageView(
        node=row.node,
        queue_id=row.queue_id,
        queue=QueueName(row.queue),
        arrived_at=datetime.fromtimestamp(row.arrived_at, UTC),
        age_s=max(0.0, now_s - row.arrived_at),
        size_bytes=row.size_bytes,
        sender=row.sender,
        recipients=row.recipients.splitlines(),
        recipient_count=row.recipient_count,
        next_hop=row.next_hop,
        reason=row.reason,
    )


def _headers_view(found: Headers) -> HeadersView:
    return HeadersView(
        node=found.node,
        queue_id=found.queue_id,
        is_answered=found.is_answered,
        headers=found.text,
        deferrals=list(found.deferrals),
    )
