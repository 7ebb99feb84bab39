"""The pages of the mail policy's lists, written once: look, add, change, delete, import, export."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, tzinfo
from typing import Any, Final

from fastapi import Request, Response

from controlplane.api.mail_security.item_routes import ItemApi
from controlplane.api.mail_security.views import LAST_NUMBER, ItemQuery, Number
from controlplane.core.permissions import Permission
from controlplane.errors import ControlPlaneError, Invalid
from controlplane.gui.forms import FilledForm, Posted
from controlplane.gui.language import N_
from controlplane.gui.listings import (
    CURSOR,
    PAGE_SIZE,
    Listing,
    cut_page,
    read_filters,
    show_refused,
)
from controlplane.gui.mail_lists import build_given
from controlplane.gui.policy_list_paths import NameOfPath, list_pages, part_of
from controlplane.gui.policy_lists import POLICY_LISTS, PolicyList
from controlplane.gui.shell import OperateShell, ReadShell, Shell, page_router
from controlplane.store import policy_items
from controlplane.store.engine import Database, DatabaseDep, ReadSession
from controlplane.store.policy_items import Changes, Row, Wanted

router = page_router()

EXPIRY: Final = "expires_at"
CHOSEN: Final = "chosen"


@list_pages(router, "GET")
def list_page(
    name: NameOfPath, request: Request, shell: ReadShell, session: ReadSession
) -> Response:
    """Show one list, the newest entry first; filters and place stand in the address."""
    shown = POLICY_LISTS[name]
    filters = read_filters(request, shown.filters)
    try:
        before = request.query_params.get(CURSOR)
        query = build_given(filters, ItemQuery, **({CURSOR: before} if before else {}))
        kind = shown.kind.within(**_chosen_options(shown, filters))
    except Invalid as error:
        return _list(shell, shown, show_refused(request, filters, error), error.status)
    page = policy_items.read_page(session, kind, Wanted(query.search, query.before, PAGE_SIZE + 1))
    listing = cut_page(request, filters, page.rows, lambda row: row["id"])
    return _list(shell, shown, replace(listing, total=page.total))


@list_pages(router, "GET", "/new")
def new_page(name: NameOfPath, shell: OperateShell) -> Response:
    """Show the empty form."""
    shown = POLICY_LISTS[name]
    return _item(shell, shown, shown.form(is_new=True).filled(shown.defaults), None)


@list_pages(router, "POST", "/new")
def add_item(
    name: NameOfPath, shell: OperateShell, posted: Posted, database: DatabaseDep
) -> Response:
    """Add an entry; one that is there already is not overwritten."""
    shown = POLICY_LISTS[name]
    form = shown.form(is_new=True).posted(posted)
    try:
        api = part_of(shown, form.text(shown.part.name) if shown.part else "")
        draft = _draft(shell, api, form)
        policy_items.create(database, api.kind, draft, shell.signed_in.actor)
    except ControlPlaneError as error:
        return _item(shell, shown, _refused(form, error), None, status=error.status)
    return shell.done(shown.path, shell.text(N_("The entry is saved.")))


@list_pages(router, "POST", "/delete")
def delete_chosen(
    name: NameOfPath, shell: OperateShell, posted: Posted, database: DatabaseDep
) -> Response:
    """Delete all that were chosen, as one change; who is gone already is passed over."""
    shown = POLICY_LISTS[name]
    numbers = [int(one) for one in posted.get(CHOSEN, []) if _is_number(one)]
    if not numbers:
        raise Invalid("Choose entries first.")
    done = Changes()
    for api in shown.parts.values():
        actor = shell.signed_in.actor
        done.add(policy_items.remove_all(database, api.kind, numbers, (), actor))
    count = shell.localizer.number(done.removed)
    return shell.done(shown.path, shell.text(N_("Entries removed: %(count)s."), count=count))


@list_pages(router, "GET", "/{number}")
def item_page(name: NameOfPath, number: Number, shell: ReadShell, session: ReadSession) -> Response:
    """Show one entry; who may not change it sees it without a button."""
    shown = POLICY_LISTS[name]
    row = policy_items.read_item(session, shown.kind, number)
    values = {**row}
    if row.get(EXPIRY) is not None:
        at = datetime.fromtimestamp(row[EXPIRY], shell.localizer.zone)
        values[EXPIRY] = at.strftime("%Y-%m-%d %H:%M:%S")
    return _item(shell, shown, shown.form(is_new=False).filled(values), row)


@list_pages(router, "POST", "/{number}")
def change_item(
    name: NameOfPath, number: Number, shell: OperateShell, posted: Posted, database: DatabaseDep
) -> Response:
    """Change one entry."""
    shown = POLICY_LISTS[name]
    form = shown.form(is_new=False).posted(posted)
    row, api = _find(database, shown, number)
    try:
        draft = _draft(shell, api, form)
        policy_items.replace_item(database, api.kind, number, draft, shell.signed_in.actor)
    except ControlPlaneError as error:
        return _item(shell, shown, _refused(form, error), row, status=error.status)
    return shell.done(shown.path, shell.text(N_("The entry is saved.")))


@list_pages(router, "POST", "/{number}/delete")
def delete_item(
    name: NameOfPath, number: Number, shell: OperateShell, database: DatabaseDep
) -> Response:
    """Delete one entry."""
    shown = POLICY_LISTS[name]
    _row, api = _find(database, shown, number)
    policy_items.remove(database, api.kind, number, shell.signed_in.actor)
    return shell.done(shown.path, shell.text(N_("The entry is removed.")))


def _find(database: Database, shown: PolicyList, number: int) -> tuple[Row, ItemApi]:
    with database.read() as session:
        row = policy_items.read_item(session, shown.kind, number)
    return row, shown.parts[str(row[shown.part.name]) if shown.part else ""]


def _chosen_options(shown: PolicyList, filters: FilledForm) -> dict[str, str]:
    """Return the columns that have to have a value; raises Invalid for what was not offered."""
    chosen = {}
    for one in shown.filters.fields:
        text = filters.text(one.name)
        if one.options and text:
            if text not in {option.value for option in one.options}:
                raise Invalid("There is no such filter.", {one.name: "There is no such filter."})
            chosen[one.name] = text
    return chosen


def _draft(shell: Shell, api: ItemApi, form: FilledForm) -> Any:
    """Return what was typed, checked; a time without a zone is the viewer's."""
    values = dict(form.values)
    if EXPIRY in values:
        values[EXPIRY] = [_zoned(one, shell.localizer.zone) for one in values[EXPIRY]]
    return build_given(replace(form, values=values), api.draft)


