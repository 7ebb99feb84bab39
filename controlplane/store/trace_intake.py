"""Takes batches of a node's message trace in: each entry once, whatever is repeated or late.

One batch is stored after the other, under `TRACE_LOCK`. Batches of several
nodes about one message come in any order, so what is newer is told by the time of the line, not by
its arrival.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import func, select, update
from sqlmodel import Session, col

from controlplane.core.trace import Ending, TraceStatus, message_status, stronger
from controlplane.store.engine import TRACE_LOCK, Database
from controlplane.store.log_search import domain_of
from controlplane.store.log_streams import in_parts, note_gaps, take_new
from controlplane.store.reports import stored_text
from controlplane.store.trace_tables import (
    TraceDeliveryRow,
    TraceMessageRow,
    TraceStepRow,
    TraceStreamRow,
)
from nodeagent.core.stream_wire import StreamAnswer
from nodeagent.core.trace_wire import (
    DeliveryStatus,
    TraceBatch,
    TraceEntry,
    TraceKind,
)

ENTRIES_AT_ONCE: Final = 100
MESSAGE_ID_LENGTH: Final = 500
REJECTED: Final = "rejected"
_ENDINGS: Final = {
    TraceKind.REMOVED: Ending.REMOVED,
    TraceKind.EXPIRED: Ending.EXPIRED,
    TraceKind.DELETED: Ending.DELETED,
}
_TRIED: Final = frozenset({DeliveryStatus.SENT, DeliveryStatus.DEFERRED, DeliveryStatus.BOUNCED})
"""Statuses of mail; the others are answers to address probes (verify(8))."""


@dataclass
class _Work:
    """The rows that one batch touches."""

    session: Session
    node: str
    messages: dict[str, TraceMessageRow] = field(default_factory=dict)
    refusals: list[TraceMessageRow] = field(default_factory=list)
    deliveries: dict[tuple[int, str], TraceDeliveryRow] = field(default_factory=dict)


def take_in_parts(database: Database, node: str, batch: TraceBatch) -> StreamAnswer:
    """Store a batch in transactions so short that heartbeats fit between them."""

    def take(session: Session, part: TraceBatch) -> StreamAnswer:
        return take_batch(session, node, part)

    return in_parts(database, TRACE_LOCK, batch, ENTRIES_AT_ONCE, take)


def take_batch(session: Session, node: str, batch: TraceBatch) -> StreamAnswer:
    """Store what is new of a batch; return up to where the stream has been taken in."""
    new, answer = take_new(session, TraceStreamRow, node, batch)
    entries = [_storable(entry) for entry in new]
    _store(session, node, note_gaps(session, node, "trace-gap", entries))
    session.flush()
    return answer


def _storable(entry: TraceEntry) -> TraceEntry:
    """Return the entry without NUL: PostgreSQL takes none, and the node would repeat it."""
    odd = {
        name: stored_text(value, len(value))
        for name, value in entry
        if isinstance(value, str) and "\0" in value
    }
    return entry.model_copy(update=odd) if odd else entry


def _store(session: Session, node: str, entries: Sequence[TraceEntry]) -> None:
    work = _Work(session, node)
    pairs = _join_messages(work, entries)
    session.flush()  # gives new messages their numbers
    _load_deliveries(work, pairs)
    for entry, message in pairs:
        assert message.number is not None  # noqa: S101 - flushed
        session.add(
            TraceStepRow(
                message=message.number,
                node=node,
                at=entry.at,
                kind=entry.kind.value,
                service=entry.service,
                text=entry.text,
            )
        )
        _note_delivery(work, message, entry)
    session.flush()
    _settle(work)


def _join_messages(
    work: _Work, entries: Sequence[TraceEntry]
) -> list[tuple[TraceEntry, TraceMessageRow]]:
    """Put every entry to its message, known or new."""
    ids = {entry.queue_id for entry in entries if entry.queue_id is not None}
    known = select(TraceMessageRow).where(col(TraceMessageRow.queue_id).in_(ids))
    for row in work.session.execute(known).scalars():
        work.messages[str(row.queue_id)] = row
    pairs = []
    for entry in entries:
        message = _message_of(work, entry)
        if message is not None:
            _merge(work, message, entry)
            pairs.append((entry, message))
    return pairs


def _message_of(work: _Work, entry: TraceEntry) -> TraceMessageRow | None:
    queue_id = entry.queue_id
    if queue_id is not None and queue_id in work.messages:
        return work.messages[queue_id]
    if queue_id is None and entry.kind is not TraceKind.REJECTED:
        return None
    status = TraceStatus.OPEN.value if queue_id is not None else TraceStatus.REJECTED.value
    row = TraceMessageRow(
        queue_id=queue_id, node=work.node, first_at=entry.at, last_at=entry.at, status=status
    )
    if queue_id is None:
        row.ending = Ending.REJECTED.value
        work.refusals.append(row)
    else:
        work.messages[queue_id] = row
    work.session.add(row)
    return row


def _merge(work: _Work, row: TraceMessageRow, entry: TraceEntry) -> None:
    """Take what the line says into the message."""
    if entry.at < row.first_at:
        row.first_at = entry.at
        if row.number is not None:
            moved = update(TraceDeliveryRow).where(col(TraceDeliveryRow.message) == row.number)
            work.session.execute(moved.values(first_at=entry.at))
    if entry.at >= row.last_at:
        row.last_at, row.node = entry.at, work.node
    if entry.sender is not None and (entry.kind is not TraceKind.REJECTED or row.sender is None):
        row.sender = entry.sender
        row.sender_key = entry.sender.lower()[:320]
        row.sender_domain = domain_of(row.sender_key)
    if entry.client_address is not None:
        row.client_name, row.client_address = entry.client_name, entry.client_address.lower()[:255]
        row.client_key = (entry.client_name or "").lower()[:255]
    if entry.message_id is not None:
        row.message_id = entry.message_id[:MESSAGE_ID_LENGTH]
    row.helo = entry.helo or row.helo
    row.login = entry.login or row.login
    row.size_bytes = entry.size_bytes if entry.size_bytes is not None else row.size_bytes
    _count_recipients(row, entry)
    _end(row, entry)


def _count_recipients(row: TraceMessageRow, entry: TraceEntry) -> None:
    """Keep the highest: each further look of the queue manager counts only those that are left."""
    if entry.recipients is not None:
        row.recipients = max(row.recipients or 0, entry.recipients)


def _end(row: TraceMessageRow, entry: TraceEntry) -> None:
    ending = _ENDINGS.get(entry.kind)
    if entry.kind is TraceKind.REJECTED and entry.service.endswith("/cleanup"):
        ending = Ending.REJECTED  # the whole message, at its end
    if ending is not None:
        row.ending = stronger(row.ending, ending)


def _load_deliveries(work: _Work, pairs: Iterable[tuple[TraceEntry, TraceMessageRow]]) -> None:
    wanted = {
        (message.number, entry.recipient.lower()[:320])
        for entry, message in pairs
        if entry.recipient is not None
    }
    rows = work.session.execute(
        select(TraceDeliveryRow).where(
            col(TraceDeliveryRow.message).in_({number for number, _key in wanted}),
            col(TraceDeliveryRow.recipient_key).in_({key for _number, key in wanted}),
        )
    ).scalars()
    work.deliveries = {(row.message, row.recipient_key): row for row in rows}


def _note_delivery(work: _Work, message: TraceMessageRow, entry: TraceEntry) -> None:
    is_refusal = entry.kind is TraceKind.REJECTED
    if entry.recipient is None or not (is_refusal or entry.status in _TRIED):
        return
    assert message.number is not None  # noqa: S101 - flushed
    key = entry.recipient.lower()[:320]
    row = work.deliveries.get((message.number, key))
    if row is None:
        row = TraceDeliveryRow(
            message=message.number,
            recipient_key=key,
            recipient=entry.recipient,
            recipient_domain=domain_of(key),
            first_at=message.first_at,
            node=work.node,
            at=entry.at,
            status="",
        )
        work.deliveries[message.number, key] = row
        work.session.add(row)
    row.tries += 1
    row.sent += entry.status is DeliveryStatus.SENT
    if entry.at >= row.at:
        row.at, row.node = entry.at, work.node
        row.status = entry.status.value if entry.status is not None else REJECTED
        row.relay, row.dsn, row.delay_s = entry.relay, entry.dsn, entry.delay_s
        row.reply = _reply(entry)


def _reply(entry: TraceEntry) -> str:
    """Return what stands behind the status, without its brackets."""
    if entry.kind is TraceKind.REJECTED:
        return entry.text
    _before, found, reply = entry.text.partition(f", status={entry.status} (")
    return reply.removesuffix(")") if found else ""


def _settle(work: _Work) -> None:
    """Work the status of every touched message out anew."""
    numbers = [row.number for row in work.messages.values()]
    status = col(TraceDeliveryRow.status)
    counted = (
        select(col(TraceDeliveryRow.message), status, func.count())
        .where(col(TraceDeliveryRow.message).in_(numbers))
        .group_by(col(TraceDeliveryRow.message), status)
    )
    counts: dict[int, dict[str, int]] = {}
    for number, name, count in work.session.execute(counted):
        counts.setdefault(number, {})[name] = count
    for row in work.messages.values():
        found = counts.get(row.number or 0, {})
        row.status = message_status(row.ending, row.recipients, found).value
