"""How users prove who they are: first admin, login with throttling, password change.

Theory of operation. A login hands out 256 random bits once (`user_sessions`). Guessing is slowed
down by `login_throttle`: an attempt counts as failed until password and code (`second_factor`) were
both right, so a known password buys no free guesses at the code. Hashing takes a tenth of a second
and happens between transactions, never inside the one writer. Who must change the password may do
nothing else, which the API enforces by `must_change_password`.
"""

from __future__ import annotations

from sqlalchemy import delete
from sqlmodel import Session, col, select

from controlplane.core.permissions import UserRole
from controlplane.errors import Invalid, Unauthenticated
from controlplane.store import audit, second_factor
from controlplane.store.audit import SYSTEM, Actor
from controlplane.store.columns import utc_now
from controlplane.store.engine import Database
from controlplane.store.login_throttle import (
    count_attempt,
    note_success,
    take_back_attempt,
    wait_s,
)
from controlplane.store.passwords import decoy_hash, hash_password, verify_password, weakness
from controlplane.store.second_factor import CodeRefused, CodeRequired
from controlplane.store.user_sessions import (
    IssuedSession,
    LoginRules,
    end_sessions,
    is_password_expired,
    issue_session,
)
from controlplane.store.user_tables import LoginFailureRow, UserRow

FIRST_ADMIN = "admin"
FIRST_PASSWORD = "Admin123"  # noqa: S105 - opens nothing but the password change


class LoginRefused(Unauthenticated):
    """User name or password is wrong."""


class PasswordExpired(Unauthenticated):
    """This one-time password has expired; ask an Admin for a new one."""

    reason = "password-expired"


def ensure_first_admin(database: Database, rules: LoginRules) -> bool:
    """Create `admin / Admin123` when there is no user at all; safe when instances race."""
    with database.read() as session:
        if _has_users(session):
            return False
    password_hash = hash_password(FIRST_PASSWORD, rules.cost)
    with database.write() as session:
        if _has_users(session):
            return False
        session.add(_first_admin(password_hash))
        audit.record(session, SYSTEM, "user.create", FIRST_ADMIN)
    return True


def _has_users(session: Session) -> bool:
    return session.exec(select(UserRow.name).limit(1)).first() is not None


def _first_admin(password_hash: str) -> UserRow:
    return UserRow(
        name=FIRST_ADMIN,
        password_hash=password_hash,
        role=UserRole.ADMIN.value,
        must_change_password=True,
    )


def reset_admin(database: Database, rules: LoginRules) -> None:
    """Make `admin` an Admin with its first password again; for the local CLI only.

    The way in when nobody else has one: sessions and second factor of `admin` end, and a disabled
    or deleted `admin` is back.
    """
    password_hash = hash_password(FIRST_PASSWORD, rules.cost)
    with database.write() as session:
        user = session.get(UserRow, FIRST_ADMIN) or _first_admin(password_hash)
        user.password_hash = password_hash
        user.role = UserRole.ADMIN.value
        user.is_disabled = False
        user.must_change_password = True
        user.password_expires_at = None
        session.add(user)
        end_sessions(session, FIRST_ADMIN)
        second_factor.forget(session, FIRST_ADMIN)
        session.exec(delete(LoginFailureRow).where(col(LoginFailureRow.user_name) == FIRST_ADMIN))
        audit.record(session, SYSTEM, "user.reset", FIRST_ADMIN)


def log_in(
    database: Database, actor: Actor, password: str, rules: LoginRules, *, code: str = ""
) -> IssuedSession:
    """Open a session for the right password, and the right code where the user needs one.

    Raises LoginRefused, PasswordExpired, CodeRequired, CodeRefused or Throttled; every password
    that was looked at is audited. A disabled user is refused like an unknown one.
    """
    count_attempt(database, actor)
    with database.read() as session:
        user = session.get(UserRow, actor.name)
    stored = user.password_hash if user is not None else decoy_hash(rules.cost)
    is_right = verify_password(password, stored)
    refused: Unauthenticated = LoginRefused()
    with database.write() as session:
        current = session.get(UserRow, actor.name)
        if is_right and current is not None and current.password_hash == stored:
            try:
                return _enter(session, current, actor, code, rules)
            except Unauthenticated as error:
                refused = error
        _record_refusal(session, actor, f"session.{refused.reason or 'refused'}")
    raise refused


def _enter(
    session: Session, user: UserRow, actor: Actor, code: str, rules: LoginRules
) -> IssuedSession:
    """Open the session of a user whose password was right; changes nothing when it raises."""
    if user.is_disabled:
        raise LoginRefused
    if is_password_expired(user):
        raise PasswordExpired
    second_factor.require_code(session, actor, code, rules)
    note_success(session, actor)
    user.last_login_at = utc_now()
    session.add(user)
    audit.record(session, actor, "session.create", actor.name)
    return issue_session(session, user, actor, rules)


def _record_refusal(session: Session, actor: Actor, action: str) -> None:
    """Write one row for each password that was looked at; who has to wait leaves no more rows."""
    left_s = wait_s(session, actor)
    after = {"wait_s": left_s} if left_s > 0 else None
    audit.record(session, actor, action, actor.name, after=after)


def prove(
    database: Database, actor: Actor, password: str, rules: LoginRules, *, code: str | None = None
) -> str:
    """Let a user who is logged in prove again who they are: a stolen session is not enough.

    Returns the hash that the password was held against. With `code` the second factor is asked for
    too, where there is one. Raises Invalid for a wrong password or code, and Throttled: wrong ones
    are throttled like logins.
    """
    count_attempt(database, actor)
    with database.read() as session:
        user = session.get(UserRow, actor.name)
    stored = user.password_hash if user is not None else decoy_hash(rules.cost)
    refused: Invalid | None = None
    if not verify_password(password, stored):
        refused = _invalid("current_password", "The current password is wrong.")
    with database.write() as session:
        if refused is None and code is not None:
            try:
                second_factor.require_code(session, actor, code, rules)
            except (CodeRequired, CodeRefused) as error:
                refused = _invalid("code", error.detail)
        if refused is not None:
            _record_refusal(session, actor, "user.proof-refused")
        elif code is None and second_factor.is_active(session, actor.name):
            take_back_attempt(session, actor)
        else:
            note_success(session, actor)
    if refused is not None:
        raise refused
    return stored


def change_password(
    database: Database, actor: Actor, *, current: str, new: str, rules: LoginRules
) -> IssuedSession:
    """Set a new password, end all sessions of the user and open a fresh one.

    Raises Invalid when the current one is wrong or the new one is weak or unchanged. Wrong guesses
    at the current password are throttled like logins.
    """
    proved = prove(database, actor, current, rules)
    if new in {current, FIRST_PASSWORD}:
        raise _invalid("new_password", "The new password must differ from the old one.")
    sentence = weakness(new, actor.name)
    if sentence is not None:
        raise _invalid("new_password", sentence)
    password_hash = hash_password(new, rules.cost)
    with database.write() as session:
        user = session.get(UserRow, actor.name)
        if user is None or user.is_disabled or user.password_hash != proved:
            raise Unauthenticated("An Admin changed this user meanwhile; log in again.")
        user.password_hash = password_hash
        user.must_change_password = False
        user.password_expires_at = None
        user.password_changed_at = utc_now()
        session.add(user)
        end_sessions(session, user.name)
        audit.record(session, actor, "user.password", user.name)
        return issue_session(session, user, actor, rules)


def _invalid(field_name: str, sentence: str) -> Invalid:
    return Invalid(sentence, {field_name: sentence})
