"""The rule table: from one question to one decision, pure; the strongest verdict is taken.

Theory of operation. Each row is asked at its own stage, and all are asked once more at DATA: so
stages that are toggled off, an MTA that does not ask at some, and a policy that changed within a
session leave no gap. Every row that fires is listed; one decides:

1. a verdict acts at the stage it is found at, DISCARD and QUARANTINE at DATA only;
2. an entry of the allowlist for client, login or sender takes blocklist, bad words, threats and
   attachments out of the decision, and nothing else;
3. of the rest the strongest verdict (`model.STRENGTH`) is taken, of equals the first in the table.

So a row more never makes a decision milder, unless it is the allowlist's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from nodeagent.policy.engine import category_checks, checks, content_checks
from nodeagent.policy.engine.authentication import HEADER_NAME, authentication_results_header
from nodeagent.policy.engine.case import Case, Given
from nodeagent.policy.engine.headers import policy_header, without_forged
from nodeagent.policy.engine.outcome import refusing_forged, with_somebody
from nodeagent.policy.engine.policy import CompiledPolicy
from nodeagent.policy.engine.verdicts import Finding, deciding, distinct, listed
from nodeagent.policy.model import (
    ACCEPT,
    AddHeader,
    Change,
    Decision,
    Envelope,
    Message,
    Session,
    Stage,
    Verdict,
)


@dataclass(frozen=True)
class Rule:
    """One row: `find` is asked at `stage` and at DATA."""

    name: str
    comment: str
    stage: Stage
    find: Callable[[Case], Iterator[Finding]]


RULES: Final[tuple[Rule, ...]] = (
    Rule(
        "client-lists",
        "The client's address (or host name, where an MTA verified one) is on block- or allowlist.",
        Stage.CONNECT,
        checks.client_lists,
    ),
    Rule("helo-list", "The HELO name is on the blocklist.", Stage.EHLO, checks.helo_list),
    Rule("login-lists", "The login is on block- or allowlist.", Stage.AUTH, checks.login_lists),
    Rule(
        "helo-form",
        "The HELO name is none, or is one of ours; at MAIL, when logins are known.",
        Stage.MAIL,
        checks.helo_form,
    ),
    Rule(
        "sender-lists",
        "The envelope sender is on block- or allowlist.",
        Stage.MAIL,
        checks.sender_lists,
    ),
    Rule(
        "sender-form",
        "The sender is no address, or a stranger writes in our name; <> is legal.",
        Stage.MAIL,
        checks.sender_form,
    ),
    Rule(
        "login-late",
        "The login, where the MTA did not ask at AUTH.",
        Stage.MAIL,
        checks.login_lists,
    ),
    Rule("rates-client", "Too much mail by client, sender or login.", Stage.MAIL, checks.rates),
    Rule(
        "recipient-form",
        "The recipient is no address.",
        Stage.RCPT,
        checks.recipient_form,
    ),
    Rule("recipient-list", "The recipient is on the blocklist.", Stage.RCPT, checks.recipient_list),
    Rule(
        "recipient-count",
        "Too many recipients, or a bounce to more than one.",
        Stage.RCPT,
        checks.recipient_count,
    ),
    Rule(
        "category-address",
        "There is no such address in a category's domain.",
        Stage.RCPT,
        category_checks.addresses,
    ),
    Rule("rates-domain", "Too much mail to one recipient domain.", Stage.RCPT, checks.rates),
    Rule(
        "category-posting",
        "The sender may not write to a category.",
        Stage.DATA,
        category_checks.posting,
    ),
    Rule("author-list", "The author in From is on the blocklist.", Stage.DATA, checks.author_list),
    Rule(
        "authentication",
        "SPF, DKIM or DMARC says fail.",
        Stage.DATA,
        checks.authentication,
    ),
    Rule(
        "attachments",
        "An attachment is dangerous.",
        Stage.DATA,
        content_checks.attachments,
    ),
    Rule("badwords", "A bad word is in subject or text.", Stage.DATA, content_checks.badwords),
    Rule("threats", "Threat patterns score too high.", Stage.DATA, content_checks.threats),
    Rule(
        "unseen",
        "Not all of the mail was looked at: only noted.",
        Stage.DATA,
        content_checks.unseen,
    ),
)
"""In the order in which equals are decided; what is cheap to find and clear to say comes first."""


def judge(
    stage: Stage,
    session: Session,
    envelope: Envelope,
    message: Message | None,
    *,
    policy: CompiledPolicy,
    given: Given,
) -> Decision:
    """Return the decision; raises nothing, whatever the mail is."""
    if not policy.settings.is_active:
        return ACCEPT
    case = Case(stage, session, envelope, message, policy, given)
    return conclude(case, find(case))


def find(case: Case) -> Iterator[Finding]:
    """Give what every row of the stage finds, in the table's order."""
    for rule in RULES_AT[case.stage]:
        yield from rule.find(case)


def conclude(case: Case, findings: Iterable[Finding]) -> Decision:
    """Return the decision that follows from what was found."""
    found = distinct(findings)
    first = deciding(found, case.stage, is_allowed=bool(case.allowing))
    verdict = Verdict.ACCEPT if first is None else first.fired.verdict
    decision = Decision(
        verdict=verdict,
        reply=None if first is None else first.reply,
        fired=listed(found, first),
    )
    return with_changes(case, decision)


def with_changes(case: Case, decision: Decision) -> Decision:
    """Return the decision with what an accepted or quarantined message is given on its way."""
    if case.stage is not Stage.DATA or case.message is None:
        return decision
    if decision.verdict not in {Verdict.ACCEPT, Verdict.QUARANTINE}:
        return decision
    surroundings = case.policy.surroundings
    own_ids = surroundings.names | {surroundings.authserv_id}
    forged = tuple(without_forged(case.message, own_ids))
    refused = refusing_forged(decision, forged)
    if refused is not None:
        return refused
    changes = (*decision.changes, *forged, *_changes(case, decision))
    changed = Decision(decision.verdict, decision.reply, changes, decision.fired)
    return with_somebody(changed, case.envelope, case.policy.categories)


def _changes(case: Case, decision: Decision) -> Iterator[Change]:
    surroundings, results = case.policy.surroundings, case.given.authentication
    if case.policy.settings.adds_headers:
        if results is not None:
            value = authentication_results_header(results, surroundings.authserv_id)
            yield AddHeader(HEADER_NAME, value)
        yield policy_header(decision.verdict, decision.fired)
    yield from case.policy.categories.expand(case.envelope.recipients)


def needs_authentication(stage: Stage, session: Session, policy: CompiledPolicy) -> bool:
    """Tell whether SPF, DKIM and DMARC have to be looked up before this is judged."""
    settings = policy.settings
    if not settings.is_active or stage is not Stage.DATA or session.client.ip is None:
        return False
    if not (settings.spf.is_enabled or settings.dkim.is_enabled or settings.dmarc.is_enabled):
        return False
    return not policy.surroundings.is_trusted(session)


RULES_AT: Final = {
    stage: tuple(rule for rule in RULES if stage is rule.stage) for stage in Stage
} | {Stage.DATA: RULES}
