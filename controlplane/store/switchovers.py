"""Planned switchovers: at most one is wished for at a time; its source reports how it ended."""

from __future__ import annotations

from sqlalchemy import select
from sqlmodel import Session, col

from controlplane.errors import Conflict, NotFound
from controlplane.store.clock import read_clock_s
from controlplane.store.ownership_tables import SwitchoverRow
from controlplane.store.reports import TEXT_LENGTH, add_event, stored_text
from nodeagent.core.contract import SwitchoverResult, SwitchoverWish


def request_switchover(
    session: Session, source: str, destination: str, requested_by: str
) -> SwitchoverRow:
    """Wish that `source` hands over to `destination`; one wish at a time."""
    if source == destination:
        raise Conflict(f"{source} cannot hand over to itself.")
    running = current_switchover(session)
    if running is not None:
        raise Conflict(f"A switchover from {running.source} to {running.destination} is under way.")
    row = SwitchoverRow(
        source=source,
        destination=destination,
        requested_by=requested_by,
        requested_at=read_clock_s(session),
    )
    session.add(row)
    session.flush()
    return row


def current_switchover(session: Session) -> SwitchoverWish | None:
    """Return the wish that nobody has reported the end of."""
    statement = (
        select(SwitchoverRow)
        .where(col(SwitchoverRow.finished_at).is_(None))
        .order_by(col(SwitchoverRow.id))
        .limit(1)
    )
    row = session.execute(statement).scalar_one_or_none()
    if row is None or row.id is None:
        return None
    return SwitchoverWish(id=row.id, source=row.source, destination=row.destination)


def finish_switchover(session: Session, node: str, result: SwitchoverResult) -> None:
    """Note how it ended; a repeated report changes nothing."""
    row = session.get(SwitchoverRow, result.id)
    if row is None or row.source != node:
        raise NotFound(f"{node} is not the source of a switchover number {result.id}.")
    if row.finished_at is not None:
        return
    row.finished_at = read_clock_s(session)
    row.is_ok = result.ok
    row.text = stored_text(result.text, TEXT_LENGTH)
    row.stall_ms = result.stall_ms
    row.messages = result.messages
    session.add(row)
    outcome = "was done" if result.ok else f"was not done: {result.text}"
    text = f"The switchover from {row.source} to {row.destination} {outcome}"[:1999]
    add_event(session, "switchover", text.rstrip(".") + ".", node=node, data={"id": result.id})


def cancel_switchover(session: Session, switchover_id: int, reason: str) -> None:
    """Withdraw a wish, for instance because its source is dead."""
    row = read_switchover(session, switchover_id)
    if row.finished_at is None:
        row.finished_at = read_clock_s(session)
        row.is_ok = False
        row.text = stored_text(reason, TEXT_LENGTH)
        session.add(row)
        session.flush()


def list_switchovers(session: Session, limit: int = 50) -> list[SwitchoverRow]:
    """Return the newest switchovers first."""
    newest = select(SwitchoverRow).order_by(col(SwitchoverRow.id).desc()).limit(limit)
    return list(session.execute(newest).scalars())


def read_switchover(session: Session, switchover_id: int) -> SwitchoverRow:
    """Return one switchover; raises NotFound."""
    row = session.get(SwitchoverRow, switchover_id)
    if row is None:
        raise NotFound(f"There is no switchover number {switchover_id}.")
    return row
