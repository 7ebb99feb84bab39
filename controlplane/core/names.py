"""Reads the names and addresses that administrators type, and says in one sentence what is wrong.

Each `parse_*` returns the one form that is rendered (lower-case A-labels, canonical addresses) or
raises `BadValue`, whose text completes a sentence that starts with the quoted value.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

import idna

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MAX_NAME_LEN: Final = 253
MAX_LOCAL_PART_LEN: Final = 64
SHORTEST_TRUSTED_PREFIX_LEN: Final = {4: 8, 6: 16}
CACHED_PARSES: Final = 4096  # many domains share few next hops
UNPRINTABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_ASCII_DOMAIN: Final = re.compile(
    r"(?:(?!xn--)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+"
    r"(?!xn--)[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?"
)
_HOST_LABELS: Final = re.compile(
    r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
)
_LOCAL_PART: Final = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
)
LAST_PORT: Final = 65_535
_PORT: Final = re.compile(r"[1-9][0-9]{0,4}")
_SOCKET_PATH: Final = re.compile(r"(?:/[A-Za-z0-9._-]+)+")
_LOOKS_NUMERIC: Final = re.compile(r"[0-9.]+")


class BadValue(Exception):
    """The text cannot be used."""


@dataclass(frozen=True)
class NextHop:
    """A host that mail is handed to; `host` is a name or a canonical address, without brackets."""

    host: str
    is_address: bool


def parse_domain(text: str) -> str:
    """Return a mail domain of at least two labels in its A-label form (RFC 5321, RFC 5891)."""
    lowered = text.lower()
    if _ASCII_DOMAIN.fullmatch(lowered) and len(lowered) <= MAX_NAME_LEN:
        return lowered
    if not text:
        raise BadValue("is empty; a domain name is needed")
    if any(letter.isspace() for letter in text):
        raise BadValue("contains a space; a domain name has none")
    if "@" in text:
        raise BadValue("contains an @; only the domain is needed")
    try:
        encoded = idna.encode(lowered, uts46=True).decode("ascii")
    except (idna.IDNAError, UnicodeError):
        raise BadValue("is not a valid domain name") from None
    if "." not in encoded.strip("."):
        raise BadValue("is not a full domain name: it has no dot")
    is_name = _HOST_LABELS.fullmatch(encoded) and len(encoded) <= MAX_NAME_LEN
    if not is_name or _LOOKS_NUMERIC.fullmatch(encoded.rpartition(".")[2]):
        raise BadValue("is not a valid domain name")
    return encoded


def parse_domain_pattern(text: str) -> str:
    """Return a domain, or ".domain" for all its subdomains (transport(5), access(5))."""
    if text.startswith("."):
        return "." + parse_domain(text[1:])
    return parse_domain(text)


def parse_sender(text: str) -> str:
    """Return "@domain" or "local@domain", as a lookup key of Postfix: lower case throughout."""
    local, at, domain = text.rpartition("@")
    if not at:
        raise BadValue('has no @; write "@example.com" for a domain or a full address')
    if local and (not _LOCAL_PART.fullmatch(local) or len(local) > MAX_LOCAL_PART_LEN):
        raise BadValue("has a local part that cannot be used in a lookup table")
    if local.startswith("#"):
        raise BadValue('starts with "#", which makes it a comment in a lookup table')
    return f"{local.lower()}@{parse_domain(domain)}"


@lru_cache(maxsize=CACHED_PARSES)
def parse_address(text: str) -> Address:
    """Return an IPv4 or IPv6 address without zone (RFC 4291)."""
    try:
        address = ip_address(text)
    except ValueError:
        raise BadValue("is not an IP address") from None
    if isinstance(address, IPv6Address) and (address.scope_id or address.ipv4_mapped):
        raise BadValue("is an IPv6 address with a zone or a mapped IPv4 address; write it plainly")
    return address


def parse_host_address(text: str) -> Address:
    """Return an address that one host can have and others can reach."""
    address = parse_address(text)
    if (
        address.is_unspecified
        or address.is_multicast
        or address.is_loopback
        or address.is_link_local
        or (isinstance(address, IPv4Address) and address.is_reserved)
    ):
        raise BadValue("is not an address that a host in a network can be reached at")
    return address


def parse_network(text: str) -> Network:
    """Return a network; host bits and networks that hold half the world are refused."""
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise BadValue("is not a network such as 192.0.2.0/24") from None
    if parse_address(text.partition("/")[0]) != network.network_address:
        raise BadValue(f"has host bits set; the network is {network}")
    shortest = SHORTEST_TRUSTED_PREFIX_LEN[network.version]
    if network.prefixlen < shortest:
        raise BadValue(f"is too wide: it would make an open relay; /{shortest} is the limit")
    return network


@lru_cache(maxsize=CACHED_PARSES)
def parse_next_hop(text: str) -> NextHop:
    """Return a host name or address, brackets optional; nothing is ever looked up as an MX."""
    inner = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if any(letter.isspace() for letter in inner) or not inner:
        raise BadValue("is not a host name or IP address")
    bare = inner[5:] if inner.lower().startswith("ipv6:") else inner
    if ":" in bare or _LOOKS_NUMERIC.fullmatch(bare):
        if bare.count(":") == 1:
            raise BadValue("contains a port; it has a field of its own")
        return NextHop(str(parse_address(bare)), is_address=True)
    return NextHop(parse_host(inner), is_address=False)


def parse_milter(text: str) -> str:
    """Return where a milter listens, as postconf(5) has it: inet:host:port or unix:/path."""
    kind, _, place = text.partition(":")
    if kind == "unix" and _SOCKET_PATH.fullmatch(place):
        return text
    host, _, port = place.rpartition(":")
    if kind != "inet" or not _PORT.fullmatch(port) or int(port) > LAST_PORT:
        raise BadValue("is neither inet:host:port nor unix:/path")
    hop = parse_next_hop(host)
    is_v6 = hop.is_address and ":" in hop.host
    return f"inet:[{hop.host}]:{port}" if is_v6 else f"inet:{hop.host}:{port}"


def parse_host(text: str) -> str:
    """Return a host name of one or more labels in its A-label form."""
    if "." in text:
        return parse_domain(text)
    lowered = text.lower()
    if not _HOST_LABELS.fullmatch(lowered):
        raise BadValue("is not a valid host name")
    return lowered
