"""The DKIM signatures of one mail (RFC 6376), by dkimpy and our DNS client.

Theory of operation. Strangers choose mails, signatures and keys, and dkimpy was not made for that:
40 kB of spaces in a line keep it busy for five seconds, a key with an exponent of 30,000 bits for
hours, and Python runs nothing else meanwhile. So bodies come to it in a form that it finishes
quickly with and that gives the same hash, and what is larger than any honest signature, list of
headers or key is a "permerror" without being looked at.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import dkim
import dkim.util
from dkim.canonicalization import CanonicalizationPolicy

from nodeagent.policy.doors.dns_client import STUMBLES, DnsFailed, Lookup
from nodeagent.policy.engine.authentication import DkimCheck, Result
from nodeagent.policy.engine.values import lookup_domain
from nodeagent.policy.model import Header, Message

MOST_SIGNATURES: Final = 5
MOST_HEADERS: Final = 2_000
MOST_SIGNED_HEADERS: Final = 200
LONGEST_SIGNATURE_BYTES: Final = 8_192
LONGEST_WHITE_SPACE: Final = 100
LONGEST_KEY_RECORD_BYTES: Final = 4_096
SHORTEST_KEY_BITS: Final = 1_024  # RFC 8301
LONGEST_KEY_BITS: Final = 8_192
LONGEST_EXPONENT_BITS: Final = 64
_NAME: Final = "dkim-signature"
_WHITE_SPACE: Final = re.compile(rb"\s{%d}" % LONGEST_WHITE_SPACE)
_LINE_END: Final = re.compile(rb"\r?\n")
_BLANKS: Final = re.compile(rb"[\t ]+")
_SIMPLE: Final = b"simple/simple"
_FAILURES: Final = ("body hash mismatch", "x= value is past")
_TOO_SMALL: Final = "public key too small"


def check_dkim(
    message: Message,
    lookup: Lookup,
    matters: Callable[[str], bool] | None = None,
    *,
    has_others: bool = True,
) -> tuple[DkimCheck, ...]:
    """Return a result for each of the first signatures, from the top; () where there is none.

    Those of domains that `matters` tells of are checked before all others, so that keys of a
    stranger which nobody answers for take no time from theirs; the others only if `has_others`.
    What cannot be known is "temperror": the DNS failed, or the body was cut off.
    """
    named = [one for one in message.headers if one.name.strip().lower() == _NAME]
    signatures = dict(enumerate(map(_encoded, named[:MOST_SIGNATURES])))
    if matters is not None:
        first = {place for place, one in signatures.items() if matters(_signer(one))}
        order = sorted(signatures, key=lambda place: (place not in first, place))
        signatures = {place: signatures[place] for place in order if has_others or place in first}
    if not signatures:
        return ()
    mail = _Mail.of(message)
    checked = {place: _check(mail, one, place, lookup) for place, one in signatures.items()}
    return tuple(checked[place] for place in sorted(checked))


@dataclass(frozen=True)
class _Mail:
    """A message as dkimpy wants it; `relaxed` is the body with its white space already relaxed."""

    headers: list[list[bytes]]
    body: bytes
    relaxed: bytes
    is_whole: bool

    @classmethod
    def of(cls, message: Message) -> _Mail:
        body = _LINE_END.sub(b"\r\n", message.body)
        relaxed = _BLANKS.sub(b" ", body).replace(b" \r\n", b"\r\n")
        headers = [list(_encoded(header)) for header in message.headers]
        return cls(headers, body, relaxed, message.is_whole)


class _Signature(dkim.DKIM):  # type: ignore[misc]  # dkimpy has no types
    """One signature; `is_unusable` when its key is none that could be used."""

    def __init__(self, mail: _Mail, lookup: Lookup) -> None:
        super().__init__(logger=self, minkey=SHORTEST_KEY_BITS)
        self.headers, self.body = mail.headers, mail.body
        self.domain, self.selector = None, None
        self.include_headers: tuple[bytes, ...] = ()
        self.has_dns_failed = False
        self.is_unusable = False
        self._lookup = lookup

    def debug(self, *_: object) -> None:
        """Take what dkimpy logs and nobody reads."""

    def error(self, *_: object) -> None:
        """Note what dkimpy logs about keys, as it does not raise it."""
        self.is_unusable = True

    def isEnabledFor(self, _: int) -> bool:  # noqa: N802 - the name of the logging module
        """Tell that nothing is logged."""
        return False

    def find_key(self, name: bytes, timeout: float = 0) -> bytes | None:
        """Return the key record of a name; None where there is none that can be used."""
        del timeout  # the deadline is the lookup's
        try:
            texts = self._lookup.texts(name.decode("utf-8", "replace"))
        except DnsFailed as error:
            self.has_dns_failed = True
            raise dkim.DnsTimeoutError(str(error)) from error
        text = texts[0] if texts else b""
        return text if _is_of_sane_size(name, text) else None


def _check(mail: _Mail, header: tuple[bytes, bytes], index: int, lookup: Lookup) -> DkimCheck:
    signed = _Signature(mail, lookup)
    try:
        fields = dkim.util.parse_tag_value(header[1])
        signed.domain, signed.selector = fields.get(b"d"), fields.get(b"s")
        if _is_excessive(mail, header[1], fields):
            result = Result.PERMERROR
        else:
            if fields.get(b"c", _SIMPLE).endswith(b"/relaxed"):
                signed.body = mail.relaxed
            result = _result(signed, is_good=signed.verify(index, dnsfunc=signed.find_key))
    except dkim.DKIMException as error:
        result = _of_error(str(error))
    except (dkim.util.InvalidTagValueList, *STUMBLES):
        result = Result.PERMERROR
    if not mail.is_whole and result is Result.FAIL:
        result = Result.TEMPERROR
    return DkimCheck(result, lookup_domain(_text(signed.domain)), _text(signed.selector))


def _signer(header: tuple[bytes, bytes]) -> str:
    """Return the domain that a signature says it is of, "" where it says none."""
    try:
        return lookup_domain(_text(dkim.util.parse_tag_value(header[1]).get(b"d")))
    except (dkim.util.InvalidTagValueList, *STUMBLES):
        return ""


def _result(signed: _Signature, *, is_good: bool) -> Result:
    fields = signed.signature_fields
    if signed.has_dns_failed:
        return Result.TEMPERROR
    if signed.is_unusable or b"from" not in signed.include_headers:  # RFC 6376, 5.4
        return Result.PERMERROR
    if fields.get(b"a") == b"rsa-sha1":  # RFC 8301
        return Result.PERMERROR
    if not is_good:
        return Result.FAIL
    return Result.POLICY if b"l" in fields and _has_more_than_signed(signed) else Result.PASS


def _of_error(text: str) -> Result:
    if text.startswith(_FAILURES):
        return Result.FAIL
    return Result.POLICY if text.startswith(_TOO_SMALL) else Result.PERMERROR


def _is_excessive(mail: _Mail, value: bytes, fields: dict[bytes, bytes]) -> bool:
    """Tell whether working on a signature would take long."""
    return (
        len(value) > LONGEST_SIGNATURE_BYTES
        or _WHITE_SPACE.search(value) is not None
        or len(mail.headers) > MOST_HEADERS
        or fields.get(b"h", b"").count(b":") >= MOST_SIGNED_HEADERS
    )


def _is_of_sane_size(name: bytes, text: bytes) -> bool:
    """Tell whether a key can be worked with in a few milliseconds."""
    if not 0 < len(text) <= LONGEST_KEY_RECORD_BYTES:
        return False
    try:
        key = dkim.evaluate_pk(name, text)[0]
    except (dkim.DKIMException, *STUMBLES):
        return True  # dkimpy says what is wrong with it
    return not isinstance(key, dict) or (
        key["modulus"].bit_length() <= LONGEST_KEY_BITS
        and key["publicExponent"].bit_length() <= LONGEST_EXPONENT_BITS
    )


def _has_more_than_signed(signed: _Signature) -> bool:
    """Tell whether anybody could have put something below what was signed (RFC 6376, 8.2)."""
    fields: dict[bytes, bytes] = signed.signature_fields
    policy: Any = CanonicalizationPolicy.from_c_value(fields.get(b"c", _SIMPLE))
    return int(fields[b"l"]) < len(policy.canonicalize_body(signed.body))


def _encoded(header: Header) -> tuple[bytes, bytes]:
    name, value = (text.encode("utf-8", "surrogateescape") for text in header)
    return name.rstrip(), value + b"\r\n"


def _text(name: bytes | None) -> str:
    return (name or b"").decode("utf-8", "replace")
