"""Add alerts, and the tokens of subscriptions that have ended."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables, empty: nothing is sent before somebody adds a channel."""
    _create_settings()
    _create_sent()
    _create_ended()


def _create_settings() -> None:
    op.create_table(
        "alert_channels",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("service", sa.String(60), nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("url_sealed", sa.String(), nullable=False),
        sa.Column("is_enabled", sa.Boolean(), nullable=False),
        sa.Column("last_at", sa.Float(), nullable=True),
        sa.Column("last_is_ok", sa.Boolean(), nullable=True),
        sa.Column("last_text", sa.String(300), nullable=False),
    )
    op.create_table(
        "alert_rules",
        sa.Column("rule", sa.String(40), primary_key=True),
        sa.Column("is_enabled", sa.Boolean(), nullable=False),
        sa.Column("threshold", sa.Float(), nullable=False),
    )
    op.create_table(
        "alert_settings",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("cool_down_minutes", sa.Integer(), nullable=False),
        sa.Column("tells_end", sa.Boolean(), nullable=False),
        sa.Column("judged_at", sa.Float(), nullable=False),
    )


def _create_sent() -> None:
    op.create_table(
        "alert_states",
        sa.Column("rule", sa.String(40), primary_key=True),
        sa.Column("announced", sa.JSON(), nullable=False),
        sa.Column("notified_at", sa.Float(), nullable=True),
        sa.Column("calm_since", sa.Float(), nullable=True),
    )
    op.create_table(
        "alert_messages",
        sa.Column("number", sa.Integer(), primary_key=True),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("title", sa.String(200), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("rules", sa.JSON(), nullable=False),
    )
    op.create_index("ix_alert_messages_at", "alert_messages", ["at"])
    op.create_table(
        "alert_deliveries",
        sa.Column("message", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("channel", sa.String(64), primary_key=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.Float(), nullable=True),
        sa.Column("finished_at", sa.Float(), nullable=True),
        sa.Column("is_ok", sa.Boolean(), nullable=True),
        sa.Column("text", sa.String(300), nullable=False),
    )
    op.create_index("ix_alert_deliveries_due_at", "alert_deliveries", ["due_at"])


def _create_ended() -> None:
    op.create_table(
        "ended_subscriptions",
        sa.Column("token_sha256", sa.String(64), primary_key=True),
        sa.Column("ended_at", sa.Float(), nullable=False),
    )
    op.create_index("ix_ended_subscriptions_ended_at", "ended_subscriptions", ["ended_at"])
