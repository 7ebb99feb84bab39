"""The lease statements: one conditional UPDATE each, by the database's clock (section 4.8).

Theory of operation. Each node's queue has one row. A statement either changes that row as a whole
and returns it, or finds its condition false and changes nothing: a failed acquire can never extend
anything. Nothing here is granted while the instance is recovering, nor while a node has shown a
generation above the row's (then this database is older than the cluster).

`generation` rises at each change of holder. It also rises when a *peer* takes up again a lease that
had run out meanwhile: a receipt that was refused because the lease had run out can then never be
committed later by a request that was on its way, so a refusal is final. And it rises at every
reconcile of a node: a grant that its sender gave up waiting for, and that is still on its way when
the node takes its mail back, then finds another generation and does nothing.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    and_,
    case,
    exists,
    false,
    null,
    or_,
    select,
    true,
    tuple_,
    update,
)
from sqlalchemy.sql.dml import Update
from sqlmodel import Session, col

from controlplane.store.clock import database_now, read_clock_s
from controlplane.store.ownership_tables import InstanceRow, LeaseRow
from nodeagent.core.contract import LeaseView

FIRST_GENERATION = 0


@dataclass(frozen=True)
class Claim:
    """`node` says that it holds the lease of `queue` at `generation`."""

    queue: str
    node: str
    generation: int


_NOW = database_now()
_HAS_EXPIRED = col(LeaseRow.expires_at) <= _NOW
_IS_TRUSTED = and_(
    col(LeaseRow.seen_generation) <= col(LeaseRow.generation),
    ~exists(select(col(InstanceRow.id)).where(col(InstanceRow.is_recovering) == true())),
)
_VIEW = (
    col(LeaseRow.queue),
    col(LeaseRow.holder),
    col(LeaseRow.generation),
    (col(LeaseRow.expires_at) - _NOW).label("remaining_s"),
    col(LeaseRow.granted_to),
    col(LeaseRow.confirmed_dead),
)


def is_held(claim: Claim) -> ColumnElement[bool]:
    """Return the condition that `claim` is true at this moment."""
    return and_(
        col(LeaseRow.queue) == claim.queue,
        col(LeaseRow.holder) == claim.node,
        col(LeaseRow.generation) == claim.generation,
        ~_HAS_EXPIRED,
    )


def renew(
    session: Session, claims: Collection[tuple[str, int]], duration_s: float
) -> set[tuple[str, int]]:
    """Extend each own lease that its node holds unexpired, ungranted, at that generation.

    `claims` are nodes with the generations that they believe in; returned are those extended.
    """
    if not claims:
        return set()
    statement = (
        update(LeaseRow)
        .where(
            tuple_(col(LeaseRow.queue), col(LeaseRow.generation)).in_(claims),
            col(LeaseRow.holder) == col(LeaseRow.queue),
            ~_HAS_EXPIRED,
            col(LeaseRow.granted_to).is_(null()),
            _IS_TRUSTED,
        )
        .values(expires_at=_NOW + duration_s)
        .returning(col(LeaseRow.queue), col(LeaseRow.generation))
    )
    changed = session.execute(statement, execution_options={"synchronize_session": False})
    return {(queue, generation) for queue, generation in changed}


def acquire(session: Session, queue: str, node: str, duration_s: float) -> LeaseView | None:
    """Take the lease when it is free for `node`, or extend it when `node` holds it already.

    Free means: expired, or granted to `node`. A holder that has granted its lease away waits until
    the grant has run out, like everybody else.
    """
    is_mine = and_(
        col(LeaseRow.holder) == node,
        or_(col(LeaseRow.granted_to).is_(null()), col(LeaseRow.granted_to) == node),
    )
    stays = and_(col(LeaseRow.holder) == node, col(LeaseRow.queue) != node, ~_HAS_EXPIRED)
    statement = (
        update(LeaseRow)
        .where(
            col(LeaseRow.queue) == queue,
            or_(is_mine, _HAS_EXPIRED, col(LeaseRow.granted_to) == node),
            _IS_TRUSTED,
        )
        .values(
            generation=case((stays, col(LeaseRow.generation)), else_=col(LeaseRow.generation) + 1),
            holder=node,
            expires_at=_NOW + duration_s,
            granted_to=null(),
            confirmed_dead=case(
                (col(LeaseRow.queue) == node, false()), else_=col(LeaseRow.confirmed_dead)
            ),
        )
    )
    return _change(session, statement)


def grant(session: Session, claim: Claim, to: str, duration_s: float) -> LeaseView | None:
    """Leave the held lease to `to`, who has one lease duration to take it up."""
    statement = (
        update(LeaseRow)
        .where(is_held(claim), col(LeaseRow.queue) == claim.node, _IS_TRUSTED)
        .values(granted_to=to, expires_at=_NOW + duration_s)
    )
    return _change(session, statement)


def release(session: Session, claim: Claim) -> LeaseView | None:
    """Give the lease back at once; one that ran out by itself counts as given back."""
    statement = (
        update(LeaseRow)
        .where(
            col(LeaseRow.queue) == claim.queue,
            col(LeaseRow.holder) == claim.node,
            col(LeaseRow.generation) == claim.generation,
        )
        .values(
            expires_at=case((_HAS_EXPIRED, col(LeaseRow.expires_at)), else_=_NOW),
            granted_to=null(),
            confirmed_dead=false(),
        )
    )
    return _change(session, statement)


def confirm_dead(session: Session, queue: str) -> LeaseView | None:
    """End the own node's lease now: an operator vouches that the host is off (section 4.10)."""
    statement = (
        update(LeaseRow)
        .where(col(LeaseRow.queue) == queue, col(LeaseRow.holder) == queue, _IS_TRUSTED)
        .values(
            expires_at=case((_HAS_EXPIRED, col(LeaseRow.expires_at)), else_=_NOW),
            granted_to=null(),
            confirmed_dead=true(),
        )
    )
    return _change(session, statement)


