"""Reads what was seen of a switchover: reports, leases, receipts and events since it was asked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from sqlalchemy import select
from sqlmodel import Session, col

from controlplane.core.switchover_steps import SwitchoverFacts
from controlplane.store.clock import read_clock_s
from controlplane.store.cluster import read_settings
from controlplane.store.ownership_tables import (
    EventRow,
    LeaseRow,
    NodeReportRow,
    ReceiptRow,
    SwitchoverRow,
)
from nodeagent.core.contract import NodeReport

LEASE_EVENT: Final = "lease"
MOST_EVENTS: Final = 100


@dataclass(frozen=True)
class _Span:
    """From when a switchover was asked for until the next one was, by the database's clock."""

    begin_s: float
    end_s: float

    def holds(self, at_s: float) -> bool:
        return self.begin_s <= at_s < self.end_s


def read_facts(session: Session, row: SwitchoverRow) -> SwitchoverFacts:
    """Return what was seen of one switchover."""
    span = _span(session, row)
    lease = session.get(LeaseRow, row.source)
    is_granted = lease is not None and lease.granted_to == row.destination
    is_last = span.end_s == math.inf
    receipt = _receipt(session, row, span)
    pushed = _push(session, row, span)
    return SwitchoverFacts(
        requested_at_s=row.requested_at,
        finished_at_s=row.finished_at,
        is_ok=row.is_ok,
        pushed_at_s=None if pushed is None else pushed[0],
        pushed_messages=None if pushed is None else pushed[1],
        granted_at_s=_granted_at_s(session, row, span),
        is_granted=is_last and is_granted,
        can_adopt=is_last
        and lease is not None
        and (is_granted or lease.holder == row.destination)
        and lease.expires_at > read_clock_s(session),
        adopted_at_s=None if receipt is None else receipt.committed_at,
        adopted_messages=None if receipt is None else receipt.messages,
        is_placed=receipt is not None and receipt.is_done,
        has_moved=is_last and _has_moved(session, row),
    )


def _span(session: Session, row: SwitchoverRow) -> _Span:
    later = select(col(SwitchoverRow.requested_at)).where(col(SwitchoverRow.id) > row.id)
    end_s = session.execute(later.order_by(col(SwitchoverRow.id)).limit(1)).scalar()
    return _Span(row.requested_at, math.inf if end_s is None else end_s)


def _receipt(session: Session, row: SwitchoverRow, span: _Span) -> ReceiptRow | None:
    found = select(ReceiptRow).where(
        col(ReceiptRow.queue) == row.source,
        col(ReceiptRow.holder) == row.destination,
        col(ReceiptRow.committed_at) >= span.begin_s,
    )
    first = session.execute(found.order_by(col(ReceiptRow.number)).limit(1)).scalar_one_or_none()
    return first if first is not None and span.holds(first.committed_at) else None


def _push(session: Session, row: SwitchoverRow, span: _Span) -> tuple[float, int] | None:
    """Return when the source's newest push to the destination was taken, and its messages."""
    reported = session.get(NodeReportRow, row.source)
    if reported is None:
        return None
    for push in NodeReport.model_validate(reported.report).pushes:
        at_s = reported.seen_at - push.age_s
        if push.peer == row.destination and span.holds(at_s):
            return at_s, push.messages
    return None


def _granted_at_s(session: Session, row: SwitchoverRow, span: _Span) -> float | None:
    """Return when the destination took up the lease of the source's queue."""
    events = select(EventRow).where(
        col(EventRow.kind) == LEASE_EVENT,
        col(EventRow.node) == row.destination,
        col(EventRow.received_at) >= span.begin_s,
    )
    for event in session.execute(
        events.order_by(col(EventRow.number)).limit(MOST_EVENTS)
    ).scalars():
        if event.data.get("queue") == row.source and span.holds(event.received_at):
            return float(event.received_at)
    return None


def _has_moved(session: Session, row: SwitchoverRow) -> bool:
    limit_s = read_settings(session).timings.lease_duration_s
    now_s = read_clock_s(session)
    holds = {}
    for name in (row.source, row.destination):
        reported = session.get(NodeReportRow, name)
        if reported is None or now_s - reported.seen_at > limit_s:
            return False
        holds[name] = NodeReport.model_validate(reported.report).holds_vips
    return holds[row.source] == () and bool(holds[row.destination])
