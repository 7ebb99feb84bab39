"""Tell an uploaded certificate from one that the control plane made itself."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; what is stored so far was uploaded."""
    op.add_column(
        "certificate",
        sa.Column("is_own", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
