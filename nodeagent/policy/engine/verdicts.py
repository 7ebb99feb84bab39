"""What rules find, how the strongest of it is taken, and what the client is told."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from nodeagent.policy.model import (
    STRENGTH,
    Fired,
    Reply,
    RuleKind,
    Stage,
    Verdict,
)

MOST_FIRED: Final = 200
MOST_TEXT: Final = 400  # RFC 5321, 4.5.3.1.5: a reply line has 512 octets with code and line end
_UNPRINTABLE: Final = re.compile(r"[^ -~]+")
_UNFIT_RULE: Final = re.compile(r"[^A-Za-z0-9:._-]+")
_RANK: Final = {verdict: rank for rank, verdict in enumerate(STRENGTH)}
_AT_DATA: Final = frozenset({Verdict.DISCARD, Verdict.QUARANTINE})

OVERRULED_BY_ALLOWLIST: Final = frozenset(
    {RuleKind.BLOCKLIST, RuleKind.BADWORD, RuleKind.THREAT, RuleKind.ATTACHMENT}
)


@dataclass(frozen=True)
class Wording:
    """How a rule refuses: what and how to go on, in ASCII; codes by RFC 5321 and RFC 3463."""

    text: str
    reject: tuple[int, str] = (550, "5.7.1")
    tempfail: tuple[int, str] = (451, "4.7.1")

    def reply(self, verdict: Verdict, rule: str) -> Reply | None:
        """Return the reply for REJECT and TEMPFAIL, None for the others."""
        if verdict is Verdict.REJECT:
            code, enhanced = self.reject
        elif verdict is Verdict.TEMPFAIL:
            code, enhanced = self.tempfail
        else:
            return None
        return Reply(code, enhanced, one_line(f"{self.text} ({fit_rule(rule)})"))


REFUSED: Final = Wording("A rule of this relay refuses it; ask the postmaster why")


@dataclass(frozen=True)
class Finding:
    """What one rule found, and how it would be worded."""

    fired: Fired
    wording: Wording = REFUSED

    @property
    def reply(self) -> Reply | None:
        """Return what the client is told if this finding decides."""
        return self.wording.reply(self.fired.verdict, self.fired.rule)


def strength(verdict: Verdict) -> int:
    """Return the place of a verdict in `model.STRENGTH`."""
    return _RANK[verdict]


def distinct(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return each rule's strongest finding, the first of equals, in the table's order."""
    kept: dict[tuple[RuleKind, str], Finding] = {}
    for finding in findings:
        key = (finding.fired.kind, finding.fired.rule)
        known = kept.get(key)
        if known is None or strength(finding.fired.verdict) > strength(known.fired.verdict):
            kept[key] = finding
    return tuple(kept.values())


def deciding(findings: Iterable[Finding], stage: Stage, is_allowed: bool) -> Finding | None:
    """Return the finding that decides, or None where the mail goes on.

    DISCARD and QUARANTINE act at DATA only, and the allowlist overrules what it may.
    """
    found: Finding | None = None
    for finding in findings:
        verdict = finding.fired.verdict
        if verdict is Verdict.ACCEPT or (verdict in _AT_DATA and stage is not Stage.DATA):
            continue
        if is_allowed and finding.fired.kind in OVERRULED_BY_ALLOWLIST:
            continue
        if found is None or strength(verdict) > strength(found.fired.verdict):
            found = finding
    return found


def listed(findings: Iterable[Finding], first: Finding | None) -> tuple[Fired, ...]:
    """Return what is logged: what decided, then the stronger before the weaker; bounded."""
    ordered = sorted(
        (finding for finding in findings if finding is not first),
        key=lambda finding: -strength(finding.fired.verdict),
    )
    chosen = ordered if first is None else [first, *ordered]
    return tuple(finding.fired for finding in chosen[:MOST_FIRED])


def one_line(text: str, most: int = MOST_TEXT) -> str:
    """Return one line of printable ASCII, whatever the text is."""
    return _UNPRINTABLE.sub("?", text)[:most]


def fit_rule(rule: str) -> str:
    """Return a rule's name as it may stand in a header or a reply."""
    return _UNFIT_RULE.sub("_", rule)[:100]
