"""A safe view of a mail: bounded whatever the mail is, and nothing in it that acts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nodeagent.core.queue_contract import MOST_ATTACHMENTS, PREVIEW_BYTES, Preview
from nodeagent.policy.preview import UNSEEN, preview_of, shown

LIMIT = 100_000
MIXED = b"Content-Type: multipart/mixed; boundary=x\n\n"


def part(name: str) -> bytes:
    """Return an attachment."""
    head = f'Content-Type: application/pdf\nContent-Disposition: attachment; filename="{name}"'
    return f"--x\n{head}\n\nabc\n".encode()


def test_plain_mail_is_shown_as_it_is() -> None:
    """Lines stay lines; the header is not part of the text."""
    found = preview_of(b"Subject: x\nFrom: a@x.test\n\none\ntwo\n", LIMIT)
    assert found == Preview(text="one\ntwo")


def test_encodings_are_undone() -> None:
    """What a reader would see, not what was sent."""
    raw = b"Content-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: base64\n\n"
    assert preview_of(raw + b"Z3L832U=\n", LIMIT).text == "grüße"[:4] + "e"


def test_text_is_cut_at_a_character() -> None:
    """The limit counts bytes, and no character is halved."""
    raw = b"Content-Type: text/plain; charset=utf-8\n\n" + ("ü" * PREVIEW_BYTES).encode()
    found = preview_of(raw, LIMIT)
    assert found.text == "ü" * (PREVIEW_BYTES // 2)
    assert found.is_cut


def test_what_was_not_read_is_said() -> None:
    """A mail behind the limit is cut; one that just fits is not."""
    raw = b"Subject: x\n\n" + b"abc\n" * 100
    assert not preview_of(raw, len(raw)).is_cut
    cut = preview_of(raw, len(raw) - 40)
    assert cut.is_cut
    assert len(cut.text) < 4 * 95


def test_many_attachments_are_named_up_to_a_limit() -> None:
    """The rest is said to be there."""
    names = [f"{n}.pdf" for n in range(MOST_ATTACHMENTS + 5)]
    found = preview_of(MIXED + b"".join(map(part, names)) + b"--x--\n", LIMIT)
    assert [one.name for one in found.attachments] == names[:MOST_ATTACHMENTS]
    assert found.is_cut
    few = preview_of(MIXED + part("a.pdf") + b"--x--\n", LIMIT)
    assert [one.name for one in few.attachments] == ["a.pdf"]
    assert not few.is_cut


def test_nothing_that_acts_is_shown() -> None:
    """Escapes, turned directions and NUL are characters that are none; tabs and lines stay."""
    assert shown("a\tb\r\nc\x1b[0m\u202ed\x00\x7f\x9b") == "a\tb\nc\ufffd[0m\ufffdd" + "\ufffd" * 3


@given(st.binary(max_size=4000), st.integers(0, 4000))
def test_any_bytes_give_a_view_that_travels(raw: bytes, limit: int) -> None:
    """Never an error, always within the limits, and the same after the wire."""
    found = preview_of(raw, limit)
    assert len(found.text.encode()) <= PREVIEW_BYTES
    assert UNSEEN.search(found.text) is None
    assert Preview.model_validate_json(found.model_dump_json()) == found


@given(st.lists(st.sampled_from([b"--x", b"--x--", b"\n", MIXED, part("a"), b"\x00", b"\xff"])))
def test_any_broken_multipart_gives_a_view(pieces: list[bytes]) -> None:
    """Boundaries in any order."""
    found = preview_of(MIXED + b"\n".join(pieces), LIMIT)
    assert len(found.attachments) <= MOST_ATTACHMENTS
