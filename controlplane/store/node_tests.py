"""What tests have in common that a node carries out: asked for, reported, kept for a day.

Theory of operation. Whether something can be reached is a question about a node: its network, its
keys, its resolver decide. So a test is a wish that the node finds in the answer to its heartbeat,
fetches, and reports. A wish that nobody finished for a minute is over: nobody looks any more.
"""

from __future__ import annotations

from typing import Final, TypeVar

from sqlalchemy import delete, func, select
from sqlmodel import Session, col

from controlplane.errors import Conflict, NotFound
from controlplane.store import agents
from controlplane.store.clock import database_now, read_clock_s
from controlplane.store.ownership_tables import NodeTestRow
from controlplane.store.reports import TEXT_LENGTH, stored_text

WAIT_S: Final = 60.0
KEPT_S: Final = 86_400.0

TestT = TypeVar("TestT", bound=NodeTestRow)


def add(session: Session, row: TestT) -> TestT:
    """Ask for a test, `requested_at` is now; tests of the day before are forgotten."""
    table = type(row)
    row.requested_at = read_clock_s(session)
    session.execute(delete(table).where(col(table.requested_at) < row.requested_at - KEPT_S))
    session.add(row)
    session.flush()
    return row


def require_enrolled(session: Session, node: str, purpose: str) -> None:
    """Raise Conflict unless the node may act; `purpose` ends the sentence."""
    if node not in {row.name for row in agents.list_agents(session) if agents.is_active(row)}:
        raise Conflict(f"{node} is not enrolled, so it cannot {purpose}.")


def read(session: Session, table: type[TestT], number: int, what: str) -> TestT:
    """Return one test; raises NotFound."""
    row = session.get(table, number)
    if row is None:
        raise NotFound(f"There is no {what} {number}.")
    return row


def own(session: Session, table: type[TestT], node: str, number: int, what: str) -> TestT:
    """Return a test of this node; raises NotFound for any other."""
    row = session.get(table, number)
    if row is None or row.node != node:
        raise NotFound(f"{node} has no {what} {number}.")
    return row


def is_over(session: Session, row: NodeTestRow) -> bool:
    """Tell whether nobody will report on this test any more."""
    return row.finished_at is None and read_clock_s(session) - row.requested_at > WAIT_S


def waiting(session: Session, table: type[TestT], node: str) -> int | None:
    """Return the number of the test that this node shall carry out."""
    return all_waiting(session, table).get(node)


def all_waiting(session: Session, table: type[TestT]) -> dict[str, int]:
    """Return, by node, the number of the test that it shall carry out."""
    statement = (
        select(col(table.node), func.min(col(table.id)))
        .where(
            col(table.finished_at).is_(None),
            col(table.requested_at) > database_now() - WAIT_S,
        )
        .group_by(col(table.node))
    )
    return dict(session.execute(statement).all())


def finish(session: Session, row: NodeTestRow, *, is_ok: bool, text: str) -> None:
    """Note how a test ended."""
    row.finished_at = read_clock_s(session)
    row.is_ok = is_ok
    row.text = stored_text(text, TEXT_LENGTH)
    session.add(row)
