"""The pages of categories: addresses that stand for their subscribers, and who those are."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import Path, Request, Response
from pydantic import BaseModel
from sqlmodel import Session

from controlplane.core.policy_drafts import CategoryDraft, SubscriptionDraft
from controlplane.errors import ControlPlaneError, Invalid
from controlplane.gui.forms import Field, FilledForm, Form, Option, Posted, Widget
from controlplane.gui.language import N_
from controlplane.gui.listings import CURSOR, PAGE_SIZE, Listing, read_filters, show_page
from controlplane.gui.shell import OperateShell, ReadShell, Shell, page_router
from controlplane.store import policy_items
from controlplane.store.engine import DatabaseDep, ReadSession
from controlplane.store.policy_items import Row, Wanted
from controlplane.store.policy_kinds import CATEGORIES, SUBSCRIPTIONS, Kind
from nodeagent.policy.document import Posting

router = page_router()

PAGE: Final = "/policy/categories"
Number = Annotated[int, Path(ge=1, lt=2**53)]
POSTING: Final = {
    Posting.SUBSCRIBERS: N_("subscribers"),
    Posting.ALLOWED: N_("the allowed senders alone"),
    Posting.ANYBODY: N_("anybody"),
}
SEARCH: Final = Form(
    (Field("search", N_("Address"), hint=N_("Any part of it."), attributes={"maxlength": "320"}),)
)
FORM: Final = Form(
    (
        Field(
            "address",
            N_("Address"),
            hint=N_(
                "Mail to it goes to every subscriber, once. If its domain is no recipient domain,"
                " apply the configuration then: Postfix takes its mail from there on."
            ),
            is_required=True,
            attributes={"autocomplete": "off", "maxlength": "320"},
        ),
        Field(
            "name",
            N_("Name"),
            hint=N_("As mail programs show it."),
            attributes={"maxlength": "100", "autocomplete": "off"},
        ),
        Field(
            "posting",
            N_("Who may write to it"),
            widget=Widget.SELECT,
            options=tuple(Option(one.value, words) for one, words in POSTING.items()),
        ),
        Field(
            "allowed_senders",
            N_("Who may always write"),
            hint=N_("Addresses, or *@example.com; one a line."),
            widget=Widget.TEXTAREA,
        ),
        Field("is_enabled", N_("Switched on"), widget=Widget.CHECKBOX),
    )
)
SUBSCRIBE: Final = Form(
    (
        Field(
            "address",
            N_("Address"),
            is_required=True,
            attributes={"autocomplete": "off", "maxlength": "320"},
        ),
    ),
    submit=N_("Subscribe"),
)


class Searched(BaseModel):
    """What a list is searched for, and where its page begins."""

    search: str = ""
    before: int | None = None


@router.get("/policy/categories")
def categories_page(request: Request, shell: ReadShell, session: ReadSession) -> Response:
    """Show the categories."""
    listing = _listing(request, session, CATEGORIES)
    return shell.page("policy_categories.html", block="listing", listing=listing, posting=POSTING)


def _listing(request: Request, session: Session, kind: Kind) -> Listing[Row]:
    filters = read_filters(request, SEARCH)
    typed = {"search": filters.text("search")[:320], "before": request.query_params.get(CURSOR)}
    wanted = Form(()).filled().build(Searched, **typed)
    page = policy_items.read_page(session, kind, Wanted(wanted.search, wanted.before, PAGE_SIZE))
    return show_page(request, filters, page.rows, page.next_before, page.total)


@router.get("/policy/categories/_new")
def new_page(shell: OperateShell) -> Response:
    """Show the empty form."""
    state = {"posting": Posting.SUBSCRIBERS.value, "is_enabled": True}
    return shell.page("policy_category_new.html", form=FORM.filled(state))


@router.post("/policy/categories/_new")
def create_by_form(shell: OperateShell, posted: Posted, database: DatabaseDep) -> Response:
    """Add a category."""
    form = FORM.posted(posted)
    try:
        row = policy_items.create(database, CATEGORIES, _draft(form), shell.signed_in.actor)
    except ControlPlaneError as error:
        refused = form.refused(error)
        return shell.page("policy_category_new.html", status=error.status, form=refused)
    return shell.done(f"{PAGE}/{row['id']}", shell.text(N_("The category is saved.")))


def _draft(form: FilledForm) -> CategoryDraft:
    values: dict[str, Any] = {**form.data(), "name": form.text("name").strip()}
    values["allowed_senders"] = form.text("allowed_senders").split()
    return Form(()).filled().build(CategoryDraft, **values)


@router.get("/policy/categories/{number}")
def category_page(
    number: Number, request: Request, shell: ReadShell, session: ReadSession
) -> Response:
    """Show a category and its subscribers."""
    row = policy_items.read_item(session, CATEGORIES, number)
    listing = _listing(request, session, _subscribers(number))
    return _category(shell, row, listing, SUBSCRIBE.filled())


def _subscribers(number: int) -> Kind:
    return SUBSCRIPTIONS.within(category=number)


def _category(
    shell: Shell,
    row: Row,
    listing: Listing[Row],
    subscribe: FilledForm,
    form: FilledForm | None = None,
    *,
    status: int = 200,
) -> Response:
    state = {**row, "allowed_senders": "\n".join(row["allowed_senders"])}
    return shell.page(
        "policy_category.html",
        status=status,
        block="listing",
        category=row,
        listing=listing,
        subscribe=subscribe,
        form=form or FORM.filled(state),
        posting=POSTING,
    )


@router.post("/policy/categories/{number}")
def save_by_form(
    number: Number, request: Request, shell: OperateShell, posted: Posted, database: DatabaseDep
) -> Response:
    """Change a category."""
    form = FORM.posted(posted)
    try:
        draft = _draft(form)
        policy_items.replace_item(database, CATEGORIES, number, draft, shell.signed_in.actor)
    except ControlPlaneError as error:
        with database.read() as session:
            row = policy_items.read_item(session, CATEGORIES, number)
            listing = _listing(request, session, _subscribers(number))
        refused = form.refused(error)
        return _category(shell, row, listing, SUBSCRIBE.filled(), refused, status=error.status)
    return shell.done(f"{PAGE}/{number}", shell.text(N_("The category is saved.")))


@router.post("/policy/categories/{number}/delete")
def delete_by_form(number: Number, shell: OperateShell, database: DatabaseDep) -> Response:
    """Remove a category and its subscriptions."""
    policy_items.remove(database, CATEGORIES, number, shell.signed_in.actor)
    return shell.done(PAGE, shell.text(N_("The category is removed.")))


@router.post("/policy/categories/{number}/subscribe")
def subscribe_by_form(
    number: Number, request: Request, shell: OperateShell, posted: Posted, database: DatabaseDep
) -> Response:
    """Add a subscriber."""
    form = SUBSCRIBE.posted(posted)
    with database.read() as session:
        row = policy_items.read_item(session, CATEGORIES, number)
        listing = _listing(request, session, _subscribers(number))
    try:
        draft = form.build(SubscriptionDraft)
        policy_items.create(database, _subscribers(number), draft, shell.signed_in.actor)
    except ControlPlaneError as error:
        return _category(shell, row, listing, form.refused(error), status=error.status)
    return shell.done(f"{PAGE}/{number}", shell.text(N_("The address is subscribed.")))


@router.post("/policy/categories/{number}/unsubscribe")
def unsubscribe_by_form(
    number: Number, shell: OperateShell, posted: Posted, database: DatabaseDep
) -> Response:
    """End a subscription."""
    subscription = (posted.get("subscription") or [""])[0]
    if not subscription.isdecimal():
        raise Invalid("Some values cannot be used; nothing was changed.")
    kind = _subscribers(number)
    policy_items.remove(database, kind, int(subscription[:15]), shell.signed_in.actor)
    return shell.done(f"{PAGE}/{number}", shell.text(N_("The subscription is ended.")))
