"""Add roles and preferences of users, ends of idle sessions, API tokens and second factors."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Every user so far is an Admin; sessions that are open stay open until they expire."""
    _extend_users()
    _extend_sessions()
    op.add_column("audit", sa.Column("token_prefix", sa.String(16), nullable=True))
    op.create_table(
        "api_tokens",
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("token_sha256", sa.String(64), nullable=False, unique=True),
        sa.Column("prefix", sa.String(16), nullable=False),
        sa.Column("user_name", sa.String(64), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("scope", sa.String(16), nullable=False),
        _time("created_at"),
        _time("expires_at"),
        _time("last_used_at", nullable=True),
    )
    op.create_index("ix_api_tokens_user_name", "api_tokens", ["user_name"])
    op.create_table(
        "second_factors",
        sa.Column("user_name", sa.String(64), primary_key=True),
        sa.Column("secret_sealed", sa.String(), nullable=False),
        sa.Column("last_counter", sa.Integer(), nullable=False),
        _time("created_at"),
        _time("confirmed_at", nullable=True),
    )
    op.create_table(
        "recovery_codes",
        sa.Column("user_name", sa.String(64), primary_key=True),
        sa.Column("code_sha256", sa.String(64), primary_key=True),
    )


def _extend_users() -> None:
    with op.batch_alter_table("users") as users:
        users.add_column(sa.Column("role", sa.String(16), nullable=True))
        users.add_column(sa.Column("is_disabled", sa.Boolean(), nullable=True))
        users.add_column(sa.Column("language", sa.String(8), nullable=True))
        users.add_column(sa.Column("theme", sa.String(8), nullable=True))
        users.add_column(_time("last_login_at", nullable=True))
    users_now = sa.table(
        "users", *(sa.column(name) for name in ("role", "is_disabled", "language", "theme"))
    )
    op.execute(
        users_now.update().values(
            role="Admin", is_disabled=sa.false(), language="auto", theme="auto"
        )
    )
    with op.batch_alter_table("users") as users:
        users.alter_column("role", existing_type=sa.String(16), nullable=False)
        users.alter_column("is_disabled", existing_type=sa.Boolean(), nullable=False)
        users.alter_column("language", existing_type=sa.String(8), nullable=False)
        users.alter_column("theme", existing_type=sa.String(8), nullable=False)


def _extend_sessions() -> None:
    with op.batch_alter_table("user_sessions") as sessions:
        sessions.add_column(sa.Column("id", sa.String(16), nullable=True))
        sessions.add_column(sa.Column("user_agent", sa.String(200), nullable=True))
        sessions.add_column(_time("last_seen_at", nullable=True))
        sessions.add_column(_time("idle_at", nullable=True))
    op.execute(
        "UPDATE user_sessions SET id = substr(token_sha256, 1, 16), user_agent = '',"
        " last_seen_at = created_at, idle_at = expires_at"
    )
    with op.batch_alter_table("user_sessions") as sessions:
        sessions.alter_column("id", existing_type=sa.String(16), nullable=False)
        sessions.alter_column("user_agent", existing_type=sa.String(200), nullable=False)
        for name in ("last_seen_at", "idle_at"):
            sessions.alter_column(name, existing_type=sa.DateTime(timezone=True), nullable=False)
        sessions.create_unique_constraint("uq_user_sessions_id", ["id"])


def _time(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)
