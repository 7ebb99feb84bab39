"""Add the rotation of SSH keys, the tests of peers, and setups of hosts over SSH."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add empty columns and empty tables."""
    op.add_column("agents", sa.Column("ssh_next_public_key", sa.String(), nullable=True))
    op.add_column("agents", sa.Column("ssh_replace", sa.String(), nullable=True))
    op.add_column("agents", sa.Column("ssh_replace_at", sa.Float(), nullable=True))
    op.create_table(
        "peer_tests",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("node", sa.String(63), nullable=False),
        sa.Column("peer", sa.String(63), nullable=False),
        sa.Column("requested_by", sa.String(64), nullable=False),
        sa.Column("requested_at", sa.Float(), nullable=False),
        sa.Column("finished_at", sa.Float(), nullable=True),
        sa.Column("is_ok", sa.Boolean(), nullable=True),
        sa.Column("text", sa.String(2000), nullable=False),
        sa.Column("lines", sa.JSON(), nullable=False),
    )
    op.create_index("ix_peer_tests_node", "peer_tests", ["node"])
    op.create_table(
        "node_setups",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("node", sa.String(63), nullable=False),
        sa.Column("address", sa.String(64), nullable=False),
        sa.Column("port", sa.Integer(), nullable=False),
        sa.Column("ssh_user", sa.String(32), nullable=False),
        sa.Column("host_key", sa.String(64), nullable=False),
        sa.Column("requested_by", sa.String(64), nullable=False),
        sa.Column("requested_at", sa.Float(), nullable=False),
        sa.Column("alive_at", sa.Float(), nullable=False),
        sa.Column("finished_at", sa.Float(), nullable=True),
        sa.Column("is_cancelled", sa.Boolean(), nullable=False),
        sa.Column("is_ok", sa.Boolean(), nullable=True),
        sa.Column("text", sa.String(2000), nullable=False),
        sa.Column("lines", sa.JSON(), nullable=False),
    )
    op.create_index("ix_node_setups_node", "node_setups", ["node"])
