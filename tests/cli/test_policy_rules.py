"""`relayctl policy rate` and `threat-rule` over HTTPS: what counts, how much, what is refused."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from controlplane.core.permissions import UserRole
from controlplane.store.engine import Database
from nodeagent.policy.document import RateSubject, RateWindow
from nodeagent.policy.engine.threats import THREAT_RULES
from tests.api.conftest import CHEAP, PASSWORD
from tests.cli.conftest import Operator, Served
from tests.fakes.people import add_user

RULE = THREAT_RULES[0]
KEPT = ("subject", "window", "limit", "verdict", "is_enabled")
NOT_THERE = "There is no rate limit login hour."


def rates(operator: Operator) -> list[tuple[Any, ...]]:
    """Return the limits as they are stored."""
    listed = operator.json("policy", "rate", "list")
    return sorted(tuple(one[name] for name in KEPT) for one in listed)


def rule(operator: Operator, name: str = RULE.name) -> tuple[bool, float, bool]:
    """Return whether a rule is on, what it scores, and whether that was changed."""
    one = operator.json("policy", "threat-rule", "show", name)
    return one["is_enabled"], one["score"], one["is_changed"]


def edits(operator: Operator, action: str) -> int:
    """Return how often something was done, by the audit log."""
    return len(operator.json("audit", "--action", action))


def test_a_limit_is_added_replaced_and_removed(paired: Operator) -> None:
    """One for each subject and window; `add` says what is stored now."""
    added = paired("policy", "rate", "add", "login", "hour", "200")
    assert added.out == "Stored login hour: 200, then tempfail.\n"
    assert rates(paired) == [("login", "hour", 200, "tempfail", True)]
    (first,) = paired.json("policy", "rate", "list")
    again = ("policy", "rate", "add", "login", "hour", "9", "--verdict", "reject", "--off")
    assert paired(*again).out == "Stored login hour: 9, then reject, switched off.\n"
    assert rates(paired) == [("login", "hour", 9, "reject", False)]
    assert paired.json("policy", "rate", "list")[0]["id"] == first["id"]
    assert paired("policy", "rate", "remove", "login", "hour").out == "Removed login hour.\n"
    assert paired("policy", "rate", "list").out == "Nobody is limited.\n"


def test_a_removal_takes_that_window_alone(paired: Operator) -> None:
    """Not the other limits of the same subject, and not those of others in the same window."""
    pairs = list(itertools.product(RateSubject, RateWindow))
    for number, (subject, window) in enumerate(pairs, 1):
        assert paired("policy", "rate", "add", subject, window, str(number)).code == 0
    gone = (RateSubject.SENDER, RateWindow.HOUR)
    assert paired.json("policy", "rate", "remove", *gone) == {"removed": "sender hour"}
    assert [one[:2] for one in rates(paired)] == sorted(pair for pair in pairs if pair != gone)
    shown = paired("policy", "rate", "list").out
    assert all(word in shown for word in ("recipient-domain", "AT MOST", "admin"))


@pytest.mark.parametrize(
    ("options", "after"),
    [
        (("--limit", "7"), ("client", "day", 7, "reject", False)),
        (("--on",), ("client", "day", 50, "reject", True)),
        (("--off",), ("client", "day", 50, "reject", False)),
        (("--verdict", "tempfail"), ("client", "day", 50, "tempfail", False)),
        (("--limit", "1", "--verdict", "tempfail", "--on"), ("client", "day", 1, "tempfail", True)),
    ],
)
def test_what_is_left_out_of_a_change_stays(
    paired: Operator, options: tuple[str, ...], after: tuple[Any, ...]
) -> None:
    """Limit, verdict and switch, each by itself."""
    paired("policy", "rate", "add", "client", "day", "50", "--verdict", "reject", "--off")
    paired("policy", "rate", "add", "client", "hour", "5")
    answer = paired.json("policy", "rate", "set", "client", "day", *options)
    assert tuple(answer[name] for name in KEPT) == after
    assert rates(paired) == [after, ("client", "hour", 5, "tempfail", True)]


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("add", "login", "hour", "0"), 1, "limit: "),
        (("add", "login", "hour", "-1"), 2, "-1"),
        (("add", "login", "hour", str(2**31)), 1, "limit: "),
        (("add", "login", "hour", "many"), 2, "valid integer"),
        (("add", "login", "week", "1"), 2, "week"),
        (("add", "user", "hour", "1"), 2, "user"),
        (("add", "login", "hour", "1", "--verdict", "discard"), 2, "discard"),
        (("set", "login", "day"), 2, "Say what to change"),
        (("set", "login", "day", "--limit", "0"), 1, "limit: "),
        (("set", "login", "hour", "--limit", "1"), 1, NOT_THERE),
        (("remove", "login", "hour"), 1, NOT_THERE),
    ],
)
def test_a_limit_that_cannot_be_changes_nothing(
    paired: Operator, words: tuple[str, ...], code: int, sentence: str
) -> None:
    """In one sentence, by the control plane or before."""
    paired("policy", "rate", "add", "login", "day", "10")
    refused = paired("policy", "rate", *words)
    assert (refused.code, refused.out) == (code, "")
    assert sentence in refused.err
    assert rates(paired) == [("login", "day", 10, "tempfail", True)]


def test_the_largest_limit_is_taken(paired: Operator) -> None:
    """One below what is refused above."""
    assert (
        paired.json("policy", "rate", "add", "login", "hour", str(2**31 - 1))["limit"] == 2**31 - 1
    )
    assert paired.json("policy", "rate", "set", "login", "hour", "--limit", "1")["limit"] == 1


def test_all_threat_rules_are_listed_as_built(paired: Operator) -> None:
    """With what they look for; none is changed yet."""
    listed = paired.json("policy", "threat-rule", "list")
    assert [(one["rule"], one["score"]) for one in listed] == [
        (one.name, one.score) for one in THREAT_RULES
    ]
    shown = paired("policy", "threat-rule", "list").out
    assert all(one.name in shown for one in THREAT_RULES)
    only = paired("policy", "threat-rule", "list", "--changed")
    assert only.out == "No threat rule was changed.\n"
    assert RULE.description in paired("policy", "threat-rule", "show", RULE.name).out


def test_a_rule_is_switched_scored_and_reset(paired: Operator) -> None:
    """The switch keeps the score and the score keeps the switch."""
    off = paired("policy", "threat-rule", "off", RULE.name)
    assert off.out == f"{RULE.name} is off, score {RULE.score}.\n"
    assert rule(paired) == (False, RULE.score, True)
    assert paired("policy", "threat-rule", "score", RULE.name, "0.25").code == 0
    assert rule(paired) == (False, 0.25, True)
    on = paired("policy", "threat-rule", "on", RULE.name)
    assert on.out == f"{RULE.name} is on, score 0.25.\n"
    changed = paired.json("policy", "threat-rule", "list", "--changed")
    assert [one["rule"] for one in changed] == [RULE.name]
    reset = paired("policy", "threat-rule", "reset", RULE.name)
    assert reset.out == f"{RULE.name} is on, score {RULE.score}, as it was built.\n"
    assert rule(paired) == (True, RULE.score, False)
    assert paired.json("policy", "threat-rule", "list", "--changed") == []


def test_other_rules_stay_and_nothing_is_written_twice(paired: Operator) -> None:
    """A switch that is where it should be is no edit."""
    other = THREAT_RULES[1].name
    for _ in range(2):
        assert paired("policy", "threat-rule", "off", RULE.name).code == 0
    assert edits(paired, "threat-rule.update") == 1
    assert rule(paired, other) == (True, THREAT_RULES[1].score, False)


@pytest.mark.parametrize("score", ["0", "1000"])
def test_scores_at_their_limits_are_taken(paired: Operator, score: str) -> None:
    """A score of nothing leaves the rule in the log alone."""
    answer = paired.json("policy", "threat-rule", "score", RULE.name, score)
    assert (answer["score"], answer["own_score"]) == (float(score), RULE.score)


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("score", RULE.name, "1000.1"), 1, "score: "),
        (("score", RULE.name, "--", "-0.1"), 1, "score: "),
        (("score", RULE.name, "nan"), 2, "not finite"),
        (("score", RULE.name, "much"), 2, "valid number"),
        (("score", "none", "1"), 1, 'There is no threat rule "none".'),
        *(((verb, "none"), 1, 'There is no threat rule "none".') for verb in ("show", "on", "off")),
        (("reset", "none"), 1, 'There is no threat rule "none".'),
        (("off", "../badwords"), 1, "rule"),
        (("off", "NO SUCH"), 1, "rule"),
    ],
)
def test_a_rule_that_cannot_be_changed_is_refused(
    paired: Operator, words: tuple[str, ...], code: int, sentence: str
) -> None:
    """In one sentence; all rules are as they were."""
    before = paired.json("policy", "threat-rule", "list")
    refused = paired("policy", "threat-rule", *words)
    assert (refused.code, refused.out) == (code, "")
    assert sentence in refused.err
    assert paired.json("policy", "threat-rule", "list") == before


def test_who_may_do_what(paired: Operator, served: Served, sqlite_database: Database) -> None:
    """Limits are an Operator's, threat rules an Admin's; everybody may look."""
    add_user(sqlite_database, "olga", UserRole.OPERATOR, PASSWORD, CHEAP)
    options = ("--url", served.url, "--fingerprint", served.fingerprint, "--user", "olga")
    assert paired("login", *options).code == 0
    assert paired("policy", "rate", "add", "sender", "minute", "3").code == 0
    assert paired("policy", "rate", "remove", "sender", "minute").code == 0
    assert rule(paired) == (True, RULE.score, False)
    for words in (("off", RULE.name), ("score", RULE.name, "1"), ("reset", RULE.name)):
        refused = paired("policy", "threat-rule", *words)
        assert (refused.code, "needs Admin" in refused.err) == (1, True)
    assert rule(paired) == (True, RULE.score, False)
