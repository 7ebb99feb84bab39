"""Create the tables of ownership: instance, leases, receipts, agents, reports, events."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create what this version needs."""
    _create_instance()
    _create_leases()
    _create_receipts()
    _create_agents()
    _create_reports()
    _create_switchovers()


def _node(name: str = "node", *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(63), nullable=nullable)


def _create_instance() -> None:
    op.create_table(
        "instance",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("instance_id", sa.String(36), nullable=False),
        sa.Column("is_recovering", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
    )
    op.create_table(
        "recovery_reports",
        sa.Column("instance_id", sa.String(36), primary_key=True),
        sa.Column("node", sa.String(63), primary_key=True),
        sa.Column("memory", sa.JSON(), nullable=False),
        sa.Column("received_at", sa.Float(), nullable=False),
    )


def _create_leases() -> None:
    op.create_table(
        "leases",
        sa.Column("queue", sa.String(63), primary_key=True),
        _node("holder"),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        _node("granted_to", nullable=True),
        sa.Column("confirmed_dead", sa.Boolean(), nullable=False),
        sa.Column("seen_generation", sa.Integer(), nullable=False),
        _node("push_peer", nullable=True),
        sa.Column("push_generation", sa.Integer(), nullable=True),
        sa.Column("push_sequence", sa.Integer(), nullable=True),
        sa.Column("push_messages", sa.Integer(), nullable=True),
        sa.Column("push_at", sa.Float(), nullable=True),
    )


def _create_receipts() -> None:
    op.create_table(
        "receipts",
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=False),
        _node("queue"),
        sa.Column("generation", sa.Integer(), nullable=False),
        _node("holder"),
        sa.Column("messages", sa.Integer(), nullable=False),
        sa.Column("is_done", sa.Boolean(), nullable=False),
        sa.Column("committed_at", sa.Float(), nullable=False),
        sa.Column("done_at", sa.Float(), nullable=True),
    )
    op.create_index("ix_receipts_key", "receipts", ["queue", "generation", "holder"])
    op.create_table(
        "receipt_ids",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=False),
        sqlite_with_rowid=False,
    )


def _create_agents() -> None:
    op.create_table(
        "agents",
        sa.Column("name", sa.String(63), primary_key=True),
        sa.Column("public_key_pem", sa.String(), nullable=True),
        sa.Column("ssh_public_key", sa.String(), nullable=True),
        sa.Column("ssh_host_keys", sa.JSON(), nullable=False),
        sa.Column("enrolled_at", sa.Float(), nullable=True),
        sa.Column("revoked_at", sa.Float(), nullable=True),
        sa.Column("struck_off_at", sa.Float(), nullable=True),
    )
    op.create_table(
        "enrol_tokens",
        sa.Column("token_sha256", sa.String(64), primary_key=True),
        _node(),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.Column("used_at", sa.Float(), nullable=True),
    )
    op.create_index("ix_enrol_tokens_node", "enrol_tokens", ["node"])


def _create_reports() -> None:
    op.create_table(
        "node_reports",
        sa.Column("node", sa.String(63), primary_key=True),
        sa.Column("seen_at", sa.Float(), nullable=False),
        sa.Column("report", sa.JSON(), nullable=False),
    )
    op.create_index("ix_node_reports_seen_at", "node_reports", ["seen_at"])
    op.create_table(
        "events",
        sa.Column("number", sa.Integer(), primary_key=True),
        sa.Column("event_id", sa.String(64), nullable=False, unique=True),
        _node(nullable=True),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("text", sa.String(2000), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("happened_at", sa.Float(), nullable=False),
        sa.Column("received_at", sa.Float(), nullable=False),
    )
    for column in ("node", "kind", "received_at"):
        op.create_index(f"ix_events_{column}", "events", [column])


def _create_switchovers() -> None:
    op.create_table(
        "switchovers",
        sa.Column("id", sa.Integer(), primary_key=True),
        _node("source"),
        _node("destination"),
        sa.Column("requested_by", sa.String(64), nullable=False),
        sa.Column("requested_at", sa.Float(), nullable=False),
        sa.Column("finished_at", sa.Float(), nullable=True),
        sa.Column("is_ok", sa.Boolean(), nullable=True),
        sa.Column("text", sa.String(2000), nullable=False),
        sa.Column("stall_ms", sa.Float(), nullable=True),
        sa.Column("messages", sa.Integer(), nullable=True),
    )
