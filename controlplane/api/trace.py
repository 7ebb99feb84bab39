"""The message trace: what happened to a mail, on every node that had it.

It is log data: addresses, clients and replies, no content of mail. Whoever may read the cluster may
read it, because answering "where is my mail" is what a ReadOnly user is for. An export carries many
people's addresses away at once, so it is audited.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Annotated, Final

from fastapi import APIRouter, Path, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlmodel import Session

from controlplane.api.cluster_access import NOT_FOUND, PRINTABLE, Since
from controlplane.api.csv_stream import read_pages, stream_csv
from controlplane.api.permissions import READ, ReadCaller
from controlplane.core.trace import TraceStatus
from controlplane.errors import NotFound
from controlplane.store import audit
from controlplane.store.engine import Database, DatabaseDep, ReadSession
from controlplane.store.log_search import Cursor, cut_page
from controlplane.store.trace_search import (
    Found,
    Step,
    TraceFilter,
    find_messages,
    read_timeline,
)
from controlplane.store.trace_tables import TraceDeliveryRow, TraceMessageRow

router = APIRouter(prefix="/api/v1/trace", tags=["trace"])

EXPORT_PAGE: Final = 200
EXPORT_RECIPIENTS: Final = 1000
LAST_NUMBER: Final = 2**53
CSV_COLUMNS: Final = (
    *("first_at", "last_at", "node", "queue_id", "message_id", "status"),
    *("sender", "client_name", "client_address", "helo", "login", "size_bytes"),
    *("recipient", "recipient_status", "recipient_node", "relay", "dsn", "delay_s", "reply"),
)
_ADDRESS: Final = "A whole address, `@domain`, or the beginning of either with a `*` at the end."


class TraceQuery(BaseModel):
    """Which messages; every field narrows the search."""

    model_config = ConfigDict(extra="forbid")

    sender: str | None = Field(
        default=None, max_length=320, pattern=PRINTABLE, description=f"{_ADDRESS} `<>`: none."
    )
    recipient: str | None = Field(
        default=None, max_length=320, pattern=PRINTABLE, description=_ADDRESS
    )
    client: str | None = Field(
        default=None,
        max_length=255,
        pattern=PRINTABLE,
        description="An IP address or a host name, or the beginning of one with a `*` at the end.",
    )
    queue_id: str | None = Field(default=None, max_length=40, pattern=r"^\s*[0-9A-Za-z]+\s*$")
    message_id: str | None = Field(default=None, max_length=502, pattern=PRINTABLE)
    status: TraceStatus | None = None
    since: Since | None = Field(default=None, description="Its first line is not older.")
    until: Since | None = Field(default=None, description="Its first line is older.")

    def to_filter(self) -> TraceFilter:
        """Return what the store takes."""
        return TraceFilter(
            sender=self.sender,
            recipient=self.recipient,
            client=self.client,
            queue_id=self.queue_id,
            message_id=self.message_id,
            status=self.status,
            since_s=None if self.since is None else self.since.timestamp(),
            until_s=None if self.until is None else self.until.timestamp(),
        )


class PagedTraceQuery(TraceQuery):
    """Which messages, and which page of them."""

    after: str | None = Field(
        default=None, max_length=40, description="The `next` of the page before."
    )
    limit: int = Field(default=50, ge=1, le=500)


class TraceDelivery(BaseModel):
    """How the last try for one recipient ended."""

    recipient: str
    status: str = Field(description="`sent`, `deferred`, `bounced` or `rejected`.")
    node: str = Field(description="The node that tried last.")
    at: datetime = Field(description="By the clock of that node.")
    relay: str | None = Field(description="The next hop as Postfix names it.")
    dsn: str | None = Field(description="The enhanced status code (RFC 3463).")
    delay_s: float | None = Field(description="Since the message came in.")
    reply: str = Field(description="What the next hop said, or why not; a stranger's text.")
    tries: int
    sent: int = Field(description="How often it was sent; above 1 it was doubled.")


class TraceMessage(BaseModel):
    """One message, or one refusal; null is what no log line has said."""

    number: int
    queue_id: str | None = Field(description="Null: refused before it got one.")
    node: str = Field(description="The node whose log spoke of it last.")
    first_at: datetime = Field(description="Its first line, by the clock of its node.")
    last_at: datetime
    status: TraceStatus
    sender: str | None = Field(description="Empty: the null sender of a bounce.")
    client_name: str | None
    client_address: str | None
    helo: str | None
    login: str | None = Field(description="The SASL user name.")
    message_id: str | None
    size_bytes: int | None
    recipient_count: int | None = Field(description="As the queue manager counted; null: unknown.")
    deliveries: list[TraceDelivery] = Field(description="In a list: of the first 5 recipients.")


class TracePage(BaseModel):
    """Messages, newest first."""

    messages: list[TraceMessage]
    next: str | None = Field(description="For `after`; null: this was the last page.")


class TraceStep(BaseModel):
    """A line of a node's log, or a change of the message's owner."""

    at: datetime = Field(description="A node's clock; for `adopted` the database's.")
    node: str
    kind: str = Field(
        description="What the line says (`client`, `queued`, `delivery`, ...), `adopted`, or "
        "`retired`: the node that lost the message took note."
    )
    service: str = Field(description="The program that wrote the line.")
    text: str


class TraceTimeline(BaseModel):
    """Everything that is known of one message."""

    message: TraceMessage
    steps: list[TraceStep] = Field(description="Of all nodes, in the order of time.")
    is_cut: bool = Field(description="There are more recipients or lines than are shown.")


@router.get("", dependencies=[READ])
def search_trace(query: Annotated[PagedTraceQuery, Query()], session: ReadSession) -> TracePage:
    """Search messages, newest first."""
    return find_page(session, query)


@router.get(
    "/export",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/csv": {}}, "description": "One line for each recipient."}},
)
def export_trace(
    query: Annotated[TraceQuery, Query()], database: DatabaseDep, caller: ReadCaller
) -> StreamingResponse:
    """Export what a search finds as CSV, one line for each of up to 1,000 recipients."""
    with database.write() as session:
        wanted = query.model_dump(mode="json", exclude_none=True)
        audit.record(session, caller.actor, "trace.export", after=wanted)
    return stream_csv("trace", CSV_COLUMNS, _pages(database, query.to_filter()))


@router.get("/{number}", dependencies=[READ], responses=NOT_FOUND)
def read_trace(
    number: Annotated[int, Path(ge=1, le=LAST_NUMBER)], session: ReadSession
) -> TraceTimeline:
    """Show everything that happened to one message."""
    return find_timeline(session, number)


def find_page(session: Session, query: PagedTraceQuery) -> TracePage:
    """Return one page of what `query` describes."""
    after = Cursor.given(query.after)
    found = find_messages(session, query.to_filter(), query.limit + 1, after)
    page, following = cut_page(found, query.limit, _cursor)
    messages = [_message(one.message, one.deliveries) for one in page]
    return TracePage(messages=messages, next=following)


def find_timeline(session: Session, number: int) -> TraceTimeline:
    """Return everything that is known of one message; raises NotFound."""
    found = read_timeline(session, number)
    if found is None:
        raise NotFound("There is no such message in the trace; it may be older than what is kept.")
    return TraceTimeline(
        message=_message(found.message, found.deliveries),
        steps=[_step(step) for step in found.steps],
        is_cut=found.is_cut,
    )


def _pages(database: Database, wanted: TraceFilter) -> Iterator[list[Sequence[object]]]:
    def read(session: Session, last: Found | None) -> list[Found]:
        after = None if last is None else _cursor(last)
        return find_messages(session, wanted, EXPORT_PAGE, after, EXPORT_RECIPIENTS)

    for page in read_pages(database, read, EXPORT_PAGE):
        yield [row for one in page for row in _csv_rows(one)]


def _csv_rows(found: Found) -> Iterator[Sequence[object]]:
    row = found.message
    message = (
        *(_time(row.first_at).isoformat(), _time(row.last_at).isoformat(), row.node),
        *(row.queue_id, row.message_id, row.status, row.sender, row.client_name),
        *(row.client_address, row.helo, row.login, row.size_bytes),
    )
    for one in found.deliveries:
        yield (
            *message,
            *(one.recipient, one.status, one.node, one.relay, one.dsn, one.delay_s, one.reply),
        )
    if not found.deliveries:
        yield (*message, *[None] * (len(CSV_COLUMNS) - len(message)))


def _cursor(found: Found) -> Cursor:
    assert found.message.number is not None  # noqa: S101 - a stored row has its number
    return Cursor(found.message.first_at, found.message.number)


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _message(row: TraceMessageRow, deliveries: Sequence[TraceDeliveryRow]) -> TraceMessage:
    values = row.model_dump(exclude={"first_at", "last_at", "status", "recipients"})
    return TraceMessage(
        **{name: value for name, value in values.items() if name in TraceMessage.model_fields},
        first_at=_time(row.first_at),
        last_at=_time(row.last_at),
        status=TraceStatus(row.status),
        recipient_count=row.recipients,
        deliveries=[_delivery(one) for one in deliveries],
    )


def _delivery(row: TraceDeliveryRow) -> TraceDelivery:
    return TraceDelivery(**row.model_dump(exclude={"at"}), at=_time(row.at))


def _step(step: Step) -> TraceStep:
    return TraceStep(
        at=_time(step.at), node=step.node, kind=step.kind, service=step.service, text=step.text
    )
