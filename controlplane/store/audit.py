"""The audit log: one row for each change, refusal and login, written with the change itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlmodel import Session, col, select

from controlplane.store.user_tables import AuditRow

SECRET_FIELDS = frozenset(
    {"password", "password_hash", "key_pem", "token", "private_key"}
    | {"secret", "code", "recovery_codes", "one_time_password"}
)
"""Fields whose values never reach the audit log."""

REDACTED = "(secret)"


@dataclass(frozen=True)
class Actor:
    """Who did it: a user, `agent:<node>` or `system`, and where they came from.

    `token_prefix` is how the API token that was used begins, empty for a login.
    """

    name: str
    address: str = ""
    user_agent: str = ""
    token_prefix: str = ""


SYSTEM = Actor("system")


@dataclass(frozen=True)
class AuditFilter:
    """Which rows to list, newest first; `before_id` continues where the last page ended.

    A text that ends in `*` is the beginning of what is wanted.
    """

    actor: str | None = None
    action: str | None = None
    target: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    before_id: int | None = None
    limit: int = 100


def redact(values: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Replace every secret that is set, at any depth; an unset one stays visibly unset."""
    if values is None:
        return None
    return {name: _redact_value(name, value) for name, value in values.items()}


def _redact_value(name: str, value: Any) -> Any:
    if name in SECRET_FIELDS and value is not None:
        return REDACTED
    if isinstance(value, Mapping):
        return redact(value)
    if isinstance(value, list | tuple):
        return [redact(item) if isinstance(item, Mapping) else item for item in value]
    return value


def record(
    session: Session,
    actor: Actor,
    action: str,
    target: str = "",
    *,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    """Add one row to the current transaction; the caller commits it together with the change.

    `action` is `<noun>.<verb>`, for instance `vip.create`; values are JSON-serialisable.
    """
    session.add(
        AuditRow(
            actor=actor.name[:64],
            address=actor.address[:64],
            token_prefix=actor.token_prefix or None,
            action=action,
            target=target[:320],
            before=redact(before),
            after=redact(after),
        )
    )


def known_actions(session: Session) -> list[str]:
    """Return every action that there is a row of."""
    return list(session.exec(select(AuditRow.action).distinct().order_by(AuditRow.action)))


def list_entries(session: Session, wanted: AuditFilter) -> list[AuditRow]:
    """Return matching rows, newest first."""
    statement = select(AuditRow).order_by(col(AuditRow.id).desc()).limit(wanted.limit)
    for column, text in (
        (col(AuditRow.actor), wanted.actor),
        (col(AuditRow.action), wanted.action),
        (col(AuditRow.target), wanted.target),
    ):
        if text is not None and text.endswith("*"):
            statement = statement.where(column.startswith(text[:-1], autoescape=True))
        elif text is not None:
            statement = statement.where(column == text)
    if wanted.since is not None:
        statement = statement.where(AuditRow.at >= wanted.since)
    if wanted.until is not None:
        statement = statement.where(AuditRow.at < wanted.until)
    if wanted.before_id is not None:
        statement = statement.where(col(AuditRow.id) < wanted.before_id)
    return list(session.exec(statement))
