"""A message keeps its bytes, and changes do to it what they say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.policy.model import (
    AddHeader,
    AddRecipient,
    ChangeHeader,
    ChangeSender,
    DeleteRecipient,
    Envelope,
    Header,
    Message,
)
from nodeagent.policy.raw_message import (
    changed_envelope,
    changed_message,
    from_bytes,
    to_bytes,
)

RAW = (
    b"From: a@b.test\r\nSubject: one\r\n two\r\nX-Odd:no space\r\nX-Bytes: \xff\xe9\r\n"
    b"Subject: again\r\n\r\nbody\r\n\r\n.\r\nend \xff\r\n"
)


def test_a_message_is_read_and_written_byte_for_byte() -> None:
    """Folds, missing spaces, doubled headers and bytes of no charset included."""
    message = from_bytes(RAW, queue_id="4abc")
    assert to_bytes(message) == RAW
    assert message.headers[1] == Header("Subject", " one\r\n two")
    assert message.body == b"body\r\n\r\n.\r\nend \xff\r\n"
    assert message.is_whole
    assert message.queue_id == "4abc"


@pytest.mark.parametrize(
    ("raw", "names", "body"),
    [
        (b"", [], b""),
        (b"\r\nbody", [], b"body"),
        (b"no header here\r\nA: b\r\n\r\nx", [], b"no header here\r\nA: b\r\n\r\nx"),
        (b"A: b\r\nodd line\r\nC: d\r\n\r\nx", ["A"], b"odd line\r\nC: d\r\n\r\nx"),
        (b" folded first\r\nA: b\r\n\r\nx", [], b" folded first\r\nA: b\r\n\r\nx"),
        (b"A: b\nC: d\n\nx", ["A", "C"], b"x"),
        (b"A: b", ["A"], b""),
    ],
)
def test_where_the_header_ends(raw: bytes, names: list[str], body: bytes) -> None:
    """At the first empty line, or at the first line that is no header."""
    message = from_bytes(raw)
    assert [one.name for one in message.headers] == names
    assert message.body == body


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message(raw: bytes) -> None:
    """And what was written is read as the same message."""
    message = from_bytes(raw)
    again = from_bytes(to_bytes(message))
    assert again.headers == message.headers
    assert again.body == message.body


def test_recipients_change_in_order_and_nobody_is_in_twice() -> None:
    """Whom a change adds who is there already gets the mail once."""
    envelope = Envelope("a@b.test", ("News@List.test", "bob@c.test"))
    changes = (
        DeleteRecipient("news@list.test"),
        AddRecipient("1.2@list.relay.invalid"),
        AddRecipient("bob@c.test"),
        ChangeSender("bounce@b.test"),
        AddHeader("X-A", "b"),
    )
    found = changed_envelope(envelope, changes)
    assert found == Envelope("bounce@b.test", ("bob@c.test", "1.2@list.relay.invalid"))


HEADERS = (Header("A", " 1"), Header("a", " 2"), Header("B", " 3"))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ((AddHeader("C", "4"),), [("A", " 1"), ("a", " 2"), ("B", " 3"), ("C", " 4")]),
        ((ChangeHeader("a", 2, "new"),), [("A", " 1"), ("a", " new"), ("B", " 3")]),
        ((ChangeHeader("A", 1, ""),), [("a", " 2"), ("B", " 3")]),
        ((ChangeHeader("A", 1, ""), ChangeHeader("A", 1, "")), [("B", " 3")]),
        ((ChangeHeader("A", 3, ""),), [("A", " 1"), ("a", " 2"), ("B", " 3")]),
        (
            (ChangeHeader("D", 1, "x\r\n y\nEvil: z"),),
            [("A", " 1"), ("a", " 2"), ("B", " 3"), ("D", " x\r\n y Evil: z")],
        ),
        ((AddRecipient("x@y.test"),), [("A", " 1"), ("a", " 2"), ("B", " 3")]),
    ],
)
def test_headers_change(changes: tuple[object, ...], expected: list[tuple[str, str]]) -> None:
    """By name in any case and index from 1; an empty value deletes, a missing header is added."""
    message = Message(headers=HEADERS, body=b"x", size_bytes=1)
    found = changed_message(message, changes)  # type: ignore[arg-type]
    assert [tuple(one) for one in found.headers] == expected
    assert found.body == b"x"
