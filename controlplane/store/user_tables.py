"""Tables of people: users, their sessions, their logins, and the audit log of their changes."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Column
from sqlmodel import Field, SQLModel

from controlplane.store.columns import UtcTime, utc_now


class UserRow(SQLModel, table=True):
    """One person who may log in."""

    __tablename__ = "users"

    name: str = Field(primary_key=True, max_length=64)
    password_hash: str
    must_change_password: bool = False
    created_at: datetime = Field(default_factory=utc_now, sa_type=UtcTime)
    password_changed_at: datetime | None = Field(default=None, sa_type=UtcTime)


class UserSessionRow(SQLModel, table=True):
    """One login; only the hash of its random token is kept."""

    __tablename__ = "user_sessions"

    token_sha256: str = Field(primary_key=True, max_length=64)
    user_name: str = Field(index=True, max_length=64)
    address: str = Field(default="", max_length=64)
    created_at: datetime = Field(default_factory=utc_now, sa_type=UtcTime)
    expires_at: datetime = Field(sa_type=UtcTime, index=True)


class LoginFailureRow(SQLModel, table=True):
    """Failed logins of one user name from one address; shared by all instances.

    An empty name counts those of all users from the address, an empty address those of the user
    from everywhere.
    """

    __tablename__ = "login_failures"

    user_name: str = Field(primary_key=True, max_length=64)
    address: str = Field(primary_key=True, max_length=64)
    failures: int = 0
    last_at: datetime = Field(default_factory=utc_now, sa_type=UtcTime)


class KnownAddressRow(SQLModel, table=True):
    """An address that a user has logged in from."""

    __tablename__ = "known_addresses"

    user_name: str = Field(primary_key=True, max_length=64)
    address: str = Field(primary_key=True, max_length=64)
    last_at: datetime = Field(default_factory=utc_now, sa_type=UtcTime)


class AuditRow(SQLModel, table=True):
    """Who changed what, when and from where; rows are never changed, and go by their age alone."""

    __tablename__ = "audit"

    id: int | None = Field(default=None, primary_key=True)
    at: datetime = Field(default_factory=utc_now, sa_type=UtcTime, index=True)
    actor: str = Field(index=True, max_length=64)
    address: str = Field(default="", max_length=64)
    action: str = Field(index=True, max_length=64)
    target: str = Field(default="", max_length=320)
    before: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON))
    after: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON))
