"""What lists remember of strangers never changes an answer, whatever was asked before and when."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address, ip_network
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodeagent.policy.document import ListEntry, Listing
from nodeagent.policy.engine import lists as lists_module
from nodeagent.policy.engine.lists import (
    BLOCKLIST,
    BOTH_LISTS,
    ListMatch,
    Lists,
    ListSection,
)
from nodeagent.policy.engine.values import MAX_VALUE_LEN, Address

NOW = 1_000_000.0
# few names and moments, so that look-ups meet entries, and entries meet their ends
DOMAINS = tuple(
    ".".join((*labels, "example"))
    for labels in ((), ("a",), ("b",), ("a", "a"), ("b", "a"), ("a", "b", "a"), ("xn--a",))
)
VALUES = (
    *DOMAINS[1:],
    *(f"*.{name}" for name in DOMAINS),
    *(f"*@{name}" for name in DOMAINS[1:4]),
    *(f"{local}@{name}" for local in ("u", "v") for name in DOMAINS[1:5]),
)
NETWORKS = (
    *("0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "10.1.2.3", "192.0.2.0/31"),
    *("2001:db8::/32", "2001:db8:1::/48", "2001:db8:1::1"),
)
CLIENTS = tuple(
    map(
        ip_address,
        (
            *("10.1.2.3", "10.1.2.4", "10.1.9.9", "10.9.9.9", "192.0.2.0", "192.0.2.1"),
            *("192.0.2.2", "203.0.113.1", "2001:db8:1::1", "2001:db8:1::2", "2001:db8:9::1"),
            *("2001:db9::1", "::ffff:10.1.2.3", "::ffff:203.0.113.1"),
        ),
    )
)
MOMENTS = tuple(NOW + step for step in (-2, -1, 0, 1))


def entries_of(values: Sequence[str]) -> st.SearchStrategy[list[ListEntry]]:
    """Give a strategy for entries of these values, each once a list, some of which expire."""
    rows = product(values, Listing, (None, NOW - 1, NOW, NOW + 1))
    pool = [
        ListEntry(id=number, value=value, listing=listing, expires_at=ends)
        for number, (value, listing, ends) in enumerate(rows, 1)
    ]
    return st.lists(
        st.sampled_from(pool), max_size=10, unique_by=lambda one: (one.value, one.listing)
    )


def living(entries: Sequence[ListEntry], now_s: float) -> list[ListEntry]:
    """Return the entries in force, those of the allowlist first."""
    alive = [one for one in entries if one.expires_at is None or one.expires_at > now_s]
    return sorted(alive, key=lambda one: one.listing is not Listing.ALLOW)


def expected_name(
    entries: Sequence[ListEntry],
    keys: Sequence[str],
    now_s: float,
    listings: Sequence[Listing] = BOTH_LISTS,
) -> object:
    """Look a name up in the plainest way: by list, then by key, then by entry."""
    for listing in listings:
        for key in keys:
            for one in living(entries, now_s):
                if one.listing is listing and one.value == key:
                    return (one.id, listing, key)
    return None


def expected_ip(entries: Sequence[ListEntry], ip: Address, now_s: float) -> object:
    """Look an address up in the plainest way: of one list the longest prefix."""
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    for listing in (Listing.ALLOW, Listing.BLOCK):
        holding = [
            (ip_network(one.value).prefixlen, one)
            for one in living(entries, now_s)
            if one.listing is listing and ip in ip_network(one.value)
        ]
        if holding:
            best = max(holding, key=lambda found: found[0])[1]
            return (best.id, listing, best.value)
    return None


def above(name: str) -> Iterator[str]:
    """Give the keys for a name: itself, then the subdomains of each domain above."""
    yield name
    labels = name.split(".")
    for place in range(1, len(labels)):
        yield "*." + ".".join(labels[place:])


def sections_of(entries: Sequence[ListEntry], count: int) -> list[ListSection]:
    """Spread entries over sections."""
    return [ListSection.compile(entries[part::count]) for part in range(count)]


def asked_of(*kinds: Sequence[Any]) -> st.SearchStrategy[list[Any]]:
    """Give a strategy for look-ups: one of each kind, and when."""
    return st.lists(st.sampled_from(list(product(*kinds, MOMENTS))), max_size=15)


WHICH = (BOTH_LISTS, BLOCKLIST, (Listing.ALLOW,))
questions = asked_of(DOMAINS, WHICH)


@settings(max_examples=40)
@given(entries_of(VALUES), questions, st.integers(1, 3))
def test_a_remembered_name_is_what_an_unremembered_one_is(
    entries: list[ListEntry], asked: list[tuple[str, tuple[Listing, ...], float]], count: int
) -> None:
    """In any order, however often, at times that go forwards and backwards, in any of the lists."""
    sections = sections_of(entries, count)
    lists = Lists(sections)
    for name, which, now_s in asked:
        found = lists.find_domain(name, now_s, which)
        assert found == Lists(sections).find_domain(name, now_s, which)
        assert found == expected_name(entries, list(above(name)), now_s, which)


@settings(max_examples=40)
@given(
    entries_of(VALUES),
    asked_of(("u", "v", "w"), DOMAINS, WHICH),
)
def test_a_remembered_mail_address_is_what_an_unremembered_one_is(
    entries: list[ListEntry], asked: list[tuple[str, str, tuple[Listing, ...], float]]
) -> None:
    """The address, then all of its domain, then the domain, then those above."""
    lists = Lists(sections_of(entries, 2))
    for local, domain, which, now_s in asked:
        address = f"{local}@{domain}"
        keys = [address, f"*@{domain}", *above(domain)]
        found = lists.find_address(address, now_s, which)
        assert found == expected_name(entries, keys, now_s, which)


@settings(max_examples=40)
@given(entries_of(NETWORKS), asked_of(CLIENTS))
def test_a_remembered_client_is_what_an_unremembered_one_is(
    entries: list[ListEntry], asked: list[tuple[Address, float]]
) -> None:
    """For both families, and for IPv4 in the clothes of IPv6."""
    lists = Lists(sections_of(entries, 2))
    for ip, now_s in asked:
        assert lists.find_ip(ip, now_s) == expected_ip(entries, ip, now_s)


@settings(max_examples=40)
@given(entries_of(VALUES), questions)
def test_a_memory_that_overflows_forgets_and_does_not_lie(
    entries: list[ListEntry], asked: list[tuple[str, tuple[Listing, ...], float]]
) -> None:
    """With room for two strangers the answers are those of a memory without end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lists_module, "MOST_UNLISTED", 2)
        lists = Lists(sections_of(entries, 1))
        for name, which, now_s in asked:
            found = lists.find_domain(name, now_s, which)
            assert found == expected_name(entries, list(above(name)), now_s, which)
            assert len(lists._strange_domains) <= 2


