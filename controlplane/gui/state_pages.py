"""The whole state as one file, as pages: save it, look at what a file would change, import it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import Query, Response
from pydantic import ValidationError

from controlplane.api.cluster_access import StoreDep
from controlplane.api.error_handlers import field_sentences
from controlplane.api.state import ExportQuery, StatePreview, state_preview
from controlplane.errors import ControlPlaneError, Invalid
from controlplane.gui.diffs import FileView, file_views
from controlplane.gui.forms import Posted
from controlplane.gui.language import N_
from controlplane.gui.mail_imports import number_of, read_import
from controlplane.gui.shell import AdminShell, ReadShell, page_router
from controlplane.store.state_files import StateFile, export_state, import_state, plan_state

router = page_router()

PAGE: Final = "/configuration"
FILE_NAME: Final = "mail-relay-state.json"
SHOWN_PROBLEMS: Final = 100


@dataclass(frozen=True)
class StateForm:
    """What was sent, what it would change, and what is wrong with it."""

    text: str = ""
    preview: StatePreview | None = None
    files: tuple[FileView, ...] = ()
    error: str | None = None
    problems: tuple[tuple[str, str], ...] = ()


@router.get("/configuration/export")
def export_page(
    query: Annotated[ExportQuery, Query()], shell: ReadShell, store: StoreDep
) -> Response:
    """Send the state as a file, without any secret."""
    del shell
    state = export_state(store, with_subscriptions=query.subscriptions)
    text = state.model_dump_json(indent=2) + "\n"
    disposition = f'attachment; filename="{FILE_NAME}"'
    headers = {"Content-Disposition": disposition, "Cache-Control": "no-store"}
    return Response(text, media_type="application/json", headers=headers)


@router.get("/configuration/import")
def import_page(shell: AdminShell) -> Response:
    """Show the empty form."""
    return shell.page("configuration_import.html", form=StateForm())


@router.post("/configuration/import/preview")
def preview_import(shell: AdminShell, posted: Posted, store: StoreDep) -> Response:
    """Show what a file would change, and its problems."""
    text = read_import(posted).csv
    try:
        shown = state_preview(plan_state(store, _read(text)))
    except ControlPlaneError as error:
        form = _refused(text, error)
    else:
        problems = tuple(shown.problems.items())[:SHOWN_PROBLEMS]
        form = StateForm(text, shown, tuple(file_views(shown.files)), problems=problems)
    return shell.page("configuration_import.html", block="change", form=form)


@router.post("/configuration/import")
def replace_state(shell: AdminShell, posted: Posted, store: StoreDep) -> Response:
    """Import a file that was looked at, all of it or nothing."""
    sent = read_import(posted)
    try:
        planned = plan_state(store, _read(sent.csv))
        edits = number_of(posted, "policy_edits")
        alerts = (posted.get("alerts_digest") or [""])[0] or None
        actor = shell.signed_in.actor
        import_state(store, planned, actor, sent.revision, edits, expected_alerts=alerts)
    except ControlPlaneError as error:
        form = _refused(sent.csv, error)
        return shell.page("configuration_import.html", status=error.status, form=form)
    return shell.done(PAGE, shell.text(N_("The file is imported; apply brings it to the nodes.")))


def _read(text: str) -> StateFile:
    try:
        return StateFile.model_validate_json(text)
    except ValidationError as error:
        fields = field_sentences(error.errors())
        raise Invalid("This is no file of a state; nothing was changed.", fields) from error


def _refused(text: str, error: ControlPlaneError) -> StateForm:
    problems = tuple(error.fields.items())[:SHOWN_PROBLEMS]
    return StateForm(text, error=error.detail, problems=problems)
