"""What is answered to Stalwart does what was decided, with the rules of its own parser.

`as_stalwart` reads an answer as Stalwart's code does (facts of version 0.16): which keys it knows,
what makes it drop the whole answer, what it falls back on.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.policy.codecs.stalwart import StalwartCodec
from nodeagent.policy.model import (
    ACCEPT,
    AddHeader,
    AddRecipient,
    Change,
    ChangeHeader,
    ChangeSender,
    Decision,
    DeleteRecipient,
    Reply,
    Stage,
    Verdict,
)

CODEC = StalwartCodec()
FIELDS = {
    "changeFrom": {"value"},
    "addRecipient": {"value"},
    "deleteRecipient": {"value"},
    "addHeader": {"name", "value"},
    "changeHeader": {"index", "name", "value"},
    "deleteHeader": {"index", "name"},
}


@dataclass
class Understood:
    """What Stalwart would do."""

    action: str
    line: str | None = None
    modifications: list[dict[str, Any]] = field(default_factory=list)


def as_stalwart(body: bytes) -> Understood:
    """Read an answer with the rules of Stalwart's deserializer; fails where it would."""
    answer = json.loads(body)
    action = answer["action"]
    assert action in {"accept", "reject", "discard", "quarantine"}
    modifications = answer.get("modifications", [])
    for one in modifications:
        assert set(one) - {"type"} == FIELDS[one["type"]]
        assert all(isinstance(one[key], str) for key in one if key != "index")
        assert one.get("index", 1) >= 1
    if action == "accept":
        return Understood(action, None, modifications)
    line = {"reject": "503 5.5.3 Message rejected."}.get(action, "250 2.0.0 Message queued")
    reply = answer.get("response")
    if reply is not None and reply.get("status") and reply.get("message"):
        assert isinstance(reply["status"], int)
        assert isinstance(reply["disconnect"], bool)
        enhanced = reply.get("enhanced_status")
        line = " ".join(filter(None, (str(reply["status"]), enhanced, reply["message"])))
    return Understood(action, line)


def told(decision: Decision, stage: Stage | None = Stage.DATA) -> Understood:
    """Return what Stalwart would do after this decision."""
    return as_stalwart(CODEC.write(decision, stage))


def changes_of(*changes: Change) -> list[dict[str, Any]]:
    """Return the modifications that Stalwart would make for these changes."""
    return told(Decision(changes=changes)).modifications


@pytest.mark.parametrize("stage", [*Stage, None])
def test_accept_is_accept_at_each_stage(stage: Stage | None) -> None:
    """And says nothing else: a response would be ignored."""
    assert CODEC.write(ACCEPT, stage) == b'{"action":"accept"}'


@pytest.mark.parametrize("stage", [*Stage, None])
def test_a_rejection_says_what_was_decided(stage: Stage | None) -> None:
    """Code, enhanced code and text reach the sender."""
    reply = Reply(550, "5.7.1", "Not wanted here")
    decision = Decision(verdict=Verdict.REJECT, reply=reply)
    assert told(decision, stage) == Understood("reject", "550 5.7.1 Not wanted here")


@pytest.mark.parametrize("stage", [*Stage, None])
def test_a_tempfail_is_a_rejection_with_a_4xx(stage: Stage | None) -> None:
    """Stalwart has no word for it."""
    decision = Decision(verdict=Verdict.TEMPFAIL, reply=Reply(451, "4.7.1", "Later"))
    assert told(decision, stage) == Understood("reject", "451 4.7.1 Later")


def test_both_spellings_of_the_enhanced_code_are_given() -> None:
    """The code reads enhanced_status, the documentation says enhancedStatus."""
    decision = Decision(verdict=Verdict.REJECT, reply=Reply(554, "5.6.0", "No"))
    reply = json.loads(CODEC.write(decision, Stage.DATA))["response"]
    assert reply["enhanced_status"] == reply["enhancedStatus"] == "5.6.0"


@pytest.mark.parametrize("verdict", [Verdict.REJECT, Verdict.TEMPFAIL, Verdict.DISCARD])
def test_status_and_message_stand_together(verdict: Verdict) -> None:
    """Either alone is ignored: also a decision without a reply gives both."""
    reply = json.loads(CODEC.write(Decision(verdict=verdict), Stage.DATA))["response"]
    assert isinstance(reply["status"], int)
    assert reply["message"]


def test_a_rejection_without_a_reply_is_never_taken_for_success() -> None:
    """It gets 550, a tempfail 451."""
    assert str(told(Decision(verdict=Verdict.REJECT)).line).startswith("550 5.")
    assert str(told(Decision(verdict=Verdict.TEMPFAIL)).line).startswith("451 4.")


@pytest.mark.parametrize(("code", "closes"), [(421, True), (451, False), (550, False)])
def test_only_421_disconnects(code: int, closes: bool) -> None:
    """RFC 5321, 3.8: the server closes the channel after it."""
    decision = Decision(verdict=Verdict.TEMPFAIL, reply=Reply(code, "4.3.2", "x"))
    assert json.loads(CODEC.write(decision, Stage.MAIL))["response"]["disconnect"] is closes


def test_a_reply_is_one_line_of_printable_ascii() -> None:
    """Nothing in a text can begin an SMTP line of its own."""
    reply = Reply(550, "5.7.1", "No\r\n250 yes\x00 für")
    assert told(Decision(verdict=Verdict.REJECT, reply=reply)).line == "550 5.7.1 No 250 yes  f r"


