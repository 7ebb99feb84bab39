"""Decisions in the milter protocol's words: no text breaks out of its reply."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.policy.codecs import milter_packets as wire
from nodeagent.policy.codecs.milter import Actions
from nodeagent.policy.codecs.milter_replies import (
    Inexpressible,
    Speaker,
    header_value,
    refusal,
)
from nodeagent.policy.codecs.milter_stream import encode
from nodeagent.policy.codecs.milter_terms import ACTIONS
from nodeagent.policy.model import (
    AddHeader,
    AddRecipient,
    Change,
    ChangeHeader,
    ChangeSender,
    Decision,
    DeleteRecipient,
    Fired,
    Reply,
    RuleKind,
    Verdict,
)

SPEAKER = Speaker(int(ACTIONS), has_leading_space=True)
REFUSES = st.sampled_from([Verdict.REJECT, Verdict.TEMPFAIL])
POSTFIX_TAKES = re.compile(r"(?P<first>[45])[0-9]{2} (?P=first)\.[0-9]{1,3}\.[0-9]{1,3} [ -~]+")


def accepted(*changes: Change) -> Decision:
    """Return an acceptance with changes."""
    return Decision(changes=changes)


@given(REFUSES, st.integers(-1, 1000), st.text(max_size=12), st.text(max_size=1000))
def test_any_reply_is_one_that_postfix_takes(
    verdict: Verdict, code: int, enhanced: str, text: str
) -> None:
    """A malformed one is answered 451 4.3.5, or lets the mail in where "accept" is the default."""
    said = refusal(verdict, Reply(code, enhanced, text)).text
    assert POSTFIX_TAKES.fullmatch(said)
    assert said.startswith("5" if verdict is Verdict.REJECT else "4")
    assert len(said.replace("%%", "%")) <= 3 + 1 + 11 + 1 + 400
    assert encode(wire.ReplyCode(said)).count(b"\0\0\0") <= 1


@pytest.mark.parametrize(
    ("verdict", "reply", "text"),
    [
        (Verdict.REJECT, Reply(554, "5.7.0", "no"), "554 5.7.0 no"),
        (Verdict.REJECT, Reply(451, "4.7.0", "no"), "550 5.7.1 no"),
        (Verdict.REJECT, Reply(250, "2.0.0", "no"), "550 5.7.1 no"),
        (Verdict.REJECT, Reply(550, "5.7.1\r\n250", "no"), "550 5.7.1 no"),
        (Verdict.TEMPFAIL, Reply(421, "4.7.0", "bye"), "421 4.7.0 bye"),
        (Verdict.TEMPFAIL, Reply(550, "5.7.0", "no"), "451 4.7.1 no"),
        (Verdict.TEMPFAIL, Reply(451, "4.7.0", "100% full"), "451 4.7.0 100%% full"),
        (Verdict.REJECT, Reply(550, "5.7.1", "a\r\n250 ok\0x"), "550 5.7.1 a?250 ok?x"),
        (Verdict.REJECT, Reply(550, "5.7.1", "grün"), "550 5.7.1 gr?n"),
        (Verdict.REJECT, Reply(550, "5.7.1", " \t "), "550 5.7.1 ?"),
        (Verdict.REJECT, Reply(550, "5.7.1", "  "), "550 5.7.1 Refused by this relay's policy"),
    ],
)
def test_a_reply_keeps_its_verdict(verdict: Verdict, reply: Reply, text: str) -> None:
    """Codes of another class are replaced, line breaks cannot make a second line."""
    assert refusal(verdict, reply) == wire.ReplyCode(text)


@given(st.text(), st.booleans())
def test_any_header_value_stays_one_header(value: str, has_leading_space: bool) -> None:
    """Each line after the first begins with white space and has something on it."""
    said = header_value(value, has_leading_space=has_leading_space)
    first, *others = said.split("\n")
    assert "\r" not in said
    assert "\0" not in said
    assert all(line[0] in " \t" and line.strip() for line in others)
    assert not has_leading_space or first[:1] in {" ", "\t"}


@pytest.mark.parametrize(
    ("value", "with_space", "without"),
    [
        ("yes", " yes", "yes"),
        (" yes", " yes", "yes"),
        ("\tyes", "\tyes", "\tyes"),
        ("a\r\n\tb", " a\n\tb", "a\n\tb"),
        ("a\nBcc: x@y", " a\n Bcc: x@y", "a\n Bcc: x@y"),
        ("a\r\n\r\nbody", " a\n body", "a\n body"),
        ("a\rb", " a\n b", "a\n b"),
        ("a\0b", " ab", "ab"),
        ("", " ", ""),
    ],
)
def test_line_breaks_in_a_header_become_folds(value: str, with_space: str, without: str) -> None:
    """No value of a header adds a header, nor ends them."""
    assert header_value(value, has_leading_space=True) == with_space
    assert header_value(value, has_leading_space=False) == without


def test_changes_come_before_the_acceptance() -> None:
    """Each change is one packet, addresses stand in angle brackets."""
    decision = accepted(
        AddHeader("X-Relay-Policy", "ok"),
        AddRecipient("c@y.example"),
        DeleteRecipient("b@y.example"),
        ChangeSender(""),
    )
    assert SPEAKER.message(decision) == (
        wire.AddHeader("X-Relay-Policy", " ok"),
        wire.AddRecipient("<c@y.example>"),
        wire.DeleteRecipient("<b@y.example>"),
        wire.ChangeSender("<>"),
        wire.Accept(),
    )


def test_a_recipient_is_not_added_twice() -> None:
    """One that the mail has already, or that two rules add; not one that is taken off."""
    decision = accepted(
        AddRecipient("b@y"),
        AddRecipient("c@y"),
        AddRecipient("c@y"),
        DeleteRecipient("d@y"),
        AddRecipient("d@y"),
    )
    assert SPEAKER.message(decision, ("b@y", "d@y"))[:-1] == (
        wire.AddRecipient("<c@y>"),
        wire.DeleteRecipient("<d@y>"),
        wire.AddRecipient("<d@y>"),
    )


def test_headers_are_changed_from_the_last_to_the_first() -> None:
    """So that taking one away does not move those that are changed after it."""
    decision = accepted(
        AddHeader("X", "new"),
        ChangeHeader("X", 1, ""),
        ChangeHeader("Y", 2, "y"),
        ChangeHeader("X", 3, ""),
    )
    assert SPEAKER.message(decision)[:-1] == (
        wire.ChangeHeader(3, "X", ""),
        wire.ChangeHeader(2, "Y", " y"),
        wire.ChangeHeader(1, "X", ""),
        wire.AddHeader("X", " new"),
    )


def test_a_quarantined_message_is_changed_held_and_accepted() -> None:
    """The reason is the rule that said so; Postfix logs 100 characters of it."""
    fired = Fired(RuleKind.BADWORD, "badword:17", "a bad\nword " + "x" * 200, Verdict.QUARANTINE)
    other = Fired(RuleKind.THREAT, "threat:sql", "sql", Verdict.ACCEPT)
    decision = Decision(Verdict.QUARANTINE, None, (AddHeader("X", "y"),), (other, fired))
    added, held, taken = SPEAKER.message(decision)
    assert (added, taken) == (wire.AddHeader("X", " y"), wire.Accept())
    assert isinstance(held, wire.Quarantine)
    assert held.text.startswith("badword:17: a bad?word xxx")
    assert len(held.text) == 100


def test_a_quarantine_without_a_rule_has_a_reason() -> None:
    """An empty reason would be logged as Postfix's own."""
    assert SPEAKER.message(Decision(Verdict.QUARANTINE)) == (
        wire.Quarantine("held by this relay's policy"),
        wire.Accept(),
    )


