"""The headers that make a mail to a category a list's mail to one subscriber.

List-Id follows RFC 2919, List-Post RFC 2369, List-Unsubscribe and List-Unsubscribe-Post RFC 8058
(one click, https only). What a mail brought along of these is taken away: it speaks of another
list. `X-Relay-List` alone is never taken away: it names every category that the mail went through,
so that two categories that subscribe to each other make no loop.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from nodeagent.policy.document import Category, Posting
from nodeagent.policy.model import Header, Message
from nodeagent.policy.places import LIST_DOMAIN
from nodeagent.policy.raw_message import without

TRACE_HEADER: Final = "X-Relay-List"
_REPLACED: Final = (
    *("list-id", "list-unsubscribe", "list-unsubscribe-post", "list-post"),
    *("list-help", "list-subscribe", "list-owner", "list-archive", "precedence"),
)
_SUBSCRIBER: Final = re.compile(r"([1-9][0-9]{0,15})\.([1-9][0-9]{0,15})")
_LISTS: Final = re.compile(r"<\s*([^<>\s]+)\s*>")
_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e]+")
_SPECIAL: Final = re.compile(r'["\\<>]')
_LABEL: Final = re.compile(r"[^a-z0-9_-]+")


@dataclass(frozen=True)
class Subscriber:
    """One subscriber of one category, as the policy in force has him."""

    address: str
    token: str  # to unsubscribe
    category: Category


def subscriber_ids(recipient: str) -> tuple[int, int] | None:
    """Return the ids of subscription and category that a recipient of the list transport names."""
    local, _, domain = recipient.rpartition("@")
    found = _SUBSCRIBER.fullmatch(local)
    if found is None or domain.lower() != LIST_DOMAIN:
        return None
    return int(found[1]), int(found[2])


def list_id(category: Category) -> str:
    """Return the list's identifier (RFC 2919, 3), "news.example.com" for news@example.com."""
    local, _, domain = category.address.lower().rpartition("@")
    labels = [_LABEL.sub("-", label) for label in local.split(".") if label]
    return ".".join((*(labels or ["list"]), domain))


def is_from(message: Message, category: Category) -> bool:
    """Tell whether the mail went through this category before."""
    wanted = list_id(category)
    names = ("list-id", TRACE_HEADER.lower())
    values = (value for name, value in message.headers if name.strip().lower() in names)
    return any(found.lower() == wanted for value in values for found in _LISTS.findall(value))


def for_subscriber(
    message: Message, subscriber: Subscriber, unsubscribe_url: str | None
) -> Message:
    """Return this subscriber's copy; without an https URL it has nothing to unsubscribe by."""
    category = subscriber.category
    identifier = list_id(category)
    name = _SPECIAL.sub("", _UNPRINTABLE.sub(" ", category.name)).strip()
    headers = [
        Header(TRACE_HEADER, f" <{identifier}>"),
        Header("List-Id", f' "{name}" <{identifier}>' if name else f" <{identifier}>"),
    ]
    if unsubscribe_url is not None and unsubscribe_url.lower().startswith("https://"):
        link = f"{unsubscribe_url.rstrip('/')}/{subscriber.token}"
        headers.append(Header("List-Unsubscribe", f" <{link}>"))
        headers.append(Header("List-Unsubscribe-Post", " List-Unsubscribe=One-Click"))
    if category.posting is not Posting.ALLOWED:
        headers.append(Header("List-Post", f" <mailto:{category.address}>"))
    headers.append(Header("Precedence", " list"))
    kept = without(message.headers, *_REPLACED)
    return replace(message, headers=(*headers, *kept))
