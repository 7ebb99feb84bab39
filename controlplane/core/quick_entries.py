"""Tells entries of block- and allowlist that need no change from all others, quickly.

A list of a million entries is nearly always written in the form in which it is kept. Whatever is
not, or may be wrong, is left to `ListDraft`, which takes twenty times as long and says why.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from controlplane.core.policy_drafts import Expiry

MOST_NAME: Final = 253
MOST_REASON: Final = 500
CACHED_TIMES: Final = 4096
_FIELDS: Final = frozenset({"value", "reason", "expires_at"})
_LABEL: Final = "[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_KEPT_NAME: Final = re.compile(
    r"(?:\*\.|(?:\*|[a-z0-9!#$%&'+=?^_`{|}~.-]{1,64})@)?"
    rf"(?:{_LABEL}\.)+[a-z](?:[a-z0-9_-]{{0,61}}[a-z0-9_])?"
)
_ALABEL: Final = "xn--"  # whether one is valid IDNA has to say
_PREFIXES: Final = {
    family: {str(length): length for length in range(bits)}
    for family, bits in ((socket.AF_INET, 32), (socket.AF_INET6, 128))
}
_EXPIRY: Final[TypeAdapter[Any]] = TypeAdapter(Expiry)


def quick_list_values(given: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the columns of an entry as `ListDraft` would give them, None where it has to judge."""
    value, reason = given.get("value"), given.get("reason", "")
    if not (_FIELDS.issuperset(given) and isinstance(value, str) and is_kept_form(value)):
        return None
    if not (isinstance(reason, str) and len(reason) <= MOST_REASON and reason.isprintable()):
        return None
    text = given.get("expires_at")
    expires_at = None
    if text is not None:
        expires_at = _moment(text) if isinstance(text, str) else None
        if expires_at is None:
            return None
    return {"value": value, "reason": reason, "expires_at": expires_at}


def is_kept_form(value: str) -> bool:
    """Tell whether `list_value` is sure to return just this; False: it may, change or refuse it."""
    if "/" in value or ":" in value or value[-1:].isdigit():
        return _is_kept_network(value)
    is_name = len(value) <= MOST_NAME and _KEPT_NAME.fullmatch(value) is not None
    return is_name and _ALABEL not in value


def _is_kept_network(value: str) -> bool:
    text, slash, prefix_text = value.partition("/")
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    try:
        packed = socket.inet_pton(family, text)
    except (OSError, ValueError):
        return False
    if family is socket.AF_INET6 and ("." in text or socket.inet_ntop(family, packed) != text):
        return False
    if not slash:
        return True
    prefix = _PREFIXES[family].get(prefix_text)
    if prefix is None:
        return False
    host_bits = (1 << (8 * len(packed) - prefix)) - 1
    return int.from_bytes(packed) & host_bits == 0


@lru_cache(maxsize=CACHED_TIMES)
def _moment(text: str) -> float | None:
    """Return a time in seconds since 1970; the entries of one file often share theirs."""
    try:
        return float(_EXPIRY.validate_python(text).timestamp())
    except ValidationError:
        return None
