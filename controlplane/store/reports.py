"""What nodes report of themselves: the last report, the last push, and events."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import bindparam, select, update
from sqlmodel import Session, col

from controlplane.store.clock import read_clock_s
from controlplane.store.ownership_tables import EventRow, LeaseRow, NodeReportRow
from controlplane.store.upserts import upsert
from nodeagent.core.contract import EventReport, NodeReport, PushReport
from nodeagent.core.queue_contract import LATEST_S

_NOTE_PUSH: Final = (
    update(LeaseRow)
    .where(col(LeaseRow.queue) == bindparam("of_node"))
    .values(
        {
            name: bindparam(name)
            for name in (
                "push_peer",
                "push_generation",
                "push_sequence",
                "push_messages",
                "push_at",
            )
        }
    )
)
ID_LENGTH: Final = 64
KIND_LENGTH: Final = 64
TEXT_LENGTH: Final = 2000


def store_reports(session: Session, reports: Iterable[tuple[str, NodeReport]]) -> None:
    """Keep reports in their order, the newest of each node, and its newest push on its lease."""
    now_s = read_clock_s(session)
    newest = dict(reports)
    rows = [
        {"node": node, "seen_at": now_s, "report": report.model_dump(mode="json")}
        for node, report in newest.items()
    ]
    upsert(session, NodeReportRow, ["node"], rows)
    pushed = [
        _push_values(node, min(report.pushes, key=lambda one: one.age_s), now_s)
        for node, report in newest.items()
        if report.pushes
    ]
    if pushed:
        session.connection().execute(_NOTE_PUSH, pushed)


def _push_values(node: str, push: PushReport, now_s: float) -> dict[str, Any]:
    return {
        "of_node": node,
        "push_peer": push.peer,
        "push_generation": push.generation,
        "push_sequence": push.sequence,
        "push_messages": push.messages,
        "push_at": now_s - push.age_s,
    }


def read_reports(session: Session) -> dict[str, tuple[float, NodeReport]]:
    """Return, by node, the seconds since its last report and the report itself."""
    now_s = read_clock_s(session)
    rows = session.execute(select(NodeReportRow)).scalars()
    return {
        row.node: (max(0.0, now_s - row.seen_at), NodeReport.model_validate(row.report))
        for row in rows
    }


def stored_text(text: str, limit: int) -> str:
    """Return what a text column of `limit` characters takes; PostgreSQL takes no NUL in any.

    A node repeats what was not stored, so what it says must never make its heartbeat fail.
    """
    return text.replace("\x00", "\ufffd")[:limit]


def store_events(session: Session, node: str, events: Sequence[EventReport]) -> tuple[str, ...]:
    """Keep each event once; return the ids that need not be sent again."""
    wanted = {stored_text(event.id, ID_LENGTH): event for event in events}
    known = set(
        session.execute(
            select(col(EventRow.event_id)).where(col(EventRow.event_id).in_(list(wanted)))
        ).scalars()
    )
    now_s = read_clock_s(session)
    for event_id, event in wanted.items():
        if event_id in known:
            continue
        session.add(
            EventRow(
                event_id=event_id,
                node=node,
                kind=stored_text(event.kind, KIND_LENGTH),
                text=stored_text(event.text, TEXT_LENGTH),
                data=dict(event.data),
                happened_at=min(max(event.at.timestamp(), 0.0), LATEST_S),
                received_at=now_s,
            )
        )
    session.flush()
    return event_ids(events)


def event_ids(events: Sequence[EventReport]) -> tuple[str, ...]:
    """Return the ids of events as the node knows them, each once."""
    return tuple(dict.fromkeys(event.id for event in events))


def add_event(
    session: Session,
    kind: str,
    text: str,
    *,
    node: str | None = None,
    data: Mapping[str, Any] | None = None,
) -> None:
    """Record something that the control plane itself noticed."""
    now_s = read_clock_s(session)
    session.add(
        EventRow(
            event_id=str(uuid.uuid4()),
            node=node,
            kind=kind,
            text=stored_text(text, TEXT_LENGTH),
            data=dict(data or {}),
            happened_at=now_s,
            received_at=now_s,
        )
    )
    session.flush()
