"""Who may ask the HTTP door: Basic, Bearer or a header of the administrator's choice.

Only SHA-256 of the secrets are known here. Any one credential that is configured opens the door;
each is compared in constant time, and all of them each time.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping

from nodeagent.policy.document import HttpDoor

Headers = Mapping[bytes, bytes]
"""A request's headers by their names in lower case."""


def has_credentials(door: HttpDoor) -> bool:
    """Tell whether there is any credential that a client could show."""
    return (
        _has_basic(door)
        or door.token_sha256 is not None
        or (door.header_name is not None and door.header_sha256 is not None)
    )


def _has_basic(door: HttpDoor) -> bool:
    return bool(door.username) and door.password_sha256 is not None


def challenges(door: HttpDoor) -> list[tuple[bytes, bytes]]:
    """Return the WWW-Authenticate headers (RFC 9110, 11.6.1) of a 401."""
    schemes = []
    if _has_basic(door):
        schemes.append(b'Basic realm="policy hook", charset="UTF-8"')
    if door.token_sha256 is not None or not schemes:
        schemes.append(b'Bearer realm="policy hook"')
    return [(b"www-authenticate", scheme) for scheme in schemes]


def is_allowed(headers: Headers, door: HttpDoor) -> bool:
    """Tell whether the request shows one of the door's credentials."""
    scheme, _, credentials = headers.get(b"authorization", b"").partition(b" ")
    scheme, credentials = scheme.lower(), credentials.strip()
    name, password = _basic(credentials) if scheme == b"basic" else (b"", None)
    token = credentials if scheme == b"bearer" else None
    value = headers.get((door.header_name or "").lower().encode())
    is_user = hmac.compare_digest(name, (door.username or "").encode())
    found = (
        _is_secret(password, door.password_sha256) and _has_basic(door) and is_user,
        _is_secret(token, door.token_sha256),
        _is_secret(value, door.header_sha256),
    )
    return any(found)


def _basic(credentials: bytes) -> tuple[bytes, bytes | None]:
    """Return name and password (RFC 7617); the password is None when they are not readable."""
    try:
        plain = base64.b64decode(credentials, validate=True)
    except (binascii.Error, ValueError):
        return b"", None
    name, colon, password = plain.partition(b":")
    return name, password if colon else None


def _is_secret(shown: bytes | None, sha256: str | None) -> bool:
    digest = hashlib.sha256(shown or b"").hexdigest()
    is_same = hmac.compare_digest(digest, sha256 or "")
    return is_same and bool(shown)