def test_a_discarded_or_refused_message_is_not_changed() -> None:
    """The one packet is all."""
    changes = (AddHeader("X", "y"),)
    assert SPEAKER.message(Decision(Verdict.DISCARD, None, changes)) == (wire.Discard(),)
    reply = Reply(550, "5.7.1", "no")
    assert SPEAKER.message(Decision(Verdict.REJECT, reply, changes)) == (
        wire.ReplyCode("550 5.7.1 no"),
    )


@pytest.mark.parametrize(
    "address",
    [
        "a@x>,<b@y",
        "a@x, b@y",
        "a@x\r\nb@y",
        "a@x b@y",
        "a@x\0",
        '"a@x',
        "a@x;",
        "group: a@x;",
        "a@x (comment)",
    ],
)
def test_an_address_that_would_be_another_one_is_a_fault(address: str) -> None:
    """A mail goes where it was decided, or it is refused for now."""
    for change in (AddRecipient(address), DeleteRecipient(address), ChangeSender(address)):
        with pytest.raises(Inexpressible, match="address"):
            SPEAKER.message(accepted(change))


@pytest.mark.parametrize("address", ['"a b, <c>"@x.example', "grün@exämple.org", "a+b@[192.0.2.1]"])
def test_unusual_addresses_are_said_as_they_are(address: str) -> None:
    """Quoted local parts, UTF-8 and address literals are legal."""
    assert SPEAKER.message(accepted(AddRecipient(address)))[0] == wire.AddRecipient(f"<{address}>")


