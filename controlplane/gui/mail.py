"""The mail pages: four lists with their forms, each showing what Postfix will get."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from fastapi import Request, Response

from controlplane.api.cluster_access import StoreDep
from controlplane.api.csv_lists import ListName, csv_answer
from controlplane.core.permissions import Permission
from controlplane.core.rendered_lines import lines_of
from controlplane.errors import ControlPlaneError, Invalid, NotFound
from controlplane.gui.forms import Field, FilledForm, Form, Posted
from controlplane.gui.language import N_
from controlplane.gui.listings import CURSOR, PAGE_SIZE, Listing, cut_page, read_filters
from controlplane.gui.mail_lists import MAIL_LISTS, MailList
from controlplane.gui.shell import OperateShell, ReadShell, Shell, page_router
from controlplane.store.cluster import ClusterStore
from controlplane.store.domain_lists import read_page
from controlplane.store.list_imports import export_csv
from controlplane.store.nouns import DOMAINS

router = page_router()

MAX_KEY: Final = 320
SEARCH: Final = Form((Field("search", N_("Search"), attributes={"maxlength": "255"}),))
IN_USE: Final = "There is one of this name already; open it to change it."


@router.get("/mail")
def mail_page(shell: ReadShell, store: StoreDep) -> Response:
    """Show the lists and how long they are."""
    with store.database.read() as session:
        counts = {
            one.name: read_page(session, "", "", 1).total
            if one.noun is DOMAINS
            else len(store.read_items(session, one.noun))
            for one in MAIL_LISTS.values()
        }
    return shell.page("mail.html", lists=MAIL_LISTS.values(), counts=counts)


@router.get("/mail/{name}")
def list_page(name: ListName, request: Request, shell: ReadShell, store: StoreDep) -> Response:
    """Show one list; the filter and the place in it stand in the address."""
    kind = MAIL_LISTS[name]
    filters = read_filters(request, SEARCH)
    found, total = _rows(store, kind, filters.text("search"), request.query_params.get(CURSOR, ""))
    listing: Listing[Any] = replace(
        cut_page(request, filters, found, lambda row: row[kind.noun.key]), total=total
    )
    may_change = shell.may(Permission.OPERATE)
    return shell.page(
        "mail_list.html", block="listing", kind=kind, listing=listing, may_change=may_change
    )


@router.get("/mail/{name}/csv")
def export_page(name: ListName, shell: ReadShell, store: StoreDep) -> Response:
    """Send the list as CSV."""
    del shell
    return csv_answer(export_csv(store, name.value), name)


@router.get("/mail/{name}/new")
def new_page(name: ListName, shell: OperateShell) -> Response:
    """Show the empty form."""
    kind = MAIL_LISTS[name]
    return _item_page(shell, kind, kind.form(is_new=True).filled(kind.defaults), None)


@router.post("/mail/{name}/new")
def add_item(name: ListName, shell: OperateShell, posted: Posted, store: StoreDep) -> Response:
    """Add an item; one that is there already is not overwritten."""
    kind = MAIL_LISTS[name]
    form = kind.form(is_new=True).posted(posted)
    try:
        key = form.required(kind.key.name).strip()
        if _find(store, kind, key) is not None:
            raise Invalid(IN_USE, {kind.key.name: IN_USE})
        store.put_item(kind.noun, kind.build(store, key, form), shell.signed_in.actor)
    except ControlPlaneError as error:
        return _item_page(shell, kind, form.refused(error), None, status=error.status)
    return _saved(shell, kind, key)


@router.get("/mail/{name}/edit")
def edit_page(name: ListName, key: str, shell: ReadShell, store: StoreDep) -> Response:
    """Show one item; who may not change it sees it without a button."""
    kind = MAIL_LISTS[name]
    item = store.item(kind.noun, key[:MAX_KEY])
    return _item_page(shell, kind, kind.form(is_new=False).filled(kind.noun.show(item)), key)


@router.post("/mail/{name}/edit")
def change_item(
    name: ListName, key: str, shell: OperateShell, posted: Posted, store: StoreDep
) -> Response:
    """Change one item; raises NotFound when somebody has removed it meanwhile."""
    kind = MAIL_LISTS[name]
    store.item(kind.noun, key[:MAX_KEY])
    form = kind.form(is_new=False).posted(posted)
    try:
        store.put_item(kind.noun, kind.build(store, key, form), shell.signed_in.actor)
    except ControlPlaneError as error:
        return _item_page(shell, kind, form.refused(error), key, status=error.status)
    return _saved(shell, kind, key)


@router.post("/mail/{name}/delete")
def delete_item(name: ListName, key: str, shell: OperateShell, store: StoreDep) -> Response:
    """Remove one item."""
    kind = MAIL_LISTS[name]
    store.delete_item(kind.noun, key[:MAX_KEY], shell.signed_in.actor)
    return shell.done(
        kind.path,
        shell.text(N_("%(name)s is removed; the nodes follow with the next apply."), name=key),
    )


@router.post("/mail/{name}/lines")
def show_lines(
    name: ListName, shell: OperateShell, posted: Posted, store: StoreDep, key: str = ""
) -> Response:
    """Show what Postfix will get of a form that is being filled in."""
    kind = MAIL_LISTS[name]
    form = kind.form(is_new=not key).posted(posted)
    try:
        typed = key or form.required(kind.key.name).strip()
        lines = lines_of({kind.noun.field: (kind.build(store, typed, form),)})
    except ControlPlaneError:
        lines = ()
    return shell.fragment("mail_item.html", "lines", lines=lines)


def _item_page(
    shell: Shell, kind: MailList, form: FilledForm, key: str | None, *, status: int = 200
) -> Response:
    values: dict[str, Any] = {"kind": kind, "form": form, "key": key, "lines": ()}
    may_change = shell.may(Permission.OPERATE)
    return shell.page("mail_item.html", status=status, may_change=may_change, **values)


def _saved(shell: Shell, kind: MailList, key: str) -> Response:
    notice = N_("%(name)s is saved; it reaches the nodes with the next apply.")
    return shell.done(kind.path, shell.text(notice, name=key))


def _find(store: ClusterStore, kind: MailList, key: str) -> Any:
    try:
        return store.item(kind.noun, key)
    except NotFound:
        return None


def _rows(
    store: ClusterStore, kind: MailList, search: str, after: str
) -> tuple[Sequence[dict[str, Any]], int]:
    """Return the rows of one page and one more, and how many fit the search."""
    with store.database.read() as session:
        if kind.noun is DOMAINS:
            page = read_page(session, search, after, PAGE_SIZE + 1)
            return [kind.noun.show(item) for item in page.items], page.total
        rows = [kind.noun.show(item) for item in store.read_items(session, kind.noun)]
    fitting = [row for row in rows if search.lower() in row[kind.noun.key].lower()]
    rest = [row for row in fitting if row[kind.noun.key] > after]
    return rest[: PAGE_SIZE + 1], len(fitting)
