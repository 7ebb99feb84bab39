"""Add the policy log: decisions, threats, connections, what is in quarantine, and counts."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")
BY_DAY: dict[str, Any] = {
    "postgresql_partition_by": "RANGE (day)",
    "sqlite_with_rowid": False,
}
INDEXES = {
    "policy_log_messages": {
        "at": None,
        "verdict": "verdict",
        "sender": "sender_key",
        "sender_domain": "sender_domain",
        "client": "client",
    },
    "policy_log_threats": {"at": None, "kind": "kind", "severity": "severity", "rule": "rule"},
    "policy_log_connections": {"at": None, "client": "client"},
}


def upgrade() -> None:
    """Create the tables; partitions are made as days come."""
    _create_messages()
    _create_threats()
    _create_connections()
    for table, indexes in INDEXES.items():
        for name, column in indexes.items():
            columns = [*([] if column is None else [column]), "at", "number"]
            op.create_index(f"ix_{table}_{name}", table, columns)
    for column in ("queue_id", "message_id"):
        op.create_index(f"ix_policy_log_messages_{column}", "policy_log_messages", [column])
    _create_quarantine()
    _create_counts()
    wants: sa.Column[bool] = sa.Column(
        "wants_preview", sa.Boolean(), nullable=False, server_default=sa.false()
    )
    op.add_column("queue_headers", wants)


def _create_messages() -> None:
    op.create_table(
        "policy_log_messages",
        *_of_an_entry(),
        _text("door", 16, nullable=False),
        _text("stage", 16, nullable=False),
        _text("verdict", 16, nullable=False),
        sa.Column("code", sa.Integer(), nullable=True),
        _text("reply", 500, nullable=False),
        _key("client"),
        _text("helo", 320),
        _text("login", 320),
        _text("sender", 320),
        _key("sender_key"),
        _key("sender_domain"),
        sa.Column("recipients", sa.JSON(), nullable=False),
        sa.Column("recipient_count", sa.Integer(), nullable=False),
        _text("subject", 320),
        _text("message_id", 320),
        _text("queue_id", 64),
        sa.Column("size_bytes", sa.BigInteger(), nullable=True),
        sa.Column("took_ms", sa.Float(), nullable=True),
        sa.Column("revision", sa.BigInteger(), nullable=True),
        sa.Column("fired", sa.JSON(), nullable=False),
        _text("text", 500, nullable=False),
        **BY_DAY,
    )


def _create_threats() -> None:
    op.create_table(
        "policy_log_threats",
        *_of_an_entry(),
        sa.Column("message", sa.BigInteger(), nullable=False),
        _text("stage", 16, nullable=False),
        _text("verdict", 16, nullable=False),
        _text("kind", 16, nullable=False),
        _key("rule", 100, nullable=False),
        _text("severity", 16),
        sa.Column("score", sa.Float(), nullable=False),
        _text("text", 500, nullable=False),
        _text("matched", 320),
        _text("client", 320),
        _text("sender", 320),
        **BY_DAY,
    )


def _create_connections() -> None:
    op.create_table(
        "policy_log_connections",
        *_of_an_entry(),
        _text("door", 16, nullable=False),
        _key("client"),
        _text("helo", 320),
        _text("login", 320),
        sa.Column("messages", sa.Integer(), nullable=False),
        **BY_DAY,
    )


def _create_quarantine() -> None:
    op.create_table(
        "policy_quarantine",
        sa.Column("queue_id", sa.String(64), primary_key=True),
        _text("node", 63, nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("received_at", sa.Float(), nullable=False),
        sa.Column("message", sa.BigInteger(), nullable=False),
        _text("client", 320),
        _text("login", 320),
        _text("subject", 320),
        _text("message_id", 320),
        sa.Column("revision", sa.BigInteger(), nullable=True),
        sa.Column("rules", sa.String(), nullable=False),
        sa.Column("kinds", sa.String(), nullable=False),
        _text("severity", 16),
        sa.Column("fired", sa.JSON(), nullable=False),
        sa.Column("action", sa.Integer(), nullable=True),
    )
    op.create_index("ix_policy_quarantine_received", "policy_quarantine", ["received_at"])


def _create_counts() -> None:
    op.create_table(
        "policy_log_counts",
        sa.Column("step_s", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("at", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("what", sa.String(16), primary_key=True),
        sa.Column("name", sa.String(100), primary_key=True),
        sa.Column("count", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "policy_log_streams",
        sa.Column("node", sa.String(63), primary_key=True),
        sa.Column("stream", sa.String(32), primary_key=True),
        sa.Column("acknowledged", sa.BigInteger(), nullable=False),
        sa.Column("received_at", sa.Float(), nullable=False),
    )


def _of_an_entry() -> tuple[sa.Column[Any], ...]:
    return (
        sa.Column("number", NUMBER, primary_key=True, autoincrement=False),
        sa.Column("day", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("at", sa.Float(), nullable=False),
        _text("node", 63, nullable=False),
    )


def _text(name: str, length: int, *, nullable: bool = True) -> sa.Column[Any]:
    return sa.Column(name, sa.String(length), nullable=nullable)


def _key(name: str, length: int = 320, *, nullable: bool = True) -> sa.Column[Any]:
    kind = sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")
    return sa.Column(name, kind, nullable=nullable)