def test_a_mail_is_discarded_with_250_at_its_end() -> None:
    """The sender believes that it was taken, as the rule wants."""
    assert told(Decision(verdict=Verdict.DISCARD)) == Understood(
        "discard", "250 2.0.0 The mail was taken"
    )


@pytest.mark.parametrize("stage", [one for one in Stage if one is not Stage.DATA])
@pytest.mark.parametrize("verdict", [Verdict.DISCARD, Verdict.QUARANTINE])
def test_discard_and_quarantine_wait_for_the_mail(stage: Stage, verdict: Verdict) -> None:
    """Stalwart forgets the sender or the recipient after a discard, and breaks the session."""
    assert told(Decision(verdict=verdict), stage) == Understood("accept")


def test_quarantine_is_never_said() -> None:
    """It loses the mail or delivers it: a mail that nobody kept is tried again."""
    understood = told(Decision(verdict=Verdict.QUARANTINE))
    assert understood.action == "reject"
    assert str(understood.line).startswith("451 4.")


def test_changes_have_stalwarts_names() -> None:
    """addRecipient, not addRcpt as the documentation has it; and no parameters at all."""
    assert changes_of(
        ChangeSender("bounce@a.test"),
        AddRecipient("New@B.test"),
        DeleteRecipient("old@b.test"),
        AddHeader("X-A", "1"),
    ) == [
        {"type": "changeFrom", "value": "bounce@a.test"},
        {"type": "addRecipient", "value": "New@B.test"},
        {"type": "deleteRecipient", "value": "old@b.test"},
        {"type": "addHeader", "name": "X-A", "value": "1"},
    ]


def test_a_deleted_recipient_is_in_lower_case() -> None:
    """Stalwart compares it with the address in lower case, as it is."""
    found = changes_of(DeleteRecipient("Bill@FooBar.Test"))
    assert found == [{"type": "deleteRecipient", "value": "bill@foobar.test"}]


def test_the_index_counts_headers_of_that_name() -> None:
    """From one, as in the model; Stalwart's documentation says "position in the list"."""
    assert changes_of(ChangeHeader("Subject", 2, "new")) == [
        {"type": "changeHeader", "index": 2, "name": "Subject", "value": "new"}
    ]


def test_a_header_without_a_value_is_deleted() -> None:
    """By name and index."""
    assert changes_of(ChangeHeader("X-Mailer", 1, "")) == [
        {"type": "deleteHeader", "index": 1, "name": "X-Mailer"}
    ]


def test_the_null_sender_can_be_set() -> None:
    """An empty value is <>."""
    assert changes_of(ChangeSender("")) == [{"type": "changeFrom", "value": ""}]


def test_a_headers_value_begins_no_header() -> None:
    """Folds stay, other line breaks become spaces, and Stalwart puts the space before it."""
    assert changes_of(AddHeader("X-A", " a\r\n b\nBcc: c\rd")) == [
        {"type": "addHeader", "name": "X-A", "value": "a\r\n b Bcc: c d"}
    ]


@pytest.mark.parametrize("stage", [one for one in Stage if one is not Stage.DATA])
def test_changes_are_made_at_the_mails_end_alone(stage: Stage) -> None:
    """Stalwart ignores them before."""
    assert told(Decision(changes=(AddHeader("X-A", "1"),)), stage) == Understood("accept")


@pytest.mark.parametrize("verdict", [Verdict.REJECT, Verdict.TEMPFAIL, Verdict.DISCARD])
def test_a_refused_mail_is_not_changed(verdict: Verdict) -> None:
    """The first answer that is not "accept" drops all changes, so there are none."""
    decision = Decision(verdict=verdict, changes=(AddHeader("X-A", "1"),))
    assert "modifications" not in json.loads(CODEC.write(decision, Stage.DATA))


TEXT = st.text(max_size=40)
CHANGES = st.one_of(
    st.builds(AddHeader, TEXT, TEXT),
    st.builds(ChangeHeader, TEXT, st.integers(0, 50), TEXT),
    st.builds(AddRecipient, TEXT),
    st.builds(DeleteRecipient, TEXT),
    st.builds(ChangeSender, TEXT),
)
REPLIES = st.builds(Reply, st.integers(400, 599), st.just("5.0.0"), TEXT)


@given(
    verdict=st.sampled_from(Verdict),
    stage=st.none() | st.sampled_from(Stage),
    changes=st.lists(CHANGES, max_size=5),
    reply=st.none() | REPLIES,
)
def test_any_decision_is_understood_by_stalwart(
    verdict: Verdict, stage: Stage | None, changes: list[Change], reply: Reply | None
) -> None:
    """No decision makes an answer that it would drop, and none says "quarantine"."""
    decision = Decision(verdict=verdict, reply=reply, changes=tuple(changes))
    understood = told(decision, stage)
    assert understood.action != "quarantine"
    if verdict in {Verdict.REJECT, Verdict.TEMPFAIL}:
        assert understood.action == "reject"
        assert str(understood.line)[:3] == str(reply.code if reply else understood.line)[:3]
    if stage is Stage.DATA and verdict is Verdict.QUARANTINE:
        assert understood.action == "reject"
