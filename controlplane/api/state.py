"""The whole state as one file: export, preview of an import, import."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from controlplane.api.cluster_access import Body, StoreDep
from controlplane.api.config import FileChange, file_changes
from controlplane.api.csv_lists import ListChange, list_change
from controlplane.api.permissions import READ, AdminCaller
from controlplane.store.state_files import (
    StateFile,
    StateImport,
    export_state,
    import_state,
    plan_state,
)

router = APIRouter(prefix="/api/v1/state", tags=["state"])


class SettingChange(BaseModel):
    """One setting that differs; `name` has a dot where it is one of a section."""

    name: str
    before: Any
    after: Any


class StatePreview(BaseModel):
    """What importing a file would change; hand `revision` to the import."""

    revision: int
    problems: dict[str, str] = Field(description="By field; not empty: it cannot be imported.")
    settings: list[SettingChange]
    lists: dict[str, ListChange] = Field(description="By name; those that change.")
    files: list[FileChange] = Field(description="What the next apply would change with it.")


class StateImportBody(Body):
    """A file, and optionally what its author had seen."""

    state: StateFile
    expected_revision: int | None = Field(
        default=None, description="Refuse when the settings have changed since this revision."
    )


@router.get("", dependencies=[READ])
def read_state(store: StoreDep) -> StateFile:
    """Export everything that was set, as one file without secrets."""
    return export_state(store)


@router.post("/preview")
def preview_state(body: StateFile, caller: AdminCaller, store: StoreDep) -> StatePreview:
    """Say what importing this file would change, to the settings and to the nodes' files."""
    del caller
    return state_preview(plan_state(store, body))


@router.post("")
def replace_state(body: StateImportBody, caller: AdminCaller, store: StoreDep) -> StatePreview:
    """Replace the settings and all lists by those of a file, all of it or nothing.

    Routes keep the password that is stored for the same sender and user name; the certificate
    stays. An enrolled node that the file does not name is refused. Nothing reaches the nodes'
    files before the next apply; timings and maintenance reach the agents at once.
    """
    planned = plan_state(store, body.state)
    import_state(store, planned, caller.actor, body.expected_revision)
    return state_preview(planned)


def state_preview(planned: StateImport) -> StatePreview:
    """Return a planned import as it is shown."""
    return StatePreview(
        revision=planned.revision,
        problems=dict(planned.problems),
        settings=[
            SettingChange(name=name, before=before, after=after)
            for name, (before, after) in planned.changed_settings.items()
        ],
        lists={plan.noun.field: list_change(plan) for plan in planned.plans if not plan.is_empty},
        files=[] if planned.problems else file_changes(planned.files_before, planned.files_after),
    )
