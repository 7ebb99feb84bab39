"""Tables of the message trace: what Postfix's logs on all nodes said, by message.

A queue id keeps its name through an adoption, so a message is one row whatever nodes it was on. A
refusal that got no queue id is a row of its own. Times are floats, seconds since 1970 by the clocks
of the nodes. `*_key` is in lower case, for searching; on PostgreSQL keys sort by their bytes
(collation "C"), so that one index serves both a whole address and its beginning.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Column, Float, Index, Integer, String
from sqlmodel import Field, SQLModel

from controlplane.store.log_streams import StreamColumns

NUMBER = BigInteger().with_variant(Integer, "sqlite")
"""What SQLite counts up by itself, and as large elsewhere."""


def key_type(length: int) -> Any:
    """Return the type of a text that is searched by its beginning."""
    return String(length).with_variant(String(length, collation="C"), "postgresql")


def _newest_first(name: str, column: str) -> Index:
    return Index(name, column, "first_at", "number")


class TraceMessageRow(SQLModel, table=True):
    """One message, or one refusal; what no line has said is null."""

    __tablename__ = "trace_messages"
    __table_args__ = (
        Index("ix_trace_messages_first", "first_at", "number"),
        Index("ix_trace_messages_last", "last_at"),
        Index("ix_trace_messages_message_id", "message_id"),
        _newest_first("ix_trace_messages_status", "status"),
        _newest_first("ix_trace_messages_sender", "sender_key"),
        _newest_first("ix_trace_messages_sender_domain", "sender_domain"),
        _newest_first("ix_trace_messages_client_name", "client_key"),
        _newest_first("ix_trace_messages_client_address", "client_address"),
    )

    number: int | None = Field(default=None, sa_column=Column(NUMBER, primary_key=True))
    queue_id: str | None = Field(default=None, max_length=40, unique=True)
    node: str = Field(max_length=63)
    first_at: float = Field(sa_type=Float)
    last_at: float = Field(sa_type=Float)
    status: str = Field(max_length=16)
    ending: str | None = Field(default=None, max_length=16)
    sender: str | None = Field(default=None, max_length=320)
    sender_key: str | None = Field(default=None, sa_type=key_type(320))
    sender_domain: str | None = Field(default=None, sa_type=key_type(320))
    client_name: str | None = Field(default=None, max_length=255)
    client_key: str | None = Field(default=None, sa_type=key_type(255))
    client_address: str | None = Field(default=None, sa_type=key_type(255))
    helo: str | None = Field(default=None, max_length=255)
    login: str | None = Field(default=None, max_length=255)
    message_id: str | None = Field(default=None, max_length=500)
    size_bytes: int | None = Field(default=None, sa_column=Column(BigInteger))
    recipients: int | None = None


class TraceDeliveryRow(SQLModel, table=True):
    """How a message's last try for one recipient ended; `first_at` is its message's."""

    __tablename__ = "trace_deliveries"
    __table_args__ = (
        Index("ix_trace_deliveries_recipient", "recipient_key", "first_at", "message"),
        Index("ix_trace_deliveries_domain", "recipient_domain", "first_at", "message"),
        {"sqlite_with_rowid": False},
    )

    message: int = Field(sa_column=Column(NUMBER, primary_key=True, autoincrement=False))
    recipient_key: str = Field(sa_column=Column(key_type(320), primary_key=True))
    recipient: str = Field(max_length=320)
    recipient_domain: str = Field(sa_type=key_type(320))
    first_at: float = Field(sa_type=Float)
    node: str = Field(max_length=63)
    at: float = Field(sa_type=Float)
    status: str = Field(max_length=16)
    relay: str | None = Field(default=None, max_length=255)
    dsn: str | None = Field(default=None, max_length=16)
    delay_s: float | None = Field(default=None, sa_type=Float)
    reply: str = Field(default="", max_length=1000)
    tries: int = 0
    sent: int = 0


class TraceStepRow(SQLModel, table=True):
    """One line of a node's log about a message."""

    __tablename__ = "trace_steps"
    __table_args__ = (Index("ix_trace_steps_message", "message", "at", "number"),)

    number: int | None = Field(default=None, sa_column=Column(NUMBER, primary_key=True))
    message: int = Field(sa_column=Column(BigInteger, nullable=False))
    node: str = Field(max_length=63)
    at: float = Field(sa_type=Float)
    kind: str = Field(max_length=16)
    service: str = Field(max_length=255)
    text: str = Field(max_length=1000)


class TraceStreamRow(StreamColumns, table=True):
    """How far a node's spool of the trace has been taken in."""

    __tablename__ = "trace_streams"
