"""Reads what stands in lists and what clients say: networks, domains, addresses, in one form each.

Theory of operation. There are two ways in. `list_value`, `canonical_domain` and `canonical_address`
are strict: they return the one form that is kept and compared, or raise ValueError with one
sentence. `domain_of`, `lookup_domain` and `lookup_address` take whatever a stranger sent, never
raise, and bring it as near to that form as it goes, so that no odd spelling walks past a list.

The form: lower case, domains in A-labels (RFC 5890) without a dot at the end, local parts in NFC
without needless quotes, IPv4-mapped IPv6 as IPv4, networks of one address as the address.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache, wraps
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, TypeVar

import idna

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MAX_VALUE_LEN: Final = 320
MAX_DOMAIN_LEN: Final = 253
MAX_LOCAL_PART_BYTES: Final = 256  # RFC 5321 promises 64; rewritten senders (SRS, BATV) have more
SHOWN_LEN: Final = 80
CACHED_DOMAINS: Final = 8192
CACHED_ADDRESSES: Final = 4096
SUBDOMAINS: Final = "*."
ANY_LOCAL_PART: Final = "*@"

_LABEL: Final = "[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"  # "_": strangers' hosts are called so
_ASCII_DOMAIN: Final = re.compile(rf"(?:{_LABEL}\.)*{_LABEL}")
_NUMERIC: Final = re.compile(r"[0-9.]+")
_ATOMS: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.\x80-\U0010ffff-]+")
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
_NEVER: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_MAPPED_BITS: Final = 96
_Read = TypeVar("_Read")


def _remembered(read: Callable[[str], _Read]) -> Callable[[str], _Read]:
    """Remember what is read of texts as long as addresses are; the others are read each time."""
    remembered = lru_cache(maxsize=CACHED_ADDRESSES)(read)

    @wraps(read)
    def read_once(text: str) -> _Read:
        return remembered(text) if len(text) <= MAX_VALUE_LEN else read(text)

    return read_once


def list_value(text: str) -> str:
    """Return the kept form of a block- or allowlist's entry (see `document.ListEntry`).

    Raises ValueError, whose sentence names the text.
    """
    text = text.strip()
    if not text:
        raise ValueError(
            "The value is empty; an IP address, a network, a domain or an address is needed"
        )
    if "@" in text:
        value = _list_address(text)
    elif "/" in text or ":" in text or _NUMERIC.fullmatch(text):
        value = _network(text)
    elif text.startswith("."):
        raise _refused(text, 'starts with a dot; write "*.example.com" for all subdomains')
    elif text.startswith(SUBDOMAINS):
        value = SUBDOMAINS + _domain_in(text, text.removeprefix(SUBDOMAINS))
    else:
        value = canonical_domain(text)
        if "." not in value:
            raise _refused(text, "is not a full domain name: it has no dot")
    if len(value) > MAX_VALUE_LEN:
        raise _refused(text, f"is longer than {MAX_VALUE_LEN} characters")
    return value


def canonical_domain(text: str) -> str:
    """Return a domain name of one or more labels; raises ValueError."""
    return _domain_in(text, text)


def canonical_address(text: str) -> str:
    """Return an SMTP address (RFC 5321, RFC 6531); the null sender "" is one.

    A literal as domain is kept in brackets, a source route is left out. Raises ValueError; also for
    "postmaster" without a domain, which RFC 5321 knows as a recipient.
    """
    if not text:
        return text
    local, at, domain = _parts(text)
    if not at:
        raise _refused(text, 'has no "@"')
    if not domain:
        raise _refused(text, 'has no domain behind the "@"')
    return f"{_local_part(text, local)}@{_address_domain(text, domain)}"


@_remembered
def is_address(text: str) -> bool:
    """Tell whether `canonical_address` takes it."""
    try:
        canonical_address(text)
    except ValueError:
        return False
    return True


@_remembered
def domain_of(address: str) -> str:
    """Return the domain of any address in its lookup form; "" where it has none. Never raises."""
    _, at, domain = _parts(address)
    return lookup_domain(domain) if at else ""


def lookup_domain(text: str) -> str:
    """Return any name, or literal in brackets, in the form lists are asked for. Never raises."""
    if len(text) > MAX_DOMAIN_LEN:  # no name; and nothing to spend time and memory on
        return text.lower()
    return _lookup_domain(text)


@lru_cache(maxsize=CACHED_DOMAINS)
def _lookup_domain(text: str) -> str:
    lowered = text.lower()
    if lowered.startswith("["):
        literal = _literal(lowered)
        return lowered if literal is None else literal
    if not lowered.isascii():
        try:
            lowered = idna.encode(lowered, uts46=True).decode("ascii")
        except (idna.IDNAError, UnicodeError):
            lowered = unicodedata.normalize("NFKC", lowered).lower()
    return lowered.rstrip(".")


@_remembered
def lookup_address(text: str) -> str:
    """Return any address in the form lists are asked for. Never raises."""
    local, at, domain = _parts(text)
    if not at:
        return _folded(local)
    return f"{_unquoted(local)}@{lookup_domain(domain)}"


def plain_ip(address: Address) -> Address:
    """Return the address that a client really has: IPv4 where it is written as mapped IPv6."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _refused(text: str, why: str) -> ValueError:
    """Return the error whose sentence starts with the text, cut, and without the unprintable."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in text[:SHOWN_LEN])
    return ValueError(f'"{shown}{"…" if len(text) > SHOWN_LEN else ""}" {why}')


def _network(text: str) -> str:
    address_text, slash, prefix = text.partition("/")
    if "%" in text:
        raise _refused(text, "has a zone, which means something on one host only")
    if slash and not (prefix.isascii() and prefix.isdigit()):
        raise _refused(text, "is not a network such as 192.0.2.0/24 or 2001:db8::/32")
    try:
        address, network = ip_address(address_text), ip_network(text, strict=False)
    except ValueError:
        what = "network such as 192.0.2.0/24 or 2001:db8::/32" if slash else "IP address"
        raise _refused(text, f"is not a valid {what}") from None
    if address != network.network_address:
        raise _refused(text, f"has host bits set; the network is {_unmapped(network)}")
    kept = _unmapped(network)
    return str(kept if kept.prefixlen < kept.max_prefixlen else kept.network_address)


def _unmapped(network: Network) -> Network:
    """Return a network within ::ffff:0:0/96 as the IPv4 network that it is."""
    first = network.network_address
    if isinstance(first, IPv6Address) and first.ipv4_mapped and network.prefixlen >= _MAPPED_BITS:
        return IPv4Network((int(first.ipv4_mapped), network.prefixlen - _MAPPED_BITS))
    return network


def _list_address(text: str) -> str:
    if text.startswith("@"):
        raise _refused(
            text, 'has nothing before the "@"; write "*@example.com" for all of a domain'
        )
    if text.startswith(ANY_LOCAL_PART):
        return ANY_LOCAL_PART + _address_domain(text, text.removeprefix(ANY_LOCAL_PART))
    value = canonical_address(text)
    if value.startswith(ANY_LOCAL_PART):
        raise _refused(text, "would be read as all addresses of its domain")
    return value


def _parts(text: str) -> tuple[str, str, str]:
    """Split at the last "@", without an obsolete source route ("@relay:user@example.com")."""
    if text.startswith("@") and ":" in text:
        route, _, rest = text.partition(":")
        if '"' not in route and "[" not in route and "@" in rest:
            text = rest
    return text.rpartition("@") if "@" in text else (text, "", "")


def _folded(text: str) -> str:
    if len(text) > MAX_VALUE_LEN:  # normalizing takes the square of the length of marks in a row
        return text.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).lower())


def _unquoted(local: str) -> str:
    """Return a local part in lower case, with quotes only where it cannot be without."""
    quoted = _QUOTED.fullmatch(local)
    plain = _ESCAPED.sub(r"\1", quoted[1]) if quoted else local
    folded = _folded(plain)
    if quoted is None or _ATOMS.fullmatch(folded):
        return folded
    return '"' + folded.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _local_part(text: str, local: str) -> str:
    if not local:
        raise _refused(text, 'has nothing before the "@"')
    if _NEVER.search(local):
        raise _refused(text, "has a character in its local part that no address can have")
    if not (_ATOMS.fullmatch(local) or _QUOTED.fullmatch(local)):
        raise _refused(text, "has a local part that would have to stand in quotes")
    if len(local.encode()) > MAX_LOCAL_PART_BYTES:
        raise _refused(text, f"has a local part of more than {MAX_LOCAL_PART_BYTES} bytes")
    return _unquoted(local)


def _address_domain(text: str, domain: str) -> str:
    if not domain.startswith("["):
        return _domain_in(text, domain)
    literal = _literal(domain.lower())
    if literal is None:
        raise _refused(text, "has a domain in brackets that is no IP address")
    return literal


def _literal(lowered: str) -> str | None:
    """Return "[192.0.2.1]" or "[ipv6:2001:db8::1]" (RFC 5321, 4.1.3), or None."""
    if not lowered.endswith("]"):
        return None
    inner = lowered[1:-1]
    try:
        address = plain_ip(ip_address(inner.removeprefix("ipv6:")))
    except ValueError:
        return None
    if isinstance(address, IPv4Address):
        return f"[{address}]"
    return None if address.scope_id else f"[ipv6:{address}]"


def _domain_in(text: str, domain: str) -> str:
    """Return a domain that is all or a part of `text`, which is named when it is none."""
    lowered = domain.lower()
    if len(lowered) > MAX_VALUE_LEN:
        raise _refused(text, "has a domain name that is too long")
    if not lowered.isascii() or "xn--" in lowered:
        lowered = _encoded(text, lowered)
    lowered = lowered.removesuffix(".")
    if not lowered:
        raise _refused(text, "has no domain name")
    if any(letter.isspace() for letter in lowered):
        raise _refused(text, "contains a space; a domain name has none")
    if not _ASCII_DOMAIN.fullmatch(lowered) or len(lowered) > MAX_DOMAIN_LEN:
        raise _refused(
            text, "is not a valid domain name" if domain == text else "has no valid domain name"
        )
    if _NUMERIC.fullmatch(lowered.rpartition(".")[2]):
        raise _refused(text, "has a domain name that ends in a number, so it is none")
    return lowered


def _encoded(text: str, lowered: str) -> str:
    try:
        return idna.encode(lowered, uts46=True).decode("ascii")
    except (idna.IDNAError, UnicodeError):
        raise _refused(text, "has a domain name that IDNA does not allow") from None
