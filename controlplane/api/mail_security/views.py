"""What the lists of the mail policy look like, and what is asked of all of them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final, TypeVar

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field

from controlplane.api.cluster_access import Body
from controlplane.store.policy_imports import Preview
from controlplane.store.policy_items import Changes
from nodeagent.policy.document import (
    BadwordCategory,
    Listing,
    Posting,
    RateSubject,
    RateWindow,
)
from nodeagent.policy.model import Severity, Verdict

PREFIX: Final = "/api/v1/mail-security"
LAST_NUMBER: Final = 2**53
MOST_AT_ONCE: Final = 1000
TIMES: Final = frozenset({"expires_at", "created_at"})

Number = Annotated[int, Path(ge=1, lt=LAST_NUMBER, description="The entry's id.", examples=[1])]
Item = TypeVar("Item", bound=BaseModel)


class ItemView(BaseModel):
    """What every entry has."""

    id: int = Field(description="Never given to another entry.")
    origin: str = Field(description="Who made it, `import:` before it: by a file.")
    created_at: datetime


class ListEntryView(ItemView):
    """An entry of block- or allowlist."""

    listing: Listing
    value: str = Field(description="In the form that is compared: lower case, A-labels.")
    reason: str
    expires_at: datetime | None = Field(description="Null: never.")


class BadwordView(ItemView):
    """A word, phrase or regular expression."""

    pattern: str
    is_regex: bool
    severity: Severity
    category: BadwordCategory
    is_enabled: bool


class RateView(ItemView):
    """A limit."""

    subject: RateSubject
    window: RateWindow
    limit: int
    verdict: Verdict
    is_enabled: bool


class CategoryView(ItemView):
    """An address that stands for its subscribers."""

    address: str
    name: str
    posting: Posting
    allowed_senders: list[str]
    is_enabled: bool


class SubscriptionView(ItemView):
    """A subscriber of a category; the token to unsubscribe with is not shown."""

    category: str = Field(description="The category's address.")
    address: str


class ItemQuery(BaseModel):
    """Which entries to list."""

    model_config = ConfigDict(extra="forbid")

    search: str = Field(
        default="",
        max_length=320,
        pattern=r"^[^\x00-\x1f\x7f]*$",
        description="A part of the value, in any case.",
    )
    before: int | None = Field(
        default=None, ge=1, lt=LAST_NUMBER, description="The `next_before` of the page before."
    )
    limit: int = Field(default=100, ge=1, le=1000)


class ImportQuery(BaseModel):
    """How to import a file."""

    model_config = ConfigDict(extra="forbid")

    replace: bool = Field(default=False, description="Delete what the file does not name.")


class ChangeCounts(BaseModel):
    """What many changes at once did."""

    added: int
    changed: int
    unchanged: int
    removed: int


class ImportPreview(ChangeCounts):
    """What an import would do."""

    invalid: int = Field(description="How many cannot be used; with one of them nothing is done.")
    problems: dict[str, str] = Field(
        description="What is wrong with the first of them, by line (CSV) or entry (JSON).",
        examples=[{"line 7": "The value is empty."}],
    )


class ManyNumbers(Body):
    """Which entries to delete; who is not there any more is passed over."""

    ids: list[Annotated[int, Field(ge=1, lt=LAST_NUMBER)]] = Field(
        default=[], max_length=MOST_AT_ONCE
    )
    values: list[Annotated[str, Field(max_length=1000)]] = Field(
        default=[], max_length=MOST_AT_ONCE, description="By value, as it is shown."
    )


def view_of(view: type[Item], row: Mapping[str, Any]) -> Item:
    """Return a row as it is shown."""
    times = {name: _time(row[name]) for name in TIMES & row.keys()}
    return view.model_validate({**row, **times})


def counts_of(changes: Changes) -> ChangeCounts:
    """Return what many changes did."""
    return ChangeCounts(**changes.counts)


def preview_of(preview: Preview) -> ImportPreview:
    """Return what an import would do."""
    counts = preview.changes.counts
    return ImportPreview(**counts, invalid=preview.invalid, problems=dict(preview.problems))


def _time(at_s: float | None) -> datetime | None:
    return None if at_s is None else datetime.fromtimestamp(at_s, UTC)
