"""Add the mail policy: settings, entries, packed sections, counts of rates, states of nodes."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Create the tables; nothing else changes, and the policy is not active."""
    _create_publication()
    _create_lists()
    _create_categories()
    op.create_table(
        "policy_rate_counts",
        sa.Column("source", sa.String(32), primary_key=True),
        sa.Column("window", sa.String(8), primary_key=True),
        sa.Column("bucket", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("key", sa.String(32), primary_key=True),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("change", sa.BigInteger(), nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_policy_rate_counts_change", "policy_rate_counts", ["change"])
    op.create_index("ix_policy_rate_counts_bucket", "policy_rate_counts", ["window", "bucket"])
    op.create_table(
        "policy_nodes",
        sa.Column("node", sa.String(63), primary_key=True),
        _text("source", 32),
        sa.Column("revision", sa.BigInteger(), nullable=True),
        _text("problem", 500),
        sa.Column("seen_at", sa.Float(), nullable=False),
    )


def _create_publication() -> None:
    op.create_table(
        "policy_settings",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.Column("pseudonym_key_sealed", sa.Text(), nullable=True),
    )
    op.create_table(
        "policy_revision",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("revision", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "policy_sequences",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("last", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "policy_sections",
        sa.Column("kind", sa.String(16), primary_key=True),
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=False),
        _text("sha256", 64),
        sa.Column("entries", sa.Integer(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("edits", sa.BigInteger(), nullable=False),
        sa.Column("packed_edits", sa.BigInteger(), nullable=False),
        sa.Column("touched_at", sa.Float(), nullable=False),
    )
    op.create_index("ix_policy_sections_sha256", "policy_sections", ["sha256"])


def _create_lists() -> None:
    op.create_table(
        "policy_list_entries",
        *_item(),
        _text("listing", 8),
        _key("value", 320),
        _text("reason", 500),
        sa.Column("expires_at", sa.Float(), nullable=True),
        sa.UniqueConstraint("listing", "value", name="uq_policy_list_entries_value"),
    )
    op.create_index("ix_policy_list_entries_expires", "policy_list_entries", ["expires_at"])
    op.create_index("ix_policy_list_entries_listing", "policy_list_entries", ["listing", "id"])
    op.create_table(
        "policy_badwords",
        *_item(),
        sa.Column("digest", sa.String(64), nullable=False, unique=True),
        _text("pattern", 1000),
        _flag("is_regex"),
        _text("severity", 16),
        _text("category", 16),
        _flag("is_enabled"),
    )
    op.create_table(
        "policy_rates",
        *_item(),
        _text("subject", 24),
        _text("window", 16),
        sa.Column("limit", sa.BigInteger(), nullable=False),
        _text("verdict", 16),
        _flag("is_enabled"),
        sa.UniqueConstraint("subject", "window", name="uq_policy_rates_subject"),
    )
    op.create_table(
        "policy_threats",
        sa.Column("rule", sa.String(60), primary_key=True),
        _flag("is_enabled"),
        sa.Column("score", sa.Float(), nullable=True),
    )


def _create_categories() -> None:
    op.create_table(
        "policy_categories",
        *_item(),
        _key("address", 320, unique=True),
        _text("name", 100),
        _text("posting", 16),
        sa.Column("allowed_senders", sa.JSON(), nullable=False),
        _flag("is_enabled"),
    )
    op.create_table(
        "policy_subscriptions",
        *_item(),
        sa.Column("category", sa.BigInteger(), nullable=False),
        _key("address", 320),
        sa.Column("token", sa.String(64), nullable=False, unique=True),
        sa.UniqueConstraint("category", "address", name="uq_policy_subscriptions_address"),
    )
    op.create_index("ix_policy_subscriptions_address", "policy_subscriptions", ["address"])


def _item() -> tuple[sa.Column[Any], ...]:
    return (
        sa.Column("id", NUMBER, primary_key=True, autoincrement=False),
        _text("origin", 64),
        sa.Column("created_at", sa.Float(), nullable=False),
    )


def _text(name: str, length: int) -> sa.Column[Any]:
    return sa.Column(name, sa.String(length), nullable=False)


def _flag(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Boolean(), nullable=False)


def _key(name: str, length: int, **options: Any) -> sa.Column[Any]:
    kind = sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")
    return sa.Column(name, kind, nullable=False, **options)
