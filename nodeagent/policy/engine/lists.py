"""Block- and allowlist: a million networks and names, found in microseconds, in tens of MiB.

Theory of operation. Each section is compiled by itself into tables (`list_tables`) that are never
changed: an edit makes one section new and keeps the others.

Most of what is asked for is on no list, and asked for at several stages of one session: what no
entry of either list has ever held, whatever the time, is remembered for a while.

Which entry is named: the allowlist's before the blocklist's, then the longest prefix, or the
address before its domain before the domains above. The reasons of entries are not kept here.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from math import inf
from operator import itemgetter
from typing import Final, NamedTuple, TypeVar

from nodeagent.policy.document import ListEntry, Listing
from nodeagent.policy.engine.list_tables import (
    IPV4_BITS,
    IPV6_BITS,
    NOWHERE,
    SIEVE_MASK,
    SIEVE_SHIFT,
    Kept,
    NameTable,
    NetworkTable,
    Tables,
    network_key,
)
from nodeagent.policy.engine.values import (
    ANY_LOCAL_PART,
    MAX_VALUE_LEN,
    SUBDOMAINS,
    Address,
    list_value,
    lookup_address,
    lookup_domain,
    plain_ip,
)

BOTH_LISTS: Final = (Listing.ALLOW, Listing.BLOCK)
BLOCKLIST: Final = (Listing.BLOCK,)
MOST_PROBLEMS: Final = 5
MOST_UNLISTED: Final = 4096
_MAPPED: Final = 0xFFFF  # what stands above the last 32 bits of ::ffff:192.0.2.1
_KEPT_NAME: Final = re.compile(  # most names as they are kept; the others are read once more
    r"(?:\*\.|(?:\*|[a-z0-9!#$%&'+/=?^_`{|}~.-]{1,64})@)?"
    r"(?:[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?\.)+[a-z](?:[a-z0-9_-]*[a-z0-9])?"
)

_Key = TypeVar("_Key", int, str)
_Probe = TypeVar("_Probe", Address, str)


class ListMatch(NamedTuple):
    """The entry that matched; `value` is the network or name that it gives."""

    id: int
    listing: Listing
    value: str


class _Rows:
    """The entries of one list while a section is compiled."""

    def __init__(self) -> None:
        self.ipv4: dict[int, Kept] = {}
        self.ipv6: dict[int, Kept] = {}
        self.names: dict[str, Kept] = {}


@dataclass(frozen=True)
class ListSection:
    """One compiled section; `problems` are sentences about the first values that are none."""

    ipv4: dict[Listing, NetworkTable]
    ipv6: dict[Listing, NetworkTable]
    names: dict[Listing, NameTable]
    refused: int = 0
    problems: tuple[str, ...] = ()

    @classmethod
    def compile(cls, entries: Iterable[ListEntry]) -> ListSection:
        """Return the tables for these entries; where a value stands twice the longer-lived stays.

        Never raises: a value that cannot be read is left out, counted and named.
        """
        allowed, blocked = _Rows(), _Rows()
        problems: list[str] = []
        for entry in entries:
            try:
                bits, key, name = _read(entry.value)
            except ValueError as error:
                problems.append(str(error))
                continue
            kept = (entry.id, inf if entry.expires_at is None else entry.expires_at)
            rows = allowed if entry.listing is Listing.ALLOW else blocked
            if bits:
                _keep(rows.ipv4 if bits == IPV4_BITS else rows.ipv6, key, kept)
            else:
                _keep(rows.names, name, kept)
        each = ((Listing.ALLOW, allowed), (Listing.BLOCK, blocked))
        return cls(
            {one: NetworkTable(IPV4_BITS, rows.ipv4) for one, rows in each if rows.ipv4},
            {one: NetworkTable(IPV6_BITS, rows.ipv6) for one, rows in each if rows.ipv6},
            {one: NameTable(rows.names) for one, rows in each if rows.names},
            len(problems),
            tuple(problems[:MOST_PROBLEMS]),
        )

    def __len__(self) -> int:
        kinds = (self.ipv4, self.ipv6, self.names)
        return sum(len(table) for tables in kinds for table in tables.values())


class _Unlisted(set[_Probe]):
    """What no entry holds, not even an expired one; at most `MOST_UNLISTED` of them."""

    def remember(self, probe: _Probe) -> None:
        """Take in one more; a text that is too long to be an address is not worth its memory."""
        if isinstance(probe, str) and len(probe) > MAX_VALUE_LEN:
            return
        if len(self) >= MOST_UNLISTED:
            self.clear()
        self.add(probe)


class Lists:
    """All sections together; no entry ever changes. Times are seconds since 1970."""

    def __init__(self, sections: Iterable[ListSection] = ()) -> None:
        self.sections = tuple(sections)
        each = self.sections
        self._ipv4 = [(one, Tables(s.ipv4.get(one) for s in each)) for one in BOTH_LISTS]
        self._ipv6 = [(one, Tables(s.ipv6.get(one) for s in each)) for one in BOTH_LISTS]
        self._names = {one: Tables(s.names.get(one) for s in each) for one in BOTH_LISTS}
        networks = (*self._ipv4, *self._ipv6)
        self._may_expire = any(tables.may_expire for _, tables in networks) or any(
            tables.may_expire for tables in self._names.values()
        )
        self._strangers = _Unlisted[Address]()
        self._strange_domains = _Unlisted[str]()
        self._strange_addresses = _Unlisted[str]()

    def __len__(self) -> int:
        return sum(map(len, self.sections))

    def find_ip(self, ip: Address, now_s: float) -> ListMatch | None:
        """Return the entry that holds an address; a mapped one is looked up as IPv4."""
        if ip in self._strangers:
            return None
        match = self._find_ip(plain_ip(ip), now_s)
        if match is None and not (self._may_expire and self._find_ip(plain_ip(ip), -inf)):
            self._strangers.remember(ip)
        return match

    def find_domain(
        self, name: str, now_s: float, listings: tuple[Listing, ...] = BOTH_LISTS
    ) -> ListMatch | None:
        """Return the entry for a name itself, or for the subdomains of one above it."""
        if name in self._strange_domains:
            return None
        keys = tuple(_domain_keys(lookup_domain(name)))
        match = self._find_name(keys, now_s, listings)
        if match is None and not self._knows_name(keys, listings):
            self._strange_domains.remember(name)
        return match

    def find_address(
        self, address: str, now_s: float, listings: tuple[Listing, ...] = BOTH_LISTS
    ) -> ListMatch | None:
        """Return the entry for an address, all of its domain, that domain, or one above it.

        The null sender is on no list.
        """
        if not address or address in self._strange_addresses:
            return None
        kept = lookup_address(address)
        domain = kept.rpartition("@")[2]
        keys = (kept, ANY_LOCAL_PART + domain, *_domain_keys(domain)) if "@" in kept else (kept,)
        match = self._find_name(keys, now_s, listings)
        if match is None and not self._knows_name(keys, listings):
            self._strange_addresses.remember(address)
        return match

    def _find_ip(self, ip: Address, now_s: float) -> ListMatch | None:
        number = int(ip)
        is_ipv4 = isinstance(ip, IPv4Address)
        for listing, tables in self._ipv4 if is_ipv4 else self._ipv6:
            found = [
                (table.prefix_at(place), table, place)
                for table in tables.to_ask(number >> SIEVE_SHIFT if is_ipv4 else 0)
                if (place := table.find(number, now_s)) != NOWHERE
            ]
            if found:
                _, table, place = max(found, key=itemgetter(0))
                return ListMatch(table.id_at(place), listing, table.value_at(place))
        return None

    def _find_name(
        self, keys: tuple[str, ...], now_s: float, listings: tuple[Listing, ...]
    ) -> ListMatch | None:
        for listing in listings:
            tables = self._names[listing]
            for key in keys:
                for table in tables.to_ask(hash(key) & SIEVE_MASK):
                    place = table.find(key, now_s)
                    if place != NOWHERE:
                        return ListMatch(table.id_at(place), listing, key)
        return None

    def _knows_name(self, keys: tuple[str, ...], missed: tuple[Listing, ...]) -> bool:
        """Tell whether an entry holds what was just not found in these lists, now or ever."""
        if missed == BOTH_LISTS and not self._may_expire:
            return False
        return self._find_name(keys, -inf, BOTH_LISTS) is not None


def _domain_keys(domain: str) -> Iterator[str]:
    """Give the keys that a domain is found by, the nearest first."""
    if domain:
        yield domain
    _, dot, above = domain.partition(".")
    while dot:
        yield SUBDOMAINS + above
        _, dot, above = above.partition(".")


def _keep(rows: dict[_Key, Kept], key: _Key, kept: Kept) -> None:
    known = rows.get(key)
    if known is None or kept[1] > known[1]:
        rows[key] = kept


def _read(value: str) -> tuple[int, int, str]:
    """Return (bits, network key, "") of a network, (0, 0, kept name) of a name; raise ValueError.

    The quick way for what is in its kept form, as nearly everything is; `list_value` for the rest.
    """
    network = _network(value)
    if network is None and not _KEPT_NAME.fullmatch(value):
        value = list_value(value)
        network = _network(value)
    return (0, 0, value) if network is None else (*network, "")


def _network(value: str) -> tuple[int, int] | None:
    """Return the bits of the family and the key (first address, prefix length) of a network.

    None for what is none, or has bits below its prefix or another kept form.
    """
    is_ipv6 = ":" in value
    if not (is_ipv6 or value[-1:].isdigit()) or "@" in value:
        return None
    bits = IPV6_BITS if is_ipv6 else IPV4_BITS
    text, slash, prefix_text = value.partition("/")
    prefix = bits
    if slash:
        if not (prefix_text.isascii() and prefix_text.isdigit()):
            return None
        prefix = int(prefix_text)
    try:
        packed = socket.inet_pton(socket.AF_INET6 if is_ipv6 else socket.AF_INET, text)
    except (OSError, ValueError):
        return None
    start = int.from_bytes(packed, "big")
    if prefix != bits and (prefix > bits or start & ((1 << (bits - prefix)) - 1)):
        return None
    if is_ipv6 and start >> IPV4_BITS == _MAPPED:
        return None
    return bits, network_key(start, prefix)
