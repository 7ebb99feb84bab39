"""Keeps notifications away from addresses where they have no business, as they connect.

Theory of operation. A name is looked up when a channel is looked at, and once more by whatever
connects; whoever owns the name can answer with another address then ("DNS rebinding"). So the
address itself is judged, in the moment in which a thread within `guarded` connects: Python reports
each connection to audit hooks (PEP 578), and a hook that raises ends it before a packet has left.
Other threads are not looked at.
"""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any, Final

Address = IPv4Address | IPv6Address

METADATA: Final = frozenset(
    map(ip_address, ("100.100.100.200", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254"))
)
"""Where clouds hand out credentials, beside the link-local addresses."""
_NAT64: Final = IPv6Network("64:ff9b::/96")
_CONNECTS: Final = "socket.connect"
_here: Final = threading.local()


class ReservedAddress(OSError):
    """A connection that was not made; the text is the address."""


def is_reserved(address: Address) -> bool:
    """Tell whether no notification goes there, in whichever way the address is written."""
    return any(
        one.is_link_local or one.is_multicast or one.is_unspecified or one in METADATA
        for one in (address, *_within(address))
    )


def _within(address: Address) -> Iterator[IPv4Address]:
    """Give the IPv4 addresses that packets to an IPv6 address may come out at."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            yield address.ipv4_mapped
        if address.sixtofour is not None:
            yield address.sixtofour
        if address in _NAT64:
            yield IPv4Address(int(address) & 0xFFFFFFFF)


@contextmanager
def guarded() -> Iterator[list[str]]:
    """Refuse this thread's connections to reserved addresses; give those that were refused."""
    _install()
    refused: list[str] = []
    _here.refused = refused
    try:
        yield refused
    finally:
        _here.refused = None


@cache
def _install() -> None:
    """Ask Python to report connections, once: nobody can take an audit hook away again."""
    sys.addaudithook(_judge)


def _judge(event: str, arguments: tuple[Any, ...]) -> None:
    """Raise `ReservedAddress` for a connection that must not be made."""
    if event != _CONNECTS:
        return
    refused: list[str] | None = getattr(_here, "refused", None)
    if refused is None or arguments[0].family not in {socket.AF_INET, socket.AF_INET6}:
        return
    host = str(arguments[1][0])
    try:
        is_refused = is_reserved(ip_address(host.partition("%")[0]))
    except ValueError:
        is_refused = True  # a name would be looked up once more, where nobody sees the answer
    if is_refused:
        refused.append(host)
        raise ReservedAddress(host)
