"""Categories: addresses that stand for their subscribers, and who may write to them.

Theory of operation. An accepted mail to a category loses that recipient and gets one internal
recipient for each subscriber, "SUBSCRIPTION.CATEGORY@list.relay.invalid" (their ids), so that the
queue keeps track of each and each gets an unsubscribe link of its own. Whoever is named directly,
or subscribed to two of the categories, gets the mail once. Nobody but the engine may write to an
internal recipient.

The domain of a category. Where it is one of the cluster's recipient domains, the addresses that
are no categories are the next hop's business and pass. Any other domain that a category lives in
belongs to the categories alone: an address in it that is none is rejected, except "postmaster" and
"abuse" (RFC 5321, 4.5.1; RFC 2142), which Postfix knows what to do with.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, NamedTuple

from nodeagent.policy.document import Category, Posting, Subscription
from nodeagent.policy.engine.values import (
    ANY_LOCAL_PART,
    canonical_address,
    domain_of,
    lookup_address,
)
from nodeagent.policy.model import AddRecipient, Change, DeleteRecipient
from nodeagent.policy.places import LIST_DOMAIN

MOST_PROBLEMS: Final = 20
_ALWAYS_KNOWN: Final = frozenset({"postmaster", "abuse"})


class Member(NamedTuple):
    """One subscription in force; `key` is its address as addresses are compared."""

    id: int
    key: str
    address: str
    token: str


@dataclass(frozen=True)
class CompiledCategory:
    """A category with its subscribers."""

    category: Category
    members: tuple[Member, ...] = ()
    posters: frozenset[str] = frozenset()  # addresses, and "*@domain"
    keys: frozenset[str] = frozenset()  # the subscribers' addresses

    def may_post(self, address: str) -> bool:
        """Tell whether whoever is proved to be `address` may write to it."""
        if self.category.posting is Posting.ANYBODY:
            return True
        key = lookup_address(address)
        if key in self.posters or ANY_LOCAL_PART + domain_of(address) in self.posters:
            return True
        return self.category.posting is Posting.SUBSCRIBERS and key in self.keys


@dataclass(frozen=True)
class Categories:
    """All of them, compiled; immutable."""

    by_address: Mapping[str, CompiledCategory] = field(default_factory=lambda: MappingProxyType({}))
    domains: frozenset[str] = frozenset()  # in which an enabled category lives
    members: Mapping[int, tuple[CompiledCategory, Member]] = field(
        default_factory=lambda: MappingProxyType({})
    )  # also of categories that are switched off: copies of what they took may wait
    problems: tuple[str, ...] = ()

    @classmethod
    def compile(
        cls, categories: Iterable[Category], subscriptions: Iterable[Subscription]
    ) -> Categories:
        """Never raises; what makes no sense is left out and is in `problems`."""
        problems: list[str] = []
        wanted = _by_address(categories, problems)
        members = _members(subscriptions, wanted, problems)
        compiled = {
            address: _compiled(category, members.get(category.id, {}))
            for address, category in wanted.items()
        }
        enabled = [one for one in compiled.values() if one.category.is_enabled]
        return cls(
            by_address=MappingProxyType(compiled),
            domains=frozenset(domain_of(one.category.address) for one in enabled),
            members=MappingProxyType(
                {member.id: (one, member) for one in compiled.values() for member in one.members}
            ),
            problems=tuple(problems[:MOST_PROBLEMS]),
        )

    def find(self, address: str) -> CompiledCategory | None:
        """Return the category that an address stands for, also one that is switched off."""
        return self.by_address.get(lookup_address(address)) if self.by_address else None

    def has_domain(self, address: str) -> bool:
        """Tell whether an enabled category lives in the domain of an address."""
        return bool(self.domains) and domain_of(address) in self.domains

    def find_member(
        self, subscription_id: int, category_id: int
    ) -> tuple[CompiledCategory, Member] | None:
        """Return whom an internal recipient stands for; None: no such subscription any more."""
        found = self.members.get(subscription_id)
        return found if found and found[0].category.id == category_id else None

    def expand(self, recipients: tuple[str, ...]) -> Iterator[Change]:
        """Give the changes that put subscribers in the place of categories."""
        found = [(one, self.find(one)) for one in recipients]
        served = {lookup_address(one) for one, category in found if category is None}
        done: set[int] = set()
        for recipient, compiled in found:
            if compiled is None:
                continue
            yield DeleteRecipient(recipient)
            if compiled.category.id in done:
                continue
            done.add(compiled.category.id)
            suffix = f".{compiled.category.id}@{LIST_DOMAIN}"
            for member in compiled.members:
                if member.key not in served:
                    served.add(member.key)
                    yield AddRecipient(f"{member.id}{suffix}")


def is_internal(address: str) -> bool:
    """Tell whether an address is in the domain that only the engine may write to."""
    domain = domain_of(address)
    return domain == LIST_DOMAIN or domain.endswith(f".{LIST_DOMAIN}")


def is_always_known(address: str) -> bool:
    """Tell whether an address has to exist in every domain."""
    return lookup_address(address).partition("@")[0] in _ALWAYS_KNOWN


def _by_address(categories: Iterable[Category], problems: list[str]) -> dict[str, Category]:
    found: dict[str, Category] = {}
    for category in categories:
        try:
            address = canonical_address(category.address)
        except ValueError as error:
            problems.append(f"Category {category.id} is left out: {error}.")
            continue
        if not address or address in found or is_internal(address):
            problems.append(f"Category {category.id} is left out: its address is taken.")
            continue
        found[address] = category
    return found


def _members(
    subscriptions: Iterable[Subscription],
    categories: Mapping[str, Category],
    problems: list[str],
) -> dict[int, dict[str, Member]]:
    """Return the members by category and compared address; the oldest subscription of each."""
    ids = {category.id for category in categories.values()}
    found: dict[int, dict[str, Member]] = {one: {} for one in ids}
    for one in subscriptions:
        key = lookup_address(one.address)
        members = found.get(one.category)
        if members is None:
            problems.append(f"Subscription {one.id} is left out: there is no such category.")
        elif key in categories or is_internal(one.address):
            problems.append(f"Subscription {one.id} is left out: its address is a category.")
        elif "@" not in key:
            problems.append(f"Subscription {one.id} is left out: its address is none.")
        elif key not in members:
            members[key] = Member(one.id, key, one.address, one.token)
    return found


def _compiled(category: Category, members: Mapping[str, Member]) -> CompiledCategory:
    posters = frozenset(
        f"{ANY_LOCAL_PART}{domain_of(one)}"
        if one.startswith(ANY_LOCAL_PART)
        else lookup_address(one)
        for one in category.allowed_senders
    )
    return CompiledCategory(category, tuple(members.values()), posters, frozenset(members))