def note_seen_generation(session: Session, queue: str, generation: int) -> bool:
    """Remember that a node showed a generation above the row's; True when that is news."""
    statement = (
        update(LeaseRow)
        .where(
            col(LeaseRow.queue) == queue,
            col(LeaseRow.generation) < generation,
            col(LeaseRow.seen_generation) < generation,
        )
        .values(seen_generation=generation)
    )
    return _change(session, statement) is not None


def ensure_lease(session: Session, queue: str) -> LeaseRow:
    """Return the row of `queue`; a new one belongs to its own node and has run out already."""
    row = session.get(LeaseRow, queue)
    if row is None:
        row = LeaseRow(
            queue=queue,
            holder=queue,
            generation=FIRST_GENERATION,
            expires_at=read_clock_s(session),
        )
        session.add(row)
        session.flush()
    return row


def read_leases(session: Session) -> tuple[LeaseView, ...]:
    """Return all leases by queue."""
    return _views(session, true())


def read_leases_of_interest(
    session: Session, nodes: Collection[str], queues: Collection[str]
) -> tuple[LeaseView, ...]:
    """Return the leases of `queues`, and those that any of `nodes` has or may take."""
    condition = or_(
        col(LeaseRow.queue).in_(queues),
        and_(col(LeaseRow.holder).in_(nodes), col(LeaseRow.holder) != col(LeaseRow.queue)),
        col(LeaseRow.granted_to).in_(nodes),
    )
    return _views(session, condition)


def known_generations(session: Session, queues: Collection[str]) -> dict[str, int]:
    """Return, by queue, the highest generation of which this database has heard."""
    statement = select(
        col(LeaseRow.queue), col(LeaseRow.generation), col(LeaseRow.seen_generation)
    ).where(col(LeaseRow.queue).in_(queues))
    return {queue: max(own, seen) for queue, own, seen in session.execute(statement)}


def _views(session: Session, condition: ColumnElement[bool]) -> tuple[LeaseView, ...]:
    rows = session.execute(select(*_VIEW).where(condition).order_by(col(LeaseRow.queue)))
    return tuple(LeaseView.model_validate(dict(row)) for row in rows.mappings())


def read_lease(session: Session, queue: str) -> LeaseView | None:
    """Return one lease, None when there is no such queue."""
    row = session.execute(select(*_VIEW).where(col(LeaseRow.queue) == queue)).mappings().first()
    return None if row is None else LeaseView.model_validate(dict(row))


def is_older_than_cluster(session: Session, queue: str) -> bool:
    """Tell whether a node has shown a generation above this database's."""
    statement = select(
        exists().where(
            col(LeaseRow.queue) == queue,
            col(LeaseRow.seen_generation) > col(LeaseRow.generation),
        )
    )
    return bool(session.execute(statement).scalar_one())


def _change(session: Session, statement: Update) -> LeaseView | None:
    changed: Any = session.execute(
        statement.returning(*_VIEW), execution_options={"synchronize_session": False}
    )
    row = changed.mappings().first()
    return None if row is None else LeaseView.model_validate(dict(row))
