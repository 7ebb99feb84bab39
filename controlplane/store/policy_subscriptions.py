"""Who is subscribed to what: subscriptions by the addresses of their categories.

A subscription names its category by id; people and files name it by address.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import select
from sqlmodel import Session

from controlplane.core.names import BadValue
from controlplane.core.policy_drafts import NamedSubscriptionDraft
from controlplane.store.policy_items import Row, find_item
from controlplane.store.policy_kinds import CATEGORIES, SUBSCRIPTIONS, Kind, new_token
from nodeagent.policy.engine.values import lookup_address


def subscriptions_of(session: Session, category: str) -> Kind:
    """Return the list of one category's subscriptions; raises NotFound."""
    number = find_item(session, CATEGORIES, address=lookup_address(category))["id"]
    return SUBSCRIPTIONS.within(category=number)


def named_subscriptions(session: Session) -> Kind:
    """Return the list of all subscriptions, whose drafts name a category by its address.

    A category that is not there is a BadValue.
    """
    columns = CATEGORIES.columns
    rows = session.execute(select(columns.address, columns.id))
    numbers = {row.address: row.id for row in rows}

    def to_values(draft: NamedSubscriptionDraft) -> dict[str, Any]:
        number = numbers.get(draft.category)
        if number is None:
            raise BadValue(f'There is no category "{draft.category}".')
        return {"category": number, "address": draft.address, "token": new_token()}

    return replace(SUBSCRIPTIONS, draft=NamedSubscriptionDraft, to_values=to_values)


def with_addresses(session: Session, rows: Sequence[Row]) -> list[Row]:
    """Return subscriptions with the address of their category in place of its id."""
    columns = CATEGORIES.columns
    numbers = {row["category"] for row in rows}
    statement = select(columns.id, columns.address).where(columns.id.in_(numbers))
    names: Mapping[int, str] = {row.id: row.address for row in session.execute(statement)}
    return [{**row, "category": names.get(row["category"], "")} for row in rows]
