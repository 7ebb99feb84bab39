"""Add what imports of the mail policy's lists have decided and not yet carried out."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Create the tables, empty."""
    op.create_table(
        "policy_imports",
        sa.Column("id", NUMBER, primary_key=True),
        sa.Column("list", sa.String(32), nullable=False),
        sa.Column("sections", sa.String(64), nullable=False),
        sa.Column("origin", sa.String(64), nullable=False),
        sa.Column("is_committed", sa.Boolean(), nullable=False),
        sa.Column("touched_at", sa.Float(), nullable=False),
    )
    op.create_table(
        "policy_import_parts",
        sa.Column("import_id", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
    )
