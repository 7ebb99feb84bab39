"""Finds messages of the trace, newest first, page after page without counting what was passed.

A page begins behind the last message of the one before (`Cursor`), by time and number, and every
filter has an index that ends in these two: a page costs the same wherever it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, func, select
from sqlmodel import Session, col

from controlplane.core.trace import TraceStatus
from controlplane.store.log_search import (
    Cursor,
    begins,
    is_address,
    is_behind,
    is_between,
    is_ip_text,
    plain_ip,
)
from controlplane.store.ownership_tables import EventRow, ReceiptIdRow, ReceiptRow
from controlplane.store.trace_tables import TraceDeliveryRow, TraceMessageRow, TraceStepRow

SHOWN_RECIPIENTS: Final = 5
MOST_DELIVERIES: Final = 200
MOST_STEPS: Final = 1000


@dataclass(frozen=True)
class TraceFilter:
    """Which messages; None is any.

    Addresses match whole and in any case; `@example.com` is a whole domain, a `*` at the end stands
    for anything. `client` is an IP address or a host name, with the same `*`. Times are seconds
    since 1970 of a message's first line.
    """

    sender: str | None = None
    recipient: str | None = None
    client: str | None = None
    queue_id: str | None = None
    message_id: str | None = None
    status: TraceStatus | None = None
    since_s: float | None = None
    until_s: float | None = None


@dataclass(frozen=True)
class Found:
    """One message with its first recipients."""

    message: TraceMessageRow
    deliveries: Sequence[TraceDeliveryRow]


def find_messages(
    session: Session,
    wanted: TraceFilter,
    limit: int,
    after: Cursor | None = None,
    recipients: int = SHOWN_RECIPIENTS,
) -> list[Found]:
    """Return up to `limit` messages, newest first, from behind `after` on.

    Each comes with up to `recipients` of its recipients.
    """
    table: Any = TraceMessageRow if wanted.recipient is None else TraceDeliveryRow
    first_at = col(table.first_at)
    number = col(TraceMessageRow.number if wanted.recipient is None else TraceDeliveryRow.message)
    keys = select(first_at, number).where(
        *_conditions(wanted),
        *is_between(first_at, wanted.since_s, wanted.until_s),
        *is_behind(first_at, number, after),
    )
    if wanted.recipient is not None:
        joined = col(TraceMessageRow.number) == number
        if any(_is_about_message(wanted)):
            keys = keys.join(TraceMessageRow, joined)
        keys = keys.group_by(first_at, number)
    keys = keys.order_by(first_at.desc(), number.desc()).limit(limit)
    return _load(session, [row[1] for row in session.execute(keys)], recipients)


def _is_about_message(wanted: TraceFilter) -> tuple[bool, ...]:
    about = (wanted.sender, wanted.client, wanted.queue_id, wanted.message_id, wanted.status)
    return tuple(one is not None for one in about)


def _conditions(wanted: TraceFilter) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    message, delivery = TraceMessageRow, TraceDeliveryRow
    if wanted.sender is not None:
        found.append(is_address(message.sender_key, message.sender_domain, wanted.sender))
    if wanted.recipient is not None:
        keys = (delivery.recipient_key, delivery.recipient_domain)
        found.append(is_address(*keys, wanted.recipient))
    if wanted.client is not None:
        found.append(_is_client(wanted.client.strip().lower()))
    if wanted.queue_id is not None:
        found.append(col(message.queue_id) == wanted.queue_id.strip())
    if wanted.message_id is not None:
        text = wanted.message_id.strip().removeprefix("<").removesuffix(">")
        found.append(col(message.message_id) == text)
    if wanted.status is not None:
        found.append(col(message.status) == wanted.status.value)
    return found


def _is_client(text: str) -> ColumnElement[bool]:
    if is_ip_text(text):
        return begins(TraceMessageRow.client_address, plain_ip(text))
    return begins(TraceMessageRow.client_key, text)


def _load(session: Session, numbers: Sequence[int], recipients: int) -> list[Found]:
    """Return the messages in this order, each with a few of its recipients."""
    number = col(TraceMessageRow.number)
    rows = session.execute(select(TraceMessageRow).where(number.in_(numbers))).scalars()
    messages = {row.number: row for row in rows}
    message = col(TraceDeliveryRow.message)
    place = func.row_number().over(
        partition_by=message, order_by=col(TraceDeliveryRow.recipient_key)
    )
    ranked = select(TraceDeliveryRow, place.label("place")).where(message.in_(numbers)).subquery()
    first = select(ranked).where(ranked.c.place <= recipients)
    deliveries: dict[int, list[TraceDeliveryRow]] = {}
    for row in session.execute(first.order_by(ranked.c.recipient_key)).mappings():
        values = {name: value for name, value in row.items() if name != "place"}
        deliveries.setdefault(row["message"], []).append(TraceDeliveryRow(**values))
    return [Found(messages[one], deliveries.get(one, [])) for one in numbers if one in messages]


@dataclass(frozen=True)
class Step:
    """Something that happened to a message: a line of a node's log, or a change of its owner."""

    at: float
    node: str
    kind: str
    service: str
    text: str


@dataclass(frozen=True)
class Timeline:
    """Everything that is known of one message; `is_cut`: there is more than is shown."""

    message: TraceMessageRow
    deliveries: Sequence[TraceDeliveryRow]
    steps: Sequence[Step]
    is_cut: bool


def read_timeline(session: Session, number: int) -> Timeline | None:
    """Return a message with its steps of all nodes in the order of time; None: unknown."""
    message = session.get(TraceMessageRow, number)
    if message is None:
        return None
    deliveries = select(TraceDeliveryRow).where(col(TraceDeliveryRow.message) == number)
    deliveries = deliveries.order_by(col(TraceDeliveryRow.recipient_key))
    lines = select(TraceStepRow).where(col(TraceStepRow.message) == number)
    lines = lines.order_by(col(TraceStepRow.at), col(TraceStepRow.number))
    tried = list(session.execute(deliveries.limit(MOST_DELIVERIES + 1)).scalars())
    said = list(session.execute(lines.limit(MOST_STEPS + 1)).scalars())
    steps = [Step(row.at, row.node, row.kind, row.service, row.text) for row in said[:MOST_STEPS]]
    if message.queue_id is not None:
        steps += _ownership(session, message.queue_id)
    return Timeline(
        message,
        tried[:MOST_DELIVERIES],
        sorted(steps, key=lambda step: step.at),
        is_cut=len(said) > MOST_STEPS or len(tried) > MOST_DELIVERIES,
    )


def _ownership(session: Session, queue_id: str) -> list[Step]:
    """Return who adopted the message, and when the node that lost it took note."""
    named = select(ReceiptRow).join(
        ReceiptIdRow, col(ReceiptIdRow.number) == col(ReceiptRow.number)
    )
    receipts = session.execute(named.where(col(ReceiptIdRow.id) == queue_id)).scalars()
    steps = []
    for receipt in receipts:
        text = f"adopted from the queue of {receipt.queue}, receipt {receipt.number}"
        steps.append(Step(receipt.committed_at, receipt.holder, "adopted", "", text))
        retired = (
            select(EventRow)
            .where(
                col(EventRow.node) == receipt.queue,
                col(EventRow.kind) == "reconciled",
                col(EventRow.received_at) >= receipt.committed_at,
            )
            .order_by(col(EventRow.number))
            .limit(1)
        )
        event = session.execute(retired).scalar_one_or_none()
        if event is not None:
            steps.append(Step(event.happened_at, receipt.queue, "retired", "", event.text))
    return steps
