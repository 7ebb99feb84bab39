"""Bulk actions on queued messages: hold, release, requeue, flush, delete, and what they did."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Path, Query, status
from pydantic import BaseModel, Field, model_validator
from sqlmodel import Session

from controlplane.api.cluster_access import NOT_FOUND, Body
from controlplane.api.permissions import READ, OperateCaller
from controlplane.store import audit, queue_actions
from controlplane.store.audit import Actor
from controlplane.store.engine import Database, DatabaseDep, ReadSession, WriteSession
from controlplane.store.queue_search import QueueFilter
from controlplane.store.queue_tables import QueueActionRow
from nodeagent.core.contract import NodeName
from nodeagent.core.queue_contract import ItemState, QueueVerb, StoredId

router = APIRouter(prefix="/api/v1/queue/actions", tags=["queue"])

MOST_NAMED = 1000
ActionKey = Annotated[int, Path(ge=1, le=2**31 - 1, description="The action's number.")]


class NamedMessage(Body):
    """One message of the list."""

    node: NodeName
    queue_id: StoredId


class ActionBody(Body):
    """What is to be done, and with which messages: named ones, or all that match a filter."""

    verb: QueueVerb
    messages: tuple[NamedMessage, ...] | None = Field(
        default=None, min_length=1, max_length=MOST_NAMED
    )
    filter: QueueFilter | None = Field(
        default=None, description="An empty filter is every message of every node."
    )

    @model_validator(mode="after")
    def _has_one_selection(self) -> ActionBody:
        if (self.messages is None) == (self.filter is None):
            raise ValueError("give either messages or a filter")
        return self


class ConfirmBody(Body):
    """The count that the operator was shown."""

    count: int = Field(ge=1)


class Counts(BaseModel):
    """How many messages of an action are in which state."""

    waiting: int = 0
    done: int = 0
    unchanged: int = Field(default=0, description="In the queue, but there was nothing to do.")
    not_found: int = Field(default=0, description="Not in a live queue any more.")
    unknown: int = Field(default=0, description="Gone, and the node was interrupted at it.")
    withdrawn: int = 0


class ActionView(BaseModel):
    """One bulk action and how far it has come."""

    id: int
    verb: QueueVerb
    state: queue_actions.ActionState = Field(
        description="`unconfirmed`: a delete waits for its confirmation."
    )
    requested_by: str
    requested_at: datetime
    finished_at: datetime | None
    total: int = Field(description="Messages selected; fixed from then on.")
    counts: Counts
    nodes: dict[str, Counts]
    error: str = Field(description="Why a node could not do some of it yet; empty: nothing failed.")


@router.post("", status_code=status.HTTP_202_ACCEPTED)
def create_action(body: ActionBody, caller: OperateCaller, database: DatabaseDep) -> ActionView:
    """Select messages and have something done with them.

    The selection is made once, from the lists as they are now. `delete` waits until its count is
    confirmed; all else starts at once.
    """
    return start_action(database, caller.actor, body)


def start_action(database: Database, actor: Actor, body: ActionBody) -> ActionView:
    """Select in short transactions, then let it run or wait for its confirmation."""
    chosen = body.model_dump(mode="json", exclude={"verb"}, exclude_none=True)
    with database.write() as session:
        action = queue_actions.begin_action(session, body.verb, chosen, actor.name)
    if body.messages is not None:
        with database.write() as session:
            named = sorted({(one.node, one.queue_id) for one in body.messages})
            queue_actions.select_named(session, action, named)
    elif body.filter is not None:
        _select_all(database, action, body.filter)
    with database.write() as session:
        row = queue_actions.end_selection(session, action)
        after = {"verb": body.verb.value, "messages": row.total, "state": row.state, **chosen}
        audit.record(session, actor, "queue.action", str(action), after=after)
        return action_views(session, [row])[0]


def _select_all(database: Database, action: int, wanted: QueueFilter) -> None:
    place: tuple[str, str] | None = None
    is_more = True
    while is_more:
        with database.write() as session:
            place = queue_actions.select_matching(session, action, wanted, place)
        is_more = place is not None


@router.get("", dependencies=[READ])
def list_actions(
    session: ReadSession, limit: Annotated[int, Query(ge=1, le=100)] = 20
) -> list[ActionView]:
    """List the last bulk actions, newest first."""
    return action_views(session, queue_actions.list_actions(session, limit))


@router.get("/{number}", dependencies=[READ], responses=NOT_FOUND)
def read_action(number: ActionKey, session: ReadSession) -> ActionView:
    """Show how far a bulk action has come."""
    return action_views(session, [queue_actions.read_action(session, number)])[0]


@router.post("/{number}/confirm", status_code=status.HTTP_202_ACCEPTED, responses=NOT_FOUND)
def confirm_action(
    number: ActionKey, body: ConfirmBody, caller: OperateCaller, session: WriteSession
) -> ActionView:
    """Let a delete run that has selected exactly this many messages."""
    return confirm_by(session, caller.actor, number, body.count)


def confirm_by(session: Session, actor: Actor, number: int, count: int) -> ActionView:
    """Let it run, audited; raises `NotFound` or `Conflict`."""
    row = queue_actions.confirm_action(session, number, count)
    after = {"verb": row.verb, "messages": row.total}
    audit.record(session, actor, "queue.confirm", str(number), after=after)
    return action_views(session, [row])[0]


@router.delete("/{number}", responses=NOT_FOUND)
def cancel_action(number: ActionKey, caller: OperateCaller, session: WriteSession) -> ActionView:
    """Withdraw what was not done yet; what a node has in hand may still be done."""
    return cancel_by(session, caller.actor, number)


def cancel_by(session: Session, actor: Actor, number: int) -> ActionView:
    """Withdraw it, audited; raises `NotFound` or `Conflict`."""
    row = queue_actions.cancel_action(session, number, f"Withdrawn by {actor.name}.")
    view = action_views(session, [row])[0]
    after = {"verb": row.verb, "done": view.counts.done, "withdrawn": view.counts.withdrawn}
    audit.record(session, actor, "queue.cancel", str(number), after=after)
    return view


def action_views(session: Session, rows: Sequence[QueueActionRow]) -> list[ActionView]:
    """Return actions with their counts."""
    return [_view(row, queue_actions.count_items(session, row)) for row in rows]


def _view(row: QueueActionRow, by_node: dict[str, dict[str, int]]) -> ActionView:
    assert row.id is not None  # noqa: S101 - a stored row has its id
    sums = {
        state.value: sum(counts.get(state.value, 0) for counts in by_node.values())
        for state in ItemState
    }
    return ActionView(
        id=row.id,
        verb=QueueVerb(row.verb),
        state=queue_actions.ActionState(row.state),
        requested_by=row.requested_by,
        requested_at=datetime.fromtimestamp(row.requested_at, UTC),
        finished_at=(
            None if row.finished_at is None else datetime.fromtimestamp(row.finished_at, UTC)
        ),
        total=row.total,
        counts=_counts(sums),
        nodes={node: _counts(counts) for node, counts in sorted(by_node.items())},
        error=row.error,
    )


def _counts(found: dict[str, int]) -> Counts:
    return Counts(**{state.replace("-", "_"): count for state, count in found.items()})
