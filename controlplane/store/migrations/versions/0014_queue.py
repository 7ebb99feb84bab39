"""Add the nodes' queue lists, the actions on them, and headers that were asked for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """All tables are new."""
    _create_lists()
    _create_actions()
    op.create_table(
        "queue_headers",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("node", sa.String(63), nullable=False),
        sa.Column("queue_id", sa.String(64), nullable=False),
        sa.Column("requested_by", sa.String(64), nullable=False),
        sa.Column("requested_at", sa.Float(), nullable=False),
        sa.Column("answered_at", sa.Float(), nullable=True),
        sa.Column("content_sealed", sa.String(), nullable=True),
    )
    op.create_index("ix_queue_headers_requested_at", "queue_headers", ["requested_at"])


def _create_lists() -> None:
    op.create_table(
        "queue_lists",
        sa.Column("node", sa.String(63), primary_key=True),
        sa.Column("session", sa.String(36), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("is_complete", sa.Boolean(), nullable=False),
        sa.Column("listed_at", sa.Float(), nullable=True),
        sa.Column("reported_at", sa.Float(), nullable=False),
    )
    op.create_table(
        "queue_messages",
        sa.Column("node", sa.String(63), primary_key=True),
        sa.Column("queue_id", sa.String(64), primary_key=True),
        sa.Column("session", sa.String(36), nullable=False),
        sa.Column("queue", sa.String(16), nullable=False),
        sa.Column("arrived_at", sa.Float(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sender", sa.String(512), nullable=False),
        sa.Column("recipients", sa.Text(), nullable=False),
        sa.Column("recipient_count", sa.Integer(), nullable=False),
        sa.Column("domains", sa.Text(), nullable=False),
        sa.Column("next_hop", sa.String(255), nullable=True),
        sa.Column("reason", sa.String(500), nullable=False),
    )
    keys = ["arrived_at", "node", "queue_id"]
    op.create_index("ix_queue_messages_arrived", "queue_messages", keys)
    op.create_index("ix_queue_messages_id", "queue_messages", ["queue_id"])


def _create_actions() -> None:
    op.create_table(
        "queue_actions",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("verb", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("requested_by", sa.String(64), nullable=False),
        sa.Column("requested_at", sa.Float(), nullable=False),
        sa.Column("finished_at", sa.Float(), nullable=True),
        sa.Column("selection", sa.JSON(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("error", sa.String(500), nullable=False),
        sa.Column("counts", sa.JSON(), nullable=True),
    )
    op.create_table(
        "queue_action_items",
        sa.Column("action", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("node", sa.String(63), primary_key=True),
        sa.Column("queue_id", sa.String(64), primary_key=True),
        sa.Column("state", sa.String(16), nullable=False),
    )
    keys = ["node", "state", "action"]
    op.create_index("ix_queue_action_items_node", "queue_action_items", keys)
    op.create_index("ix_queue_action_items_id", "queue_action_items", ["queue_id"])
