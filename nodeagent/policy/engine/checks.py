"""The checks of lists, HELO, sender, recipients, rates and SPF, DKIM, DMARC, one function a rule.

Each gives what it finds and decides nothing; the table in `judge` says when it is asked. What is
shown to the client names no address; what of the mail matched stands in `Fired.matched` alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Final

from nodeagent.policy.document import AuthenticationCheck, Listing, RateSubject
from nodeagent.policy.engine.authentication import DmarcCheck, DmarcPolicy, Result
from nodeagent.policy.engine.case import Case, Listed
from nodeagent.policy.engine.values import is_address
from nodeagent.policy.engine.verdicts import Finding, Wording, strength
from nodeagent.policy.model import NULL_SENDER, Fired, RuleKind, Stage, Verdict

_HOST_NAME: Final = re.compile(
    r"(?=.{1,255}\.?\Z)(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*"
    r"(?![0-9]+\.?\Z)[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.?"
)

_UNBLOCK: Final = "is not taken; ask the postmaster to unblock it"
LISTED: Final = {
    "the client's address": f"Mail from this client {_UNBLOCK}",
    "the client's host name": f"Mail from this client {_UNBLOCK}",
    "the HELO name": f"Mail from a host of this name {_UNBLOCK}",
    "the login": f"Mail of this login {_UNBLOCK}",
    "the sender": f"Mail from this sender {_UNBLOCK}",
    "a recipient": f"Mail to this recipient {_UNBLOCK}",
    "the author": f"Mail of this author {_UNBLOCK}",
}
HELO_SYNTAX: Final = Wording(
    "The HELO name is no host name and no address literal; send EHLO with the host's full name",
    reject=(504, "5.5.2"),
)
HELO_SHORT: Final = Wording(
    "The HELO name has no domain; send EHLO with the host's full name", reject=(504, "5.5.2")
)
HELO_OURS: Final = Wording(
    "The HELO name is one of ours; send EHLO with the host's own name", reject=(550, "5.7.1")
)
SENDER_SYNTAX: Final = Wording(
    "The sender is no address with a domain; send MAIL FROM with a full address",
    reject=(553, "5.1.7"),
)
SENDER_OURS: Final = Wording(
    "Senders of this domain have to log in or to write from a trusted network"
)
RECIPIENT_SYNTAX: Final = Wording(
    "The recipient is no address with a domain; correct it and send again", reject=(553, "5.1.3")
)
TOO_MANY: Final = Wording(
    "Too many recipients; send to the others in another transaction",
    reject=(554, "5.5.3"),
    tempfail=(452, "4.5.3"),
)
BOUNCE_TO_MANY: Final = Wording(
    "A bounce has one recipient only; send one to each", reject=(550, "5.5.3")
)
RATES: Final = {
    RateSubject.CLIENT: "This client sends too much mail; try again later",
    RateSubject.SENDER: "This sender sends too much mail; try again later",
    RateSubject.LOGIN: "This login sends too much mail; try again later",
    RateSubject.RECIPIENT_DOMAIN: "This domain is sent too much mail; try again later",
}


def client_lists(case: Case) -> Iterator[Finding]:
    """Look for the client's address and verified name on the lists."""
    return _listings(case.client_listed)


def helo_list(case: Case) -> Iterator[Finding]:
    """Look for the HELO name on the blocklist."""
    return _listings(case.helo_listed)


def login_lists(case: Case) -> Iterator[Finding]:
    """Look for the login on the lists."""
    return _listings(case.login_listed)


def sender_lists(case: Case) -> Iterator[Finding]:
    """Look for the sender on the lists; a forged one on the blocklist alone."""
    return _listings(case.sender_listed)


def recipient_list(case: Case) -> Iterator[Finding]:
    """Look for the recipients on the blocklist."""
    return _listings(case.recipients_listed)


def author_list(case: Case) -> Iterator[Finding]:
    """Look for the addresses in From on the blocklist."""
    return _listings(case.authors_listed)


def _listings(listed: tuple[Listed, ...]) -> Iterator[Finding]:
    for one in listed:
        number = one.match.id
        if one.match.listing is Listing.BLOCK:
            yield _finding(
                RuleKind.BLOCKLIST,
                f"blocklist:{number}",
                f"{one.where} is on the blocklist",
                Wording(LISTED[one.where]),
                matched=one.value,
            )
        else:
            yield _finding(
                RuleKind.ALLOWLIST,
                f"allowlist:{number}",
                f"{one.where} is on the allowlist",
                verdict=Verdict.ACCEPT,
                matched=one.value,
            )


def helo_form(case: Case) -> Iterator[Finding]:
    """Judge the HELO name's form, once it is known whether the client logs in."""
    helo, checks = case.session.helo, case.policy.settings.checks
    if helo is None or case.is_trusted:
        return
    is_literal = helo.startswith("[")
    is_valid = _is_literal(helo) if is_literal else _HOST_NAME.fullmatch(helo) is not None
    if checks.helo_is_valid and not is_valid:
        text = "the HELO name is no host name and no address literal"
        yield _finding(RuleKind.HELO, "helo:not-valid", text, HELO_SYNTAX, matched=helo)
    if checks.helo_is_qualified and not is_literal and "." not in helo.removesuffix("."):
        text = "the HELO name has no dot"
        yield _finding(RuleKind.HELO, "helo:not-qualified", text, HELO_SHORT, matched=helo)
    if checks.helo_is_not_ours and case.policy.surroundings.is_own_name(helo):
        text = "a stranger's HELO name is one of ours"
        yield _finding(RuleKind.HELO, "helo:ours", text, HELO_OURS, matched=helo)


