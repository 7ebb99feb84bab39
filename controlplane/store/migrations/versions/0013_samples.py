"""Create the table of samples of queues and mail flow."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0010"
branch_labels = None
depends_on = None

QUEUE = ("incoming", "active", "deferred", "hold", "pending", "retired", "quarantined")
FLOW = ("accepted", "delivered", "deferrals", "bounced")


def upgrade() -> None:
    """Create the table, empty: there is no past to show."""
    op.create_table(
        "samples",
        sa.Column("node", sa.String(63), primary_key=True),
        sa.Column("step_s", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("at", sa.BigInteger, primary_key=True, autoincrement=False),
        *(sa.Column(name, sa.BigInteger, nullable=True) for name in (*QUEUE, *FLOW)),
    )
    op.create_index("ix_samples_time", "samples", ["step_s", "at"])
