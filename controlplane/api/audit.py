"""The audit log: who changed what, when, from where; secrets are never in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlmodel import Session

from controlplane.api.cluster_access import PRINTABLE, Since
from controlplane.api.csv_stream import CSV_ANSWER, EXPORT_PAGE, read_pages, stream_csv
from controlplane.api.permissions import READ, ReadCaller
from controlplane.core.field_changes import FieldChange, field_changes
from controlplane.store import audit
from controlplane.store.audit import AuditFilter, list_entries, redact
from controlplane.store.engine import Database, DatabaseDep, ReadSession
from controlplane.store.user_tables import AuditRow

router = APIRouter(prefix="/api/v1/audit", tags=["audit"])

CSV_COLUMNS: Final = ("id", "at", "actor", "address", "token_prefix", "action", "target", "change")
_BEGINNING: Final = "A `*` at its end: whatever begins so."


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

    @property
    def changes(self) -> tuple[FieldChange, ...]:
        """What differs, field by field."""
        return field_changes(self.before, self.after)


class AuditQuery(BaseModel):
    """Which entries; every field narrows the search."""

    model_config = ConfigDict(extra="forbid")

    actor: str | None = Field(
        default=None, max_length=64, pattern=PRINTABLE, description=_BEGINNING
    )
    action: str | None = Field(
        default=None, max_length=64, pattern=PRINTABLE, description=_BEGINNING
    )
    target: str | None = Field(
        default=None, max_length=320, pattern=PRINTABLE, description=_BEGINNING
    )
    since: Since | None = Field(default=None, description="Not older.")
    until: Since | None = Field(default=None, description="Older.")

    def to_filter(self, before_id: int | None, limit: int) -> AuditFilter:
        """Return what the store takes."""
        return AuditFilter(
            actor=self.actor,
            action=self.action,
            target=self.target,
            since=self.since,
            until=self.until,
            before_id=before_id,
            limit=limit,
        )


class PagedAuditQuery(AuditQuery):
    """Which entries, and which page of them."""

    before: int | None = Field(
        default=None, ge=1, le=2**31 - 1, description="Older than this id: the next page."
    )
    limit: int = Field(default=100, ge=1, le=1000)


@router.get("", dependencies=[READ])
def list_audit(
    query: Annotated[PagedAuditQuery, Query()], session: ReadSession
) -> list[AuditEntry]:
    """List entries of the audit log, newest first."""
    found = list_entries(session, query.to_filter(query.before, query.limit))
    return [entry_of(row) for row in found]


@router.get("/export", response_class=StreamingResponse, responses=CSV_ANSWER)
def export_audit(
    query: Annotated[AuditQuery, Query()], database: DatabaseDep, caller: ReadCaller
) -> StreamingResponse:
    """Export entries of the audit log as CSV, newest first; the export itself is audited."""
    with database.write() as session:
        wanted = query.model_dump(mode="json", exclude_none=True)
        audit.record(session, caller.actor, "audit.export", after=wanted)
    return stream_csv("audit", CSV_COLUMNS, _pages(database, query))


def _pages(database: Database, query: AuditQuery) -> Iterator[list[tuple[object, ...]]]:
    def read(session: Session, last: AuditRow | None) -> Sequence[AuditRow]:
        before = None if last is None else last.id
        return list_entries(session, query.to_filter(before, EXPORT_PAGE))

    for rows in read_pages(database, read, EXPORT_PAGE):
        yield [_csv_row(entry_of(row)) for row in rows]


def _csv_row(one: AuditEntry) -> tuple[object, ...]:
    change = "; ".join(change.text() for change in one.changes)
    at = one.at.isoformat()
    return (one.id, at, one.actor, one.address, one.token_prefix, one.action, one.target, change)


def entry_of(row: AuditRow) -> AuditEntry:
    """Return a row as it is shown; what has become a secret since it was written is masked."""
    values = {**row.model_dump(), "before": redact(row.before), "after": redact(row.after)}
    return AuditEntry.model_validate(values)
