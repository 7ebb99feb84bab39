"""API tokens: what programs use in place of a login, for one user, with a scope and an end.

A token is shown once and stored as a hash; its first letters stay to recognise it by. Revoking
deletes it, so the next request is refused. It acts with its owner's role of that moment, narrowed
by its scope, and not at all while the owner is disabled.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from sqlalchemy import func, update
from sqlmodel import Session, col, select

from controlplane.core.permissions import Scope
from controlplane.errors import Conflict, NotFound
from controlplane.store import audit
from controlplane.store.audit import Actor
from controlplane.store.columns import utc_now
from controlplane.store.user_sessions import NOTE_EVERY, KnownUser, known_user, token_hash
from controlplane.store.user_tables import ApiTokenRow

MARK: Final = "relay_"
"""How every API token begins: people and secret scanners recognise it."""
PREFIX_CHARACTERS: Final = len(MARK) + 6
MAX_DAYS: Final = 365
MAX_TOKENS: Final = 100
"""Of one user; unused ones are to be revoked."""


@dataclass(frozen=True)
class IssuedToken:
    """A fresh token; `text` is shown this once and never stored."""

    text: str
    row: ApiTokenRow


def create_token(
    session: Session, actor: Actor, name: str, scope: Scope, valid_days: int
) -> IssuedToken:
    """Make a token for the actor; raises Conflict when the user has too many."""
    _require_room(session, actor.name)
    text = f"{MARK}{secrets.token_urlsafe(32)}"
    now = utc_now()
    row = ApiTokenRow(
        id=secrets.token_hex(8),
        token_sha256=token_hash(text),
        prefix=text[:PREFIX_CHARACTERS],
        user_name=actor.name,
        name=name,
        scope=scope.value,
        created_at=now,
        expires_at=now + timedelta(days=min(valid_days, MAX_DAYS)),
    )
    session.add(row)
    audit.record(session, actor, "api-token.create", actor.name, after=_facts(row))
    return IssuedToken(text, row)


def _require_room(session: Session, user_name: str) -> None:
    count = select(func.count()).where(col(ApiTokenRow.user_name) == user_name)
    if session.exec(count).one() >= MAX_TOKENS:
        raise Conflict(f"{user_name} has {MAX_TOKENS} API tokens; revoke some first.")


def find_owner(session: Session, token: str) -> KnownUser | None:
    """Return whom an unexpired token acts for; a disabled owner's tokens are dead."""
    found = select(ApiTokenRow).where(col(ApiTokenRow.token_sha256) == token_hash(token))
    row = session.exec(found).one_or_none()
    now = utc_now()
    if row is None or row.expires_at <= now:
        return None
    return known_user(
        session,
        row.user_name,
        expires_at=row.expires_at,
        credential_id=row.id,
        is_use_due=row.last_used_at is None or row.last_used_at <= now - NOTE_EVERY,
        scope=Scope(row.scope),
        token_prefix=row.prefix,
    )


def note_token_use(session: Session, token_id: str) -> None:
    """Write down that a token is in use."""
    session.execute(
        update(ApiTokenRow).where(col(ApiTokenRow.id) == token_id).values(last_used_at=utc_now())
    )


def list_tokens(session: Session, user_name: str | None = None) -> list[ApiTokenRow]:
    """Return the tokens of one user, or of all, the newest first, expired ones too."""
    statement = select(ApiTokenRow).order_by(col(ApiTokenRow.created_at).desc())
    if user_name is not None:
        statement = statement.where(col(ApiTokenRow.user_name) == user_name)
    return list(session.exec(statement))


def revoke_token(
    session: Session, actor: Actor, token_id: str, user_name: str | None = None
) -> None:
    """Delete one token, of `user_name` only when that is given; raises NotFound."""
    row = session.get(ApiTokenRow, token_id)
    if row is None or user_name not in {None, row.user_name}:
        raise NotFound("There is no such API token.")
    session.delete(row)
    audit.record(session, actor, "api-token.revoke", row.user_name, before=_facts(row))


def _facts(row: ApiTokenRow) -> dict[str, str]:
    return {
        "id": row.id,
        "name": row.name,
        "prefix": row.prefix,
        "scope": row.scope,
        "expires_at": row.expires_at.isoformat(),
    }
