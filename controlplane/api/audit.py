"""The audit log: who changed what, when, from where; secrets are never in it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from controlplane.api.cluster_access import PRINTABLE, Since
from controlplane.api.permissions import READ
from controlplane.store.audit import AuditFilter, list_entries
from controlplane.store.engine import ReadSession
from controlplane.store.user_tables import AuditRow

router = APIRouter(prefix="/api/v1/audit", tags=["audit"])


class AuditEntry(BaseModel):
    """One change, refusal or login."""

    id: int
    at: datetime
    actor: str = Field(description="A user, `agent:<node>` or `system`.")
    address: str = Field(description="Where the request came from.")
    token_prefix: str | None = Field(
        description="How the API token that was used begins; null: a login."
    )
    action: str = Field(examples=["vip.update"])
    target: str = Field(description="The key of what was changed.")
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class AuditQuery(BaseModel):
    """Which entries to list."""

    model_config = ConfigDict(extra="forbid")

    actor: str | None = Field(default=None, max_length=64, pattern=PRINTABLE)
    action: str | None = Field(default=None, max_length=64, pattern=PRINTABLE)
    target: str | None = Field(default=None, max_length=320, pattern=PRINTABLE)
    since: Since | None = None
    before: int | None = Field(
        default=None, ge=1, le=2**31 - 1, description="Older than this id: the next page."
    )
    limit: int = Field(default=100, ge=1, le=1000)


@router.get("", dependencies=[READ])
def list_audit(query: Annotated[AuditQuery, Query()], session: ReadSession) -> list[AuditEntry]:
    """List entries of the audit log, newest first."""
    wanted = AuditFilter(
        actor=query.actor,
        action=query.action,
        target=query.target,
        since=query.since,
        before_id=query.before,
        limit=query.limit,
    )
    return [_view(row) for row in list_entries(session, wanted)]


def _view(row: AuditRow) -> AuditEntry:
    return AuditEntry.model_validate(row, from_attributes=True)
