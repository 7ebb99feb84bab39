"""Decisions whose changes leave nobody, or are too many: none of them is a silent 250."""

from __future__ import annotations

import types

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.policy.document import Badword, Category, FaultAction, Posting, Subscription
from nodeagent.policy.engine.case import Case, Given
from nodeagent.policy.engine.categories import Categories
from nodeagent.policy.engine.outcome import MOST_FORGED, with_somebody
from nodeagent.policy.engine.plugins import Plugin, Plugins, hookimpl, judge_with
from nodeagent.policy.engine.values import lookup_address
from nodeagent.policy.model import (
    AddHeader,
    AddRecipient,
    Change,
    ChangeHeader,
    Decision,
    DeleteRecipient,
    Envelope,
    Fired,
    Header,
    Message,
    RuleKind,
    Severity,
    Stage,
    Verdict,
)
from nodeagent.policy.raw_message import changed_envelope, changed_message
from tests.policy.policies import (
    ENVELOPE,
    NOW_S,
    RECIPIENT,
    SENDER,
    STRANGER,
    allowed,
    decide,
    message_of,
    policy_of,
    rules_of,
)

NEWS, EMPTY = "news@lists.example.net", "nobody@lists.example.net"
ENTRIES = (
    Category(id=1, address=NEWS, posting=Posting.ANYBODY),
    Category(id=4, address=EMPTY, posting=Posting.ANYBODY),
    Subscription(id=11, category=1, address="anna@example.com", token="t" * 16),
)
POLICY = policy_of(*ENTRIES)
BY_PLUGIN = Fired(RuleKind.PLUGIN, "plugin:own", "the plugin own decided")


def deciding(decision: Decision) -> Plugins:
    """Return a plugin that decides so before the engine."""
    own = types.SimpleNamespace(before_engine=hookimpl(lambda: decision))
    return Plugins(before=(Plugin("own", own.before_engine, ()),))


def judged(
    decision: Decision, *recipients: str, policy=POLICY, message: Message | None = None
) -> Decision:
    """Return what becomes of a mail about which a plugin decided so."""
    envelope = Envelope(SENDER, recipients or (RECIPIENT,))
    case = Case(Stage.DATA, STRANGER, envelope, message or message_of(), policy, Given(now_s=NOW_S))
    return judge_with(deciding(decision), case, FaultAction.TEMPFAIL)


def taking_off(*addresses: str, verdict: Verdict = Verdict.ACCEPT) -> Decision:
    """Return a plugin's decision that takes these recipients off."""
    return Decision(verdict, changes=tuple(map(DeleteRecipient, addresses)))


def test_a_plugin_that_takes_off_everybody_discards() -> None:
    """An MTA would answer 250 and keep nothing; now the rule that did it is named."""
    decision = judged(taking_off("a@x.example", "b@x.example"), "a@x.example", "b@x.example")
    assert (decision.verdict, decision.reply, decision.changes) == (Verdict.DISCARD, None, ())
    first = decision.fired[0]
    assert (first.kind, first.rule) == (RuleKind.PLUGIN, "plugin:own")
    assert first.verdict is Verdict.DISCARD
    assert "x.example" not in first.text


def test_whoever_is_left_gets_it() -> None:
    """One of two is taken off."""
    decision = judged(taking_off("a@x.example"), "a@x.example", "b@x.example")
    assert decision.verdict is Verdict.ACCEPT
    assert DeleteRecipient("a@x.example") in decision.changes


@pytest.mark.parametrize(
    ("written", "taken_off"),
    [
        ("Bob@Example.com", "bob@example.com"),
        ("bob@example.com", "bob@EXAMPLE.COM"),
        ('"bob"@example.com', "bob@example.com"),
        ("bob@bücher.example", "bob@xn--bcher-kva.example"),
    ],
)
def test_an_address_that_is_written_otherwise_is_the_same(written: str, taken_off: str) -> None:
    """Postfix takes some of them off, Stalwart others: the decision is one."""
    assert judged(taking_off(taken_off), written).verdict is Verdict.DISCARD


def test_who_is_taken_off_and_put_back_gets_it() -> None:
    """Changes are made in their order."""
    back: tuple[Change, ...] = (DeleteRecipient("BOB@x.example"), AddRecipient("bob@x.example"))
    assert judged(Decision(changes=back), "BOB@x.example").verdict is Verdict.ACCEPT
    off = tuple(reversed(back))
    assert judged(Decision(changes=off), "BOB@x.example").verdict is Verdict.DISCARD


def test_a_category_without_subscribers_that_a_plugin_lets_through_is_a_discard() -> None:
    """The engine alone rejects it; the category is the rule."""
    engine = decide(POLICY, envelope=Envelope(SENDER, (EMPTY,)))
    assert (engine.verdict, rules_of(engine)) == (Verdict.REJECT, ("category:4",))
    decision = judged(Decision(), EMPTY)
    assert decision.verdict is Verdict.DISCARD
    assert (decision.fired[0].kind, decision.fired[0].rule) == (RuleKind.CATEGORY, "category:4")


def test_each_rule_that_took_somebody_off_is_named_once() -> None:
    """A category's address and two others."""
    others = ("a@x.example", "b@x.example")
    decision = judged(taking_off(*others), *others, EMPTY)
    discarding = [one.rule for one in decision.fired if one.verdict is Verdict.DISCARD]
    assert discarding == ["plugin:own", "category:4"]