Find = Callable[[Lists, float], ListMatch | None]
FINDS: tuple[tuple[str, Find], ...] = (
    ("192.0.2.7", lambda lists, now_s: lists.find_ip(ip_address("192.0.2.7"), now_s)),
    ("192.0.2.0/24", lambda lists, now_s: lists.find_ip(ip_address("::ffff:192.0.2.7"), now_s)),
    ("2001:db8::/32", lambda lists, now_s: lists.find_ip(ip_address("2001:db8::7"), now_s)),
    ("a.example", lambda lists, now_s: lists.find_domain("A.example.", now_s)),
    ("*.example", lambda lists, now_s: lists.find_domain("a.b.example", now_s)),
    ("u@a.example", lambda lists, now_s: lists.find_address('"u"@A.EXAMPLE', now_s)),
    ("*@a.example", lambda lists, now_s: lists.find_address("u@a.example", now_s)),
    ("a.example", lambda lists, now_s: lists.find_address("u@a.example", now_s)),
)


@pytest.mark.parametrize(("value", "find"), FINDS)
def test_an_entry_that_has_expired_is_not_remembered_as_a_stranger(value: str, find: Find) -> None:
    """A clock that was ahead when it was asked for, and is set right, finds it again."""
    entry = ListEntry(id=3, value=value, expires_at=NOW)
    lists = Lists([ListSection.compile([entry])])
    assert find(lists, NOW) is None
    assert find(lists, NOW + 1000) is None
    match = find(lists, NOW - 0.5)
    assert match is not None
    assert (match.id, match.listing) == (3, Listing.BLOCK)
    assert not lists._strangers
    assert not lists._strange_domains
    assert not lists._strange_addresses


