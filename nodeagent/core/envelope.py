"""What a queue file says of its message beside the content, and what its deferral log adds.

Theory of operation. The envelope's records stand before the content and, for what cleanup(8)
extracted from headers, behind it; the size record says where the content ends, so it is never read
(Postfix, src/showq/showq.c does the same). A served recipient's record is marked in place and is
not listed. A deferral log (Postfix, src/global/bounce_log.c) has one paragraph of `name=value`
lines a recipient and try; the last one counts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Protocol

from nodeagent.core.queue_files import pointer_target, read_length

_SIZE, _TIME, _SENDER, _RECIPIENT = b"C", b"T", b"S", b"R"
_CONTENT, _POINTER, _END = b"M", b"p", b"E"
_MOST_DIGITS: Final = 15
_TRIED_HOST = re.compile(
    r"(?:connect to|[Hh]ost|connection with|conversation with) ([^\s\[\]]+)\[|\bfor name=([^\s,;]+)"
)


class Readable(Protocol):
    """Bytes in memory or of a mapped file (mmap(2))."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: slice, /) -> bytes: ...


@dataclass(frozen=True)
class Envelope:
    """A message's sender and the recipients that are still to be served."""

    arrived_at: float
    size_bytes: int
    sender: str
    recipients: tuple[str, ...]


@dataclass(frozen=True)
class Deferral:
    """Why one recipient was not served at the last try."""

    recipient: str
    reason: str
    host: str | None  # that was tried last; None when the log does not say


def parse_envelope(data: Readable) -> Envelope | None:
    """Return the envelope of a queue file, None when its records cannot be read."""
    size_bytes = content_end = 0
    arrived_at = 0.0
    sender = ""
    recipients: list[str] = []
    offset = 0
    jumped_from: set[int] = set()
    while True:
        kind, body, end = _record(data, offset)
        if not kind or end > len(data) or body in jumped_from:
            return None  # torn, or in a circle
        offset = end
        if kind == _END:
            return Envelope(arrived_at, size_bytes, sender, tuple(recipients))
        if kind == _CONTENT:
            offset = max(end, content_end)
        elif kind == _POINTER:
            jumped_from.add(body)
            offset = pointer_target(data[body:end]) or end
        elif kind == _RECIPIENT:
            recipients.append(_text(data[body:end]))
        elif kind == _SENDER:
            sender = _text(data[body:end])
        elif kind == _TIME:
            arrived_at = float(_number(data[body:end], 0))
        elif kind == _SIZE:
            size_bytes = _number(data[body:end], 0)
            content_end = size_bytes + _number(data[body:end], 1)


def parse_deferrals(text: str) -> dict[str, Deferral]:
    """Return the last deferral of each recipient of a deferral log, in its order."""
    found: dict[str, Deferral] = {}
    for paragraph in text.split("\n\n"):
        lines = (line.partition("=") for line in paragraph.splitlines())
        fields = {name: value for name, equals, value in lines if equals and " " not in name}
        recipient = fields.get("recipient")
        if recipient is None:
            continue
        reason = fields.get("reason", "")
        host = fields.get("mta_mname") or _tried_host(reason)
        found[recipient] = Deferral(recipient, reason, host)
    return found


def _tried_host(reason: str) -> str | None:
    match = _TRIED_HOST.search(reason)
    return None if match is None else match.group(1) or match.group(2)


def _record(data: Readable, offset: int) -> tuple[bytes, int, int]:
    """Return a record's kind and where its body begins and ends."""
    head = bytes(data[offset : offset + 12])
    if not head:
        return b"", 0, 0
    skipped, length = read_length(head, 1)
    return head[:1], offset + skipped, offset + skipped + length


def _number(body: bytes, position: int) -> int:
    """Return one of the decimal words of a record; 0 for one that is missing or absurd."""
    words = body.split()
    word = words[position] if position < len(words) else b""
    return int(word) if word.isdigit() and len(word) <= _MOST_DIGITS else 0


def _text(body: bytes) -> str:
    return body.decode(errors="replace")
