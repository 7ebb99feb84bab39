"""The checks of categories: which addresses exist in their domains, and who may write to them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from nodeagent.policy.document import Posting
from nodeagent.policy.engine.case import Case
from nodeagent.policy.engine.categories import is_always_known, is_internal
from nodeagent.policy.engine.verdicts import Finding, Wording
from nodeagent.policy.model import Fired, RuleKind, Verdict

UNKNOWN: Final = Wording(
    "There is no such address here; check how it is spelled", reject=(550, "5.1.1")
)
EMPTY: Final = Wording("Nobody is subscribed to this address; ask its owner", reject=(550, "5.2.4"))
POSTING: Final = Wording(
    "Only subscribers and allowed senders may write to this address; subscribe first or ask its"
    " owner",
    reject=(550, "5.7.2"),
)


def addresses(case: Case) -> Iterator[Finding]:
    """Reject what is no address of a category's domain; at RCPT the current recipient alone."""
    for recipient in case.judged_recipients:
        yield from _address(case, recipient)


def _address(case: Case, recipient: str) -> Iterator[Finding]:
    categories = case.policy.categories
    if is_internal(recipient):
        text = "only the relay itself writes to its internal addresses"
        yield _finding("category:internal", text, UNKNOWN, recipient)
        return
    compiled = categories.find(recipient)
    if compiled is not None:
        rule = f"category:{compiled.category.id}"
        if not compiled.category.is_enabled:
            yield _finding(rule, "the category is switched off", UNKNOWN, recipient)
        elif not compiled.members:
            yield _finding(rule, "the category has no subscribers", EMPTY, recipient)
        return
    if not categories.has_domain(recipient) or is_always_known(recipient):
        return
    if not case.policy.surroundings.is_own_address(recipient):
        text = "the domain belongs to categories, and the address is none of them"
        yield _finding("category:unknown-address", text, UNKNOWN, recipient)


def posting(case: Case) -> Iterator[Finding]:
    """Reject mail to a category from whoever may not write to it; bounces never may."""
    for recipient in case.envelope.recipients:
        compiled = case.policy.categories.find(recipient)
        if compiled is None or not compiled.category.is_enabled:
            continue
        is_open = compiled.category.posting is Posting.ANYBODY
        if case.envelope.sender and (is_open or any(map(compiled.may_post, case.posters))):
            continue
        rule = f"category:{compiled.category.id}"
        text = "the sender may not write to the category"
        yield _finding(rule, text, POSTING, case.envelope.sender)


def _finding(rule: str, text: str, wording: Wording, matched: str | None) -> Finding:
    fired = Fired(RuleKind.CATEGORY, rule, text, verdict=Verdict.REJECT, matched=matched)
    return Finding(fired, wording)