def sender_form(case: Case) -> Iterator[Finding]:
    """Judge the envelope sender; the null sender is always legal."""
    sender, checks = case.envelope.sender, case.policy.settings.checks
    if sender is None or sender == NULL_SENDER:
        return
    if checks.sender_is_valid and not is_address(sender):
        text = "the sender is no address with a domain"
        yield _finding(RuleKind.SENDER, "sender:not-valid", text, SENDER_SYNTAX, matched=sender)
    if not checks.sender_is_not_ours or case.is_trusted:
        return
    if case.policy.surroundings.is_own_address(sender):
        text = "a stranger's sender is in one of our domains"
        yield _finding(RuleKind.SENDER, "sender:ours", text, SENDER_OURS, matched=sender)


def recipient_form(case: Case) -> Iterator[Finding]:
    """Judge the recipients one by one."""
    if not case.policy.settings.checks.recipient_is_valid:
        return
    for recipient in case.judged_recipients:
        # RFC 5321, 4.1.1.3: "postmaster" alone is a recipient
        if recipient.lower() == "postmaster" or (recipient and is_address(recipient)):
            continue
        text = "a recipient is no address with a domain"
        wording, rule = RECIPIENT_SYNTAX, "recipient:not-valid"
        yield _finding(RuleKind.RECIPIENT, rule, text, wording, matched=recipient)
        return


def recipient_count(case: Case) -> Iterator[Finding]:
    """Count the recipients.

    At RCPT those above the limit are put off (RFC 5321, 4.5.3.1.10), at DATA nothing could be:
    the same mail would come again and again.
    """
    count, checks = len(case.envelope.recipients), case.policy.settings.checks
    if count > checks.most_recipients:
        verdict = Verdict.TEMPFAIL if case.stage is Stage.RCPT else Verdict.REJECT
        text = f"it has more than {checks.most_recipients} recipients"
        yield _finding(RuleKind.RECIPIENT, "recipient:too-many", text, TOO_MANY, verdict=verdict)
    if checks.null_sender_one_recipient and case.envelope.sender == NULL_SENDER and count > 1:
        text = "a bounce has more than one recipient"
        yield _finding(RuleKind.RECIPIENT, "recipient:bounce-to-many", text, BOUNCE_TO_MANY)


def rates(case: Case) -> Iterator[Finding]:
    """Give the rates that were exceeded, as they were counted outside."""
    for rule in case.given.exceeded:
        wording = Wording(
            RATES[rule.subject],
            reject=(550, "5.7.0"),
            tempfail=(452, "4.7.0")
            if rule.subject is RateSubject.RECIPIENT_DOMAIN
            else (450, "4.7.0"),
        )
        text = f"more than {rule.limit} in a {rule.window} by {rule.subject}"
        yield _finding(RuleKind.RATE, f"rate:{rule.id}", text, wording, verdict=rule.verdict)


def authentication(case: Case) -> Iterator[Finding]:
    """Judge what SPF, DKIM and DMARC said; only "fail" does anything, a DNS failure never.

    What DMARC does is never harder than what the author's domain asks for (RFC 7489, 6.3).
    """
    results = case.given.authentication
    if results is None or case.is_trusted:
        return
    settings = case.policy.settings
    spf, dmarc = results.spf, results.dmarc
    each = (
        ("SPF", settings.spf, spf and spf.result, settings.spf.on_fail),
        ("DKIM", settings.dkim, results.dkim_result, settings.dkim.on_fail),
        ("DMARC", settings.dmarc, dmarc and dmarc.result, _asked_for(dmarc, settings.dmarc)),
    )
    for name, check, result, verdict in each:
        if check.is_enabled and result is Result.FAIL:
            wording = Wording(_AUTHENTICATION[name], reject=_AUTHENTICATION_CODES[name])
            yield _finding(
                RuleKind.AUTHENTICATION,
                f"{name.lower()}:fail",
                f"{name} says fail",
                wording,
                verdict=verdict,
            )


def _asked_for(dmarc: DmarcCheck | None, check: AuthenticationCheck) -> Verdict:
    """Return what is done about DMARC, at most what the author's domain asks for."""
    policy = None if dmarc is None else dmarc.policy
    if policy is DmarcPolicy.NONE:
        return Verdict.ACCEPT
    is_harder = strength(check.on_fail) > strength(Verdict.QUARANTINE)
    return Verdict.QUARANTINE if policy is DmarcPolicy.QUARANTINE and is_harder else check.on_fail


_AUTHENTICATION: Final = {
    "SPF": "SPF: this client may not send for the sender's domain; send by its own mail server",
    "DKIM": "DKIM: no signature holds; send the mail unchanged or by its domain's mail server",
    "DMARC": "DMARC: the author's domain does not vouch for this mail; send by its mail server",
}
_AUTHENTICATION_CODES: Final = {  # RFC 7372
    "SPF": (550, "5.7.23"),
    "DKIM": (550, "5.7.20"),
    "DMARC": (550, "5.7.26"),
}


def _finding(
    kind: RuleKind,
    rule: str,
    text: str,
    wording: Wording | None = None,
    *,
    verdict: Verdict = Verdict.REJECT,
    matched: str | None = None,
) -> Finding:
    fired = Fired(kind=kind, rule=rule, text=text, verdict=verdict, matched=matched)
    return Finding(fired) if wording is None else Finding(fired, wording)


def _is_literal(helo: str) -> bool:
    """Tell whether it is an address literal (RFC 5321, 4.1.3)."""
    inner = helo[1:-1].lower()
    is_ipv6 = inner.startswith("ipv6:")
    try:
        address = ip_address(inner.removeprefix("ipv6:"))
    except ValueError:
        return False
    return helo.endswith("]") and (address.version == 6) is is_ipv6 and "%" not in inner  # noqa: PLR2004
