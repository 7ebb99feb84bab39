"""Imports into the mail policy's lists as pages: what would change, then all of it or nothing.

What is typed comes as a form. A file that was chosen comes as the body of a request, as it is, and
the form's other fields as its query: a million entries fit into no text field.
"""

from __future__ import annotations

from functools import partial
from io import BytesIO
from typing import Annotated, Any, Final

from fastapi import Query, Request, Response
from pydantic import BaseModel, ConfigDict

from controlplane.api.mail_security.item_routes import ItemApi, with_file
from controlplane.errors import ControlPlaneError
from controlplane.gui.forms import TICKED, Field, FilledForm, Form, Option, Posted, Widget
from controlplane.gui.language import N_
from controlplane.gui.policy_list_paths import NameOfPath, list_pages, part_of
from controlplane.gui.policy_lists import POLICY_LISTS, PolicyList
from controlplane.gui.shell import OperateShell, Shell, page_router
from controlplane.store.engine import DatabaseDep
from controlplane.store.policy_imports import FileKind, Preview, import_file, preview_file
from controlplane.store.policy_items import Changes

router = page_router()

IMPORT: Final = (
    Field(
        "format",
        N_("Format"),
        widget=Widget.SELECT,
        options=(Option.of("csv", "CSV"), Option.of("json", "JSON")),
    ),
    Field(
        "text",
        N_("File"),
        hint=N_("CSV names its columns in the first line; JSON is an array, as an export has it."),
        widget=Widget.FILE_TEXT,
        is_required=True,
        attributes={"rows": "10"},
    ),
    Field(
        "replace",
        N_("Replace the whole list"),
        hint=N_("Entries that the file does not name are removed."),
        widget=Widget.CHECKBOX,
    ),
)


class FileQuery(BaseModel):
    """What the form of a chosen file says."""

    model_config = ConfigDict(extra="ignore")

    listing: str = ""
    format: FileKind = FileKind.CSV
    replace: str = ""


FileFields = Annotated[FileQuery, Query()]


@list_pages(router, "GET", "/import")
def import_page(name: NameOfPath, shell: OperateShell) -> Response:
    """Show the empty form."""
    return _page(shell, POLICY_LISTS[name], _form(POLICY_LISTS[name]).filled())


@list_pages(router, "POST", "/import/preview")
def preview_typed(
    name: NameOfPath, shell: OperateShell, posted: Posted, database: DatabaseDep
) -> Response:
    """Show what the text would change, and what of it cannot be used."""
    shown = POLICY_LISTS[name]
    form = _form(shown).posted(posted)
    try:
        preview = preview_file(database, **_typed(shown, form))
    except ControlPlaneError as error:
        return _page(shell, shown, form, error=error)
    return _page(shell, shown, form, preview=preview)


@list_pages(router, "POST", "/import")
def import_typed(
    name: NameOfPath, shell: OperateShell, posted: Posted, database: DatabaseDep
) -> Response:
    """Put all that the text names into the list; one with a bad entry changes nothing."""
    shown = POLICY_LISTS[name]
    form = _form(shown).posted(posted)
    try:
        done = import_file(database, actor=shell.signed_in.actor, **_typed(shown, form))
    except ControlPlaneError as error:
        return _page(shell, shown, form, error=error)
    return _imported(shell, shown, done)


@list_pages(router, "POST", "/import/file/preview")
async def preview_chosen(
    name: NameOfPath,
    query: FileFields,
    request: Request,
    shell: OperateShell,
    database: DatabaseDep,
) -> Response:
    """Show what a file would change, and what of it cannot be used."""
    shown = POLICY_LISTS[name]
    try:
        read = partial(preview_file, database)
        preview = await with_file(request, database, _part(shown, query), read, **_how(query))
    except ControlPlaneError as error:
        return _page(shell, shown, _form(shown).filled(), error=error)
    return _page(shell, shown, _form(shown).filled(), preview=preview)


@list_pages(router, "POST", "/import/file")
async def import_chosen(
    name: NameOfPath,
    query: FileFields,
    request: Request,
    shell: OperateShell,
    database: DatabaseDep,
) -> Response:
    """Put all that a file names into the list; one with a bad entry changes nothing."""
    shown = POLICY_LISTS[name]
    try:
        read = partial(import_file, database, actor=shell.signed_in.actor)
        done = await with_file(request, database, _part(shown, query), read, **_how(query))
    except ControlPlaneError as error:
        return _page(shell, shown, _form(shown).filled(), error=error)
    return _imported(shell, shown, done)


def _form(shown: PolicyList) -> Form:
    return Form((shown.part, *IMPORT) if shown.part else IMPORT)


def _typed(shown: PolicyList, form: FilledForm) -> dict[str, Any]:
    """Return what is to be imported of what was typed; raises Invalid."""
    return {
        "kind": part_of(shown, form.text(shown.part.name) if shown.part else "").kind,
        "file": BytesIO(form.required("text").encode()),
        "file_kind": FileKind.JSON if form.text("format") == "json" else FileKind.CSV,
        "replace": form.has("replace"),
    }


def _part(shown: PolicyList, query: FileQuery) -> ItemApi:
    return part_of(shown, query.listing if shown.part else "")


def _how(query: FileQuery) -> dict[str, Any]:
    return {"file_kind": query.format, "replace": query.replace == TICKED}


def _imported(shell: Shell, shown: PolicyList, done: Changes) -> Response:
    notice = N_("Imported: %(added)s added, %(changed)s changed, %(removed)s removed.")
    counts = {one: shell.localizer.number(count) for one, count in done.counts.items()}
    return shell.done(shown.path, shell.text(notice, **counts))


def _page(
    shell: Shell,
    shown: PolicyList,
    form: FilledForm,
    *,
    error: ControlPlaneError | None = None,
    preview: Preview | None = None,
) -> Response:
    columns = tuple(next(iter(shown.parts.values())).draft.model_fields)
    return shell.page(
        "policy_import.html",
        status=200 if error is None else error.status,
        block="change",
        list=shown,
        form=form,
        columns=columns,
        error=error,
        preview=preview,
    )
