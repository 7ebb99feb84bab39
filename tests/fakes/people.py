"""Users of any role for tests: made without a round of passwords, logged in without a request."""

from __future__ import annotations

from datetime import timedelta

from passlib.totp import TOTP
from sqlmodel import select

from controlplane.core.permissions import Scope, UserRole
from controlplane.store import second_factor
from controlplane.store.api_tokens import create_token
from controlplane.store.audit import Actor
from controlplane.store.columns import utc_now
from controlplane.store.engine import Database
from controlplane.store.passwords import hash_password
from controlplane.store.user_sessions import LoginRules, issue_session
from controlplane.store.user_tables import AuditRow, SecondFactorRow, UserRow

PERIOD_S = 30


def add_user(
    database: Database, name: str, role: UserRole, password: str, rules: LoginRules
) -> None:
    """Add a user whose password is their own already."""
    password_hash = hash_password(password, rules.cost)
    with database.write() as session:
        session.add(UserRow(name=name, password_hash=password_hash, role=role.value))


def open_session(database: Database, name: str, rules: LoginRules) -> str:
    """Return the token of a fresh session."""
    with database.write() as session:
        user = session.get_one(UserRow, name)
        return issue_session(session, user, Actor(name, "198.51.100.40"), rules).token


def make_token(database: Database, name: str, scope: Scope) -> str:
    """Return a fresh API token."""
    with database.write() as session:
        return create_token(session, Actor(name), "test", scope, 1).text


def bearer(token: str) -> dict[str, str]:
    """Return the header that carries a token."""
    return {"Authorization": f"Bearer {token}"}


def code_of(secret: str, steps: int = 0) -> str:
    """Return a code of an authenticator app, now or the one after it: both are taken now."""
    at = utc_now() + timedelta(seconds=steps * PERIOD_S)
    return str(TOTP(secret, format="base32").generate(at).token)


def give_second_factor(
    database: Database, name: str, rules: LoginRules, *, keep_id: str = ""
) -> tuple[str, list[str]]:
    """Give a user a second factor none of whose codes is used; return secret, recovery codes.

    The user's sessions end, but the one with the id `keep_id`.
    """
    actor = Actor(name)
    with database.write() as session:
        secret = second_factor.enrol(session, actor, rules).secret
        codes = second_factor.confirm(session, actor, code_of(secret), rules, keep_id)
    let_codes_be_used_again(database, name)
    return secret, codes


def let_codes_be_used_again(database: Database, name: str) -> None:
    """Forget which codes were used, as if minutes had passed."""
    with database.write() as session:
        row = session.get_one(SecondFactorRow, name)
        row.last_counter = 0
        session.add(row)


def audited(database: Database) -> list[tuple[str, str, str]]:
    """Return actor, action and target of every audit row, oldest first."""
    with database.read() as session:
        rows = session.exec(select(AuditRow).order_by(AuditRow.id)).all()  # type: ignore[arg-type]
    return [(row.actor, row.action, row.target) for row in rows]
