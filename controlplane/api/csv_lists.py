"""CSV of the mail lists: export, preview of an import, import; all or nothing."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from controlplane.api.cluster_access import Body, StoreDep
from controlplane.api.permissions import READ, OperateCaller
from controlplane.store.list_imports import Plan, export_csv, import_csv, plan_csv

router = APIRouter(prefix="/api/v1/lists", tags=["lists"])

SHOWN_KEYS: Final = 200
CSV_TYPE: Final = "text/csv; charset=utf-8"


class ListName(StrEnum):
    """The lists that go in and out as CSV, by the path of their API."""

    DOMAINS = "recipient-domains"
    POLICIES = "sender-policies"
    ROUTES = "routes"
    NETWORKS = "trusted-networks"


class CsvBody(Body):
    """A list as a spreadsheet saves it."""

    csv: str = Field(
        description="The first line names the columns; a comma or a semicolon separates.",
        examples=["name,next_hop,port,tls_mode\nexample.com,mail.example.com,25,may\n"],
    )
    replace: bool = Field(default=False, description="Remove what the list does not name.")


class CsvImportBody(CsvBody):
    """The same, and optionally what its author had seen."""

    expected_revision: int | None = Field(
        default=None, description="Refuse when the settings have changed since this revision."
    )


class ListChange(BaseModel):
    """What putting a list changes: the first keys of each kind, and how many there are."""

    added: list[str]
    changed: list[str]
    removed: list[str]
    added_count: int
    changed_count: int
    removed_count: int
    total: int = Field(description="How many there are afterwards.")


class CsvPreview(BaseModel):
    """What an import would change; hand `revision` to the import."""

    revision: int
    change: ListChange


@router.get(
    "/{name}/csv",
    dependencies=[READ],
    response_class=Response,
    responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
)
def export_list(name: ListName, store: StoreDep) -> Response:
    """Give a list as CSV, without passwords.

    A cell that a spreadsheet would run as a formula has an apostrophe in front, which an import
    takes off again.
    """
    return csv_answer(export_csv(store, name.value), name)


@router.post("/{name}/csv/preview")
def preview_import(
    name: ListName, body: CsvBody, caller: OperateCaller, store: StoreDep
) -> CsvPreview:
    """Say what an import would change, or one sentence for each line that cannot be used."""
    del caller
    planned = plan_csv(store, name.value, body.csv, replace=body.replace)
    return CsvPreview(revision=planned.revision, change=list_change(planned.plan))


@router.post("/{name}/csv")
def import_list(
    name: ListName, body: CsvImportBody, caller: OperateCaller, store: StoreDep
) -> ListChange:
    """Add or change what the list names, all of it or nothing.

    A route without a password keeps the one that is stored for its sender and user name.
    """
    planned = plan_csv(store, name.value, body.csv, replace=body.replace)
    return list_change(import_csv(store, planned, caller.actor, body.expected_revision))


def list_change(plan: Plan) -> ListChange:
    """Return a plan as it is shown."""
    return ListChange(
        added=sorted(plan.added)[:SHOWN_KEYS],
        changed=sorted(plan.changed)[:SHOWN_KEYS],
        removed=list(plan.removed[:SHOWN_KEYS]),
        added_count=len(plan.added),
        changed_count=len(plan.changed),
        removed_count=len(plan.removed),
        total=plan.total,
    )


def csv_answer(text: str, name: ListName) -> Response:
    """Return a CSV text as a file to save."""
    disposition = f'attachment; filename="{name.value}.csv"'
    return Response(text, media_type=CSV_TYPE, headers={"Content-Disposition": disposition})
