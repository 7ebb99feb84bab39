"""CSV imports as pages: paste or choose a file, look at what changes, import it; or nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fastapi import Response

from controlplane.api.cluster_access import StoreDep
from controlplane.api.csv_lists import ListChange, ListName, list_change
from controlplane.errors import ControlPlaneError
from controlplane.gui.forms import TICKED, Posted
from controlplane.gui.language import N_
from controlplane.gui.mail_lists import MAIL_LISTS
from controlplane.gui.shell import OperateShell, page_router
from controlplane.store.list_imports import CSV_LISTS, import_csv, plan_csv

router = page_router()

MAX_REVISION_DIGITS: Final = 18


@dataclass(frozen=True)
class ImportForm:
    """What was sent: the text is kept when it is refused."""

    csv: str = ""
    replace: bool = False
    revision: int | None = None
    error: ControlPlaneError | None = None
    change: ListChange | None = None


def read_import(posted: Posted) -> ImportForm:
    """Return the form that was sent."""
    return ImportForm(
        csv=posted.get("csv", [""])[0],
        replace=TICKED in posted.get("replace", []),
        revision=number_of(posted, "revision"),
    )


def number_of(posted: Mapping[str, Sequence[str]], name: str) -> int | None:
    """Return a number that the preview put into the form, None without one."""
    sent = posted.get(name, [""])[0]
    return int(sent) if sent.isdecimal() and len(sent) <= MAX_REVISION_DIGITS else None


@router.get("/mail/{name}/import")
def import_page(name: ListName, shell: OperateShell) -> Response:
    """Show the empty form."""
    values: dict[str, Any] = {"kind": MAIL_LISTS[name], "columns": _columns(name)}
    return shell.page("mail_import.html", form=ImportForm(), **values)


@router.post("/mail/{name}/import/preview")
def preview_import(
    name: ListName, shell: OperateShell, posted: Posted, store: StoreDep
) -> Response:
    """Show what the text would change, or what is wrong with which line."""
    form = read_import(posted)
    values: dict[str, Any] = {"kind": MAIL_LISTS[name], "columns": _columns(name)}
    try:
        planned = plan_csv(store, name.value, form.csv, replace=form.replace)
    except ControlPlaneError as error:
        shown = ImportForm(form.csv, form.replace, error=error)
    else:
        change = list_change(planned.plan)
        shown = ImportForm(form.csv, form.replace, planned.revision, change=change)
    return shell.page("mail_import.html", block="change", form=shown, **values)


@router.post("/mail/{name}/import")
def import_list(name: ListName, shell: OperateShell, posted: Posted, store: StoreDep) -> Response:
    """Import what was looked at, all of it or nothing."""
    form, kind = read_import(posted), MAIL_LISTS[name]
    try:
        planned = plan_csv(store, name.value, form.csv, replace=form.replace)
        plan = import_csv(store, planned, shell.signed_in.actor, form.revision)
    except ControlPlaneError as error:
        refused = ImportForm(form.csv, form.replace, error=error)
        values: dict[str, Any] = {"kind": kind, "columns": _columns(name), "form": refused}
        return shell.page("mail_import.html", status=error.status, **values)
    notice = N_("Imported: %(added)s added, %(changed)s changed, %(removed)s removed.")
    counts = {name: shell.localizer.number(count) for name, count in plan.counts.items()}
    return shell.done(kind.path, shell.text(notice, **counts))


def _columns(name: ListName) -> tuple[str, ...]:
    shape = CSV_LISTS[name.value][1]
    return (*shape.columns, *shape.write_only)
