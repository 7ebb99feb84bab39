"""Tables of what waits on the nodes, and of what operators did with it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Column, Float, Index, Text
from sqlmodel import Field, SQLModel


class QueueListRow(SQLModel, table=True):
    """How far one node's list has come: its session, its last batch, when it was whole."""

    __tablename__ = "queue_lists"

    node: str = Field(primary_key=True, max_length=63)
    session: str = Field(max_length=36)
    sequence: int
    is_complete: bool = False
    listed_at: float | None = Field(default=None, sa_type=Float)
    reported_at: float = Field(sa_type=Float)


class QueueMessageRow(SQLModel, table=True):
    """One message in one node's queue, as the node listed it in `session`."""

    __tablename__ = "queue_messages"
    __table_args__ = (
        Index("ix_queue_messages_arrived", "arrived_at", "node", "queue_id"),
        Index("ix_queue_messages_id", "queue_id"),
    )

    node: str = Field(primary_key=True, max_length=63)
    queue_id: str = Field(primary_key=True, max_length=64)
    session: str = Field(max_length=36)
    queue: str = Field(max_length=16)
    arrived_at: float = Field(sa_type=Float)
    size_bytes: int = Field(sa_type=BigInteger)
    sender: str = Field(max_length=512)
    recipients: str = Field(sa_type=Text)
    """One a line, the first ones."""
    recipient_count: int
    domains: str = Field(sa_type=Text)
    """Those of `recipients`, each with a line break before and behind it."""
    next_hop: str | None = Field(default=None, max_length=255)
    reason: str = Field(max_length=500)


class QueueActionRow(SQLModel, table=True):
    """One bulk action: who wants what done with a fixed selection of messages."""

    __tablename__ = "queue_actions"

    id: int | None = Field(default=None, primary_key=True)
    verb: str = Field(max_length=16)
    state: str = Field(max_length=16)
    requested_by: str = Field(max_length=64)
    requested_at: float = Field(sa_type=Float)
    finished_at: float | None = Field(default=None, sa_type=Float)
    selection: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    total: int = 0
    error: str = Field(default="", max_length=500)
    counts: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON, nullable=True))
    """By node and state, once it has ended; before that the items are counted."""


class QueueActionItemRow(SQLModel, table=True):
    """One message of an action, the node that has it, and what became of it there."""

    __tablename__ = "queue_action_items"
    __table_args__ = (
        Index("ix_queue_action_items_node", "node", "state", "action"),
        Index("ix_queue_action_items_id", "queue_id"),
    )

    action: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    node: str = Field(primary_key=True, max_length=63)
    queue_id: str = Field(primary_key=True, max_length=64)
    state: str = Field(max_length=16)


class QueueHeadersRow(SQLModel, table=True):
    """An operator's wish to look into one message, and the answer, sealed and soon deleted."""

    __tablename__ = "queue_headers"

    id: int | None = Field(default=None, primary_key=True)
    node: str = Field(max_length=63)
    queue_id: str = Field(max_length=64)
    wants_preview: bool = False
    requested_by: str = Field(max_length=64)
    requested_at: float = Field(sa_type=Float, index=True)
    answered_at: float | None = Field(default=None, sa_type=Float)
    content_sealed: str | None = None