@pytest.mark.parametrize("listing", Listing)
def test_who_is_on_one_list_is_no_stranger_of_the_other(listing: Listing) -> None:
    """Asked for on the blocklist alone, at first and again; whoever is on none is remembered."""
    entry = ListEntry(id=3, value="*@a.example", listing=listing)
    lists = Lists([ListSection.compile([entry])])
    is_blocked = listing is Listing.BLOCK
    for _ in range(2):
        assert bool(lists.find_address("u@a.example", NOW, BLOCKLIST)) is is_blocked
        assert lists.find_address("u@b.example", NOW, BLOCKLIST) is None
        assert lists.find_address("u@a.example", NOW) == (3, listing, "*@a.example")
        assert lists.find_domain("a.example", NOW, BLOCKLIST) is None
    assert lists._strange_addresses == {"u@b.example"}
    assert lists._strange_domains == {"a.example"}


@pytest.mark.parametrize(("value", "find"), FINDS)
def test_a_new_set_of_lists_remembers_nobody_of_the_old_one(value: str, find: Find) -> None:
    """What was a stranger is found as soon as an entry names it: sections stay, the rest is new."""
    old = ListSection.compile([ListEntry(id=1, value="other.test")])
    lists = Lists([old])
    assert find(lists, NOW) is None
    assert find(lists, NOW) is None
    fresh = ListSection.compile([ListEntry(id=2, value=value)])
    match = find(Lists([old, fresh]), NOW)
    assert match is not None
    assert match.id == 2


@pytest.mark.parametrize(
    ("length", "remembered"), [(MAX_VALUE_LEN, 1), (MAX_VALUE_LEN + 1, 0), (100_000, 0)]
)
def test_a_text_longer_than_any_address_is_not_kept(length: int, remembered: int) -> None:
    """A stranger chooses names freely, so what is kept of them has an end."""
    lists = Lists([ListSection.compile([ListEntry(id=1, value="a.example")])])
    text = "u@" + "x" * (length - 2)
    assert lists.find_address(text, NOW) is None
    assert len(lists._strange_addresses) == remembered
    assert lists.find_domain("x" * length, NOW) is None
    assert len(lists._strange_domains) == remembered


def test_thousands_of_strangers_leave_a_memory_of_bounded_size() -> None:
    """Each kind is bounded by itself; who is listed is found behind all of them."""
    listed = ("10.0.0.0/8", "a.example", "u@b.example")
    lists = Lists([ListSection.compile(ListEntry(id=n, value=v) for n, v in enumerate(listed, 1))])
    most = lists_module.MOST_UNLISTED
    for number in range(most + 10):
        assert lists.find_ip(IPv4Address(0xC0000000 + number), NOW) is None
        assert lists.find_domain(f"d{number}.test", NOW) is None
        assert lists.find_address(f"u{number}@b.example", NOW) is None
    for memory in (lists._strangers, lists._strange_domains, lists._strange_addresses):
        assert len(memory) == 10
    assert lists.find_ip(ip_address("10.0.0.1"), NOW) == (1, Listing.BLOCK, "10.0.0.0/8")
    assert lists.find_domain("a.example", NOW) == (2, Listing.BLOCK, "a.example")
    assert lists.find_address("u@b.example", NOW) == (3, Listing.BLOCK, "u@b.example")


@pytest.mark.parametrize("sender", ["", "@", "@@", "u@", "@.", "u@.", ".", "..", "*@", "*."])
def test_what_has_no_name_in_it_is_on_no_list(sender: str) -> None:
    """Nor does an entry for everybody's subdomains reach it."""
    lists = Lists([ListSection.compile([ListEntry(id=1, value="*.example")])])
    for _ in range(2):
        assert lists.find_address(sender, NOW) is None
        assert lists.find_domain(sender, NOW) is None


def test_a_look_up_tells_which_network_holds_an_address_at_its_edges() -> None:
    """First and last address of each prefix length, asked twice, and the ones beside them."""
    for prefix in range(1, 33):
        network = IPv4Network((0xC6336400 >> (32 - prefix) << (32 - prefix), prefix))
        lists = Lists([ListSection.compile([ListEntry(id=1, value=plain(network))])])
        first, last = int(network.network_address), int(network.broadcast_address)
        for _ in range(2):
            for number, is_held in ((first, True), (last, True), (first - 1, False)):
                assert bool(lists.find_ip(IPv4Address(number), NOW)) is is_held
            if last < 2**32 - 1:
                assert lists.find_ip(IPv4Address(last + 1), NOW) is None


def plain(network: IPv4Network) -> str:
    """Return a network as lists keep it."""
    return str(network.network_address if network.prefixlen == 32 else network)
