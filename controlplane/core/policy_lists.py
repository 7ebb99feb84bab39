"""The lists of the mail policy by name."""

from __future__ import annotations

from enum import StrEnum


class PolicyList(StrEnum):
    """The lists that go in and out as files, as the paths of the API call them."""

    BLOCKLIST = "blocklist"
    ALLOWLIST = "allowlist"
    BADWORDS = "badwords"
    RATES = "rates"
    CATEGORIES = "categories"
    SUBSCRIPTIONS = "subscriptions"
