"""What SPF, DKIM and DMARC said of a message, and how a header tells it (RFC 8601)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

HEADER_NAME: Final = "Authentication-Results"
MOST_HEADER_LEN: Final = 900  # one line, well within the 998 of RFC 5322
MOST_VALUE_LEN: Final = 255
_PLAIN_VALUE: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`{|}~@-]+")
_UNPRINTABLE: Final = re.compile(r"[^ -~]")


class Result(StrEnum):
    """The words of RFC 8601 for all three; TEMPERROR: the DNS did not answer, nothing is known."""

    NONE = "none"
    NEUTRAL = "neutral"
    PASS = "pass"  # noqa: S105 - the word of the RFC
    POLICY = "policy"
    SOFTFAIL = "softfail"
    FAIL = "fail"
    TEMPERROR = "temperror"
    PERMERROR = "permerror"


class DmarcPolicy(StrEnum):
    """What the author's domain asks for where DMARC fails (RFC 7489)."""

    NONE = "none"
    QUARANTINE = "quarantine"
    REJECT = "reject"


@dataclass(frozen=True)
class SpfCheck:
    """SPF (RFC 7208) of the sender's domain, or of the HELO name where the sender is null."""

    result: Result
    domain: str = ""
    is_of_helo: bool = False


@dataclass(frozen=True)
class DkimCheck:
    """One DKIM signature (RFC 6376)."""

    result: Result
    domain: str = ""  # d=
    selector: str = ""  # s=


@dataclass(frozen=True)
class DmarcCheck:
    """DMARC of the domain in From; `policy` is what its owner published, None where nothing."""

    result: Result
    domain: str = ""
    policy: DmarcPolicy | None = None


@dataclass(frozen=True)
class AuthenticationResults:
    """What was asked and answered; None for a check that is switched off.

    `dkim` has an entry a signature, at most `doors.dkim_check.MOST_SIGNATURES`; () for none.
    """

    spf: SpfCheck | None = None
    dkim: tuple[DkimCheck, ...] | None = None
    dmarc: DmarcCheck | None = None

    @property
    def dkim_result(self) -> Result | None:
        """Return what the signatures say together: one that passes is enough (RFC 6376, 6.1)."""
        if self.dkim is None:
            return None
        found = {check.result for check in self.dkim}
        order = (Result.PASS, Result.TEMPERROR, Result.FAIL, Result.PERMERROR, Result.NEUTRAL)
        return next((result for result in order if result in found), Result.NONE)


def authentication_results_header(results: AuthenticationResults, server: str) -> str:
    """Return the value of the header on one line; `server` is our own name.

    Names come from strangers: what is no plain token stands in quotes, without line breaks and
    without anything that is not printable ASCII. What would make the line too long is left out.
    """
    parts = [_value(server)]
    for part in _statements(results) or ["none"]:
        if sum(map(len, parts)) + 2 * len(parts) + len(part) <= MOST_HEADER_LEN:
            parts.append(part)
    return "; ".join(parts)


def _statements(results: AuthenticationResults) -> list[str]:
    statements = []
    if results.spf is not None:
        where = "smtp.helo" if results.spf.is_of_helo else "smtp.mailfrom"
        statements.append(f"spf={results.spf.result}{_property(where, results.spf.domain)}")
    statements += [
        f"dkim={check.result}{_property('header.d', check.domain)}"
        f"{_property('header.s', check.selector)}"
        for check in results.dkim or ()
    ]
    if results.dkim == ():
        statements.append("dkim=none")
    if results.dmarc is not None:
        policy = f" (p={results.dmarc.policy})" if results.dmarc.policy else ""
        where = _property("header.from", results.dmarc.domain)
        statements.append(f"dmarc={results.dmarc.result}{policy}{where}")
    return statements


def _property(name: str, value: str) -> str:
    return f" {name}={_value(value)}" if value else ""


def _value(text: str) -> str:
    """Return a token or a quoted string (RFC 8601, 2.2)."""
    shown = _UNPRINTABLE.sub("?", text[:MOST_VALUE_LEN])
    if _PLAIN_VALUE.fullmatch(shown):
        return shown
    return '"' + shown.replace("\\", "\\\\").replace('"', '\\"') + '"'
