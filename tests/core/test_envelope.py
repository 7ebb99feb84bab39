"""Envelopes of queue files and deferral logs: what real ones hold, and whatever a disk may give."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.core.envelope import Deferral, Envelope, parse_deferrals, parse_envelope


def record(kind: str, body: bytes) -> bytes:
    """Return one record of up to 16,383 bytes."""
    size = len(body)
    length = bytes([size]) if size < 128 else bytes([size & 0x7F | 0x80, size >> 7])
    return kind.encode() + length + body


def queue_file(*extracted: bytes, recipients: tuple[bytes, ...] = ()) -> bytes:
    """Return a queue file whose content looks like an envelope."""
    content = record("N", b"Subject: R") + record("R", b"not@a.recipient")
    head = b"".join(
        [
            record("T", b"1795250931 453199"),
            record("S", b"a@test.invalid"),
            *recipients,
            record("M", b""),
        ]
    )
    offset = len(record("C", b" " * 95)) + len(head)
    words = (len(content), offset, 1, 0, len(content), 0)
    size = record("C", b"".join(b"%15d " % word for word in words)[:95])
    return size + head + content + record("X", b"") + b"".join(extracted) + record("E", b"")


def test_content_is_no_envelope() -> None:
    """What looks like a recipient inside the content is skipped; extracted ones count."""
    data = queue_file(record("R", b"c@x.test"), recipients=(record("R", b"b@x.test"),))
    found = parse_envelope(data)
    assert found == Envelope(1795250931.0, 29, "a@test.invalid", ("b@x.test", "c@x.test"))


def test_a_served_recipient_is_not_listed() -> None:
    """Postfix marks it in place by another record type."""
    data = queue_file(recipients=(record("D", b"b@x.test"), record("R", b"c@x.test")))
    found = parse_envelope(data)
    assert found is not None
    assert found.recipients == ("c@x.test",)


def test_a_pointer_is_followed() -> None:
    """A milter that adds a recipient has it written at the end of the file."""
    plain = queue_file(recipients=(record("R", b"b@x.test"),))
    pointer = record("p", b"%15d" % (len(plain) + len(record("p", b" " * 15)) - 2))
    data = plain[:-2] + pointer + record("R", b"late@x.test") + record("E", b"")
    target = len(plain) - 2 + len(pointer)
    data = data.replace(pointer, record("p", b"%15d" % target))
    found = parse_envelope(data)
    assert found is not None
    assert found.recipients == ("b@x.test", "late@x.test")


def test_pointers_in_a_circle_have_no_envelope() -> None:
    """A circle ends at its first turn: its recipients do not fill the memory."""
    head = record("C", b"1") + record("S", b"a@x.test")
    data = head + record("R", b"b" * 10_000) + record("p", b"%15d" % len(head))
    assert parse_envelope(data) is None
    first = record("p", b"%15d" % (len(head) + 17))
    assert parse_envelope(head + first + record("p", b"%15d" % len(head))) is None


@given(st.lists(st.integers(0, 120), max_size=6), st.integers(0, 3))
def test_any_pointers_end(targets: list[int], recipients: int) -> None:
    """Wherever pointers lead, the reader ends and lists nothing without end."""
    data = record("C", b"1")
    for number in range(recipients):
        data += record("R", b"%d@x.test" % number)
    data += b"".join(record("p", b"%15d" % target) for target in targets) + record("E", b"")
    found = parse_envelope(data)
    assert found is None or len(found.recipients) <= recipients * (len(targets) + 1)


def test_absurd_numbers_are_none() -> None:
    """A size or a time of a damaged record is no number that a database has to refuse."""
    data = record("C", b"9" * 40) + record("T", b"-5 x") + record("E", b"")
    found = parse_envelope(data)
    assert found is not None
    assert (found.size_bytes, found.arrived_at) == (0, 0.0)


def test_a_torn_file_has_no_envelope() -> None:
    """Every cut of a whole file is refused."""
    data = queue_file(recipients=(record("R", b"b@x.test"),))
    assert parse_envelope(data) is not None
    assert [cut for cut in range(len(data) - 1) if parse_envelope(data[:cut]) is not None] == []


@given(st.binary(max_size=300))
def test_no_bytes_break_the_reader(data: bytes) -> None:
    """A damaged disk gives anything; the reader ends, with an envelope or without."""
    assert parse_envelope(data) is None or b"E" in data


LOG = """
<b@x.test>: connect to mx.x.test[192.0.2.1]:25: Connection refused
recipient=b@x.test
offset=629
status=4.4.1
action=delayed
reason=connect to mx.x.test[192.0.2.1]:25: Connection refused


