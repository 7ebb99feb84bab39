"""Add the message trace: messages, deliveries, log lines, and how far each spool was taken in."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")
NEWEST_FIRST = {
    "status": "status",
    "sender": "sender_key",
    "sender_domain": "sender_domain",
    "client_name": "client_key",
    "client_address": "client_address",
}


def upgrade() -> None:
    """Create the tables; nothing else changes."""
    _create_messages()
    _create_deliveries()
    op.create_table(
        "trace_steps",
        sa.Column("number", NUMBER, primary_key=True),
        sa.Column("message", sa.BigInteger(), nullable=False),
        _text("node", 63, nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        _text("kind", 16, nullable=False),
        _text("service", 255, nullable=False),
        _text("text", 1000, nullable=False),
    )
    op.create_index("ix_trace_steps_message", "trace_steps", ["message", "at", "number"])
    op.create_table(
        "trace_streams",
        sa.Column("node", sa.String(63), primary_key=True),
        sa.Column("stream", sa.String(32), primary_key=True),
        sa.Column("acknowledged", sa.BigInteger(), nullable=False),
        sa.Column("received_at", sa.Float(), nullable=False),
    )


def _create_messages() -> None:
    op.create_table(
        "trace_messages",
        sa.Column("number", NUMBER, primary_key=True),
        sa.Column("queue_id", sa.String(40), nullable=True, unique=True),
        _text("node", 63, nullable=False),
        sa.Column("first_at", sa.Float(), nullable=False),
        sa.Column("last_at", sa.Float(), nullable=False),
        _text("status", 16, nullable=False),
        _text("ending", 16),
        _text("sender", 320),
        _key("sender_key", 320),
        _key("sender_domain", 320),
        _text("client_name", 255),
        _key("client_key", 255),
        _key("client_address", 255),
        _text("helo", 255),
        _text("login", 255),
        _text("message_id", 500),
        sa.Column("size_bytes", sa.BigInteger(), nullable=True),
        sa.Column("recipients", sa.Integer(), nullable=True),
    )
    op.create_index("ix_trace_messages_first", "trace_messages", ["first_at", "number"])
    op.create_index("ix_trace_messages_last", "trace_messages", ["last_at"])
    op.create_index("ix_trace_messages_message_id", "trace_messages", ["message_id"])
    for name, column in NEWEST_FIRST.items():
        columns = [column, "first_at", "number"]
        op.create_index(f"ix_trace_messages_{name}", "trace_messages", columns)


def _create_deliveries() -> None:
    op.create_table(
        "trace_deliveries",
        sa.Column("message", NUMBER, primary_key=True, autoincrement=False),
        _key("recipient_key", 320, primary_key=True),
        _text("recipient", 320, nullable=False),
        _key("recipient_domain", 320, nullable=False),
        sa.Column("first_at", sa.Float(), nullable=False),
        _text("node", 63, nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        _text("status", 16, nullable=False),
        _text("relay", 255),
        _text("dsn", 16),
        sa.Column("delay_s", sa.Float(), nullable=True),
        _text("reply", 1000, nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("sent", sa.Integer(), nullable=False),
        sqlite_with_rowid=False,
    )
    for name, column in (("recipient", "recipient_key"), ("domain", "recipient_domain")):
        columns = [column, "first_at", "message"]
        op.create_index(f"ix_trace_deliveries_{name}", "trace_deliveries", columns)


def _text(name: str, length: int, *, nullable: bool = True) -> sa.Column[Any]:
    return sa.Column(name, sa.String(length), nullable=nullable)


def _key(name: str, length: int, **options: Any) -> sa.Column[Any]:
    kind = sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")
    return sa.Column(name, kind, **options)
