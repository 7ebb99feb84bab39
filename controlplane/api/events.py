"""Events: what happened on the nodes and in the control plane, newest first or from a number on."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import ColumnElement, and_, not_, or_, select
from sqlmodel import Session, col

from controlplane.api.cluster_access import PRINTABLE, Since
from controlplane.api.csv_stream import CSV_ANSWER, EXPORT_PAGE, read_pages, stream_csv
from controlplane.api.permissions import READ
from controlplane.core.attention import Severity
from controlplane.core.event_severity import FAILURE, SEVERITIES, severity_of
from controlplane.store.engine import Database, DatabaseDep, ReadSession
from controlplane.store.ownership_tables import EventRow
from nodeagent.core.event_kinds import KIND_PATTERN
from nodeagent.core.names import NODE_NAME_PATTERN

router = APIRouter(prefix="/api/v1/events", tags=["events"])

CSV_COLUMNS: Final = ("number", "received_at", "happened_at", "node", "severity", "kind", "text")


class EventView(BaseModel):
    """One event; `number` orders all events of the cluster as they arrived."""

    number: int
    node: str | None = Field(description="Null: the control plane itself.")
    kind: str
    severity: Severity = Field(description="By its kind.")
    text: str
    data: dict[str, Any]
    happened_at: datetime = Field(description="By the clock of the node.")
    received_at: datetime = Field(description="By the clock of the database.")


class EventQuery(BaseModel):
    """Which events; every field narrows the search."""

    model_config = ConfigDict(extra="forbid")

    node: str | None = Field(default=None, pattern=NODE_NAME_PATTERN)
    kind: str | None = Field(default=None, max_length=64, pattern=KIND_PATTERN)
    severity: Severity | None = None
    text: str | None = Field(
        default=None, max_length=200, pattern=PRINTABLE, description="What the text contains."
    )
    since: Since | None = Field(default=None, description="Received at or after this.")
    until: Since | None = Field(default=None, description="Received before this.")


class EventFilter(EventQuery):
    """Which events, and which page of them."""

    before: int | None = Field(
        default=None, ge=1, le=2**31 - 1, description="Older than this number: the next page."
    )
    after: int | None = Field(
        default=None,
        ge=0,
        le=2**31 - 1,
        description="Newer than this number, oldest first: for following.",
    )
    limit: int = Field(default=100, ge=1, le=1000)


@router.get("", dependencies=[READ])
def list_events(wanted: Annotated[EventFilter, Query()], session: ReadSession) -> list[EventView]:
    """List events, newest first; with `after`, oldest first."""
    return find_events(session, wanted)


@router.get("/export", dependencies=[READ], response_class=StreamingResponse, responses=CSV_ANSWER)
def export_events(
    wanted: Annotated[EventQuery, Query()], database: DatabaseDep
) -> StreamingResponse:
    """Export events as CSV, newest first."""
    return stream_csv("events", CSV_COLUMNS, _pages(database, wanted))


def find_events(session: Session, wanted: EventFilter) -> list[EventView]:
    """Return the events that `wanted` describes."""
    number = col(EventRow.number)
    order = number.asc() if wanted.after is not None else number.desc()
    statement = select(EventRow).where(*_conditions(wanted)).order_by(order).limit(wanted.limit)
    if wanted.before is not None:
        statement = statement.where(number < wanted.before)
    if wanted.after is not None:
        statement = statement.where(number > wanted.after)
    return [_view(row) for row in session.execute(statement).scalars()]


def _conditions(wanted: EventQuery) -> Iterator[ColumnElement[bool]]:
    if wanted.node is not None:
        yield col(EventRow.node) == wanted.node
    if wanted.kind is not None:
        yield col(EventRow.kind) == wanted.kind
    if wanted.severity is not None:
        yield _is_of(wanted.severity)
    if wanted.text is not None:
        yield col(EventRow.text).icontains(wanted.text, autoescape=True)
    if wanted.since is not None:
        yield col(EventRow.received_at) >= wanted.since.timestamp()
    if wanted.until is not None:
        yield col(EventRow.received_at) < wanted.until.timestamp()


def _is_of(severity: Severity) -> ColumnElement[bool]:
    """Return the condition that says what `severity_of` says."""
    kind = col(EventRow.kind)
    listed = kind.in_([name for name, one in SEVERITIES.items() if one is severity])
    is_failure = kind.endswith(FAILURE, autoescape=True)
    if severity is Severity.BAD:
        return listed
    usual = is_failure if severity is Severity.WARN else not_(is_failure)
    return or_(listed, and_(usual, kind.not_in(list(SEVERITIES))))


def _pages(database: Database, wanted: EventQuery) -> Iterator[list[tuple[object, ...]]]:
    def read(session: Session, last: EventView | None) -> list[EventView]:
        before = None if last is None else last.number
        return find_events(session, EventFilter(**dict(wanted), limit=EXPORT_PAGE, before=before))

    for page in read_pages(database, read, EXPORT_PAGE):
        yield [_csv_row(one) for one in page]


def _csv_row(one: EventView) -> tuple[object, ...]:
    times = (one.received_at.isoformat(), one.happened_at.isoformat())
    return (one.number, *times, one.node, one.severity.value, one.kind, one.text)


def _view(row: EventRow) -> EventView:
    assert row.number is not None  # noqa: S101 - a stored row has its number
    return EventView(
        number=row.number,
        node=row.node,
        kind=row.kind,
        severity=severity_of(row.kind),
        text=row.text,
        data=row.data,
        happened_at=datetime.fromtimestamp(row.happened_at, UTC),
        received_at=datetime.fromtimestamp(row.received_at, UTC),
    )