def test_a_category_with_subscribers_goes_to_them() -> None:
    """Beside one that has none."""
    decision = judged(Decision(), EMPTY, NEWS)
    assert decision.verdict is Verdict.ACCEPT
    added = [one for one in decision.changes if isinstance(one, AddRecipient)]
    assert added == [AddRecipient("11.1@list.relay.invalid")]


def test_a_held_mail_keeps_its_recipients() -> None:
    """Quarantine loses no mail: whoever releases it has somebody to release it to."""
    off = (AddHeader("X-Own", "1"), DeleteRecipient(RECIPIENT))
    decision = judged(Decision(Verdict.QUARANTINE, changes=off))
    assert decision.verdict is Verdict.QUARANTINE
    assert changed_envelope(ENVELOPE, decision.changes).recipients == (RECIPIENT,)
    assert AddHeader("X-Own", "1") in decision.changes
    held = judged(taking_off(RECIPIENT, verdict=Verdict.QUARANTINE), RECIPIENT, "c@x.example")
    assert DeleteRecipient(RECIPIENT) in held.changes


def test_a_mail_of_which_no_recipient_is_known_is_not_discarded() -> None:
    """An MTA that names none may have some."""
    decision = Decision(changes=(DeleteRecipient(RECIPIENT),))
    assert with_somebody(decision, Envelope(SENDER), Categories()) is decision


addresses = st.sampled_from(["a@x.example", "A@x.example", "b@x.example", "c@y.example"])
edits = st.lists(
    st.one_of(st.builds(AddRecipient, addresses), st.builds(DeleteRecipient, addresses))
)


@given(st.lists(addresses, min_size=1, max_size=4), edits)
def test_nobody_ever_vanishes_unsaid(recipients: list[str], changes: list[Change]) -> None:
    """Whatever is added and taken off: somebody is left, or it is a DISCARD with a rule."""
    envelope = Envelope(SENDER, tuple(recipients))
    asked = Decision(changes=tuple(changes), fired=(BY_PLUGIN,))
    decision = with_somebody(asked, envelope, Categories())
    left = changed_envelope(envelope, tuple(changes)).recipients
    assert (decision.verdict is Verdict.DISCARD) is (not left)
    assert decision.fired[0].rule == "plugin:own"
    if left:
        assert decision is asked
        assert {lookup_address(one) for one in left} <= {
            "a@x.example",
            "b@x.example",
            "c@y.example",
        }


def forged(count: int, name: str = "X-Relay-Policy", value: str = " verdict=accept") -> Message:
    """Return a mail with so many headers of one name."""
    mail = message_of()
    return Message((*mail.headers, *[Header(name, value)] * count), mail.body, mail.size_bytes)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Relay-Policy", " verdict=accept"),
        ("x-relay-POLICY", ""),
        ("Authentication-Results", " relay1.example.com; dmarc=pass"),
    ],
)
def test_forged_headers_are_taken_away_or_the_mail_is_rejected(name: str, value: str) -> None:
    """At the limit each is deleted; beyond it the mail does not come in at all."""
    at_limit, beyond = forged(MOST_FORGED, name, value), forged(MOST_FORGED + 1, name, value)
    decision = decide(POLICY, message=at_limit)
    assert decision.verdict is Verdict.ACCEPT
    left = changed_message(at_limit, decision.changes).headers
    assert [one.value for one in left if one.name.lower() == name.lower()] == (
        [" verdict=accept; rules=none; score=0.0"] if name.lower() == "x-relay-policy" else []
    )
    refused = decide(POLICY, message=beyond)
    assert (refused.verdict, refused.changes) == (Verdict.REJECT, ())
    assert refused.reply is not None
    assert (refused.reply.code, refused.reply.enhanced) == (550, "5.6.0")
    assert "(hook:forged-headers)" in refused.reply.text
    assert (refused.fired[0].kind, refused.fired[0].rule) == (
        RuleKind.FAULT,
        "hook:forged-headers",
    )


@pytest.mark.parametrize("verdict", [Verdict.ACCEPT, Verdict.QUARANTINE])
def test_no_plugin_and_no_allowlist_lets_forged_headers_in(verdict: Verdict) -> None:
    """Whoever wants a mail wants it without them."""
    assert judged(Decision(verdict), message=forged(MOST_FORGED + 1)).verdict is Verdict.REJECT
    listed = policy_of(allowed(SENDER))
    assert decide(listed, message=forged(9_000)).verdict is Verdict.REJECT


def test_other_headers_may_be_many() -> None:
    """Results of foreign servers are theirs; nothing of such a mail is changed."""
    mail = forged(3_000, "Authentication-Results", " mx.example.org; spf=pass")
    decision = decide(POLICY, message=mail)
    assert decision.verdict is Verdict.ACCEPT
    assert not [one for one in decision.changes if isinstance(one, ChangeHeader)]


def test_a_mail_that_is_refused_anyway_keeps_its_rule() -> None:
    """What fired first stands first; forged headers of a mail that goes nowhere are no matter."""
    policy = policy_of(Badword(id=7, pattern="cheap pills", severity=Severity.CRITICAL))
    mail = forged(MOST_FORGED + 1)
    mail = Message(mail.headers, b"cheap pills", 11)
    assert rules_of(decide(policy, message=mail)) == ("badword:7",)
