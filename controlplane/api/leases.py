"""Leases: who holds the lock on which node's queue, and how old the last push is."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, Field
from sqlalchemy import select
from sqlmodel import Session

from controlplane.api.permissions import READ
from controlplane.store.clock import read_clock_s
from controlplane.store.engine import ReadSession
from controlplane.store.leases import read_leases
from controlplane.store.ownership_tables import LeaseRow

router = APIRouter(prefix="/api/v1/leases", tags=["leases"])


class LeaseStatus(BaseModel):
    """The lease of one node's queue."""

    queue: str = Field(description="The node whose queue this is.")
    holder: str = Field(description="Who owns the mail in it.")
    generation: int = Field(description="Rises at each change of holder.")
    remaining_s: float = Field(description="Not positive: expired or released.")
    is_held: bool
    granted_to: str | None = Field(description="To whom a switchover leaves it.")
    confirmed_dead: bool = Field(description="An operator vouched that the node is off.")
    push_peer: str | None = Field(description="Where the queue was last pushed to.")
    push_age_s: float | None = Field(description="Since that push's snapshot was taken.")
    push_messages: int | None = Field(description="Messages in the mirror afterwards.")


@router.get("", dependencies=[READ])
def list_leases(session: ReadSession) -> list[LeaseStatus]:
    """List the leases of all queues, by the database's clock."""
    return lease_statuses(session)


def lease_statuses(session: Session) -> list[LeaseStatus]:
    """Return all leases with their last pushes."""
    now_s = read_clock_s(session)
    pushes = {row.queue: row for row in session.execute(select(LeaseRow)).scalars()}
    return [
        LeaseStatus(
            **view.model_dump(),
            is_held=view.remaining_s > 0,
            push_peer=pushes[view.queue].push_peer,
            push_age_s=_age_s(pushes[view.queue].push_at, now_s),
            push_messages=pushes[view.queue].push_messages,
        )
        for view in read_leases(session)
    ]


def _age_s(at_s: float | None, now_s: float) -> float | None:
    return None if at_s is None else max(0.0, now_s - at_s)
