"""What the control plane is told before it stores an entry, and that a node agrees with it."""

from __future__ import annotations

import pytest

from nodeagent.policy.document import (
    Badword,
    Category,
    ListEntry,
    RateRule,
    RateSubject,
    RateWindow,
    Subscription,
    ThreatSetting,
)
from nodeagent.policy.engine.checked_entries import problem_of
from nodeagent.policy.engine.sections import Entry
from nodeagent.policy.engine.threats import THREAT_RULES
from nodeagent.policy.model import Verdict
from tests.policy.policies import policy_of


def rate(verdict: Verdict) -> RateRule:
    """Return a rate that does this."""
    return RateRule(
        id=1, subject=RateSubject.SENDER, window=RateWindow.DAY, limit=5, verdict=verdict
    )


def category(address: str = "news@example.com", **more) -> Category:
    """Return a category."""
    return Category(id=1, address=address, **more)


def subscription(address: str) -> Subscription:
    """Return a subscription."""
    return Subscription(id=1, category=1, address=address, token="t" * 16)


GOOD: list[Entry] = [
    *(
        ListEntry(id=1, value=value)
        for value in ("192.0.2.1", "192.0.2.0/24", "2001:db8::/32", "example.com", "*.example.com")
    ),
    *(ListEntry(id=1, value=value) for value in ("user@example.com", "*@example.com")),
    Badword(id=1, pattern="casino"),
    Badword(id=1, pattern="win [0-9]+ dollars", is_regex=True),
    rate(Verdict.TEMPFAIL),
    rate(Verdict.REJECT),
    category(),
    category(name="News, with Ümlaut", allowed_senders=("a@example.com", "*@example.org")),
    subscription("a@example.com"),
]
WRONG: list[tuple[Entry, str]] = [
    (ListEntry(id=1, value="192.0.2.1/24"), "has host bits set"),
    (ListEntry(id=1, value="Example.com"), '"Example.com" has to be written as "example.com".'),
    (ListEntry(id=1, value="@example.com"), "has nothing before"),
    (Badword(id=1, pattern="(", is_regex=True), "."),
    (Badword(id=1, pattern="(?=a)b", is_regex=True), "."),
    (rate(Verdict.ACCEPT), "A rate can put mail off or reject it, nothing else."),
    (rate(Verdict.DISCARD), "A rate can put mail off or reject it, nothing else."),
    (rate(Verdict.QUARANTINE), "A rate can put mail off or reject it, nothing else."),
    (ThreatSetting(rule="no-such-rule"), 'There is no threat rule "no-such-rule".'),
    (category("news"), 'has no "@".'),
    (category("News@example.com"), "has to be written as"),
    (category("*@example.com"), "is no single address."),
    (category("1.2@list.relay.invalid"), "only the relay itself writes to"),
    (category(name="two\nlines"), "The name has a character that cannot be shown."),
    (category(allowed_senders=("*@",)), "."),
    (category(allowed_senders=("example.com",)), 'has no "@".'),
    (subscription("nobody"), 'has no "@".'),
    (subscription("a@LIST.relay.invalid"), "only the relay itself writes to"),
    (subscription("*@example.com"), "is no single address."),
]


@pytest.mark.parametrize("entry", GOOD)
def test_what_is_right_can_be_stored(entry: Entry) -> None:
    """And a node takes all of it."""
    assert problem_of(entry) is None
    alone = [] if isinstance(entry, Subscription) else [entry]
    assert policy_of(*alone).problems == ()


@pytest.mark.parametrize("entry", WRONG, ids=lambda entry: str(entry)[:60])
def test_what_is_wrong_is_said_in_one_sentence(entry: tuple[Entry, str]) -> None:
    """It says what, and ends with a full stop."""
    problem = problem_of(entry[0])
    assert problem is not None
    assert entry[1] in problem
    assert problem.endswith(".")
    assert not problem.endswith("..")
    assert "\n" not in problem


def test_every_threat_rule_that_there_is_can_be_set() -> None:
    """By the name under which it stands in the log."""
    for rule in THREAT_RULES:
        assert problem_of(ThreatSetting(rule=rule.name, is_enabled=False)) is None


@pytest.mark.parametrize(
    "entry",
    [entry for entry, _ in WRONG if isinstance(entry, ListEntry | Badword | RateRule)],
)
def test_a_node_survives_what_the_control_plane_would_refuse(entry: Entry) -> None:
    """It is left out or read as it was meant; an older control plane may have stored it."""
    assert len(policy_of(entry).problems) <= 1