@pytest.mark.parametrize("change", [AddRecipient(""), DeleteRecipient("")])
def test_a_recipient_needs_an_address(change: Change) -> None:
    """Only a sender may be empty."""
    with pytest.raises(Inexpressible, match="without an address"):
        SPEAKER.message(accepted(change))


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a\nb", "grün", "a\0", "x" * 201])
def test_a_header_name_that_is_none_is_a_fault(name: str) -> None:
    """RFC 5322, 2.2: printable ASCII without the colon."""
    for change in (AddHeader(name, "x"), ChangeHeader(name, 1, "x")):
        with pytest.raises(Inexpressible, match="header"):
            SPEAKER.message(accepted(change))


@pytest.mark.parametrize("index", [-1, 0, 2**31])
def test_headers_are_counted_from_one(index: int) -> None:
    """Postfix takes 0 for 1, which is not what was decided."""
    with pytest.raises(Inexpressible, match="counted from 1"):
        SPEAKER.message(accepted(ChangeHeader("X", index, "")))


@pytest.mark.parametrize(
    ("action", "decision"),
    [
        (Actions.ADD_HEADERS, accepted(AddHeader("X", "y"))),
        (Actions.CHANGE_HEADERS, accepted(ChangeHeader("X", 1, ""))),
        (Actions.ADD_RECIPIENTS, accepted(AddRecipient("a@x"))),
        (Actions.DELETE_RECIPIENTS, accepted(DeleteRecipient("a@x"))),
        (Actions.CHANGE_SENDER, accepted(ChangeSender("a@x"))),
        (Actions.QUARANTINE, Decision(Verdict.QUARANTINE)),
    ],
)
def test_what_the_mta_did_not_offer_is_a_fault(action: Actions, decision: Decision) -> None:
    """It would close the connection in the middle of the changes."""
    speaker = Speaker(int(ACTIONS & ~action), has_leading_space=True)
    with pytest.raises(Inexpressible, match=action.name):
        speaker.message(decision)
    assert SPEAKER.message(decision)


@given(
    st.lists(
        st.one_of(
            st.builds(AddHeader, st.text(), st.text()),
            st.builds(ChangeHeader, st.text(), st.integers(), st.text()),
            st.builds(AddRecipient, st.text()),
            st.builds(DeleteRecipient, st.text()),
            st.builds(ChangeSender, st.text()),
        )
    )
)
def test_any_changes_can_be_sent_or_are_a_fault(changes: list[Change]) -> None:
    """Whatever a plugin asks for, the packets are well formed or nothing is sent."""
    try:
        packets = SPEAKER.message(accepted(*changes))
    except Inexpressible:
        return
    assert len(packets) <= len(changes) + 1
    assert all(encode(packet) for packet in packets)
