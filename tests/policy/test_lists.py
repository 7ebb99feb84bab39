"""Block- and allowlist: the right entry is found, among many and nested ones, and no other."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import pytest
import radix
from hypothesis import given, settings
from hypothesis import strategies as st

from nodeagent.policy.document import ListEntry, Listing
from nodeagent.policy.engine import list_tables
from nodeagent.policy.engine.lists import Lists, ListSection

NOW = 1_000_000.0
ALLOW, BLOCK = Listing.ALLOW, Listing.BLOCK


def entries_of(values: Iterable[str], listing: Listing = BLOCK) -> list[ListEntry]:
    """Return entries numbered from 1."""
    return [
        ListEntry(id=number, value=value, listing=listing)
        for number, value in enumerate(values, start=1)
    ]


def lists_of(*values: str, listing: Listing = BLOCK) -> Lists:
    """Return lists of one section."""
    return Lists([ListSection.compile(entries_of(values, listing))])


def value_for(lists: Lists, ip: str) -> str | None:
    """Return the network that is named for an address."""
    match = lists.find_ip(ip_address(ip), NOW)
    return match.value if match else None


# Few distinct addresses near each other, so that networks nest and addresses hit.
NUMBERS = st.integers(min_value=0, max_value=255).map(lambda low: 0xC0000200 | low)
IPV4_NETWORKS = st.builds(
    lambda number, prefix: IPv4Network((number >> (32 - prefix) << (32 - prefix), prefix)),
    NUMBERS | st.integers(min_value=0, max_value=2**32 - 1),
    st.integers(min_value=0, max_value=32),
)
IPV6_BASE = 0x20010DB8 << 96
IPV6_NETWORKS = st.builds(
    lambda number, prefix: IPv6Network((number >> (128 - prefix) << (128 - prefix), prefix)),
    st.integers(min_value=0, max_value=255).map(lambda low: IPV6_BASE | low << 56)
    | st.integers(min_value=0, max_value=255).map(lambda low: IPV6_BASE | low)
    | st.integers(min_value=0, max_value=2**128 - 1),
    st.integers(min_value=0, max_value=128),
).filter(lambda network: network.network_address.ipv4_mapped is None)
NETWORKS = st.lists(IPV4_NETWORKS | IPV6_NETWORKS, max_size=30)


def plain(network: IPv4Network | IPv6Network) -> str:
    """Return a network as lists keep it."""
    whole = network.prefixlen == network.max_prefixlen
    return str(network.network_address if whole else network)


def around(network: IPv4Network | IPv6Network) -> list[IPv4Address | IPv6Address]:
    """Return the first and last address of a network, and those next to it outside."""
    first, last = network.network_address, network.broadcast_address
    top = 2**network.max_prefixlen - 1
    numbers = {int(first), int(last), max(0, int(first) - 1), min(top, int(last) + 1)}
    return [type(first)(number) for number in numbers]


@settings(max_examples=200)
@given(NETWORKS, st.integers(min_value=1, max_value=4), st.booleans())
def test_the_longest_prefix_is_found_as_a_radix_tree_finds_it(
    networks: list[IPv4Network | IPv6Network], sections: int, is_sieved: bool
) -> None:
    """For both families mixed, at and beside every edge, in any number of sections."""
    tree = radix.Radix()
    for network in networks:
        tree.add(str(network))
    entries = entries_of(plain(network) for network in networks)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(list_tables, "SIEVED_LEN", 1 if is_sieved else 1000)
        lists = Lists(ListSection.compile(entries[part::sections]) for part in range(sections))
    for probe in (address for network in networks for address in around(network)):
        if isinstance(probe, IPv6Address) and probe.ipv4_mapped:
            continue
        node = tree.search_best(str(probe))
        match = lists.find_ip(probe, NOW)
        expected = plain_of(node.prefix) if node else None
        assert (match.value if match else None) == expected


def plain_of(prefix: str) -> str:
    """Return a network of the radix tree as lists keep it."""
    network = IPv6Network(prefix) if ":" in prefix else IPv4Network(prefix)
    return plain(network)


@given(
    st.lists(
        st.tuples(
            IPV4_NETWORKS, st.none() | st.floats(0, 2 * NOW), st.sampled_from([ALLOW, BLOCK])
        ),
        max_size=20,
    ),
    st.floats(0, 2 * NOW),
)
def test_expired_entries_are_as_if_they_were_not_there(
    rows: list[tuple[IPv4Network, float | None, Listing]], now_s: float
) -> None:
    """What is found among living and expired entries is what the living ones alone give."""
    entries = [
        ListEntry(id=number, value=plain(network), listing=listing, expires_at=expires)
        for number, (network, expires, listing) in enumerate(rows, start=1)
    ]
    living = [one for one in entries if one.expires_at is None or one.expires_at > now_s]
    all_of_them = Lists([ListSection.compile(entries)])
    alive = Lists([ListSection.compile(living)])
    for probe in (address for network, _, _ in rows for address in around(network)):
        found, expected = all_of_them.find_ip(probe, now_s), alive.find_ip(probe, now_s)
        assert (found and found[1:]) == (expected and expected[1:])


def test_a_wider_network_is_found_when_the_one_within_has_expired() -> None:
    """The walk goes outwards past what has expired."""
    entries = [
        ListEntry(id=1, value="10.0.0.0/8"),
        ListEntry(id=2, value="10.1.0.0/16", expires_at=NOW - 1),
        ListEntry(id=3, value="10.1.1.0/24", expires_at=NOW),
        ListEntry(id=4, value="10.1.1.1", expires_at=NOW + 1),
    ]
    lists = Lists([ListSection.compile(entries)])
    assert value_for(lists, "10.1.1.1") == "10.1.1.1"
    assert value_for(lists, "10.1.1.2") == "10.0.0.0/8"


def test_of_equal_values_the_one_that_lives_longest_stays() -> None:
    """A value that stands twice matches as long as one of the two lives."""
    for expiries in ((None, 5.0), (5.0, None), (5.0, 2 * NOW), (2 * NOW, 5.0)):
        rows = [
            ListEntry(id=number, value=value, expires_at=expires)
            for number, expires in enumerate(expiries, start=1)
            for value in ("192.0.2.1", "example.com")
        ]
        lists = Lists([ListSection.compile(rows)])
        longest = 1 if expiries[0] is None or (expiries[1] or 0) == 5.0 else 2
        match = lists.find_ip(ip_address("192.0.2.1"), NOW)
        assert match is not None
        assert match.id == longest
        match = lists.find_domain("example.com", NOW)
        assert match is not None
        assert match.id == longest


def test_the_allowlist_wins_however_wide_it_is() -> None:
    """An allowed network beats a blocked address within it, an allowed domain an address of it."""
    allowed = [
        ListEntry(id=1, value="10.0.0.0/8", listing=ALLOW),
        ListEntry(id=2, value="*.example.com", listing=ALLOW),
    ]
    blocked = entries_of(["10.1.1.1", "user@a.example.com", "a.example.com"])
    for sections in ([allowed + blocked], [blocked, allowed]):
        lists = Lists(map(ListSection.compile, sections))
        match = lists.find_ip(ip_address("10.1.1.1"), NOW)
        assert match == (1, ALLOW, "10.0.0.0/8")
        assert lists.find_address("user@a.example.com", NOW) == (2, ALLOW, "*.example.com")


def test_mapped_addresses_are_looked_up_as_ipv4() -> None:
    """A client of a dual-stack socket is on the list under its IPv4 address."""
    lists = lists_of("192.0.2.0/24", "::/0")
    assert value_for(lists, "::ffff:192.0.2.9") == "192.0.2.0/24"
    assert value_for(lists, "::1") == "::/0"
    assert value_for(lists, "::ffff:198.51.100.1") is None


NAMES = ["example.com", "*.sub.example.com", "*@mail.example", "user@mail.example", "*.top"]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("example.com", "example.com"),
        ("EXAMPLE.com.", "example.com"),
        ("a.example.com", None),
        ("sub.example.com", None),
        ("a.sub.example.com", "*.sub.example.com"),
        ("b.a.SUB.example.com", "*.sub.example.com"),
        ("notexample.com", None),
        ("xsub.example.com", None),
        ("example.top", "*.top"),
        ("top", None),
        ("", None),
        (".", None),
        ("mail.example", None),
        ("[192.0.2.1]", None),
        ("*.top", "*.top"),
    ],
)
def test_domain_is_found_by_itself_or_from_above(name: str, found: str | None) -> None:
    """A "*.domain" is all below the domain, not it; nothing matches within a label."""
    match = lists_of(*NAMES).find_domain(name, NOW)
    assert (match and match.value) == found


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("user@mail.example", "user@mail.example"),
        ("USER@Mail.Example.", "user@mail.example"),
        ('"user"@mail.example', "user@mail.example"),
        ("other@mail.example", "*@mail.example"),
        ("other@a.mail.example", None),
        ("any@example.com", "example.com"),
        ("any@a.sub.example.com", "*.sub.example.com"),
        ("broken address@example.com", "example.com"),
        ("@relay.example:any@example.com", "example.com"),
        ("a@b@example.com", "example.com"),
        ("example.com", "example.com"),
        ("", None),
        ("@", None),
        ("postmaster", None),
        ("\udcff@example.com", "example.com"),
    ],
)
def test_address_is_found_by_itself_or_by_its_domain(address: str, found: str | None) -> None:
    """The nearest entry is named, however the address is written."""
    match = lists_of(*NAMES).find_address(address, NOW)
    assert (match and match.value) == found


def test_expired_names_leave_the_field_to_wider_ones() -> None:
    """An expired address does not hide its domain."""
    entries = [
        ListEntry(id=1, value="user@example.com", expires_at=NOW),
        ListEntry(id=2, value="example.com"),
    ]
    lists = Lists([ListSection.compile(entries)])
    assert lists.find_address("user@example.com", NOW) == (2, BLOCK, "example.com")
    assert lists.find_address("user@example.com", NOW - 1) == (1, BLOCK, "user@example.com")


class Colliding(str):
    """A name whose hash is that of many others."""

    __slots__ = ()

    def __hash__(self) -> int:
        return len(self)

    __eq__ = str.__eq__


def test_names_with_the_same_hash_are_told_apart() -> None:
    """Each name is found at its own place, and one that is not there is not found."""
    names = [Colliding(f"{number:04}.example") for number in range(300)]
    table = list_tables.NameTable({name: (index, 1e99) for index, name in enumerate(names, 1)})
    assert [table.id_at(table.find(name, NOW)) for name in names] == list(range(1, 301))
    assert table.find(Colliding("9999.example"), NOW) == list_tables.NOWHERE


@pytest.mark.parametrize(
    "value", ["192.0.2.1/24", "not a value", "a@b c", "fe80::1%eth0", "10.0.0.0/8/9", "*.*"]
)
def test_what_cannot_be_read_is_named_and_the_rest_is_in_force(value: str) -> None:
    """One bad entry spoils neither its section nor the policy."""
    section = ListSection.compile(entries_of([value, "example.com"]))
    assert (section.refused, len(section)) == (1, 1)
    assert value in section.problems[0]
    assert Lists([section]).find_domain("example.com", NOW)


def test_problems_are_counted_but_not_hoarded() -> None:
    """Of thousands of bad values the first few are named."""
    section = ListSection.compile(entries_of(["bad value"] * 1000))
    assert section.refused == 1000
    assert len(section.problems) == 5


@pytest.mark.parametrize(
    ("value", "probe"),
    [
        ("::ffff:192.0.2.0/120", "192.0.2.7"),
        ("2001:DB8:0::/48", "2001:db8::7"),
        ("192.0.2.7/32", "192.0.2.7"),
    ],
)
def test_networks_in_another_form_are_understood(value: str, probe: str) -> None:
    """An entry that an older version kept otherwise is still in force."""
    assert value_for(lists_of(value), probe)


@pytest.mark.parametrize(
    "value", ["Example.COM", "bücher.example", '"a b"@x.example', "ü@x.example"]
)
def test_names_in_another_form_are_understood(value: str) -> None:
    """So are names, with all that is not plain ASCII."""
    lists = lists_of(value)
    assert lists.find_address(value, NOW) if "@" in value else lists.find_domain(value, NOW)


def many(count: int, seed: int) -> Sequence[ListEntry]:
    """Return entries of all kinds, without double values."""
    dice = random.Random(seed)
    values: dict[str, None] = {}
    while len(values) < count:
        number = dice.getrandbits(32)
        values[str(IPv4Address(number))] = None
        values[f"{IPv4Address(number >> 8 << 8)}/24"] = None
        values[f"{IPv6Address(IPV6_BASE | number << 64)}/64"] = None
        values[f"d{number}.example"] = None
        values[f"*.e{number}.example"] = None
        values[f"u{number}@example.com"] = None
    return entries_of(list(values)[:count])


def test_large_sections_find_all_that_they_were_given_and_nothing_else() -> None:
    """With thousands of entries, behind sieves, each entry is found under its id."""
    entries = many(40_000, seed=7)
    lists = Lists([ListSection.compile(entries[:20_000]), ListSection.compile(entries[20_000:])])
    assert len(lists) == len(entries)
    for entry in entries:
        value = entry.value
        if "@" in value:
            match = lists.find_address(value, NOW)
        elif value.endswith("example"):
            match = lists.find_domain(value.replace("*", "x"), NOW)
        else:
            match = lists.find_ip(ip_address(value.partition("/")[0]), NOW)
        assert match is not None
        assert match.value == value or "/" in value
        assert match.id == entry.id or "/" in value
    for strangers in range(1000):
        assert lists.find_domain(f"stranger{strangers}.test", NOW) is None
        assert lists.find_ip(IPv6Address((0x2A00 << 112) + strangers), NOW) is None


def test_wide_networks_pass_the_sieve() -> None:
    """Each prefix length sets all the bits that its addresses ask."""
    for prefix in range(33):
        network = IPv4Network((0xC6336400 >> (32 - prefix) << (32 - prefix), prefix))
        filler = [str(IPv4Address(0x0A000000 + number)) for number in range(5000)]
        lists = lists_of(plain(network), *filler)
        for probe in (network.network_address, network.broadcast_address):
            match = lists.find_ip(probe, NOW)
            assert match is not None


def test_empty_lists_match_nothing() -> None:
    """No section, or an empty one, is no fault."""
    for lists in (Lists(), Lists([ListSection.compile([])])):
        assert len(lists) == 0
        assert lists.find_ip(ip_address("192.0.2.1"), NOW) is None
        assert lists.find_ip(ip_address("2001:db8::1"), NOW) is None
        assert lists.find_domain("example.com", NOW) is None
        assert lists.find_address("user@example.com", NOW) is None
