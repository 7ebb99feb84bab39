"""Events: what happened on the nodes and in the control plane, newest first or from a number on."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select
from sqlmodel import Session, col

from controlplane.api.cluster_access import Since
from controlplane.api.permissions import READ
from controlplane.store.engine import ReadSession
from controlplane.store.ownership_tables import EventRow
from nodeagent.core.event_kinds import KIND_PATTERN
from nodeagent.core.names import NODE_NAME_PATTERN

router = APIRouter(prefix="/api/v1/events", tags=["events"])


class EventView(BaseModel):
    """One event; `number` orders all events of the cluster as they arrived."""

    number: int
    node: str | None = Field(description="Null: the control plane itself.")
    kind: str
    text: str
    data: dict[str, Any]
    happened_at: datetime = Field(description="By the clock of the node.")
    received_at: datetime = Field(description="By the clock of the database.")


class EventFilter(BaseModel):
    """Which events to list."""

    model_config = ConfigDict(extra="forbid")

    node: str | None = Field(default=None, pattern=NODE_NAME_PATTERN)
    kind: str | None = Field(default=None, max_length=64, pattern=KIND_PATTERN)
    since: Since | None = Field(default=None, description="Received at or after this.")
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


def find_events(session: Session, wanted: EventFilter) -> list[EventView]:
    """Return the events that `wanted` describes."""
    number = col(EventRow.number)
    order = number.asc() if wanted.after is not None else number.desc()
    statement = select(EventRow).order_by(order).limit(wanted.limit)
    if wanted.node is not None:
        statement = statement.where(col(EventRow.node) == wanted.node)
    if wanted.kind is not None:
        statement = statement.where(col(EventRow.kind) == wanted.kind)
    if wanted.since is not None:
        statement = statement.where(col(EventRow.received_at) >= wanted.since.timestamp())
    if wanted.before is not None:
        statement = statement.where(number < wanted.before)
    if wanted.after is not None:
        statement = statement.where(number > wanted.after)
    return [_view(row) for row in session.execute(statement).scalars()]


def _view(row: EventRow) -> EventView:
    assert row.number is not None  # noqa: S101 - a stored row has its number
    return EventView(
        number=row.number,
        node=row.node,
        kind=row.kind,
        text=row.text,
        data=row.data,
        happened_at=datetime.fromtimestamp(row.happened_at, UTC),
        received_at=datetime.fromtimestamp(row.received_at, UTC),
    )
