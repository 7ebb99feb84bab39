"""Users and their sessions: first admin, login with throttling, password change, logout.

Theory of operation. A login hands out 256 random bits once and stores only their SHA-256, so that
a stolen database opens no session. Guessing is slowed down by `login_throttle`. Hashing takes a
tenth of a second and happens between transactions, never inside the one writer. The first admin may
do nothing but change the password, which the API enforces by `must_change_password`.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import delete
from sqlmodel import Session, col, select

from controlplane.errors import Invalid, Unauthenticated
from controlplane.store import audit
from controlplane.store.audit import SYSTEM, Actor
from controlplane.store.columns import utc_now
from controlplane.store.engine import Database
from controlplane.store.login_throttle import count_attempt, note_success, wait_s
from controlplane.store.passwords import (
    PasswordCost,
    decoy_hash,
    hash_password,
    verify_password,
    weakness,
)
from controlplane.store.user_tables import LoginFailureRow, UserRow, UserSessionRow

FIRST_ADMIN = "admin"
FIRST_PASSWORD = "Admin123"  # noqa: S105 - opens nothing but the password change


class LoginRefused(Unauthenticated):
    """User name or password is wrong."""


@dataclass(frozen=True)
class LoginRules:
    """How costly hashing is and how long a session lasts."""

    cost: PasswordCost = field(default_factory=PasswordCost)
    session_hours: float = 12.0


@dataclass(frozen=True)
class IssuedSession:
    """A fresh login; `token` is known to nobody else and never stored."""

    token: str
    user: str
    expires_at: datetime
    must_change_password: bool


@dataclass(frozen=True)
class KnownUser:
    """Who a session token belongs to."""

    name: str
    must_change_password: bool
    expires_at: datetime


def token_hash(token: str) -> str:
    """Return what is stored of a session token."""
    return hashlib.sha256(token.encode()).hexdigest()


def ensure_first_admin(database: Database, rules: LoginRules) -> bool:
    """Create `admin / Admin123` when there is no user at all; safe when instances race."""
    with database.read() as session:
        if _has_users(session):
            return False
    password_hash = hash_password(FIRST_PASSWORD, rules.cost)
    with database.write() as session:
        if _has_users(session):
            return False
        session.add(
            UserRow(name=FIRST_ADMIN, password_hash=password_hash, must_change_password=True)
        )
        audit.record(session, SYSTEM, "user.create", FIRST_ADMIN)
    return True


def _has_users(session: Session) -> bool:
    return session.exec(select(UserRow.name).limit(1)).first() is not None


def reset_admin(database: Database, rules: LoginRules) -> None:
    """Give `admin` its first password back and end all of its sessions; for the local CLI only."""
    password_hash = hash_password(FIRST_PASSWORD, rules.cost)
    with database.write() as session:
        user = session.get(UserRow, FIRST_ADMIN) or UserRow(name=FIRST_ADMIN, password_hash="")
        user.password_hash = password_hash
        user.must_change_password = True
        session.add(user)
        session.exec(delete(UserSessionRow).where(col(UserSessionRow.user_name) == FIRST_ADMIN))
        session.exec(delete(LoginFailureRow).where(col(LoginFailureRow.user_name) == FIRST_ADMIN))
        audit.record(session, SYSTEM, "user.reset", FIRST_ADMIN)


def log_in(database: Database, actor: Actor, password: str, rules: LoginRules) -> IssuedSession:
    """Open a session for the right password; raises LoginRefused or Throttled, both audited."""
    count_attempt(database, actor)
    with database.read() as session:
        user = session.get(UserRow, actor.name)
    stored = user.password_hash if user is not None else decoy_hash(rules.cost)
    is_right = verify_password(password, stored)
    with database.write() as session:
        current = session.get(UserRow, actor.name)
        if is_right and current is not None and current.password_hash == stored:
            note_success(session, actor)
            audit.record(session, actor, "session.create", actor.name)
            return _issue(session, current, actor.address, rules)
        _record_refusal(session, actor, "session.refused")
    raise LoginRefused


def _issue(session: Session, user: UserRow, address: str, rules: LoginRules) -> IssuedSession:
    token = secrets.token_urlsafe(32)
    expires_at = utc_now() + timedelta(hours=rules.session_hours)
    session.add(
        UserSessionRow(
            token_sha256=token_hash(token),
            user_name=user.name,
            address=address,
            expires_at=expires_at,
        )
    )
    return IssuedSession(token, user.name, expires_at, user.must_change_password)


def _record_refusal(session: Session, actor: Actor, action: str) -> None:
    """Write one row for each password that was looked at; who has to wait leaves no more rows."""
    left_s = wait_s(session, actor)
    after = {"wait_s": left_s} if left_s > 0 else None
    audit.record(session, actor, action, actor.name, after=after)


def find_user(session: Session, token: str) -> KnownUser | None:
    """Return whom an unexpired token belongs to."""
    login = session.get(UserSessionRow, token_hash(token))
    if login is None or login.expires_at <= utc_now():
        return None
    user = session.get(UserRow, login.user_name)
    if user is None:
        return None
    return KnownUser(user.name, user.must_change_password, login.expires_at)


def log_out(database: Database, actor: Actor, token: str) -> None:
    """End one session; unknown tokens are ignored."""
    with database.write() as session:
        login = session.get(UserSessionRow, token_hash(token))
        if login is not None:
            session.delete(login)
            audit.record(session, actor, "session.delete", actor.name)


def change_password(
    database: Database, actor: Actor, *, current: str, new: str, rules: LoginRules
) -> IssuedSession:
    """Set a new password, end all sessions of the user and open a fresh one.

    Raises Invalid when the current one is wrong or the new one is weak or unchanged. Wrong guesses
    at the current password are throttled like logins.
    """
    count_attempt(database, actor)
    with database.read() as session:
        stored = session.get_one(UserRow, actor.name).password_hash
    if not verify_password(current, stored):
        with database.write() as session:
            _record_refusal(session, actor, "user.password-refused")
        raise _invalid("current_password", "The current password is wrong.")
    with database.write() as session:
        note_success(session, actor)
    if new in {current, FIRST_PASSWORD}:
        raise _invalid("new_password", "The new password must differ from the old one.")
    sentence = weakness(new, actor.name)
    if sentence is not None:
        raise _invalid("new_password", sentence)
    password_hash = hash_password(new, rules.cost)
    with database.write() as session:
        user = session.get_one(UserRow, actor.name)
        user.password_hash = password_hash
        user.must_change_password = False
        user.password_changed_at = utc_now()
        session.add(user)
        session.exec(delete(UserSessionRow).where(col(UserSessionRow.user_name) == user.name))
        audit.record(session, actor, "user.password", user.name)
        return _issue(session, user, actor.address, rules)


def _invalid(field_name: str, sentence: str) -> Invalid:
    return Invalid(sentence, {field_name: sentence})
