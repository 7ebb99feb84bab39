"""What an Admin does to users: create, change role, disable, delete, reset what they forgot.

Theory of operation. Each change happens in the one writing transaction, and looks there at two
things again: that who asks is still an Admin, and that an Admin who may log in is left. So two
Admins who demote each other at the same moment end as one Admin and one refusal. Whoever has a
one-time password does not count there: it may run out unused. Nobody does here to themselves what
needs their own password elsewhere: that would be a way round it.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import delete
from sqlmodel import Session, col, select

from controlplane.core.permissions import UserRole
from controlplane.errors import Conflict, Forbidden, NotFound
from controlplane.store import audit, second_factor
from controlplane.store.audit import Actor
from controlplane.store.columns import utc_now
from controlplane.store.engine import Database
from controlplane.store.passwords import hash_password
from controlplane.store.user_sessions import LoginRules, end_sessions
from controlplane.store.user_tables import (
    ApiTokenRow,
    KnownAddressRow,
    LoginFailureRow,
    UserRow,
)

ONE_TIME_CHARACTERS: Final = 16
_LETTERS: Final = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"
RESERVED: Final = frozenset({"system"})
"""Names that mean something else in the audit log."""


@dataclass(frozen=True)
class UserFacts:
    """A user as an Admin sees them."""

    row: UserRow
    has_second_factor: bool


@dataclass(frozen=True)
class IssuedPassword:
    """A password that opens nothing but its own change, until it expires; it is shown this once."""

    text: str
    expires_at: datetime


@dataclass(frozen=True)
class UserChange:
    """What to change of a user; None stays."""

    role: UserRole | None = None
    is_disabled: bool | None = None


def list_users(session: Session) -> list[UserFacts]:
    """Return all users by name."""
    secured = second_factor.active_users(session)
    rows = session.exec(select(UserRow).order_by(col(UserRow.name)))
    return [UserFacts(row, row.name in secured) for row in rows]


def read_user(session: Session, name: str) -> UserFacts:
    """Return one user; raises NotFound."""
    return UserFacts(_require(session, name), second_factor.is_active(session, name))


def create_user(
    database: Database, actor: Actor, name: str, role: UserRole, rules: LoginRules
) -> IssuedPassword:
    """Create a user who must change the one-time password that is returned; raises Conflict."""
    password = _one_time_password(rules)
    password_hash = hash_password(password.text, rules.cost)
    with database.write() as session:
        _require_admin(session, actor)
        if name in RESERVED or session.get(UserRow, name) is not None:
            raise Conflict(f"The name {name} is taken.")
        row = UserRow(
            name=name,
            password_hash=password_hash,
            role=role.value,
            must_change_password=True,
            password_expires_at=password.expires_at,
        )
        session.add(row)
        audit.record(session, actor, "user.create", name, after=_facts(row))
    return password


def change_user(database: Database, actor: Actor, name: str, change: UserChange) -> UserFacts:
    """Change a user's role, disable or enable them; raises NotFound, Conflict.

    A new role counts from the next request on; disabling ends the user's sessions and stops their
    API tokens.
    """
    with database.write() as session:
        _require_admin(session, actor)
        row = _require(session, name)
        before = _facts(row)
        if change.role is not None:
            row.role = change.role.value
        if change.is_disabled is not None:
            row.is_disabled = change.is_disabled
        if _facts(row) != before:
            session.add(row)
            session.flush()
            _require_an_admin(session)
            if row.is_disabled:
                end_sessions(session, name)
            audit.record(session, actor, "user.update", name, before=before, after=_facts(row))
        return UserFacts(row, second_factor.is_active(session, name))


def delete_user(database: Database, actor: Actor, name: str) -> None:
    """Delete a user with sessions, API tokens and second factor; raises NotFound, Conflict."""
    with database.write() as session:
        _require_admin(session, actor)
        row = _require(session, name)
        before = _facts(row)
        session.delete(row)
        session.flush()
        _require_an_admin(session)
        end_sessions(session, name)
        second_factor.forget(session, name)
        for table in (ApiTokenRow, LoginFailureRow, KnownAddressRow):
            session.exec(delete(table).where(col(table.user_name) == name))
        audit.record(session, actor, "user.delete", name, before=before)


def reset_password(
    database: Database, actor: Actor, name: str, rules: LoginRules
) -> IssuedPassword:
    """Give a user a one-time password, which is returned, and end their sessions.

    Their API tokens are refused until the password is changed. Raises NotFound, and Conflict for
    the actor's own password or that of the last Admin who has one of their own.
    """
    password = _one_time_password(rules)
    password_hash = hash_password(password.text, rules.cost)
    with database.write() as session:
        _require_admin(session, actor)
        _refuse_oneself(actor, name, "Change your own password with the present one.")
        row = _require(session, name)
        row.password_hash = password_hash
        row.must_change_password = True
        row.password_expires_at = password.expires_at
        session.add(row)
        session.flush()
        _require_an_admin(session)
        end_sessions(session, name)
        session.exec(delete(LoginFailureRow).where(col(LoginFailureRow.user_name) == name))
        audit.record(session, actor, "user.reset-password", name)
    return password


def reset_second_factor(database: Database, actor: Actor, name: str) -> None:
    """Take away the second factor of a user who lost it, and end their sessions.

    Raises NotFound, and Conflict for the actor's own.
    """
    with database.write() as session:
        _require_admin(session, actor)
        _refuse_oneself(actor, name, "Remove your own second factor with a code of it.")
        _require(session, name)
        second_factor.remove(session, actor, name)
        end_sessions(session, name)


def set_preferences(
    session: Session,
    actor: Actor,
    language: str | None,
    theme: str | None,
    time_zone: str | None = None,
) -> UserRow:
    """Change how pages look for the actor; None stays."""
    row = _require(session, actor.name)
    before = _preferences(row)
    row.language = language or row.language
    row.theme = theme or row.theme
    row.time_zone = time_zone or row.time_zone
    after = _preferences(row)
    if after != before:
        session.add(row)
        audit.record(session, actor, "user.preferences", row.name, before=before, after=after)
    return row


def _preferences(row: UserRow) -> dict[str, str]:
    return {"language": row.language, "theme": row.theme, "time_zone": row.time_zone}


def _one_time_password(rules: LoginRules) -> IssuedPassword:
    """Return a password of 93 random bits without letters that look alike."""
    text = "".join(secrets.choice(_LETTERS) for _ in range(ONE_TIME_CHARACTERS))
    return IssuedPassword(text, utc_now() + timedelta(hours=rules.one_time_password_hours))


def _require(session: Session, name: str) -> UserRow:
    row = session.get(UserRow, name)
    if row is None:
        raise NotFound(f"There is no user {name}.")
    return row


def _require_admin(session: Session, actor: Actor) -> None:
    row = session.get(UserRow, actor.name)
    if row is None or row.is_disabled or row.role != UserRole.ADMIN.value:
        raise Forbidden(f"{actor.name} is no longer an Admin.")


def _require_an_admin(session: Session) -> None:
    admins = select(UserRow.name).where(
        col(UserRow.role) == UserRole.ADMIN.value,
        col(UserRow.is_disabled).is_(False),
        col(UserRow.password_expires_at).is_(None),
    )
    if session.exec(admins.limit(1)).first() is None:
        raise Conflict("This is the last Admin who may log in; make another one first.")


def _refuse_oneself(actor: Actor, name: str, sentence: str) -> None:
    if actor.name == name:
        raise Conflict(sentence)


def _facts(row: UserRow) -> dict[str, Any]:
    return {"role": row.role, "is_disabled": row.is_disabled}
