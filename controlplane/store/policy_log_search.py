"""Finds entries of the policy log, newest first.

What many entries have in common and is searched for has an index that ends in the time: verdict,
sender, client; a threat's kind, severity and rule. A queue id or a Message-ID has few entries, and
an index of its own. For stage, door and node there is none: entries are looked at from the newest
back until a page is full, so what is rare takes as long as all that is kept, or that lies in the
span of time that was asked for.

Decisions and connections are paged by a cursor, the threat log by an offset within bounds. Totals
are counted up to `MOST_COUNTED`: beyond that a page says "more than".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from sqlalchemy import ColumnElement, func, literal, select
from sqlmodel import Session, col

from controlplane.store.log_search import (
    Cursor,
    begins,
    is_address,
    is_behind,
    is_between,
    is_ip_text,
    plain_ip,
)
from controlplane.store.policy_log_tables import (
    PolicyConnectionRow,
    PolicyMessageRow,
    PolicyThreatRow,
)
from nodeagent.policy.log_wire import Door
from nodeagent.policy.model import RuleKind, Severity, Stage, Verdict

MOST_COUNTED: Final = 10_000
Row = TypeVar("Row", PolicyMessageRow, PolicyThreatRow, PolicyConnectionRow)


@dataclass(frozen=True)
class ThreatFilter:
    """Which lines of the threat log; None is any. Times are seconds since 1970."""

    severity: Severity | None = None
    kind: RuleKind | None = None
    rule: str | None = None  # whole, or its beginning with a star
    since_s: float | None = None
    until_s: float | None = None


@dataclass(frozen=True)
class LogFilter:
    """Which decisions; None is any.

    `sender` is a whole address in any case, `@domain`, or the beginning of either with a star;
    `client` an IP address, with the same star.
    """

    verdict: Verdict | None = None
    stage: Stage | None = None
    node: str | None = None
    door: Door | None = None
    sender: str | None = None
    client: str | None = None
    queue_id: str | None = None
    message_id: str | None = None
    since_s: float | None = None
    until_s: float | None = None


@dataclass(frozen=True)
class ConnectionFilter:
    """Which connections; as `LogFilter`."""

    node: str | None = None
    client: str | None = None
    since_s: float | None = None
    until_s: float | None = None


@dataclass(frozen=True)
class Total:
    """How many there are; `is_more`: at least one more than `count`."""

    count: int
    is_more: bool


def find_threats(
    session: Session, wanted: ThreatFilter, limit: int, offset: int = 0
) -> list[PolicyThreatRow]:
    """Return lines of the threat log, newest first."""
    meets = _threat_conditions(wanted)
    return _newest(session, PolicyThreatRow, meets, limit, offset=offset)


def find_threats_after(
    session: Session, wanted: ThreatFilter, limit: int, after: Cursor | None
) -> list[PolicyThreatRow]:
    """Return lines of the threat log behind `after`, newest first, at the same cost everywhere."""
    return _newest(session, PolicyThreatRow, _threat_conditions(wanted), limit, after=after)


def count_threats(session: Session, wanted: ThreatFilter) -> Total:
    """Return how many lines there are, counting no further than `MOST_COUNTED`."""
    found = select(literal(1)).where(*_threat_conditions(wanted)).limit(MOST_COUNTED + 1)
    count = session.execute(
        select(func.count()).select_from(found.select_from(PolicyThreatRow).subquery())
    ).scalar_one()
    return Total(min(count, MOST_COUNTED), is_more=count > MOST_COUNTED)


def find_messages(
    session: Session, wanted: LogFilter, limit: int, after: Cursor | None = None
) -> list[PolicyMessageRow]:
    """Return decisions, newest first, from behind `after` on."""
    return _newest(session, PolicyMessageRow, _message_conditions(wanted), limit, after=after)


def find_arrived(
    session: Session, wanted: LogFilter, limit: int, newer_than: int
) -> list[PolicyMessageRow]:
    """Return decisions with a higher number, in the order of their arrival."""
    return _arrived(session, PolicyMessageRow, _message_conditions(wanted), limit, newer_than)


def _message_conditions(wanted: LogFilter) -> list[ColumnElement[bool]]:
    row = PolicyMessageRow
    meets = is_between(row.at, wanted.since_s, wanted.until_s)
    for column, value in (
        (row.verdict, wanted.verdict),
        (row.stage, wanted.stage),
        (row.door, wanted.door),
        (row.node, wanted.node),
        (row.queue_id, wanted.queue_id),
    ):
        if value is not None:
            meets.append(col(column) == str(value))
    if wanted.sender is not None:
        meets.append(is_address(row.sender_key, row.sender_domain, wanted.sender))
    if wanted.client is not None:
        meets.append(_is_client(row.client, wanted.client))
    if wanted.message_id is not None:
        plain = wanted.message_id.strip().removeprefix("<").removesuffix(">")
        meets.append(col(row.message_id).in_((plain, f"<{plain}>")))
    return meets


def find_connections(
    session: Session, wanted: ConnectionFilter, limit: int, after: Cursor | None = None
) -> list[PolicyConnectionRow]:
    """Return sessions that ended, newest first, from behind `after` on."""
    meets = _connection_conditions(wanted)
    return _newest(session, PolicyConnectionRow, meets, limit, after=after)


def find_arrived_connections(
    session: Session, wanted: ConnectionFilter, limit: int, newer_than: int
) -> list[PolicyConnectionRow]:
    """Return sessions with a higher number, in the order of their arrival."""
    meets = _connection_conditions(wanted)
    return _arrived(session, PolicyConnectionRow, meets, limit, newer_than)


def _connection_conditions(wanted: ConnectionFilter) -> list[ColumnElement[bool]]:
    row = PolicyConnectionRow
    meets = is_between(row.at, wanted.since_s, wanted.until_s)
    if wanted.node is not None:
        meets.append(col(row.node) == wanted.node)
    if wanted.client is not None:
        meets.append(_is_client(row.client, wanted.client))
    return meets


def read_message(session: Session, number: int) -> PolicyMessageRow | None:
    """Return one decision; None: unknown, or too old."""
    found = select(PolicyMessageRow).where(col(PolicyMessageRow.number) == number)
    return session.execute(found).scalar_one_or_none()


def _threat_conditions(wanted: ThreatFilter) -> list[ColumnElement[bool]]:
    row = PolicyThreatRow
    meets = is_between(row.at, wanted.since_s, wanted.until_s)
    if wanted.severity is not None:
        meets.append(col(row.severity) == wanted.severity.value)
    if wanted.kind is not None:
        meets.append(col(row.kind) == wanted.kind.value)
    if wanted.rule is not None:
        meets.append(begins(row.rule, wanted.rule))
    return meets


def _is_client(column: Any, text: str) -> ColumnElement[bool]:
    text = text.strip().lower()
    return begins(column, plain_ip(text) if is_ip_text(text) else text)


def _arrived(
    session: Session,
    table: type[Row],
    meets: Sequence[ColumnElement[bool]],
    limit: int,
    newer_than: int,
) -> list[Row]:
    columns: Any = table
    number = col(columns.number)
    found = select(table).where(*meets, number > newer_than).order_by(number).limit(limit)
    return list(session.execute(found).scalars())


def _newest(
    session: Session,
    table: type[Row],
    meets: Sequence[ColumnElement[bool]],
    limit: int,
    *,
    offset: int = 0,
    after: Cursor | None = None,
) -> list[Row]:
    columns: Any = table
    at, number, day = col(columns.at), col(columns.number), col(columns.day)
    # Keys first: what is passed or sorted is read from an index alone.
    keys = select(number, day).where(*meets, *is_behind(at, number, after))
    keys = keys.order_by(at.desc(), number.desc())
    found = session.execute(keys.limit(limit).offset(offset)).all()
    rows = select(table).where(
        number.in_([key[0] for key in found]), day.in_({key[1] for key in found})
    )
    by_number = {one.number: one for one in session.execute(rows).scalars().all()}
    return [by_number[key[0]] for key in found]
