"""Reads known_hosts lines of the user's own, and says which host keys the nodes trust.

Theory of operation. A node's agent reports the keys of its sshd, and its peers trust those. Lines
of the user's override that, node by node: where at least one key is pinned, the pinned ones are
trusted and nothing else; a key that is marked @revoked is trusted in no case. Host names do not
matter, for a push goes to the address and port of the node's description; lines must name that.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from controlplane.core.names import BadValue

MOST_CHARACTERS: Final = 200_000
SSH_PORT: Final = 22
REVOKED: Final = "@revoked"
KEY_TYPES: Final = frozenset(
    {"ssh-ed25519", "ssh-rsa"} | {f"ecdsa-sha2-nistp{bits}" for bits in (256, 384, 521)}
)


@dataclass(frozen=True)
class Place:
    """Where one node is reached."""

    node: str
    address: str
    port: int = SSH_PORT

    @property
    def pattern(self) -> str:
        """Return what known_hosts calls it (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT)."""
        return self.address if self.port == SSH_PORT else f"[{self.address}]:{self.port}"


@dataclass(frozen=True)
class Pin:
    """One host key ("type base64") that the user vouches for, or wants nobody to trust."""

    node: str
    key: str
    is_revoked: bool = False


def read_known_hosts(text: str, places: Sequence[Place]) -> tuple[Pin, ...]:
    """Return the pins of a known_hosts file, each once; raises BadValue for the first bad line."""
    if len(text) > MOST_CHARACTERS:
        raise BadValue(f"This is too long: over {MOST_CHARACTERS} characters.")
    found: dict[tuple[str, str], Pin] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        for pin in _read_line(number, line.split(), places):
            known = found.setdefault((pin.node, pin.key), pin)
            if known != pin:
                raise BadValue(f"Line {number}: this key is both trusted and revoked.")
    return tuple(sorted(found.values(), key=lambda pin: (pin.node, pin.is_revoked, pin.key)))


def trusted(reported: Iterable[str], pins: Sequence[Pin]) -> tuple[str, ...]:
    """Return the host keys of one node that its peers trust, of what it reported and its pins."""
    pinned = tuple(pin.key for pin in pins if not pin.is_revoked)
    revoked = {pin.key for pin in pins if pin.is_revoked}
    return pinned or tuple(key for key in reported if _bare(key) not in revoked)


def is_mismatch(reported: Sequence[str], pins: Sequence[Pin]) -> bool:
    """Tell whether a node reports host keys, but none that its peers trust."""
    usable = set(trusted(reported, pins))
    return bool(reported) and not any(_bare(key) in usable or key in usable for key in reported)


def written(place: Place, pins: Iterable[Pin]) -> list[str]:
    """Return one node's pins as lines of a known_hosts file."""
    return [f"{f'{REVOKED} ' if pin.is_revoked else ''}{place.pattern} {pin.key}" for pin in pins]


def _read_line(number: int, words: list[str], places: Sequence[Place]) -> list[Pin]:
    is_revoked = words[0] == REVOKED
    if words[0].startswith("@") and not is_revoked:
        what = "certificate authorities are" if words[0] == "@cert-authority" else "this marker is"
        raise BadValue(f"Line {number}: {what} not supported; give the hosts' own keys.")
    rest = words[1:] if is_revoked else words
    if len(rest) < 3:  # noqa: PLR2004 - host, type, key
        raise BadValue(f"Line {number} is not a host, a key type and a key.")
    hosts, line = rest[0], " ".join(rest[1:3])
    if not _is_host_key(line):
        raise BadValue(f"Line {number}: this is no public host key (Ed25519, ECDSA or RSA).")
    nodes = [place.node for place in places if _names(number, hosts, place)]
    if not nodes:
        raise BadValue(f"Line {number} names no node by its address and SSH port.")
    return [Pin(node, line, is_revoked) for node in nodes]


def _names(number: int, hosts: str, place: Place) -> bool:
    """Tell whether the line is about this place; names of other hosts beside it are let pass."""
    if hosts.startswith("|"):
        return _is_hash_of(hosts, place.pattern)
    if any(letter in hosts for letter in "*?!"):
        raise BadValue(f"Line {number}: patterns are not supported; give the node's address.")
    wanted = {place.pattern.lower(), f"[{place.address}]:{place.port}".lower()}
    return not wanted.isdisjoint(hosts.lower().split(","))


def _is_hash_of(hashed: str, pattern: str) -> bool:
    """Compare a hashed name (`ssh-keygen -H`): "|1|salt|HMAC-SHA1"."""
    try:
        _, version, salt, digest = hashed.split("|")
        wanted = base64.b64decode(digest, validate=True)
        key = base64.b64decode(salt, validate=True)
    except (ValueError, binascii.Error):
        return False
    made = hmac.digest(key, pattern.encode(), hashlib.sha1)
    return version == "1" and hmac.compare_digest(made, wanted)


def _is_host_key(line: str) -> bool:
    if line.split(" ", maxsplit=1)[0] not in KEY_TYPES:
        return False
    try:
        load_ssh_public_key(line.encode())
    except (ValueError, UnsupportedAlgorithm):
        return False
    return True


def _bare(key: str) -> str:
    return " ".join(key.split()[:2])
