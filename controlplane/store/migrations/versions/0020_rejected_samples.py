"""Add rejected mail to the samples of mail flow."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; of samples taken before, what was rejected stays unknown."""
    op.add_column("samples", sa.Column("rejected", sa.BigInteger(), nullable=True))
