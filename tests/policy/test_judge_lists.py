"""Where both lists fit: what an entry of the allowlist allows, and what it never hides."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.policy.document import ListEntry, Listing
from nodeagent.policy.engine.authentication import AuthenticationResults, Result, SpfCheck
from nodeagent.policy.model import Envelope, Stage, Verdict
from tests.policy.policies import (
    NOW_S,
    RECIPIENT,
    STRANGER,
    TRUSTED,
    allowed,
    blocked,
    decide,
    message_of,
    policy_of,
    rules_of,
)

FRAUD = "fraud@pay.partner.example"
AROUND = (FRAUD, "*@pay.partner.example", "pay.partner.example", "*.partner.example")
"""Entries that fit the address, the nearest first; the last two fit its domain as a host name."""
FORGED = AuthenticationResults(SpfCheck(Result.FAIL, "pay.partner.example"))
BY_HELO = AuthenticationResults(SpfCheck(Result.FAIL, "pay.partner.example", is_of_helo=True))
MALLORY = "mallory@example.net"
CHOSEN_FREELY: dict[str, tuple[Stage, dict[str, Any]]] = {
    "author": (
        Stage.DATA,
        {"envelope": Envelope(MALLORY, (RECIPIENT,)), "message": message_of(From=FRAUD)},
    ),
    "recipient": (Stage.RCPT, {"envelope": Envelope(MALLORY, (FRAUD,))}),
    "recipient-at-data": (Stage.DATA, {"envelope": Envelope(MALLORY, (RECIPIENT, FRAUD))}),
    "forged-sender": (
        Stage.DATA,
        {"envelope": Envelope(FRAUD, (RECIPIENT,)), "authentication": FORGED},
    ),
}
"""What the client writes as it likes."""
NOT_FORGED: dict[str, dict[str, Any]] = {
    "not-looked-up": {},
    "pass": {"authentication": AuthenticationResults(SpfCheck(Result.PASS, "partner.example"))},
    "softfail": {"authentication": AuthenticationResults(SpfCheck(Result.SOFTFAIL, "x.example"))},
    "of-the-helo-name": {"authentication": BY_HELO},
    "trusted": {"authentication": FORGED, "session": TRUSTED},
}


@pytest.mark.parametrize("allow", AROUND)
@pytest.mark.parametrize("block", AROUND)
@pytest.mark.parametrize("where", CHOSEN_FREELY)
def test_no_entry_of_the_allowlist_hides_one_of_the_blocklist(
    where: str, block: str, allow: str
) -> None:
    """Of an author, a recipient or a forged sender, whichever entry is the nearer one."""
    stage, more = CHOSEN_FREELY[where]
    policy = policy_of(blocked(block, 1), allowed(allow, 2))
    for _ in range(2):  # the second time from what was remembered
        decision = decide(policy, stage, **more)
        assert (decision.verdict, rules_of(decision)) == (Verdict.REJECT, ("blocklist:1",))


@pytest.mark.parametrize("allow", AROUND[2:])
@pytest.mark.parametrize("block", AROUND[2:])
def test_no_entry_of_the_allowlist_hides_a_helo_name(block: str, allow: str) -> None:
    """The name of the greeting is anybody's choice."""
    session = replace(STRANGER, helo="pay.partner.example")
    policy = policy_of(blocked(block, 1), allowed(allow, 2))
    for stage in (Stage.EHLO, Stage.MAIL, Stage.DATA):
        decision = decide(policy, stage, session)
        fires = stage is not Stage.MAIL
        assert rules_of(decision) == (("blocklist:1",) if fires else ())


@pytest.mark.parametrize("allow", AROUND)
@pytest.mark.parametrize("where", CHOSEN_FREELY)
def test_an_entry_of_the_allowlist_alone_allows_nothing_there(where: str, allow: str) -> None:
    """It is not told either."""
    stage, more = CHOSEN_FREELY[where]
    policy = policy_of(allowed(allow, 2), blocked("203.0.113.7", 3))
    decision = decide(policy, stage, **more)
    if stage is Stage.DATA:
        assert rules_of(decision) == ("blocklist:3",)
    else:
        assert rules_of(decision) == ()


@pytest.mark.parametrize("allow", AROUND)
@pytest.mark.parametrize("block", AROUND)
@pytest.mark.parametrize("why", NOT_FORGED)
def test_of_both_lists_the_allowlist_holds_for_a_sender(why: str, block: str, allow: str) -> None:
    """As long as SPF does not say that somebody else wrote it."""
    policy = policy_of(blocked(block, 1), allowed(allow, 2))
    decision = decide(policy, envelope=Envelope(FRAUD, (RECIPIENT,)), **NOT_FORGED[why])
    assert (decision.verdict, rules_of(decision)) == (Verdict.ACCEPT, ("allowlist:2",))


@pytest.mark.parametrize("allow", AROUND)
def test_what_allows_the_client_overrules_what_blocks_the_author(allow: str) -> None:
    """The entry that holds is the client's; the author's allows nothing and blocks."""
    policy = policy_of(blocked(FRAUD, 1), allowed(allow, 2), allowed("203.0.113.7", 3))
    decision = decide(policy, message=message_of(From=FRAUD))
    assert decision.verdict is Verdict.ACCEPT
    assert set(rules_of(decision)) == {"blocklist:1", "allowlist:3"}


def test_a_blocked_author_stays_blocked_when_his_address_was_allowed_before() -> None:
    """One address in several parts of one mail: each is asked for what it may do."""
    policy = policy_of(blocked(FRAUD, 1), allowed("*@pay.partner.example", 2))
    as_sender = Envelope(FRAUD, (RECIPIENT,))
    mail = message_of(From=FRAUD)
    for _ in range(2):
        assert rules_of(decide(policy, Stage.MAIL, envelope=as_sender)) == ("allowlist:2",)
        both = decide(policy, envelope=as_sender, message=mail)
        assert (both.verdict, set(rules_of(both))) == (
            Verdict.ACCEPT,
            {"allowlist:2", "blocklist:1"},
        )
        forged = decide(policy, envelope=as_sender, message=mail, authentication=FORGED)
        assert (forged.verdict, set(rules_of(forged))) == (Verdict.REJECT, {"blocklist:1"})


entries = st.lists(
    st.builds(
        ListEntry,
        id=st.integers(1, 99),
        value=st.sampled_from((*AROUND, "203.0.113.7", "mail.example.org")),
        listing=st.sampled_from(Listing),
        expires_at=st.sampled_from((None, NOW_S, NOW_S + 1)),
    ),
    max_size=8,
    unique_by=(lambda one: one.id, lambda one: (one.value, one.listing)),
)


@given(entries, st.sampled_from(sorted(CHOSEN_FREELY)))
def test_what_fires_there_is_what_fires_without_the_allowlist(
    given_entries: list[ListEntry], where: str
) -> None:
    """For any two lists: of what the client chose freely the same entries of the blocklist fire."""
    stage, more = CHOSEN_FREELY[where]
    blocks = [one for one in given_entries if one.listing is Listing.BLOCK]
    for_client = [one for one in given_entries if one.value not in AROUND]

    def fired(listed: list[ListEntry]) -> set[str]:
        return set(rules_of(decide(policy_of(*listed), stage, **more)))

    told = fired(given_entries)
    expected = fired([one for one in given_entries if one in blocks or one in for_client])
    assert told == expected
