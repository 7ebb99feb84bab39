"""What leaves the node: everything, pseudonyms, or nothing, as the cluster's privacy says."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nodeagent.core.stream_wire import pack
from nodeagent.policy.document import PolicySettings, Privacy
from nodeagent.policy.engine.log_lines import (
    Asked,
    Circumstances,
    connection_line,
    decision_line,
    first_header,
)
from nodeagent.policy.engine.privacy import Redactor
from nodeagent.policy.log_wire import Door, LogBatch, LogEntry, NumberedLogEntry, unpack
from nodeagent.policy.model import (
    Client,
    Decision,
    Envelope,
    Fired,
    Header,
    Message,
    Reply,
    RuleKind,
    Session,
    Stage,
    Verdict,
)

KEY = "0f" * 32
FULL = Redactor(PolicySettings(privacy=Privacy.FULL))
REDACTED = Redactor(PolicySettings())
PSEUDONYMOUS = Redactor(PolicySettings(privacy=Privacy.PSEUDONYMOUS, pseudonym_key=KEY))
ABOUT = Circumstances(at=1.0, took_ms=0.12345, revision=7)
SECRETS = (
    "198.51.100.7",
    "laptop.internal",
    "alice",
    "alice@example.com",
    "bob@example.net",
    "Salary",
    "id@host",
    "cheap pills",
)
ASKED = Asked(
    Door.MILTER,
    Stage.DATA,
    Session(Client(ip_address("198.51.100.7"), 25), helo="laptop.internal", login="alice"),
    Envelope("alice@example.com", ("bob@example.net",)),
    Message(
        headers=(Header("Subject", " Salary\r\n of all"), Header("Message-ID", " <id@host>")),
        body=b"text",
        size_bytes=4,
        queue_id="4bXyz1",
    ),
)
DECISION = Decision(
    Verdict.REJECT,
    Reply(550, "5.7.1", "Refused for its words."),
    fired=(Fired(RuleKind.BADWORD, "badword:17", "A word of the list.", matched="cheap pills"),),
)


def shown(entry: LogEntry) -> str:
    """Give everything that an entry tells."""
    return entry.model_dump_json()


def test_redacted_tells_nothing_personal() -> None:
    """It is the default: rules, verdicts and sizes are told, people are not."""
    text = shown(decision_line(ASKED, DECISION, ABOUT, REDACTED))
    assert [secret for secret in SECRETS if secret in text] == []
    assert "badword:17" in text
    assert "4bXyz1" in text


def test_full_tells_everything() -> None:
    """For clusters whose logs may have it."""
    text = shown(decision_line(ASKED, DECISION, ABOUT, FULL))
    assert [secret for secret in SECRETS if secret not in text] == []


def test_pseudonyms_follow_a_case() -> None:
    """The same address has the same name in every line; nobody reads it out of there."""
    one = decision_line(ASKED, DECISION, ABOUT, PSEUDONYMOUS)
    two = connection_line(Door.HTTP, ASKED.session, 3, 2.0, PSEUDONYMOUS)
    assert [secret for secret in SECRETS if secret in shown(one) + shown(two)] == []
    assert one.client == two.client
    assert (one.client or "").startswith("~")
    assert one.login == two.login


def test_addresses_of_one_domain_share_its_pseudonym() -> None:
    """So that an attack on one domain shows, whoever it is addressed to."""
    first = PSEUDONYMOUS.address("a@example.com") or ""
    second = PSEUDONYMOUS.address("b@EXAMPLE.com") or ""
    assert first.partition("@")[2] == second.partition("@")[2]
    assert first != second


def test_a_pseudonym_without_a_key_is_nothing() -> None:
    """A hash without a secret could be tried out."""
    redactor = Redactor(PolicySettings(privacy=Privacy.PSEUDONYMOUS))
    assert redactor.text("198.51.100.7") is None
    assert redactor.address("a@example.com") is None


def test_another_cluster_has_other_pseudonyms() -> None:
    """Logs of two clusters are not put together."""
    settings = PolicySettings(privacy=Privacy.PSEUDONYMOUS, pseudonym_key="1f" * 32)
    assert Redactor(settings).text("alice") != PSEUDONYMOUS.text("alice")


@pytest.mark.parametrize("redactor", [FULL, PSEUDONYMOUS, REDACTED])
def test_the_null_sender_is_nobodys_secret(redactor: Redactor) -> None:
    """A bounce is seen to be one, and an unknown sender to be unknown."""
    assert redactor.address("") == ""
    assert redactor.address(None) is None


@given(st.text(st.characters()), st.text(st.characters()))
@example("\ud800", "\udfff@\ud83d")  # stand for no byte
@example("\udc80\udcff", "\udce4@x")  # stand for bytes that are no UTF-8
def test_any_text_of_a_stranger_can_be_sent(text: str, address: str) -> None:
    """Surrogates, NUL and length never stop the log."""
    asked = Asked(
        Door.HTTP,
        Stage.DATA,
        Session(helo=text, login=text),
        Envelope(address, (address, text)),
        Message(headers=(Header("Subject", text),), queue_id=text),
    )
    decision = Decision(fired=(Fired(RuleKind.BADWORD, "badword:1", "It matched.", matched=text),))
    for redactor in (FULL, PSEUDONYMOUS, REDACTED):
        entry = decision_line(asked, decision, ABOUT, redactor)
        batch = LogBatch(stream="0" * 32, entries=(NumberedLogEntry(number=1, entry=entry),))
        found = unpack(pack(batch))
        assert found == batch
        assert "\0" not in shown(entry)


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("J\udcc3\udcb6rg", "J\u00f6rg"),
        ("J\udcf6rg", "J\ufffdrg"),
        (f"J{chr(0xD83D)}rg", "J\ufffdrg"),
        ("\ud83d\ude00", "\U0001f600"),
        ("a\0b", "a\ufffdb"),
        ("x" * 999, "x" * 320),
    ],
)
def test_what_is_stored_of_a_text(text: str, stored: str) -> None:
    """Bytes are read as UTF-8, halves of characters are joined, the rest is replaced."""
    assert FULL.text(text) == FULL.address(text) == stored


def test_many_recipients_are_counted_and_not_all_told() -> None:
    """A line stays small."""
    many = tuple(f"r{number}@example.net" for number in range(100))
    asked = Asked(Door.MILTER, Stage.RCPT, Session(), Envelope("", many))
    entry = decision_line(asked, Decision(), ABOUT, FULL)
    assert (len(entry.recipients), entry.recipient_count) == (20, 100)


def test_many_fired_rules_are_cut() -> None:
    """So does a mail of a thousand matches."""
    fired = tuple(Fired(RuleKind.THREAT, f"threat:{number}", "It matched.") for number in range(99))
    assert len(decision_line(ASKED, Decision(fired=fired), ABOUT, REDACTED).fired) == 50


def test_a_header_is_found_in_any_case_and_without_its_folds() -> None:
    """The first one counts."""
    headers = (Header("SUBJECT", " one\r\n\ttwo"), Header("Subject", "three"))
    assert first_header(headers, "subject") == "one two"
    assert first_header(headers, "from") is None
