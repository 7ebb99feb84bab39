"""The lists of the mail policy, each as one `Kind`: its table, its wire type, its way in.

Whatever is done to one of them (put, delete, many at once, import, pack) is written once, in
`policy_items`, `policy_imports` and `policy_publication`.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlmodel import SQLModel

from controlplane.core.policy_drafts import (
    BadwordDraft,
    CategoryDraft,
    Draft,
    ListDraft,
    RateDraft,
    SubscriptionDraft,
)
from controlplane.core.quick_entries import quick_list_values
from controlplane.store import policy_tables
from nodeagent.policy.document import (
    Badword,
    Category,
    ListEntry,
    Listing,
    RateRule,
    SectionKind,
    Subscription,
)
from nodeagent.policy.engine.sections import Entry

TOKEN_BYTES: Final = 24


@dataclass(frozen=True)
class Kind:
    """One list of entries with ids.

    `name` is that of its audit actions, `title` that in sentences. `unique` are the columns that
    make two entries the same one; the last of them differs most. `to_values` gives the columns of a
    draft but id, origin and time; `keeps` are columns that are made once and stay. `scope` are
    columns whose value is the same for all of this list. What an entry `owns` goes with it: entries
    of a list whose column `owner` has its id. `quick` gives the columns without a draft where none
    is needed. `is_ordered`: either database has the last of `unique` in the order of characters.
    """

    name: str
    title: str
    section: SectionKind
    table: type[SQLModel]
    model: type[Entry]
    draft: type[Draft]
    unique: tuple[str, ...]
    searched: str
    to_values: Callable[[Any], dict[str, Any]]
    scope: Mapping[str, Any]
    keeps: tuple[str, ...] = ()
    owns: Kind | None = None
    owner: str = ""
    quick: Callable[[dict[str, Any]], dict[str, Any] | None] | None = None
    is_ordered: bool = False

    @property
    def sections(self) -> tuple[SectionKind, ...]:
        """The kinds of sections that a change of this list touches."""
        return (self.section,) if self.owns is None else (self.section, self.owns.section)

    @property
    def columns(self) -> Any:
        """The columns of the table by their names."""
        return self.table.metadata.tables[str(self.table.__tablename__)].c

    def within(self, **scope: Any) -> Kind:
        """Return the part of this list whose columns have these values."""
        return replace(self, scope={**self.scope, **scope})

    def key_of(self, values: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return what makes an entry unique."""
        return tuple(values[name] for name in self.unique)


def _plain(draft: Draft) -> dict[str, Any]:
    return draft.model_dump()


def _list_values(draft: ListDraft) -> dict[str, Any]:
    expires_at = draft.expires_at.timestamp() if draft.expires_at is not None else None
    return {"value": draft.value, "reason": draft.reason, "expires_at": expires_at}


def _badword_values(draft: BadwordDraft) -> dict[str, Any]:
    text = f"{'regex' if draft.is_regex else 'word'}:{draft.pattern}"
    return {**draft.model_dump(), "digest": hashlib.sha256(text.encode()).hexdigest()}


def _subscription_values(draft: SubscriptionDraft) -> dict[str, Any]:
    return {"address": draft.address, "token": new_token()}


def new_token() -> str:
    """Return what a subscriber can end the subscription with."""
    return secrets.token_urlsafe(TOKEN_BYTES)


_LISTS: Final = Kind(
    "list-entry",
    "list entry",
    SectionKind.LIST,
    policy_tables.ListEntryRow,
    ListEntry,
    ListDraft,
    unique=("listing", "value"),
    searched="value",
    to_values=_list_values,
    scope={},
    quick=quick_list_values,
    is_ordered=True,
)


BLOCKLIST: Final = replace(
    _LISTS, name="blocklist", title="entry of the blocklist", scope={"listing": Listing.BLOCK.value}
)
ALLOWLIST: Final = replace(
    _LISTS, name="allowlist", title="entry of the allowlist", scope={"listing": Listing.ALLOW.value}
)
BADWORDS: Final = Kind(
    "badword",
    "bad word",
    SectionKind.BADWORDS,
    policy_tables.BadwordRow,
    Badword,
    BadwordDraft,
    unique=("digest",),
    searched="pattern",
    to_values=_badword_values,
    scope={},
)
RATES: Final = Kind(
    "rate",
    "rate limit",
    SectionKind.RATES,
    policy_tables.RateRuleRow,
    RateRule,
    RateDraft,
    unique=("subject", "window"),
    searched="subject",
    to_values=_plain,
    scope={},
)
SUBSCRIPTIONS: Final = Kind(
    "subscription",
    "subscription",
    SectionKind.SUBSCRIPTIONS,
    policy_tables.SubscriptionRow,
    Subscription,
    SubscriptionDraft,
    unique=("category", "address"),
    searched="address",
    to_values=_subscription_values,
    scope={},
    keeps=("token",),
    owner="category",
    is_ordered=True,
)
CATEGORIES: Final = Kind(
    "category",
    "category",
    SectionKind.CATEGORIES,
    policy_tables.CategoryRow,
    Category,
    CategoryDraft,
    unique=("address",),
    searched="address",
    to_values=_plain,
    scope={},
    owns=SUBSCRIPTIONS,
)
BY_SECTION: Final[Mapping[SectionKind, Kind]] = {
    kind.section: kind for kind in (_LISTS, BADWORDS, RATES, CATEGORIES, SUBSCRIPTIONS)
}
"""The whole table behind each kind of section; threat rules have no ids and stand apart."""
BY_NAME: Final[Mapping[str, Kind]] = {
    kind.name: kind for kind in (BLOCKLIST, ALLOWLIST, BADWORDS, RATES, CATEGORIES, SUBSCRIPTIONS)
}
"""Every list that people know, by its name."""
