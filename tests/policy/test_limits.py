"""What is counted: whom, when, how often, and who is exempt."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from ipaddress import ip_address

import pytest

from nodeagent.policy.document import RateRule, RateSubject, RateWindow
from nodeagent.policy.engine.limits import EVERY_STAGE, rate_keys
from nodeagent.policy.model import Client, Envelope, Session, Stage
from tests.policy.policies import ENVELOPE, STRANGER, policy_of

HOUR, MINUTE = RateWindow.HOUR, RateWindow.MINUTE
RULES = tuple(
    RateRule(id=number, subject=subject, window=HOUR, limit=10)
    for number, subject in enumerate(RateSubject, start=1)
)
POLICY = policy_of(*RULES)
LOGGED_IN = replace(STRANGER, login="Alice")


def counted(stage: Stage, session: Session = STRANGER, envelope: Envelope = ENVELOPE, **more):
    """Return what is counted, as key and hits."""
    policy = more.pop("policy", POLICY)
    return dict(Counter(key for _, key in rate_keys(stage, session, envelope, policy, **more)))


CLIENT, SENDER, DOMAIN = (
    "client 203.0.113.7",
    "sender alice@example.org",
    "recipient-domain example.com",
)


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        (Stage.CONNECT, {}),
        (Stage.EHLO, {}),
        (Stage.AUTH, {}),
        (Stage.MAIL, {CLIENT: 1, SENDER: 1}),
        (Stage.RCPT, {DOMAIN: 1}),
        (Stage.DATA, {}),
    ],
)
def test_a_message_is_counted_once_in_its_life(stage, expected) -> None:
    """Client, sender and login at MAIL, the recipient's domain at RCPT."""
    assert counted(stage) == expected


@pytest.mark.parametrize(
    ("left_out", "expected"),
    [
        ({Stage.MAIL}, {CLIENT: 1, SENDER: 1}),
        ({Stage.RCPT}, {DOMAIN: 2, "recipient-domain example.org": 1}),
        (
            {Stage.MAIL, Stage.RCPT},
            {CLIENT: 1, SENDER: 1, DOMAIN: 2, "recipient-domain example.org": 1},
        ),
    ],
)
def test_what_the_door_is_not_asked_for_is_counted_at_data(left_out, expected) -> None:
    """Each recipient counts."""
    envelope = Envelope("alice@example.org", ("a@example.com", "b@EXAMPLE.com", "c@example.org"))
    asked = EVERY_STAGE - left_out
    assert counted(Stage.DATA, envelope=envelope, asked=asked) == expected


def test_each_rule_counts_for_itself() -> None:
    """Two limits of one window are two counters, so that one can be edited without the other."""
    soft = RateRule(id=11, subject=RateSubject.CLIENT, window=HOUR, limit=5)
    quick = RateRule(id=12, subject=RateSubject.CLIENT, window=MINUTE, limit=2)
    keys = rate_keys(Stage.MAIL, STRANGER, ENVELOPE, policy_of(soft, quick))
    assert keys == ((soft, CLIENT), (quick, CLIENT))


@pytest.mark.parametrize(
    ("first", "second", "is_same"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
    ],
)
def test_an_ipv6_customer_is_one_client(first: str, second: str, is_same: bool) -> None:
    """He has a /64 at least; IPv4 counts by the address."""
    keys = [
        counted(Stage.MAIL, Session(Client(ip_address(one))), Envelope(""))
        for one in (first, second)
    ]
    assert (keys[0] == keys[1]) is is_same


def test_senders_and_logins_are_one_however_they_are_spelled() -> None:
    """Capitals make no second allowance."""
    first = counted(Stage.MAIL, LOGGED_IN, Envelope("ALICE@example.ORG"))
    second = counted(Stage.MAIL, replace(LOGGED_IN, login="aLICE"), Envelope("alice@example.org."))
    assert first == second == {CLIENT: 1, SENDER: 1, "login alice": 1}


def test_all_bounces_of_the_world_are_not_one_sender() -> None:
    """The null sender is counted by its client alone."""
    assert counted(Stage.MAIL, envelope=Envelope("")) == {CLIENT: 1}


@pytest.mark.parametrize(
    ("exempt", "session", "stage", "expected"),
    [
        ("203.0.113.0/24", STRANGER, Stage.MAIL, {}),
        ("203.0.113.0/24", STRANGER, Stage.RCPT, {}),
        ("*@example.org", STRANGER, Stage.MAIL, {CLIENT: 1}),
        ("alice@example.org", STRANGER, Stage.RCPT, {DOMAIN: 1}),
        ("*@example.com", STRANGER, Stage.MAIL, {CLIENT: 1, SENDER: 1}),
        ("*@example.com", STRANGER, Stage.RCPT, {}),
        ("bob@example.com", STRANGER, Stage.RCPT, {}),
        ("al@example.net", replace(STRANGER, login="al@example.net"), Stage.MAIL, {}),
        ("al@example.net", replace(STRANGER, login="al@example.net"), Stage.RCPT, {}),
    ],
)
def test_who_is_exempt_by_what_is_proved_is_not_counted_at_all(exempt, session, stage, expected):
    """A network and a login are proved; a sender is not, so it lifts its own limit only."""
    policy = policy_of(*RULES, rate_exempt=(exempt,))
    assert counted(stage, session, policy=policy) == expected


def test_rates_that_are_off_are_not_counted() -> None:
    """Neither is anything in a policy that is not active, or has no rates."""
    off = tuple(rule.model_copy(update={"is_enabled": False}) for rule in RULES)
    for policy in (policy_of(*off), policy_of(), policy_of(*RULES, is_active=False)):
        assert counted(Stage.MAIL, policy=policy) == {}


def test_strange_recipients_have_no_domain_to_count() -> None:
    """What is no address is rejected elsewhere."""
    for recipient in ("postmaster", "", "@", "a@"):
        assert counted(Stage.RCPT, envelope=Envelope("", (recipient,))) == {}
