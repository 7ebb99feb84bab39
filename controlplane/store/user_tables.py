"""Tables of people: users, how they prove who they are, and the audit log of their changes."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Column
from sqlmodel import Field, SQLModel

from controlplane.store.columns import UtcTime, utc_now


class UserRow(SQLModel, table=True):
    """One person who may log in.

    `password_expires_at` is set of one-time passwords alone: nothing is opened by them afterwards.
    """

    __tablename__ = "users"

    name: str = Field(primary_key=True, max_length=64)
    password_hash: str
    role: str = Field(max_length=16)
    is_disabled: bool = False
    must_change_password: bool = False
    password_expires_at: datetime | None = Field(default=None, sa_type=UtcTime)
    language: str = Field(default="auto", max_length=8)
    theme: str = Field(default="auto", max_length=8)
    time_zone: str = Field(default="auto", max_length=64)
    created_at: datetime = Field(default_factory=utc_now, sa_type=UtcTime)
    password_changed_at: datetime | None = Field(default=None, sa_type=UtcTime)
    last_login_at: datetime | None = Field(default=None, sa_type=UtcTime)


class UserSessionRow(SQLModel, table=True):
    """One login; only the hash of its random token is kept.

    It ends at `expires_at`, and at `idle_at` unless it is used before; each use moves `idle_at`.
    """

    __tablename__ = "user_sessions"

    token_sha256: str = Field(primary_key=True, max_length=64)
    id: str = Field(unique=True, max_length=16)
    user_name: str = Field(index=True, max_length=64)
    address: str = Field(default="", max_length=64)
    user_agent: str = Field(default="", max_length=200)
    created_at: datetime = Field(default_factory=utc_now, sa_type=UtcTime)
    last_seen_at: datetime = Field(default_factory=utc_now, sa_type=UtcTime)
    idle_at: datetime = Field(sa_type=UtcTime)
    expires_at: datetime = Field(sa_type=UtcTime, index=True)


class ApiTokenRow(SQLModel, table=True):
    """A token that programs use for a user; only its hash and its first letters are kept."""

    __tablename__ = "api_tokens"

    id: str = Field(primary_key=True, max_length=16)
    token_sha256: str = Field(unique=True, max_length=64)
    prefix: str = Field(max_length=16)
    user_name: str = Field(index=True, max_length=64)
    name: str = Field(max_length=64)
    scope: str = Field(max_length=16)
    created_at: datetime = Field(default_factory=utc_now, sa_type=UtcTime)
    expires_at: datetime = Field(sa_type=UtcTime)
    last_used_at: datetime | None = Field(default=None, sa_type=UtcTime)


class SecondFactorRow(SQLModel, table=True):
    """A user's TOTP secret, sealed; it counts once a code of it has confirmed it.

    `last_counter` is the time step (RFC 6238) of the last code that was taken: none up to it is
    taken again.
    """

    __tablename__ = "second_factors"

    user_name: str = Field(primary_key=True, max_length=64)
    secret_sealed: str
    last_counter: int = 0
    created_at: datetime = Field(default_factory=utc_now, sa_type=UtcTime)
    confirmed_at: datetime | None = Field(default=None, sa_type=UtcTime)


class RecoveryCodeRow(SQLModel, table=True):
    """A recovery code that was not used yet; only its hash is kept."""

    __tablename__ = "recovery_codes"

    user_name: str = Field(primary_key=True, max_length=64)
    code_sha256: str = Field(primary_key=True, max_length=64)


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
    token_prefix: str | None = Field(default=None, max_length=16)
    action: str = Field(index=True, max_length=64)
    target: str = Field(default="", max_length=320)
    before: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON))
    after: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON))
