"""Mail behind DATA: quoted and read back, cut anywhere, without a copy of each line."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.policy.codecs.smtp_data import DataStream, pieces, quoted, received

MIB = 1024 * 1024
ROOM = 100 * MIB
lines = st.lists(st.sampled_from((b"", b".", b"..", b".a", b"a.", b"a", b"\x80\0")), max_size=12)
mails = lines.map(lambda some: b"".join(line + b"\r\n" for line in some))


def sent(mail: bytes, size: int) -> bytes:
    """Return a mail as it goes over the wire, end and all."""
    return b"".join(map(quoted, pieces(mail, size))) + b".\r\n"


def cut(data: bytes, size: int) -> Iterator[bytes]:
    """Give data in parts of a size."""
    return (data[start : start + size] for start in range(0, len(data), size))


@given(mails, st.integers(1, 8), st.integers(1, 8))
def test_what_was_sent_is_read_back(mail: bytes, piece: int, part: int) -> None:
    """Wherever it was cut into pieces, and wherever the network cuts it."""
    stream = DataStream(ROOM)
    parts = list(cut(sent(mail, piece), part))
    assert [stream.feed(one) for one in parts] == [False] * (len(parts) - 1) + [True]
    read = b"".join(received(stream.take(), piece))
    assert read == mail
    assert stream.held_bytes == 0


@given(mails, st.integers(1, 8))
def test_no_line_of_a_mail_ends_it(mail: bytes, size: int) -> None:
    """A line that is a dot has two on the wire, so the end is the only one."""
    assert (b"\r\n" + sent(mail, size)).count(b"\r\n.\r\n") == 1


@given(st.integers(3, 40))
def test_a_dot_behind_a_bare_line_feed_stays(size: int) -> None:
    """Only CR LF ends a line of what was received."""
    mail = b"aa\n.bb\n.cc\r\ndd"
    assert b"".join(received(mail, size)) == mail


@given(mails, st.integers(1, 40))
def test_pieces_are_the_whole_and_end_with_lines(mail: bytes, size: int) -> None:
    """Only the last one may end without."""
    found = list(pieces(mail + b"no end", size))
    assert b"".join(found) == mail + b"no end"
    assert all(one.endswith(b"\n") and len(one) >= size for one in found[:-1])


@pytest.mark.parametrize(
    ("typed", "on_the_way"),
    [
        (b"a\nb\n", b"a\r\nb\r\n"),
        (b"a\rb\r\n", b"a\r\nb\r\n"),
        (b"a\r\r\n", b"a\r\n\r\n"),
        (b"a\n.\nb\n", b"a\r\n..\r\nb\r\n"),
        (b"a\r.\r\n", b"a\r\n..\r\n"),
        (b".", b".."),
        (b"", b""),
    ],
)
def test_line_ends_of_other_kinds_hide_no_dot(typed: bytes, on_the_way: bytes) -> None:
    """A CR or LF alone would end a line for some servers and not for others."""
    assert quoted(typed) == on_the_way


@pytest.mark.parametrize("more", [b"QUIT\r\n", b"x"])
def test_nothing_may_follow_the_end(more: bytes) -> None:
    """PIPELINING is not offered, so what follows is no honest client's."""
    with pytest.raises(ValueError, match="behind the end"):
        DataStream(ROOM).feed(b"a\r\n.\r\n" + more)


def test_a_mail_that_is_too_long_is_read_to_its_end_and_not_kept() -> None:
    """The end is seen, also when it is cut."""
    stream = DataStream(100)
    for part in cut(b"line\r\n" * 100, 7):
        assert not stream.feed(part)
        assert stream.held_bytes <= 110
    assert stream.is_too_long
    assert not stream.feed(b"\r\n.")
    assert stream.feed(b"\r\n")


def test_a_million_empty_lines_take_no_more_room_than_their_bytes() -> None:
    """The library's own list of lines took 85 times as much."""
    tracemalloc.start()
    try:
        stream = DataStream(ROOM)
        for _ in range(32):
            stream.feed(b"\r\n" * 32_768)
        assert stream.feed(b".\r\n")
        read = b"".join(received(stream.take()))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(read) == 2 * MIB
    assert most < 4 * len(read)