def _zoned(text: str, zone: tzinfo) -> str:
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError:
        return text
    return (at if at.tzinfo is not None else at.replace(tzinfo=zone)).isoformat()


def _refused(form: FilledForm, error: ControlPlaneError) -> FilledForm:
    """Return the form with its sentences; what concerns the whole entry is about its pattern."""
    whole = error.fields.get("body")
    names = {one.name for one in form.form.fields}
    if whole is not None and "pattern" in names:
        return form.refused(Invalid(error.detail, {**_but_body(error), "pattern": whole}))
    return form.refused(error)


def _but_body(error: ControlPlaneError) -> dict[str, str]:
    return {name: text for name, text in error.fields.items() if name != "body"}


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < len(str(LAST_NUMBER))


def _list(shell: Shell, shown: PolicyList, listing: Listing[Row], status: int = 200) -> Response:
    values: dict[str, Any] = {
        "list": shown,
        "listing": listing,
        "may_change": shell.may(Permission.OPERATE),
        "exports": [
            (
                shown.words_of("listing").get(part, ""),
                api.kind.name if part else f"{api.kind.name}s",
            )
            for part, api in shown.parts.items()
        ],
    }
    return shell.page("policy_list.html", status=status, block="listing", **values)


def _item(
    shell: Shell, shown: PolicyList, form: FilledForm, row: Row | None, *, status: int = 200
) -> Response:
    may_change = shell.may(Permission.OPERATE)
    values: dict[str, Any] = {"list": shown, "form": form, "row": row}
    return shell.page("policy_item.html", status=status, may_change=may_change, **values)