<c@y.test>: host mx.y.test[192.0.2.2] said: 451 later = never
recipient=c@y.test
mta_type=dns
mta_mname=mx.y.test
reason=host mx.y.test[192.0.2.2] said: 451 later = never


<b@x.test>: Host or domain name not found. Name service error for name=x.test type=MX
recipient=b@x.test
reason=Host or domain name not found. Name service error for name=x.test type=MX: try again
"""


def test_the_last_deferral_of_each_recipient_counts() -> None:
    """The log grows with each try; the host that was tried is named where the log tells it."""
    found = parse_deferrals(LOG)
    assert list(found) == ["b@x.test", "c@y.test"]
    assert found["b@x.test"].host == "x.test"
    assert found["c@y.test"].host == "mx.y.test"
    assert found["c@y.test"].reason.endswith("451 later = never")
    first = parse_deferrals(LOG.split("\n\n\n", maxsplit=1)[0])
    assert first["b@x.test"].host == "mx.x.test"


@given(st.text(max_size=200))
def test_no_text_breaks_the_log_reader(text: str) -> None:
    """A deferral log quotes strangers."""
    assert all(name == one.recipient for name, one in parse_deferrals(text).items())


def test_a_pointer_that_leads_nowhere_is_read_over() -> None:
    """Postfix leaves room for pointers; zero, and what is no number, mean: read on."""
    for target in (b"%15d" % 0, b"nonsense"):
        data = record("C", b"1") + record("p", target) + record("R", b"b@x.test") + record("E", b"")
        found = parse_envelope(data)
        assert found is not None
        assert found.recipients == ("b@x.test",)


def test_a_message_without_content_ends_its_envelope_where_it_stands() -> None:
    """A size record that names no offset skips nothing."""
    data = record("C", b"0") + record("M", b"") + record("R", b"b@x.test") + record("E", b"")
    found = parse_envelope(data)
    assert found is not None
    assert found.recipients == ("b@x.test",)


@pytest.mark.parametrize(
    ("word", "number"), [(b"9" * 15, 10**15 - 1), (b"9" * 16, 0), (b"12x", 0), (b"", 0)]
)
def test_a_size_has_fifteen_digits_at_most(word: bytes, number: int) -> None:
    """As many as the size record has room for; more is damage."""
    found = parse_envelope(record("C", word) + record("E", b""))
    assert found is not None
    assert found.size_bytes == number


def test_an_address_in_no_known_coding_is_shown_as_far_as_it_can_be() -> None:
    """Bytes of a stranger become replacement characters, never an error."""
    data = record("C", b"1") + record("S", b"\xff@x.test") + record("E", b"")
    found = parse_envelope(data)
    assert found is not None
    assert found.sender == "\ufffd@x.test"


@pytest.mark.parametrize(
    ("reason", "host"),
    [
        ("connect to mx.x.test[192.0.2.1]:25: Connection timed out", "mx.x.test"),
        ("host mx.x.test[192.0.2.1] said: 451 4.7.1 Try again later", "mx.x.test"),
        ("lost connection with mx.x.test[192.0.2.1] while receiving", "mx.x.test"),
        ("conversation with mx.x.test[192.0.2.1] timed out", "mx.x.test"),
        ("Name service error for name=x.test type=MX: Host not found, try again", "x.test"),
        ("delivery temporarily suspended: unknown mail transport error", None),
        ("", None),
    ],
)
def test_the_host_is_read_out_of_the_reason(reason: str, host: str | None) -> None:
    """Where the log has no field for it, Postfix's sentence names it, or nobody knows."""
    found = parse_deferrals(f"<b@x.test>: x\nrecipient=b@x.test\nreason={reason}\n")
    assert found["b@x.test"].host == host
    assert found["b@x.test"].reason == reason


def test_a_paragraph_without_a_recipient_is_none() -> None:
    """A log that was cut, or that speaks of something else."""
    assert parse_deferrals("<b@x.test>: x\nreason=y\n\n\nrecipient=c@y.test\n") == {
        "c@y.test": Deferral("c@y.test", "", None)
    }
