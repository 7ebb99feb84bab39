"""Trying a mail: every stage is shown, with what would fire, and in words."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest

from nodeagent.policy.document import (
    AuthenticationCheck,
    Badword,
    Category,
    Posting,
    Subscription,
)
from nodeagent.policy.engine.authentication import (
    AuthenticationResults,
    DkimCheck,
    DmarcCheck,
    DmarcPolicy,
    Result,
    SpfCheck,
)
from nodeagent.policy.engine.case import Given
from nodeagent.policy.engine.trying import (
    HEALTH_CHECKED,
    NOT_ASKED,
    SWITCHED_OFF,
    explain,
    looked_up,
    notes_of,
    try_mail,
)
from nodeagent.policy.engine.trying import TRUSTED as TRUSTED_CLIENT
from nodeagent.policy.model import (
    ACCEPT,
    Client,
    Decision,
    Envelope,
    Fired,
    Reply,
    RuleKind,
    Session,
    Stage,
    Verdict,
)
from tests.policy.policies import NOW_S, STRANGER, TRUSTED, allowed, blocked, policy_of

RAW = b"From: alice@example.org\r\nSubject: Win at the casino\r\n\r\nHello Bob.\r\n"
GIVEN = Given(now_s=NOW_S)
ENVELOPE = Envelope("alice@example.org", ("bob@example.com", "eve@example.com"))


def test_all_stages_of_a_mail_are_tried() -> None:
    """One for each recipient, and what is not given is left out."""
    session = replace(STRANGER, login="alice")
    trials = try_mail(RAW, session, ENVELOPE, policy_of(), GIVEN)
    assert [(one.stage, one.recipient) for one in trials] == [
        (Stage.CONNECT, None),
        (Stage.EHLO, None),
        (Stage.AUTH, None),
        (Stage.MAIL, None),
        (Stage.RCPT, "bob@example.com"),
        (Stage.RCPT, "eve@example.com"),
        (Stage.DATA, None),
    ]
    assert all(one.sentences == ("It goes on.",) for one in trials)
    alone = try_mail(RAW, Session(), Envelope(), policy_of(), GIVEN)
    assert [one.stage for one in alone] == [Stage.CONNECT]


def test_a_refusal_does_not_hide_what_comes_behind_it() -> None:
    """The administrator sees all that he would have to allow."""
    policy = policy_of(blocked("203.0.113.7"), Badword(id=5, pattern="casino"))
    trials = try_mail(RAW, STRANGER, ENVELOPE, policy, GIVEN)
    assert trials[0].decision.verdict is Verdict.REJECT
    assert {fired.rule for fired in trials[-1].decision.fired} == {"blocklist:1", "badword:5"}


def test_a_rejected_recipient_does_not_get_to_data() -> None:
    """As in SMTP; where none is taken, all are tried."""
    trials = try_mail(RAW, STRANGER, ENVELOPE, policy_of(blocked("eve@example.com")), GIVEN)
    assert [one.decision.verdict for one in trials[-3:]] == [
        Verdict.ACCEPT,
        Verdict.REJECT,
        Verdict.ACCEPT,
    ]
    none = try_mail(RAW, STRANGER, ENVELOPE, policy_of(blocked("example.com")), GIVEN)
    assert none[-1].decision.verdict is Verdict.REJECT


def test_a_policy_that_is_off_can_be_tried_before_it_is_switched_on() -> None:
    """That is what trying is for."""
    policy = policy_of(blocked("203.0.113.7"), is_active=False)
    assert try_mail(RAW, STRANGER, ENVELOPE, policy, GIVEN)[0].decision.verdict is Verdict.REJECT
    assert not policy.settings.is_active


def test_the_explanation_says_what_is_done_and_why() -> None:
    """A sentence for what is done, and one for each rule."""
    policy = policy_of(
        blocked("203.0.113.7", 1),
        allowed("alice@example.org", 2),
        Badword(id=5, pattern="casino"),
    )
    trials = try_mail(RAW, STRANGER, ENVELOPE, policy, GIVEN)
    assert trials[0].sentences == (
        (
            "It is rejected for good: 550 5.7.1 Mail from this client is not taken; ask the"
            " postmaster to unblock it (blocklist:1)"
        ),
        "blocklist:1: the client's address is on the blocklist; alone it rejects.",
    )
    assert trials[-1].sentences == (
        "It goes on.",
        (
            "blocklist:1: the client's address is on the blocklist; alone it rejects, but the"
            " allowlist overrules it."
        ),
        (
            "badword:5: a bad word of the category custom, severity medium; alone it holds in the"
            " quarantine, but the allowlist overrules it."
        ),
        "allowlist:2: the sender is on the allowlist; only noted.",
    )


def test_each_verdict_has_its_words() -> None:
    """Nothing is left to be guessed."""
    said = {
        verdict: explain(
            Decision(
                verdict,
                Reply(450, "4.7.0", "Later") if verdict is Verdict.TEMPFAIL else None,
                fired=(Fired(RuleKind.THREAT, "threat:x", "a threat", verdict, score=2.5),),
            )
        )
        for verdict in Verdict
    }
    assert len({lines[0] for lines in said.values()}) == len(Verdict)
    assert len({lines[1] for lines in said.values()}) == len(Verdict)
    assert said[Verdict.TEMPFAIL][0].endswith("tries again: 450 4.7.0 Later")
    assert said[Verdict.REJECT][1] == "threat:x: a threat; alone it rejects, its score is 2.5."
    assert explain(ACCEPT) == ("It goes on.",)
    early = Decision(fired=(Fired(RuleKind.PLUGIN, "plugin:x", "own", Verdict.DISCARD),))
    assert explain(early)[1] == (
        "plugin:x: own; alone it throws away, but at the end of the message."
    )


FORGED = AuthenticationResults(spf=SpfCheck(Result.FAIL, "example.org"))
NOTED = AuthenticationCheck(is_enabled=True)
REFUSING = AuthenticationCheck(is_enabled=True, on_fail=Verdict.REJECT)


@pytest.mark.parametrize(
    ("name", "assumed", "verdict"),
    [
        ("spf", {"spf": SpfCheck(Result.FAIL)}, Verdict.REJECT),
        ("spf", {"spf": SpfCheck(Result.SOFTFAIL)}, Verdict.ACCEPT),
        ("spf", {"spf": SpfCheck(Result.TEMPERROR)}, Verdict.ACCEPT),
        ("spf", {"dkim": (DkimCheck(Result.FAIL),)}, Verdict.ACCEPT),
        ("dkim", {"dkim": (DkimCheck(Result.FAIL),)}, Verdict.REJECT),
        ("dkim", {"dkim": ()}, Verdict.ACCEPT),
        ("dmarc", {"dmarc": DmarcCheck(Result.FAIL)}, Verdict.REJECT),
        (
            "dmarc",
            {"dmarc": DmarcCheck(Result.FAIL, policy=DmarcPolicy.QUARANTINE)},
            Verdict.QUARANTINE,
        ),
        ("dmarc", {"dmarc": DmarcCheck(Result.FAIL, policy=DmarcPolicy.NONE)}, Verdict.ACCEPT),
        ("dmarc", {"spf": SpfCheck(Result.FAIL)}, Verdict.ACCEPT),
    ],
)
def test_what_the_dns_would_say_is_assumed(
    name: str, assumed: dict[str, Any], verdict: Verdict
) -> None:
    """It decides at the end of the message, as on a node, and only for a check that is on."""
    policy = policy_of(**{name: REFUSING})
    given = replace(GIVEN, authentication=AuthenticationResults(**assumed))
    trials = try_mail(RAW, STRANGER, ENVELOPE, policy, given)
    assert trials[-1].decision.verdict is verdict
    assert {one.decision.verdict for one in trials[:-1]} == {Verdict.ACCEPT}


def test_the_allowlist_holds_until_spf_is_known() -> None:
    """At MAIL nobody has looked it up yet; at the end a forged sender is allowed nothing."""
    policy = policy_of(blocked("mx.example"), allowed("alice@example.org", 2), spf=NOTED)
    session = replace(STRANGER, helo="mx.example")
    given = replace(GIVEN, authentication=FORGED)
    trials = {one.stage: one.decision for one in try_mail(RAW, session, ENVELOPE, policy, given)}
    assert {fired.rule for fired in trials[Stage.MAIL].fired} == {"allowlist:2"}
    assert trials[Stage.DATA].verdict is Verdict.REJECT


@pytest.mark.parametrize(
    ("author", "verdict"),
    [
        (b"Dora <dora@example.org>", Verdict.ACCEPT),
        (b"eve@example.net (<dora@example.org>)", Verdict.REJECT),
        (b"dora@example.org, eve@example.net", Verdict.REJECT),
    ],
)
def test_what_is_assumed_of_dmarc_is_about_the_author(author: bytes, verdict: Verdict) -> None:
    """A pass proves the one author in From, as on a node."""
    category = Category(
        id=1,
        address="news@lists.example.net",
        posting=Posting.ALLOWED,
        allowed_senders=("dora@example.org",),
    )
    subscription = Subscription(id=1, category=1, address="bob@example.com", token="t" * 16)
    policy = policy_of(category, subscription, dmarc=NOTED)
    passed = AuthenticationResults(dmarc=DmarcCheck(Result.PASS))
    given = replace(GIVEN, authentication=passed)
    raw, envelope = (
        b"From: " + author + b"\r\n\r\nHello",
        Envelope("x@y.example", (category.address,)),
    )
    assert try_mail(raw, STRANGER, envelope, policy, given)[-1].decision.verdict is verdict


@pytest.mark.parametrize("session", [TRUSTED, replace(STRANGER, login="alice"), Session()])
def test_nothing_is_assumed_where_a_node_looks_up_nothing(session: Session) -> None:
    """Of trusted clients, of logins, and where no address is known."""
    policy = policy_of(spf=REFUSING)
    given = replace(GIVEN, authentication=FORGED)
    trials = try_mail(RAW, session, ENVELOPE, policy, given)
    assert trials[-1].decision.verdict is Verdict.ACCEPT
    assert looked_up(session, policy, FORGED) is None
    assert notes_of(session, policy, FORGED) == (TRUSTED_CLIENT,)
    assert notes_of(session, policy, None) == ()


@pytest.mark.parametrize(
    ("address", "notes"), [("127.0.0.1", (HEALTH_CHECKED,)), ("127.0.0.2", ())]
)
def test_the_notes_say_where_the_doors_differ(address: str, notes: tuple[str, ...]) -> None:
    """Of the address that keepalived checks from, and of no neighbour."""
    session = Session(Client(ip_address(address)))
    assert notes_of(session, policy_of(), None) == notes


def test_the_notes_say_what_counts_and_what_is_missing() -> None:
    """For each of the three by itself; also while the policy is switched off."""
    off, missing = (SWITCHED_OFF % {"check": "SPF"}), (NOT_ASKED % {"check": "DMARC"})
    assert notes_of(STRANGER, policy_of(), None) == ()
    assert notes_of(STRANGER, policy_of(), FORGED) == (off,)
    for is_active in (True, False):
        policy = policy_of(dmarc=REFUSING, is_active=is_active)
        assert notes_of(STRANGER, policy, FORGED) == (off, missing)
    assert notes_of(STRANGER, policy_of(spf=REFUSING), FORGED) == ()
