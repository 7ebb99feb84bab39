"""Flat, immutable tables of networks and names: what one section of a list is compiled into.

Theory of operation. Networks are sorted by their first address, the wider one first. Two networks
are disjoint or one holds the other, so the last one that starts at or before an address, or one of
those around it, is the longest prefix that holds the address: one bisection, then a walk outwards
along `parents` (at most one step a prefix length), which also passes by those that have expired.

Names stand under their 64-bit hashes, sorted; the text itself is compared, too, so two names are
never taken for one another.

Large tables have a sieve, a bit map of what they may know; those of all sections are laid upon one
another, so a stranger who is on no list costs one look at a bit, mostly, and not one each section.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from functools import reduce
from ipaddress import IPv4Address, IPv6Address
from itertools import accumulate
from math import inf
from operator import or_
from typing import Final, Generic, TypeVar

IPV4_BITS: Final = 32
IPV6_BITS: Final = 128
NOWHERE: Final = -1
SIEVED_LEN: Final = 4096  # shorter tables are asked each time; a sieve has half a MiB
SIEVE_PREFIX: Final = 22
SIEVE_SHIFT: Final = IPV4_BITS - SIEVE_PREFIX
SIEVE_BITS: Final = 1 << SIEVE_PREFIX
SIEVE_MASK: Final = SIEVE_BITS - 1
_WHOLE_BYTES_PREFIX: Final = SIEVE_PREFIX - 3
_LOW_64: Final = 2**64 - 1

Kept = tuple[int, float]
"""What a table knows of an entry: its id, and when it expires (inf: never)."""


def network_key(first_address: int, prefix: int) -> int:
    """Return the number that sorts networks as `NetworkTable` needs them."""
    return first_address << 8 | prefix


class Table:
    """The ids and expiries of entries by their place, and which probes may find one at all."""

    def __init__(self, kept: list[Kept], sieve: bytes | None) -> None:
        self._ids = array("Q", [one[0] for one in kept])
        expiries = array("d", [one[1] for one in kept])
        self._expiries = expiries if min(expiries, default=inf) < inf else None
        self.sieve = sieve

    def __len__(self) -> int:
        return len(self._ids)

    def id_at(self, place: int) -> int:
        """Return the id of the entry at a place."""
        return self._ids[place]

    def is_alive(self, place: int, now_s: float) -> bool:
        """Tell whether the entry at a place has not expired."""
        return self._expiries is None or self._expiries[place] > now_s

    @property
    def may_expire(self) -> bool:
        """Tell whether any entry expires at all."""
        return self._expiries is not None


class NetworkTable(Table):
    """The networks of one family and one list; the keys of `rows` are `network_key`s."""

    def __init__(self, bits: int, rows: dict[int, Kept]) -> None:
        keys = sorted(rows)
        self._bits = bits
        self._prefixes = bytes([key & 0xFF for key in keys])
        starts = [key >> 8 for key in keys]
        if bits == IPV4_BITS:
            self._low, self._high = array("I", starts), None
        else:
            self._low = array("Q", [start & _LOW_64 for start in starts])
            self._high = array("Q", [start >> 64 for start in starts])
        self._parents = _parents(bits, keys)
        is_sieved = bits == IPV4_BITS and len(keys) >= SIEVED_LEN
        sieve = _network_sieve(starts, self._prefixes) if is_sieved else None
        super().__init__([rows[key] for key in keys], sieve)

    def find(self, number: int, now_s: float) -> int:
        """Return the place of the longest prefix that holds an address, as a number, or -1."""
        place = self._last_start_until(number)
        while place != NOWHERE:
            shift = self._bits - self._prefixes[place]
            holds = number >> shift == self._start(place) >> shift
            if holds and self.is_alive(place, now_s):
                return place
            place = NOWHERE if self._parents is None else self._parents[place]
        return NOWHERE

    def prefix_at(self, place: int) -> int:
        """Return the prefix length of the network at a place."""
        return self._prefixes[place]

    def value_at(self, place: int) -> str:
        """Return the network at a place as it is written."""
        family = IPv4Address if self._bits == IPV4_BITS else IPv6Address
        prefix = self._prefixes[place]
        address = str(family(self._start(place)))
        return address if prefix == self._bits else f"{address}/{prefix}"

    def _start(self, place: int) -> int:
        high = 0 if self._high is None else self._high[place] << 64
        return high | self._low[place]

    def _last_start_until(self, number: int) -> int:
        if self._high is None:
            return bisect_right(self._low, number) - 1
        end = bisect_right(self._high, number >> 64)
        begin = bisect_left(self._high, number >> 64, 0, end)
        return bisect_right(self._low, number & _LOW_64, begin, end) - 1


class NameTable(Table):
    """The names of one list."""

    def __init__(self, rows: dict[str, Kept]) -> None:
        names = sorted(rows, key=hash)
        self._hashes = array("q", [hash(name) for name in names])
        texts = [_packed(name) for name in names]
        self._text = b"".join(texts)
        self._ends = array("I", list(accumulate(map(len, texts))))
        sieve = _name_sieve(self._hashes) if len(names) >= SIEVED_LEN else None
        super().__init__([rows[name] for name in names], sieve)

    def find(self, name: str, now_s: float) -> int:
        """Return the place of a name, or -1."""
        wanted = hash(name)
        place = bisect_left(self._hashes, wanted)
        while place < len(self._hashes) and self._hashes[place] == wanted:
            if self._packed_at(place) == _packed(name):
                return place if self.is_alive(place, now_s) else NOWHERE
            place += 1
        return NOWHERE

    def _packed_at(self, place: int) -> bytes:
        return self._text[self._ends[place - 1] if place else 0 : self._ends[place]]


AnyTable = TypeVar("AnyTable", bound=Table)


class Tables(Generic[AnyTable]):
    """All tables of one kind and list; one look at the sieve spares asking most large ones."""

    def __init__(self, tables: Iterable[AnyTable | None]) -> None:
        self._all: list[AnyTable] = [table for table in tables if table is not None]
        self._small = [table for table in self._all if table.sieve is None]
        self.may_expire = any(table.may_expire for table in self._all)
        sieves = [table.sieve for table in self._all if table.sieve is not None]
        together = reduce(or_, (int.from_bytes(sieve, "little") for sieve in sieves), 0)
        self._sieve = together.to_bytes(SIEVE_BITS // 8, "little") if sieves else None

    def to_ask(self, bit: int) -> list[AnyTable]:
        """Return the tables that may know a probe whose bit in the sieve is this one."""
        if self._sieve is None or self._sieve[bit >> 3] & (1 << (bit & 7)):
            return self._all
        return self._small


def _parents(bits: int, keys: list[int]) -> array[int] | None:
    """Return the place of the next wider network around each, -1 for none; None: none has one."""
    spans = [(1 << (bits - prefix)) - 1 for prefix in range(bits + 1)]
    parents = []
    around: list[tuple[int, int]] = []  # last address and place of those that may hold the next
    for place, key in enumerate(keys):
        start = key >> 8
        while around and around[-1][0] < start:
            around.pop()
        parents.append(around[-1][1] if around else NOWHERE)
        around.append((start | spans[key & 0xFF], place))
    return array("i", parents) if max(parents, default=NOWHERE) != NOWHERE else None


def _network_sieve(starts: list[int], prefixes: bytes) -> bytes:
    """Return a bit for each /22 of IPv4 that a network has a part in."""
    sieve = bytearray(SIEVE_BITS // 8)
    for start, prefix in zip(starts, prefixes, strict=True):
        bit = start >> SIEVE_SHIFT
        if prefix >= SIEVE_PREFIX:
            sieve[bit >> 3] |= 1 << (bit & 7)
        elif prefix > _WHOLE_BYTES_PREFIX:
            for one in range(bit, bit + (1 << (SIEVE_PREFIX - prefix))):
                sieve[one >> 3] |= 1 << (one & 7)
        else:
            length = 1 << (_WHOLE_BYTES_PREFIX - prefix)
            sieve[bit >> 3 : (bit >> 3) + length] = b"\xff" * length
    return bytes(sieve)


def _name_sieve(hashes: array[int]) -> bytes:
    """Return a bit for each name, by the last bits of its hash."""
    sieve = bytearray(SIEVE_BITS // 8)
    for one in hashes:
        sieve[(one & SIEVE_MASK) >> 3] |= 1 << (one & 7)
    return bytes(sieve)


def _packed(name: str) -> bytes:
    return name.encode("utf-8", "surrogatepass")
