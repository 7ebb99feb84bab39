"""Finds messages in the nodes' lists: filters, pages by key, and how fresh each list is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import ColumnElement, and_, func, or_, select, tuple_
from sqlmodel import Session, col

from controlplane.errors import Invalid
from controlplane.store.clock import read_clock_s
from controlplane.store.queue_tables import QueueListRow, QueueMessageRow
from nodeagent.core.names import NODE_NAME_PATTERN, STORED_ID_PATTERN
from nodeagent.core.queue_contract import QueueName

TEXT_LENGTH: Final = 255
MOST_AGE_S: Final = 10 * 366 * 86400.0
_SECONDS: Final = r"-?[0-9]{1,10}(?:\.[0-9]{1,20})?(?:e-[0-9]{1,3})?"
_CURSOR: Final = re.compile(rf"({_SECONDS})/([^/\0]+)/([^/\0]+)")


class MessageFilter(BaseModel):
    """Which queued messages; everything that is given must hold. Texts match parts, in any case."""

    model_config = ConfigDict(extra="forbid")

    node: str | None = Field(default=None, pattern=NODE_NAME_PATTERN)
    queue_id: str | None = Field(default=None, pattern=STORED_ID_PATTERN)
    sender: str | None = Field(
        default=None, max_length=TEXT_LENGTH, description="Empty text: bounces only."
    )
    recipient: str | None = Field(default=None, min_length=1, max_length=TEXT_LENGTH)


class QueueFilter(MessageFilter):
    """Which messages of the queue."""

    queue: QueueName | None = None
    domain: str | None = Field(
        default=None,
        min_length=1,
        max_length=TEXT_LENGTH,
        description="A recipient's domain, or the next hop last tried; whole names.",
    )
    reason: str | None = Field(default=None, min_length=1, max_length=TEXT_LENGTH)
    older_than_s: float | None = Field(default=None, ge=0, le=MOST_AGE_S)
    younger_than_s: float | None = Field(default=None, ge=0, le=MOST_AGE_S)


@dataclass(frozen=True)
class Page:
    """Some messages, newest or oldest first; `after` continues behind them, None: no more."""

    rows: list[QueueMessageRow]
    total: int
    after: str | None


@dataclass(frozen=True)
class ListState:
    """One node's list: how many messages it has and how old it is."""

    node: str
    messages: int
    is_complete: bool
    listed_age_s: float | None  # None: never whole yet
    reported_age_s: float


def about_message(wanted: MessageFilter) -> list[ColumnElement[bool]]:
    """Return what a row has to meet, whatever list it is shown in."""
    row = QueueMessageRow
    found: list[ColumnElement[bool]] = []
    if wanted.node is not None:
        found.append(col(row.node) == wanted.node)
    if wanted.queue_id is not None:
        found.append(col(row.queue_id) == wanted.queue_id)
    if wanted.sender == "":
        found.append(col(row.sender) == "")
    for column, text in ((row.sender, wanted.sender), (row.recipients, wanted.recipient)):
        if text:
            found.append(col(column).icontains(storable(text), autoescape=True))
    return found


def conditions(wanted: QueueFilter, now_s: float) -> list[ColumnElement[bool]]:
    """Return what a row of the queue has to meet; ages count from `now_s`, since 1970."""
    row = QueueMessageRow
    found = about_message(wanted)
    if wanted.queue is not None:
        found.append(col(row.queue) == wanted.queue.value)
    if wanted.reason is not None:
        found.append(col(row.reason).icontains(storable(wanted.reason), autoescape=True))
    if wanted.domain is not None:
        name = storable(wanted.domain).lower()
        is_domain = col(row.domains).contains(f"\n{name}\n", autoescape=True)
        found.append(or_(is_domain, col(row.next_hop) == name))
    if wanted.older_than_s is not None:
        found.append(col(row.arrived_at) <= now_s - wanted.older_than_s)
    if wanted.younger_than_s is not None:
        found.append(col(row.arrived_at) > now_s - wanted.younger_than_s)
    return found


def find_messages(
    session: Session, wanted: QueueFilter, *, after: str | None, limit: int, is_oldest_first: bool
) -> Page:
    """Return one page and how many messages there are in all; raises `Invalid` for a bad cursor."""
    meets = and_(True, *conditions(wanted, read_clock_s(session)))  # noqa: FBT003 - SQL's TRUE
    total = session.execute(
        select(func.count()).select_from(QueueMessageRow).where(meets)
    ).scalar_one()
    order = [one.asc() if is_oldest_first else one.desc() for one in place_columns()]
    statement = select(QueueMessageRow).where(meets).order_by(*order).limit(limit + 1)
    if after is not None:
        statement = statement.where(is_behind(after, is_oldest_first=is_oldest_first))
    rows = list(session.execute(statement).scalars())
    has_more = len(rows) > limit
    rows = rows[:limit]
    return Page(rows, total, cursor_of(rows[-1]) if has_more else None)


def find_message(session: Session, node: str, queue_id: str) -> QueueMessageRow | None:
    """Return one message as its node last listed it."""
    return session.get(QueueMessageRow, (node, queue_id))


def list_states(session: Session) -> list[ListState]:
    """Return every node's list, by name."""
    now_s = read_clock_s(session)
    counts = dict(
        session.execute(
            select(col(QueueMessageRow.node), func.count()).group_by(col(QueueMessageRow.node))
        ).all()
    )
    rows = session.execute(select(QueueListRow).order_by(col(QueueListRow.node))).scalars()
    return [
        ListState(
            node=row.node,
            messages=counts.get(row.node, 0),
            is_complete=row.is_complete,
            listed_age_s=None if row.listed_at is None else max(0.0, now_s - row.listed_at),
            reported_age_s=max(0.0, now_s - row.reported_at),
        )
        for row in rows
    ]


def place_columns() -> tuple[Any, ...]:
    """Return what every list of messages is sorted by."""
    row = QueueMessageRow
    return col(row.arrived_at), col(row.node), col(row.queue_id)


def is_behind(cursor: str, *, is_oldest_first: bool = False) -> ColumnElement[bool]:
    """Compare with the last row of the page before; raises `Invalid` for a bad cursor."""
    here, place = tuple_(*place_columns()), tuple_(*place_of(cursor))
    return here > place if is_oldest_first else here < place


def cursor_of(row: QueueMessageRow) -> str:
    """Return the text that stands for the place of a row in every list."""
    return f"{row.arrived_at!r}/{row.node}/{row.queue_id}"


def place_of(cursor: str) -> tuple[float, str, str]:
    """Return what `cursor_of` stands for; raises `Invalid` for anything else."""
    found = _CURSOR.fullmatch(cursor)
    if found is None:
        sentence = "This is no place in the list; take `after` from the page before."
        raise Invalid(sentence, {"after": sentence})
    return float(found[1]), found[2], found[3]


def storable(text: str) -> str:
    """Return a text that a database takes: PostgreSQL takes no NUL."""
    return text.replace("\x00", "\ufffd")
