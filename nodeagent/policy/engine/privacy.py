"""What of a stranger's texts may leave the node: all, a pseudonym, or nothing.

A pseudonym is the same for the same value in the same cluster, so that a case can be followed
through the log, and nobody without the cluster's key can try values out (HMAC, RFC 2104). Domains
have pseudonyms of their own: `~LOCAL@~DOMAIN` shows that two addresses share one.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from nodeagent.policy.document import PolicySettings, Privacy

PSEUDONYM_DIGITS: Final = 20
LONGEST: Final = 320


class Redactor:
    """Applies one cluster's privacy; without a key there are no pseudonyms, so nothing leaves."""

    def __init__(self, settings: PolicySettings) -> None:
        has_key = settings.pseudonym_key is not None
        is_full = settings.privacy is Privacy.FULL
        is_pseudonymous = settings.privacy is Privacy.PSEUDONYMOUS and has_key
        self._is_full = is_full
        self._key = bytes.fromhex(settings.pseudonym_key or "") if is_pseudonymous else None

    def address(self, value: str | None) -> str | None:
        """Return what may be told of a mail address; the null sender is nobody's secret."""
        if value is None:
            return None
        if self._is_full or not value:
            return storable(value)
        if self._key is None:
            return None
        _local, at, domain = value.rpartition("@")
        if not at:
            return self._pseudonym(value)
        return f"{self._pseudonym(value)}@{self._pseudonym(domain)}"

    def text(self, value: str | None) -> str | None:
        """Return what may be told of any other text: an IP address, a subject, a login."""
        if value is None:
            return None
        if self._is_full or not value:
            return storable(value)
        return None if self._key is None else self._pseudonym(value)

    def _pseudonym(self, value: str) -> str:
        assert self._key is not None  # noqa: S101 - asked only where there is one
        folded = value.casefold().encode("utf-8", "surrogatepass")
        digest = hmac.new(self._key, folded, hashlib.sha256).hexdigest()
        return f"~{digest[:PSEUDONYM_DIGITS]}"


def storable(value: str, most: int = LONGEST) -> str:
    """Return the text as it can be stored: valid UTF-8, no NUL, of so many characters at most."""
    try:
        value = value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    except UnicodeEncodeError:  # surrogates that stand for no byte
        value = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value.replace("\0", "\ufffd")[:most]
