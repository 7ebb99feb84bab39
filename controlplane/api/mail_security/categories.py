"""Categories, addresses that stand for their subscribers, and who is subscribed to them."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import APIRouter, Path, Query, Response, status
from pydantic import ValidationError

from controlplane.api.cluster_access import CREATED, NOT_FOUND, PRINTABLE, mark_created
from controlplane.api.mail_security.item_routes import (
    ItemApi,
    Page,
    add_item_routes,
    listing_of,
    page_of,
)
from controlplane.api.mail_security.views import (
    PREFIX,
    CategoryView,
    ItemQuery,
    SubscriptionView,
)
from controlplane.api.permissions import READ, OperateCaller
from controlplane.core.csv_lists import first_sentence
from controlplane.core.policy_drafts import (
    CategoryDraft,
    NamedSubscriptionDraft,
    SubscriptionDraft,
)
from controlplane.errors import Invalid
from controlplane.store import policy_items
from controlplane.store.engine import Database, DatabaseDep
from controlplane.store.policy_kinds import CATEGORIES, SUBSCRIPTIONS, Kind
from controlplane.store.policy_subscriptions import (
    named_subscriptions,
    subscriptions_of,
    with_addresses,
)
from nodeagent.policy.engine.values import lookup_address

TAG = "mail-security-categories"
categories = APIRouter(prefix=f"{PREFIX}/categories", tags=[TAG])
subscriptions = APIRouter(prefix=f"{PREFIX}/subscriptions", tags=[TAG])

CategoryKey = Annotated[
    str,
    Path(
        max_length=320,
        pattern=PRINTABLE,
        description="The category's address.",
        examples=["news@example.com"],
    ),
]
SubscriberKey = Annotated[
    str,
    Path(
        max_length=320,
        pattern=PRINTABLE,
        description="The subscriber's address.",
        examples=["reader@example.net"],
    ),
]
CATEGORIES_API = ItemApi(CATEGORIES, CategoryDraft, CategoryView, "a category", "categories")
SUBSCRIPTIONS_API = ItemApi(
    SUBSCRIPTIONS,
    NamedSubscriptionDraft,
    SubscriptionView,
    "a subscription",
    "subscriptions",
    prepare=named_subscriptions,
    complete=with_addresses,
)
SubscriptionPage = listing_of(SubscriptionView)


@categories.get(
    "/{address}/subscriptions",
    dependencies=[READ],
    responses=NOT_FOUND,
    response_model=SubscriptionPage,
)
def list_subscriptions(
    address: CategoryKey, query: Annotated[ItemQuery, Query()], database: DatabaseDep
) -> Page:
    """List who is subscribed to one category."""
    return page_of(SubscriptionPage, _api_of(_kind(database, address)), database, query)


@categories.put("/{address}/subscriptions/{subscriber}", responses={**CREATED, **NOT_FOUND})
def subscribe(
    address: CategoryKey,
    subscriber: SubscriberKey,
    caller: OperateCaller,
    database: DatabaseDep,
    response: Response,
) -> SubscriptionView:
    """Subscribe an address to one category; no body. Repeated, it changes nothing."""
    kind = _kind(database, address)
    draft = _draft(subscriber)
    row, is_new = policy_items.put(database, kind, draft, caller.actor)
    mark_created(response, is_new=is_new)
    return cast("SubscriptionView", _api_of(kind).shown(database, [row])[0])


@categories.delete(
    "/{address}/subscriptions/{subscriber}",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=NOT_FOUND,
)
def unsubscribe(
    address: CategoryKey, subscriber: SubscriberKey, caller: OperateCaller, database: DatabaseDep
) -> None:
    """End one subscription."""
    kind = _kind(database, address)
    with database.read() as session:
        found = policy_items.find_item(session, kind, address=lookup_address(subscriber))
    policy_items.remove(database, kind, found["id"], caller.actor)


def _draft(subscriber: str) -> SubscriptionDraft:
    try:
        return SubscriptionDraft(address=subscriber)
    except ValidationError as error:
        sentence = first_sentence(error)
        raise Invalid(sentence, {"subscriber": sentence}) from error


def _kind(database: Database, address: str) -> Kind:
    with database.read() as session:
        return subscriptions_of(session, address)


def _api_of(kind: Kind) -> ItemApi:
    return ItemApi(
        kind,
        SubscriptionDraft,
        SubscriptionView,
        "a subscription",
        "subscriptions",
        complete=with_addresses,
    )


add_item_routes(categories, CATEGORIES_API)
add_item_routes(subscriptions, SUBSCRIPTIONS_API)
