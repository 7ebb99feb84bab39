"""The whole state as one file: export, preview of an import, import."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

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


class ExportQuery(BaseModel):
    """What to export."""

    model_config = ConfigDict(extra="forbid")

    subscriptions: bool = Field(
        default=True,
        description="Whether the file names who is subscribed to which category, which is "
        "personal data.",
    )


class SettingChange(BaseModel):
    """One setting that differs; `name` has a dot where it is one of a section."""

    name: str
    before: Any
    after: Any


class StatePreview(BaseModel):
    """What importing a file would change; hand what it was made of to the import."""

    revision: int
    policy_edits: int | None = Field(
        description="Rises with each edit of the mail policy; null: the file has none."
    )
    alerts_digest: str | None = Field(
        description="Another one after each change of the alerts; null: the file has none."
    )
    problems: dict[str, str] = Field(description="By field; not empty: it cannot be imported.")
    settings: list[SettingChange]
    lists: dict[str, ListChange] = Field(description="By name; those that change.")
    untouched: list[str] = Field(
        description="Parts of the mail policy and the alerts that the file does not name: they "
        "stay as they are."
    )
    notes: list[str] = Field(description="What is left to do by hand, a sentence each.")
    files: list[FileChange] = Field(description="What the next apply would change with it.")


class StateImportBody(Body):
    """A file, and optionally what its author had seen."""

    state: StateFile
    expected_revision: int | None = Field(
        default=None, description="Refuse when the settings have changed since this revision."
    )
    expected_policy_edits: int | None = Field(
        default=None, description="Refuse when the mail policy has been changed since."
    )
    expected_alerts_digest: str | None = Field(
        default=None, max_length=64, description="Refuse when the alerts have been changed since."
    )


@router.get("", dependencies=[READ])
def read_state(query: Annotated[ExportQuery, Query()], store: StoreDep) -> StateFile:
    """Export everything that was set, as one file without secrets.

    A list of the mail policy of more than 10,000 entries is not in it, `policy.left_out` says so:
    it goes out by its own export.
    """
    return export_state(store, with_subscriptions=query.subscriptions)


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
    files before the next apply; timings and maintenance reach the agents at once, and so does the
    mail policy. What of the policy the file does not name stays; the HTTP door keeps a secret that
    is stored for the same name. A channel of alerts keeps its URL; one that is not there yet is
    switched off until it is given one.
    """
    planned = plan_state(store, body.state)
    expected = (body.expected_revision, body.expected_policy_edits)
    import_state(
        store, planned, caller.actor, *expected, expected_alerts=body.expected_alerts_digest
    )
    return state_preview(planned)


def state_preview(planned: StateImport) -> StatePreview:
    """Return a planned import as it is shown."""
    return StatePreview(
        revision=planned.revision,
        policy_edits=None if planned.policy is None else planned.policy.edits,
        alerts_digest=None if planned.alerts is None else planned.alerts.digest,
        problems=dict(planned.problems),
        settings=[
            SettingChange(name=name, before=before, after=after)
            for name, (before, after) in planned.changed_settings.items()
        ],
        lists={name: list_change(plan) for name, plan in planned.changed_lists.items()},
        untouched=list(planned.untouched),
        notes=[] if planned.alerts is None else list(planned.alerts.notes),
        files=[] if planned.problems else file_changes(planned.files_before, planned.files_after),
    )
