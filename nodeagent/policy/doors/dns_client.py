"""Asks the DNS within a deadline: records, none, or `DnsFailed`: then nothing is known."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import dns.exception
import dns.name
import dns.resolver

TRY_S: Final = 2.0
CACHED_ANSWERS: Final = 20_000
REREAD_S: Final = 60.0  # /etc/resolv.conf
STUMBLES: Final = (
    *(ValueError, LookupError, TypeError, AttributeError, ArithmeticError, AssertionError),
    RecursionError,
)
"""What libraries fail with on records, keys and signatures broken in ways that they do not know."""


class DnsFailed(Exception):
    """The DNS gave no answer in time, or refused one."""


class DnsClient:
    """The host's resolvers, or those given as (address, port); for any number of threads."""

    def __init__(self, servers: Sequence[tuple[str, int]] = ()) -> None:
        self._servers = tuple(servers)
        self._cache = dns.resolver.LRUCache(CACHED_ANSWERS)
        self._lock = threading.Lock()
        self._resolver: dns.resolver.Resolver | None = None
        self._read_at_s = 0.0

    def ask(self, name: str, kind: str, deadline_s: float) -> list[Any]:
        """Return the records of a kind ("TXT", "A"), [] where there are none; CNAMEs are followed.

        `deadline_s` is a moment of `time.monotonic`. A name that cannot be has no records.
        """
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            raise DnsFailed("there was no time left")
        try:
            asked = dns.name.from_text(name)
        except (dns.exception.DNSException, UnicodeError, ValueError):
            return []
        try:
            answer = self._current().resolve(
                asked, kind, lifetime=left_s, raise_on_no_answer=False, search=False
            )
        except (dns.resolver.NXDOMAIN, dns.resolver.YXDOMAIN):
            return []
        except (dns.exception.DNSException, OSError) as error:
            raise DnsFailed(str(error)) from error
        return list(answer.rrset or ())

    def texts(self, name: str, deadline_s: float) -> list[bytes]:
        """Return the TXT records of a name, each in one piece."""
        return [b"".join(record.strings) for record in self.ask(name, "TXT", deadline_s)]

    def _current(self) -> dns.resolver.Resolver:
        """Return the resolver; what /etc/resolv.conf says is read again now and then."""
        with self._lock:
            now_s = time.monotonic()
            if self._resolver is None or (not self._servers and now_s - self._read_at_s > REREAD_S):
                self._resolver = self._made()
                self._read_at_s = now_s
            return self._resolver

    def _made(self) -> dns.resolver.Resolver:
        resolver = dns.resolver.Resolver(configure=not self._servers)
        if self._servers:
            resolver.nameservers = [dns.nameserver.Do53Nameserver(*one) for one in self._servers]
        resolver.timeout = TRY_S
        resolver.cache = self._cache
        return resolver


@dataclass(frozen=True)
class Lookup:
    """A DNS client and the moment until which it may be asked."""

    client: DnsClient
    deadline_s: float

    def with_share(self, share: float) -> Lookup:
        """Return one that has this share of the time that is left."""
        now_s = time.monotonic()
        return Lookup(self.client, now_s + share * (self.deadline_s - now_s))

    def ask(self, name: str, kind: str) -> list[Any]:
        """Return the records of a kind; raises `DnsFailed`."""
        return self.client.ask(name, kind, self.deadline_s)

    def texts(self, name: str) -> list[bytes]:
        """Return the TXT records of a name; raises `DnsFailed`."""
        return self.client.texts(name, self.deadline_s)
