"""Headers that mail gets and loses: nothing forged stays, nothing personal and no line is added."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.policy.engine.authentication import AuthenticationResults, Result, SpfCheck
from nodeagent.policy.engine.headers import (
    authserv_id,
    header_problem,
    policy_header,
    without_forged,
)
from nodeagent.policy.model import (
    AddHeader,
    ChangeHeader,
    Fired,
    Header,
    Message,
    RuleKind,
    Stage,
    Verdict,
)
from nodeagent.policy.raw_message import changed_message
from tests.policy.policies import blocked, decide, message_of, policy_of

OURS = frozenset({"relay1.example.com", "relay2.example.com"})
any_text = st.text(st.characters(codec=None), max_size=60)


def with_headers(*headers: tuple[str, str]) -> Message:
    """Return a mail of these headers."""
    return Message(tuple(Header(*one) for one in headers), b"x", 1)


def names_after(message: Message, changes: tuple) -> list[tuple[str, str]]:
    """Return the headers that are left, as the HTTP door and an MTA would have them."""
    return [(name, value.strip()) for name, value in changed_message(message, changes).headers]


def test_accepted_mail_gets_verdict_rules_and_score() -> None:
    """The next hop can sort by it."""
    fired = (
        Fired(RuleKind.THREAT, "threat:sql-union", "x", score=3.5),
        Fired(RuleKind.BADWORD, "badword:17", "x", matched="secret"),
    )
    header = policy_header(Verdict.ACCEPT, fired)
    assert header == AddHeader(
        "X-Relay-Policy", "verdict=accept; rules=threat:sql-union,badword:17; score=3.5"
    )
    assert policy_header(Verdict.ACCEPT, ()).value == "verdict=accept; rules=none; score=0.0"


@given(
    st.lists(
        st.builds(Fired, st.sampled_from(RuleKind), any_text, any_text, score=st.floats(0, 1e6))
    )
)
def test_the_header_is_one_short_line_whatever_fired(fired: list[Fired]) -> None:
    """RFC 5322, 2.1.1: a line has at most 998 characters, whatever rules are called."""
    value = policy_header(Verdict.QUARANTINE, fired).value
    assert value.isascii()
    assert value.isprintable()
    assert len(value) < 990


def test_a_decision_adds_headers_only_where_the_mail_goes_on() -> None:
    """Rejected mail goes nowhere, and nothing but DATA can change a mail."""
    policy = policy_of(blocked("bob@example.com"))
    assert decide(policy).changes == ()
    for stage in Stage:
        added = decide(policy_of(), stage).changes
        assert added == (
            (AddHeader("X-Relay-Policy", "verdict=accept; rules=none; score=0.0"),)
            if stage is Stage.DATA
            else ()
        )


def test_headers_may_be_switched_off_but_forged_ones_go_all_the_same() -> None:
    """A header of ours that we did not write can only deceive."""
    mail = message_of(X_Relay_Policy="verdict=accept")
    off = policy_of(adds_headers=False)
    assert decide(off, message=mail).changes == (ChangeHeader("X-Relay-Policy", 1, ""),)


def test_authentication_results_stand_under_a_name_that_a_failover_keeps() -> None:
    """RFC 8601, 2.5: one authserv-id for the whole cluster."""
    results = AuthenticationResults(spf=SpfCheck(Result.PASS))
    added = decide(policy_of(), authentication=results).changes
    values = [one.value for one in added if isinstance(one, AddHeader) and "Auth" in one.name]
    assert len(values) == 1
    assert values[0].lstrip().startswith("relay1.example.com;")


FORGED = [
    "relay1.example.com; spf=pass",
    "RELAY1.Example.Com ; spf=pass",
    "relay2.example.com 1; dmarc=pass",
    "\r\n relay1.example.com;\r\n\tdmarc=pass",
    '"relay1.example.com"; dmarc=pass',
    '"relay1.example\\.com"; dmarc=pass',
    "(a comment) relay1.example.com; dmarc=pass",
    "(a (nested \\) one) comment) relay1.example.com(another); dmarc=pass",
    "relay1.example.com",
    "relay1.example.com.; dmarc=pass",
    f"({'a' * 1100}) relay1.example.com; dmarc=pass",
    f"{'(a) ' * 400}relay1.example.com; dmarc=pass",
    "\r\n " * 400 + "relay1.example.com; dmarc=pass",
    f"(never closed {'a' * 1100}",
]
FOREIGN = [
    "mx.example.org; spf=pass",
    "mx.example.org; relay1.example.com=pass",
    "relay1.example.com.evil.example; spf=pass",
    "",
    "(relay1.example.com) mx.example.org; spf=pass",
    "(never closed relay1.example.com; spf=pass",
    ";",
    f"mx.example.org ({'a' * 1100}); spf=pass",
    f"mx.example.org; spf=pass {'a' * 1100}",
]


@pytest.mark.parametrize("value", FORGED)
def test_results_that_claim_to_be_ours_are_deleted(value: str) -> None:
    """RFC 8601, 5: whoever believes us must not believe a stranger."""
    mail = with_headers(("Authentication-Results", value), ("Subject", "x"))
    changes = tuple(without_forged(mail, OURS))
    assert names_after(mail, changes) == [("Subject", "x")]


@pytest.mark.parametrize("value", FOREIGN)
def test_results_of_others_are_theirs(value: str) -> None:
    """They may be believed by somebody else."""
    mail = with_headers(("Authentication-Results", value), ("Subject", "x"))
    assert tuple(without_forged(mail, OURS)) == ()


def test_of_many_headers_only_the_forged_ones_go() -> None:
    """However they are mixed and spelled; each deletion leaves the others' numbers right."""
    mail = with_headers(
        ("X-Relay-Policy", " verdict=accept"),
        ("Authentication-Results", " mx.example.org; spf=fail"),
        ("authentication-results", " relay1.example.com; spf=pass"),
        ("Subject", " x"),
        ("X-RELAY-POLICY", " verdict=accept"),
        ("Authentication-Results ", " relay2.example.com; dkim=pass"),
        ("AUTHENTICATION-RESULTS", " third.example; dkim=pass"),
    )
    changes = tuple(without_forged(mail, OURS))
    left = names_after(mail, changes)
    assert [value for _, value in left] == [
        "mx.example.org; spf=fail",
        "x",
        "third.example; dkim=pass",
    ]
    by_name = [(change.name, change.index) for change in changes]
    for name in {name for name, _ in by_name}:
        indexes = [index for other, index in by_name if other == name]
        assert indexes == sorted(indexes, reverse=True)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["X-Relay-Policy", "Authentication-Results", "Subject"]),
            st.sampled_from(FORGED + FOREIGN),
        ),
        max_size=12,
    )
)
def test_no_mix_of_headers_keeps_a_forged_one_or_loses_another(headers) -> None:
    """The law, by the very code that applies changes for the HTTP door."""
    mail = with_headers(*headers)
    left = names_after(mail, tuple(without_forged(mail, OURS)))
    expected = [
        (name, value.strip())
        for name, value in headers
        if name == "Subject" or (name != "X-Relay-Policy" and value not in FORGED)
    ]
    assert left == expected


@given(any_text)
def test_any_value_has_some_authserv_id_or_none(value: str) -> None:
    """It never raises, and what it gives is lower case without spaces."""
    found = authserv_id(value)
    assert found == found.lower()


@pytest.mark.parametrize(
    ("name", "value", "is_fit"),
    [
        ("X-A", "b", True),
        ("X-A", "", True),
        ("X A", "b", False),
        ("X:A", "b", False),
        ("", "b", False),
        ("X-Ä", "b", False),
        ("X-A", "b\r\nX-C: d", False),
        ("X-A", "b\nc", False),
        ("X-A", "b\rc", False),
        ("X-A", "b\0c", False),
    ],
)
def test_a_header_of_a_plugin_is_one_line(name: str, value: str, is_fit: bool) -> None:
    """No value can add a header of its own."""
    assert (header_problem(name, value) is None) is is_fit
