"""The rules before the message: client, HELO, login, sender, recipients; each by enumeration."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from nodeagent.policy.document import RateRule, RateSubject, RateWindow, SenderChecks
from nodeagent.policy.engine.judge import RULES, RULES_AT
from nodeagent.policy.model import (
    ACCEPT,
    Client,
    Decision,
    Envelope,
    RuleKind,
    Session,
    Stage,
    Verdict,
)
from tests.policy.policies import (
    NOW_S,
    RECIPIENT,
    SENDER,
    STRANGER,
    TRUSTED,
    allowed,
    blocked,
    decide,
    policy_of,
    rules_of,
)

PLAIN = policy_of()
LOGGED_IN = replace(STRANGER, login="alice@example.org")


def code_of(decision: Decision) -> str:
    """Return code and enhanced code, "" where there is no reply."""
    return "" if decision.reply is None else f"{decision.reply.code} {decision.reply.enhanced}"


@pytest.mark.parametrize("stage", Stage)
def test_an_ordinary_mail_passes_every_stage(stage: Stage) -> None:
    """A policy with nothing in it fires nothing."""
    decision = decide(PLAIN, stage)
    assert (decision.verdict, decision.reply, decision.fired) == (Verdict.ACCEPT, None, ())


@pytest.mark.parametrize("stage", Stage)
def test_a_policy_that_is_switched_off_judges_nothing(stage: Stage) -> None:
    """Not a header is added either."""
    off = policy_of(blocked("203.0.113.7"), blocked("example.org", 2), is_active=False)
    assert decide(off, stage) == ACCEPT


BLOCKED = [
    (Stage.CONNECT, "203.0.113.7", {}),
    (Stage.CONNECT, "203.0.113.0/24", {}),
    (Stage.CONNECT, "mail.example.org", {}),
    (Stage.CONNECT, "*.example.org", {}),
    (Stage.EHLO, "mail.example.org", {}),
    (Stage.EHLO, "*.example.org", {}),
    (Stage.AUTH, "alice@example.org", {"session": LOGGED_IN}),
    (Stage.AUTH, "*@example.org", {"session": LOGGED_IN}),
    (Stage.MAIL, "alice@example.org", {}),
    (Stage.MAIL, "*@example.org", {}),
    (Stage.MAIL, "example.org", {}),
    (Stage.RCPT, "bob@example.com", {}),
    (Stage.RCPT, "*@example.com", {}),
]


@pytest.mark.parametrize(("stage", "value", "more"), BLOCKED)
def test_the_blocklist_rejects_where_it_is_first_known(stage, value, more) -> None:
    """Each form of an entry at each stage; and the same at DATA, if that stage is not asked."""
    policy = policy_of(blocked(value, 17))
    for asked in (stage, Stage.DATA):
        decision = decide(policy, asked, **more)
        assert decision.verdict is Verdict.REJECT
        assert code_of(decision) == "550 5.7.1"
        assert decision.fired[0].kind is RuleKind.BLOCKLIST
        assert rules_of(decision) == ("blocklist:17",)
        assert decision.reply is not None
        assert decision.reply.text.endswith("(blocklist:17)")


@pytest.mark.parametrize(
    "value",
    ["203.0.113.8", "203.0.112.0/24", "example.net", "*.mail.example.org", "al@example.org"],
)
def test_what_is_near_to_an_entry_is_not_on_the_list(value: str) -> None:
    """Neighbours of the client, the host and the sender are somebody else."""
    policy = policy_of(blocked(value))
    for stage in Stage:
        assert decide(policy, stage).verdict is Verdict.ACCEPT


def test_an_entry_ends_when_it_expires() -> None:
    """The time is given: the engine has no clock."""
    policy = policy_of(blocked("203.0.113.7", expires_at=NOW_S + 1))
    assert decide(policy, Stage.CONNECT).verdict is Verdict.REJECT
    assert decide(policy, Stage.CONNECT, now_s=NOW_S + 1).verdict is Verdict.ACCEPT


def test_a_mapped_address_is_the_address_that_it_maps() -> None:
    """A dual-stack MTA cannot be used to walk past the list."""
    client = replace(STRANGER, client=Client(ip_address("::ffff:203.0.113.7")))
    assert (
        decide(policy_of(blocked("203.0.113.0/24")), Stage.CONNECT, client).verdict
        is Verdict.REJECT
    )


ALLOWING = [
    ("203.0.113.0/24", {}),
    ("mail.example.org", {}),
    ("*@example.org", {}),
    (
        "alice@example.org",
        {"session": LOGGED_IN, "envelope": Envelope("else@example.net", (RECIPIENT,))},
    ),
]


@pytest.mark.parametrize(("value", "more"), ALLOWING)
def test_the_allowlist_beats_the_blocklist(value, more) -> None:
    """By client, host name, sender or login; what it overruled is still listed."""
    policy = policy_of(blocked("bob@example.com", 1), allowed(value, 2))
    decision = decide(policy, **more)
    assert decision.verdict is Verdict.ACCEPT
    assert rules_of(decision) == ("blocklist:1", "allowlist:2")
    assert decision.fired[0].verdict is Verdict.REJECT


@pytest.mark.parametrize(
    ("value", "more"),
    [
        ("bob@example.com", {}),
        ("mail.example.net", {"session": replace(STRANGER, helo="mail.example.net")}),
        ("other@example.net", {}),
    ],
)
def test_nobody_allows_himself(value: str, more) -> None:
    """A recipient, a HELO name and a stranger's From are the client's own choice."""
    policy = policy_of(blocked("203.0.113.7", 1), allowed(value, 2))
    assert decide(policy, Stage.DATA, **more).verdict is Verdict.REJECT


def test_the_allowlist_does_not_lift_rates_or_checks() -> None:
    """Only blocklist, bad words, threats and attachments are overruled."""
    rule = RateRule(id=5, subject=RateSubject.CLIENT, window=RateWindow.HOUR, limit=10)
    policy = policy_of(allowed("203.0.113.7"))
    assert decide(policy, Stage.MAIL, exceeded=(rule,)).verdict is Verdict.TEMPFAIL
    assert decide(policy, Stage.MAIL, envelope=Envelope("alice")).verdict is Verdict.REJECT


HELO_NAMES = [
    ("mail.example.org", ""),
    ("mail.example.org.", ""),
    ("a", ""),
    ("under_score.example.org", ""),
    ("[192.0.2.1]", ""),
    ("[IPv6:2001:db8::1]", ""),
    ("", "helo:not-valid"),
    ("two words", "helo:not-valid"),
    ("-dash.example.org", "helo:not-valid"),
    ("a..b", "helo:not-valid"),
    ("192.0.2.1", "helo:not-valid"),
    ("[192.0.2.1", "helo:not-valid"),
    ("[2001:db8::1]", "helo:not-valid"),
    ("[IPv6:192.0.2.1]", "helo:not-valid"),
    ("[IPv6:fe80::1%eth0]", "helo:not-valid"),
    ("[300.1.1.1]", "helo:not-valid"),
    ("x" * 300, "helo:not-valid"),
    ("caf\udce9.example.org", "helo:not-valid"),
    ("host\r\nX-Evil: 1", "helo:not-valid"),
    ("relay1.example.com", "helo:ours"),
    ("RELAY2.EXAMPLE.COM.", "helo:ours"),
    ("example.com", "helo:ours"),
    ("mail.example.com", ""),
    ("notexample.com", ""),
]


@pytest.mark.parametrize(("helo", "rule"), HELO_NAMES)
def test_a_helo_name_is_a_host_or_a_literal_and_not_ours(helo: str, rule: str) -> None:
    """RFC 5321, 4.1.3 and 4.1.4; asked at MAIL, for at EHLO nobody has logged in yet."""
    session = replace(STRANGER, helo=helo)
    assert decide(PLAIN, Stage.EHLO, session).verdict is Verdict.ACCEPT
    for stage in (Stage.MAIL, Stage.DATA):
        decision = decide(PLAIN, stage, session)
        assert rules_of(decision) == ((rule,) if rule else ())
        expected = {"": "", "helo:not-valid": "504 5.5.2", "helo:ours": "550 5.7.1"}[rule]
        assert code_of(decision) == expected


@pytest.mark.parametrize(
    ("helo", "fires"),
    [("desk", True), ("desk.", True), ("desk.lan", False), ("[192.0.2.1]", False)],
)
def test_a_helo_name_has_a_dot_where_it_is_asked_for(helo: str, fires: bool) -> None:
    """Off by default; an address literal needs none."""
    session = replace(STRANGER, helo=helo)
    strict = policy_of(checks=SenderChecks(helo_is_qualified=True))
    assert decide(PLAIN, Stage.MAIL, session).fired == ()
    assert rules_of(decide(strict, Stage.MAIL, session)) == (
        ("helo:not-qualified",) if fires else ()
    )


@pytest.mark.parametrize("session", [TRUSTED, replace(STRANGER, login="alice")])
@pytest.mark.parametrize("helo", ["two words", "relay1.example.com", "desk"])
def test_trusted_clients_may_be_called_anything(session: Session, helo: str) -> None:
    """Mail programs that log in, and printers in the own network."""
    strict = policy_of(checks=SenderChecks(helo_is_qualified=True))
    assert decide(strict, Stage.MAIL, replace(session, helo=helo)).fired == ()


def test_helo_checks_that_are_off_find_nothing() -> None:
    """Each check has its own switch."""
    off = policy_of(checks=SenderChecks(helo_is_valid=False, helo_is_not_ours=False))
    for helo, _ in HELO_NAMES:
        assert decide(off, Stage.MAIL, replace(STRANGER, helo=helo)).fired == ()


SENDERS = [
    ("alice@example.org", True),
    ("", True),
    ("alice@[192.0.2.1]", True),
    ('"a b"@example.org', True),
    ("jürgen@example.org", True),
    ("alice", False),
    ("@example.org", False),
    ("alice@", False),
    ("alice@exa mple.org", False),
    ("al\x00ice@example.org", False),
    ("al\udce9@example.org", False),
    ("alice@example.org\r\nRCPT TO:<x@y>", False),
]


@pytest.mark.parametrize(("sender", "is_valid"), SENDERS)
def test_a_sender_is_an_address_with_a_domain_or_null(sender: str, is_valid: bool) -> None:
    """RFC 5321, 4.5.5: the null sender is always legal."""
    decision = decide(PLAIN, Stage.MAIL, envelope=Envelope(sender))
    assert rules_of(decision) == (() if is_valid else ("sender:not-valid",))
    assert code_of(decision) == ("" if is_valid else "553 5.1.7")
    off = policy_of(checks=SenderChecks(sender_is_valid=False))
    assert decide(off, Stage.MAIL, envelope=Envelope(sender)).fired == ()


@pytest.mark.parametrize(
    ("sender", "session", "fires"),
    [
        ("x@example.com", STRANGER, True),
        ("x@EXAMPLE.com.", STRANGER, True),
        ("x@sub.example.com", STRANGER, True),
        ("x@example.org", STRANGER, False),
        ("", STRANGER, False),
        ("x@example.com", TRUSTED, False),
        ("x@example.com", replace(STRANGER, login="alice"), False),
        ("x@example.com", Session(), True),
    ],
)
def test_strangers_do_not_write_in_our_name_where_that_is_asked_for(sender, session, fires) -> None:
    """A client whose address the MTA does not tell is a stranger, too."""
    strict = policy_of(checks=SenderChecks(sender_is_not_ours=True))
    envelope = Envelope(sender)
    assert rules_of(decide(strict, Stage.MAIL, session, envelope)) == (
        ("sender:ours",) if fires else ()
    )
    assert decide(PLAIN, Stage.MAIL, session, envelope).fired == ()


@pytest.mark.parametrize(
    ("recipient", "is_valid"),
    [
        ("bob@example.com", True),
        ("postmaster", True),
        ("Postmaster", True),
        ("bob", False),
        ("", False),
        ("@example.com", False),
        ("bob@", False),
        ("b\no@example.com", False),
    ],
)
def test_a_recipient_is_an_address_with_a_domain(recipient: str, is_valid: bool) -> None:
    """RFC 5321, 4.1.1.3: "postmaster" alone is one."""
    decision = decide(PLAIN, Stage.RCPT, envelope=Envelope(SENDER, (recipient,)))
    assert rules_of(decision) == (() if is_valid else ("recipient:not-valid",))
    assert code_of(decision) == ("" if is_valid else "553 5.1.3")


def test_only_the_current_recipient_is_judged_at_rcpt() -> None:
    """One that was taken before does not make the next one wrong."""
    policy = policy_of(blocked("eve@example.com"))
    taken = Envelope(SENDER, ("eve@example.com", "bob", RECIPIENT))
    assert decide(policy, Stage.RCPT, envelope=taken).fired == ()
    assert decide(policy, Stage.RCPT, envelope=Envelope(SENDER, (RECIPIENT, "bob"))).fired != ()


def test_recipients_above_the_limit_are_put_off_one_by_one() -> None:
    """RFC 5321, 4.5.3.1.10; at DATA, where nothing can be put off, the mail is rejected."""
    policy = policy_of(checks=SenderChecks(most_recipients=2))
    names = tuple(f"r{number}@example.com" for number in range(3))
    assert decide(policy, Stage.RCPT, envelope=Envelope(SENDER, names[:2])).fired == ()
    at_rcpt = decide(policy, Stage.RCPT, envelope=Envelope(SENDER, names))
    assert code_of(at_rcpt) == "452 4.5.3"
    at_data = decide(policy, Stage.DATA, envelope=Envelope(SENDER, names))
    assert code_of(at_data) == "554 5.5.3"


def test_a_bounce_has_one_recipient_where_that_is_asked_for() -> None:
    """Off by default; a mail with a sender may have many."""
    strict = policy_of(checks=SenderChecks(null_sender_one_recipient=True))
    two = ("a@example.com", "b@example.com")
    assert code_of(decide(strict, Stage.RCPT, envelope=Envelope("", two))) == "550 5.5.3"
    assert decide(strict, Stage.RCPT, envelope=Envelope("", two[:1])).fired == ()
    assert decide(strict, Stage.RCPT, envelope=Envelope(SENDER, two)).fired == ()
    assert decide(PLAIN, Stage.RCPT, envelope=Envelope("", two)).fired == ()


@pytest.mark.parametrize(
    ("subject", "stage", "code"),
    [
        (RateSubject.CLIENT, Stage.MAIL, "450 4.7.0"),
        (RateSubject.SENDER, Stage.MAIL, "450 4.7.0"),
        (RateSubject.LOGIN, Stage.MAIL, "450 4.7.0"),
        (RateSubject.RECIPIENT_DOMAIN, Stage.RCPT, "452 4.7.0"),
    ],
)
def test_an_exceeded_rate_puts_off_or_rejects(subject, stage, code) -> None:
    """What is counted is the desk's business; the engine words it."""
    rule = RateRule(id=9, subject=subject, window=RateWindow.MINUTE, limit=3)
    for asked in (stage, Stage.DATA):
        decision = decide(PLAIN, asked, exceeded=(rule,))
        assert (decision.verdict, code_of(decision)) == (Verdict.TEMPFAIL, code)
        assert rules_of(decision) == ("rate:9",)
    hard = rule.model_copy(update={"verdict": Verdict.REJECT})
    assert code_of(decide(PLAIN, stage, exceeded=(hard,))) == "550 5.7.0"


def test_every_row_of_the_table_is_asked_at_its_stage_and_at_data() -> None:
    """So no stage that is toggled off leaves a gap."""
    assert RULES_AT[Stage.DATA] == RULES
    for stage in Stage:
        assert stage is Stage.DATA or RULES_AT[stage] == tuple(r for r in RULES if r.stage is stage)
    assert len({rule.name for rule in RULES}) == len(RULES)
    assert all(rule.comment.endswith(".") for rule in RULES)


def test_replies_and_sentences_name_nobody() -> None:
    """Personal texts stand in `matched` alone."""
    session = replace(STRANGER, helo="helo secret", login="eve@secret.example")
    envelope = Envelope("sender secret", ("recipient secret",))
    policy = policy_of(blocked("203.0.113.7", 1), blocked("eve@secret.example", 2))
    decision = decide(policy, Stage.DATA, session, envelope)
    assert len(decision.fired) == 4
    assert decision.reply is not None
    told = " ".join([*(fired.text for fired in decision.fired), decision.reply.text])
    assert "secret" not in told
    assert "203.0.113.7" not in told
    assert {fired.matched for fired in decision.fired} == {
        "203.0.113.7",
        "eve@secret.example",
        "sender secret",
        "recipient secret",
    }
