"""Add SSH keys that users bring along for nodes, and host keys that they vouch for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add an empty table, and an empty list to each node."""
    op.create_table(
        "given_ssh_keys",
        sa.Column("node", sa.String(63), primary_key=True),
        sa.Column("fingerprint", sa.String(64), primary_key=True),
        sa.Column("public_key", sa.String(), nullable=False),
        sa.Column("private_sealed", sa.String(), nullable=True),
        sa.Column("given_by", sa.String(64), nullable=False),
        sa.Column("given_at", sa.Float(), nullable=False),
    )
    pins = sa.Column("ssh_pins", sa.JSON(), nullable=False, server_default="[]")
    op.add_column("nodes", pins)
