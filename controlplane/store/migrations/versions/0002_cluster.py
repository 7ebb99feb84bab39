"""Create the tables of the cluster, its config versions, its users and the audit log."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create what this version needs."""
    _create_cluster()
    _create_mail_tables()
    _create_versions()
    _create_users()
    _create_audit()


def _text(name: str, length: int | None = None, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(length), nullable=nullable)


def _key(name: str, length: int) -> sa.Column[str]:
    return sa.Column(name, sa.String(length), primary_key=True)


def _number(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.Integer(), nullable=nullable)


def _time(name: str, *, nullable: bool = False) -> sa.Column[datetime]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _create_cluster() -> None:
    op.create_table(
        "cluster",
        sa.Column("id", sa.Integer(), primary_key=True),
        _number("revision"),
        sa.Column("settings", sa.JSON(), nullable=False),
    )
    op.create_table(
        "nodes",
        _key("name", 63),
        _text("address", 64),
        _number("prefix_len", nullable=True),
        _text("interface", 15),
        _number("vrrp_priority"),
        _text("cluster_mode", 16),
        _text("ssh_user", 32),
        _number("ssh_port"),
        _text("hostname", 255, nullable=True),
        sa.Column("is_maintenance", sa.Boolean(), nullable=False),
        _number("assigned_version", nullable=True),
    )
    op.create_table(
        "vips",
        _key("address", 64),
        _number("virtual_router_id"),
        _number("prefix_len", nullable=True),
        _text("interface", 15, nullable=True),
    )
    op.create_table(
        "certificate",
        sa.Column("id", sa.Integer(), primary_key=True),
        _text("certificate_pem"),
        _text("key_sealed"),
        _time("uploaded_at"),
    )


def _create_mail_tables() -> None:
    op.create_table(
        "recipient_domains",
        _key("name", 255),
        _text("next_hop", 255, nullable=True),
        _number("port"),
        _text("tls_mode", 16),
    )
    op.create_table(
        "sender_policies",
        _key("domain", 255),
        _text("action", 16),
        _text("reply_text"),
    )
    op.create_table(
        "routes",
        _key("sender", 320),
        _text("next_hop", 255),
        _number("port"),
        _text("tls_mode", 16),
        _text("username", nullable=True),
        _text("password_sealed", nullable=True),
    )
    op.create_table("trusted_networks", _key("network", 64))


def _create_versions() -> None:
    op.create_table(
        "config_versions",
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=False),
        _text("sha256", 64),
        _text("author", 64),
        _text("reason", 500),
        _number("restored_from", nullable=True),
        _number("revision"),
        _time("created_at"),
    )
    op.create_table(
        "config_files",
        sa.Column("version", sa.Integer(), primary_key=True, autoincrement=False),
        _key("node", 63),
        _text("sha256", 64),
        _text("files_sealed"),
    )


def _create_users() -> None:
    op.create_table(
        "users",
        _key("name", 64),
        _text("password_hash"),
        sa.Column("must_change_password", sa.Boolean(), nullable=False),
        _time("created_at"),
        _time("password_changed_at", nullable=True),
    )
    op.create_table(
        "user_sessions",
        _key("token_sha256", 64),
        _text("user_name", 64),
        _text("address", 64),
        _time("created_at"),
        _time("expires_at"),
    )
    for column in ("user_name", "expires_at"):
        op.create_index(f"ix_user_sessions_{column}", "user_sessions", [column])
    op.create_table(
        "login_failures",
        _key("user_name", 64),
        _key("address", 64),
        _number("failures"),
        _time("last_at"),
    )


def _create_audit() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer(), primary_key=True),
        _time("at"),
        _text("actor", 64),
        _text("address", 64),
        _text("action", 64),
        _text("target", 320),
        sa.Column("before", sa.JSON(), nullable=True),
        sa.Column("after", sa.JSON(), nullable=True),
    )
    for column in ("at", "actor", "action"):
        op.create_index(f"ix_audit_{column}", "audit", [column])
