"""What goes over SMTP behind DATA (RFC 5321, 4.5.2), a piece at a time, for mails of any size.

A line that begins with a dot has one more on the way, and a dot alone is the end. A mail of empty
lines has a million of them in two megabytes, so nothing here keeps lines one by one, and whoever
works on a long mail can let others run between two pieces.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

PIECE_BYTES: Final = 256 * 1024
_END: Final = b"\r\n.\r\n"
_LINE_END: Final = b"\r\n"


def pieces(data: bytes, size: int = PIECE_BYTES, line_end: bytes = b"\n") -> Iterator[bytes]:
    """Give the data in pieces of about this size, each up to the end of a line."""
    start = 0
    while start < len(data):
        place = data.find(line_end, start + size - len(line_end))
        end = len(data) if place < 0 else place + len(line_end)
        yield data[start:end]
        start = end


def quoted(piece: bytes) -> bytes:
    """Return a piece, from the beginning of a line on, as it is sent: CR LF, and dots doubled.

    A CR or LF alone ends a line, too, for SMTP has no other line ends.
    """
    lines = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n.", b"\n..")
    lines = b"." + lines if lines.startswith(b".") else lines
    return lines.replace(b"\n", _LINE_END)


def received(data: bytes, size: int = PIECE_BYTES) -> Iterator[bytes]:
    """Give what was received as it was before it was quoted, in pieces."""
    for piece in pieces(data, size, _LINE_END):
        yield piece.replace(b"\r\n.", _LINE_END)[piece.startswith(b".") :]


class DataStream:
    """Takes what a client sends behind DATA, as it comes, until the dot.

    Of a mail that is longer than `most_bytes` on the way nothing is kept: `is_too_long`.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._received = bytearray(_LINE_END)  # a dot may be the first that comes
        self.is_too_long = False

    @property
    def held_bytes(self) -> int:
        """Return how much is kept."""
        return len(self._received)

    def feed(self, data: bytes) -> bool:
        """Take more; tell whether that was all. Raises ValueError for what comes behind the end."""
        looked_at = max(0, len(self._received) - len(_END) + 1)
        self._received += data
        end = self._received.find(_END, looked_at)
        if end >= 0:
            if end + len(_END) != len(self._received):
                raise ValueError("something came behind the end of a mail, before its answer")
            del self._received[end + len(_LINE_END) :]
            return True
        if len(self._received) > self._most_bytes:
            self.give_up()
        return False

    def give_up(self) -> None:
        """Keep nothing of this mail, and wait for its end."""
        self.is_too_long = True
        del self._received[: -len(_END) + 1]

    def take(self) -> bytes:
        """Return the mail as it came, and keep it no more."""
        mail = bytes(memoryview(self._received)[len(_LINE_END) :])
        self._received = bytearray()
        return mail
