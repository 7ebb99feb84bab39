"""Sessions: what a login hands out, who it belongs to, when it ends, and how it is ended early.

A session ends at a fixed time after the login, and earlier when nobody uses it. Each use moves the
second end, but is written down at most once a minute: reading pages holds up no heartbeat. One that
a one-time password opened ends with that password.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import update
from sqlmodel import Session, col, delete, select

from controlplane.core.permissions import Scope, UserRole
from controlplane.errors import NotFound
from controlplane.store import audit
from controlplane.store.audit import Actor
from controlplane.store.columns import utc_now
from controlplane.store.crypto import SecretBox
from controlplane.store.engine import Database
from controlplane.store.passwords import PasswordCost
from controlplane.store.user_tables import UserRow, UserSessionRow

NOTE_EVERY: Final = timedelta(minutes=1)
USER_AGENT_CHARACTERS: Final = 200


@dataclass(frozen=True)
class LoginRules:
    """How costly hashing is, how long sessions last, and what opens second factors.

    `box` is None where nobody logs in: on the command line of the host.
    """

    cost: PasswordCost = field(default_factory=PasswordCost)
    session_hours: float = 12.0
    session_idle_minutes: float = 60.0
    one_time_password_hours: float = 24.0
    box: SecretBox | None = None


@dataclass(frozen=True)
class IssuedSession:
    """A fresh login; `token` is known to nobody else and never stored."""

    token: str
    user: str
    role: UserRole
    expires_at: datetime
    must_change_password: bool


@dataclass(frozen=True)
class KnownUser:
    """Who a token belongs to, and what it was: a session, or an API token with a scope."""

    name: str
    role: UserRole
    must_change_password: bool
    expires_at: datetime
    credential_id: str
    is_use_due: bool
    scope: Scope | None = None
    token_prefix: str = ""
    language: str = "auto"
    theme: str = "auto"
    time_zone: str = "auto"


def token_hash(token: str) -> str:
    """Return what is stored of a token: it has 256 random bits, so a plain SHA-256 will do."""
    return hashlib.sha256(token.encode()).hexdigest()


def issue_session(
    session: Session, user: UserRow, actor: Actor, rules: LoginRules
) -> IssuedSession:
    """Open a session under a new token, in the caller's transaction."""
    token = secrets.token_urlsafe(32)
    now = utc_now()
    expires_at = now + timedelta(hours=rules.session_hours)
    session.add(
        UserSessionRow(
            token_sha256=token_hash(token),
            id=secrets.token_hex(8),
            user_name=user.name,
            address=actor.address[:64],
            user_agent=actor.user_agent[:USER_AGENT_CHARACTERS],
            last_seen_at=now,
            idle_at=_idle_at(now, rules),
            expires_at=expires_at,
        )
    )
    return IssuedSession(
        token, user.name, UserRole(user.role), expires_at, user.must_change_password
    )


def find_user(session: Session, token: str) -> KnownUser | None:
    """Return whom the token of an open session belongs to; a disabled user has none."""
    login = session.get(UserSessionRow, token_hash(token))
    now = utc_now()
    if login is None or min(login.expires_at, login.idle_at) <= now:
        return None
    return known_user(
        session,
        login.user_name,
        expires_at=login.expires_at,
        credential_id=login.id,
        is_use_due=login.last_seen_at <= now - NOTE_EVERY,
    )


def known_user(session: Session, name: str, **credential: Any) -> KnownUser | None:
    """Return whom a session or an API token acts for; None while that user may do nothing.

    `credential` is what `KnownUser` says of the session or token.
    """
    user = session.get(UserRow, name)
    if user is None or user.is_disabled or is_password_expired(user):
        return None
    return KnownUser(
        name=user.name,
        role=UserRole(user.role),
        must_change_password=user.must_change_password,
        language=user.language,
        theme=user.theme,
        time_zone=user.time_zone,
        **credential,
    )


def is_password_expired(user: UserRow) -> bool:
    """Tell whether a user has a one-time password whose time is over."""
    return user.password_expires_at is not None and user.password_expires_at <= utc_now()


def note_use(session: Session, session_id: str, rules: LoginRules) -> None:
    """Write down that an open session is in use; one that was ended meanwhile stays ended."""
    now = utc_now()
    session.execute(
        update(UserSessionRow)
        .where(col(UserSessionRow.id) == session_id, col(UserSessionRow.idle_at) > now)
        .values(last_seen_at=now, idle_at=_idle_at(now, rules))
    )


def log_out(database: Database, actor: Actor, token: str) -> None:
    """End one session; unknown tokens are ignored."""
    with database.write() as session:
        login = session.get(UserSessionRow, token_hash(token))
        if login is not None:
            session.delete(login)
            audit.record(session, actor, "session.delete", actor.name)


def list_sessions(session: Session, user_name: str | None = None) -> list[UserSessionRow]:
    """Return the open sessions of one user, or of all, the one used last first."""
    now = utc_now()
    statement = select(UserSessionRow).where(
        col(UserSessionRow.expires_at) > now, col(UserSessionRow.idle_at) > now
    )
    if user_name is not None:
        statement = statement.where(col(UserSessionRow.user_name) == user_name)
    return list(session.exec(statement.order_by(col(UserSessionRow.last_seen_at).desc())))


def revoke_session(
    session: Session, actor: Actor, session_id: str, user_name: str | None = None
) -> None:
    """End one session, of `user_name` only when that is given; raises NotFound."""
    row = session.exec(
        select(UserSessionRow).where(col(UserSessionRow.id) == session_id)
    ).one_or_none()
    if row is None or user_name not in {None, row.user_name}:
        raise NotFound("There is no such session; it may have ended.")
    session.delete(row)
    after = {"id": row.id, "address": row.address}
    audit.record(session, actor, "session.revoke", row.user_name, before=after)


def revoke_all(session: Session, actor: Actor, user_name: str) -> int:
    """End all sessions of a user; return how many; raises NotFound."""
    if session.get(UserRow, user_name) is None:
        raise NotFound(f"There is no user {user_name}.")
    ended = end_sessions(session, user_name)
    if ended:
        audit.record(session, actor, "session.revoke-all", user_name, before={"ended": ended})
    return ended


def end_sessions(session: Session, user_name: str, *, but: str | None = None) -> int:
    """End all sessions of a user, except the one with the id `but`; return how many."""
    statement = delete(UserSessionRow).where(col(UserSessionRow.user_name) == user_name)
    if but is not None:
        statement = statement.where(col(UserSessionRow.id) != but)
    return session.connection().execute(statement).rowcount


def revoke_others(session: Session, actor: Actor, keep_id: str) -> int:
    """End all sessions of the actor but the one in use; return how many."""
    ended = end_sessions(session, actor.name, but=keep_id)
    if ended:
        audit.record(session, actor, "session.revoke-others", actor.name, before={"ended": ended})
    return ended


def _idle_at(now: datetime, rules: LoginRules) -> datetime:
    return now + timedelta(minutes=rules.session_idle_minutes)
