"""Add when a one-time password ends, and each user's time zone."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; a one-time password that is in use already stays without an end."""
    op.add_column("users", sa.Column("password_expires_at", sa.DateTime(timezone=True)))
    zone = sa.Column("time_zone", sa.String(64), nullable=False, server_default="auto")
    op.add_column("users", zone)
