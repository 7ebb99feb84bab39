"""The checks of what a mail holds: bad words, threats, dangerous attachments."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from nodeagent.policy.document import Badword, PolicySettings
from nodeagent.policy.engine.attachments import find_dangerous
from nodeagent.policy.engine.case import Case
from nodeagent.policy.engine.content import ContentFault
from nodeagent.policy.engine.verdicts import Finding, Wording
from nodeagent.policy.engine.words import ScanFailed
from nodeagent.policy.model import Fired, RuleKind, Verdict

CONTENT: Final = Wording(
    "The mail's content is not taken; change it, or ask the recipient's postmaster to allow it"
)
FAULT: Final = Wording("The mail cannot be checked now; try again later", tempfail=(451, "4.3.0"))
ATTACHMENTS: Final = Wording(
    "An attachment of this kind is not taken; send it by other means or ask the postmaster"
)

UNSEEN: Final = {
    ContentFault.TEXT_CUT: "it has more text than is looked at",
    ContentFault.BODY_CUT: "it is larger than what is looked at",
    ContentFault.NAMES_CUT: "its archives hold more names than are looked at",
}
"""What was not looked at; it is noted and does nothing, for many ordinary mails are large.

What ordinary mails never are (a thousand parts) has threat rules of its own.
"""


def badwords(case: Case) -> Iterator[Finding]:
    """Look for bad words in the subject and the decoded texts."""
    content = case.content
    if content is None:
        return
    found: dict[int, Badword] = {}
    try:
        for text in (content.subject, *content.texts):
            found.update((word.id, word) for word in case.policy.words.find(text))
    except ScanFailed as error:
        text = f"not everything was searched for bad words: {error}"
        yield Finding(Fired(RuleKind.FAULT, "badwords", text, verdict=Verdict.TEMPFAIL), FAULT)
    for word in found.values():
        fired = Fired(
            kind=RuleKind.BADWORD,
            rule=f"badword:{word.id}",
            text=f"a bad word of the category {word.category}, severity {word.severity}",
            verdict=case.policy.settings.verdict_of(word.severity),
            severity=word.severity,
            matched=None if word.is_regex else word.pattern,
        )
        yield Finding(fired, CONTENT)


def threats(case: Case) -> Iterator[Finding]:
    """Look for threats; each counts by its score, and all scores together once more."""
    content, settings = case.content, case.policy.settings
    if content is None or not settings.has_threats:
        return
    found = [
        Fired(
            kind=RuleKind.THREAT,
            rule=f"threat:{hit.rule}",
            text=f"the threat rule {hit.rule}",
            verdict=verdict_of_score(hit.score, settings),
            severity=hit.severity,
            score=hit.score,
            matched=hit.matched,
        )
        for hit in case.policy.threats.find(content)
    ]
    for fired in found:
        yield Finding(fired, CONTENT)
    yield from _total(found, settings)


def unseen(case: Case) -> Iterator[Finding]:
    """Note what of the mail was not looked at."""
    for fault in sorted(case.content.faults & UNSEEN.keys()) if case.content else ():
        yield Finding(Fired(RuleKind.THREAT, f"unseen:{fault}", UNSEEN[fault]))


def attachments(case: Case) -> Iterator[Finding]:
    """Look for dangerous attachments, by name, by names inside archives, by their first bytes."""
    content, settings = case.content, case.policy.settings
    if content is None:
        return
    for hit in find_dangerous(content, settings):
        fired = Fired(
            kind=RuleKind.ATTACHMENT,
            rule=f"attachment:{hit.rule}",
            text=hit.text,
            verdict=settings.attachment_verdict,
            matched=hit.matched,
        )
        yield Finding(fired, ATTACHMENTS)


def verdict_of_score(score: float, settings: PolicySettings) -> Verdict:
    """Return what a score does; where the thresholds are mixed up, the stronger verdict."""
    if score >= settings.threat_reject_score:
        return Verdict.REJECT
    return Verdict.QUARANTINE if score >= settings.threat_quarantine_score else Verdict.ACCEPT


def _total(found: list[Fired], settings: PolicySettings) -> Iterator[Finding]:
    """Give what all scores do together, where that is more than one of them does alone.

    Its own score is none: it would count the others twice.
    """
    total = sum(fired.score for fired in found)
    verdict = verdict_of_score(total, settings)
    if verdict is Verdict.ACCEPT or verdict in {fired.verdict for fired in found}:
        return
    text = f"the scores of {len(found)} threat rules together are {total:.1f}"
    yield Finding(Fired(RuleKind.THREAT, "threat:total", text, verdict=verdict), CONTENT)
