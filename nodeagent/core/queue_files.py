"""Postfix's queue files: their kinds, where they lie in a queue, and whether one is whole.

Theory of operation. A message is known by its queue id. It hops incoming -> active -> deferred and
back, which changes nothing about it, so these three places are one kind, `mail`; `hold` is a kind
of its own, because held mail must come back held. `defer`, `bounce` and `trace` are the logs that
go with a message. A key is a kind and an id, and it is all that a mirror knows of a place.

A queue file is a sequence of records (Postfix, src/global/record.c): a type byte, a length in
groups of seven bits, low group first, then that many bytes. The first record is `C` (size), the
last one in reading order `E` (end); `p` records (pointers) send the reader elsewhere in the file,
where a milter has edited the message.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Final, NamedTuple

from nodeagent.core.names import is_queue_id


class Kind(StrEnum):
    """What a queue file is, whatever directory it is in at the moment."""

    MAIL = "mail"
    HOLD = "hold"
    DEFER = "defer"
    BOUNCE = "bounce"
    TRACE = "trace"


class Key(NamedTuple):
    """One queue file of one queue, wherever it lies."""

    kind: Kind
    id: str


class Facts(NamedTuple):
    """What is compared of a file: its size and its modification time (for mail: the next try)."""

    size: int
    mtime_ns: int


MESSAGE_KINDS: Final = (Kind.MAIL, Kind.HOLD)
MESSAGE_MODE: Final = 0o700  # mail_queue.h: MAIL_QUEUE_STAT_READY; 0600 is still being written
LOG_MODE: Final = 0o600
DIRECTORIES: Final = {
    "incoming": Kind.MAIL,
    "active": Kind.MAIL,
    "deferred": Kind.MAIL,
    "hold": Kind.HOLD,
    "defer": Kind.DEFER,
    "bounce": Kind.BOUNCE,
    "trace": Kind.TRACE,
}
MAX_HASH_DEPTH: Final = 2  # postconf(5), hash_queue_depth; its default is 1

_BASE52_DIGITS: Final = "0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz"
_DIGIT_VALUE: Final = {digit: value for value, digit in enumerate(_BASE52_DIGITS)}
_MICROSECOND_DIGITS: Final = 4
_PRINTABLE: Final = range(0x21, 0x7F)
_POINTER: Final = ord("p")
_END: Final = ord("E")
_MOST_JUMPS: Final = 100_000
_POINTER_DIGITS: Final = 18


def is_message(kind: Kind) -> bool:
    """Tell whether files of this kind are messages, not logs about them."""
    return kind in MESSAGE_KINDS


def mode_of(kind: Kind) -> int:
    """Return the permission bits that a complete file of this kind has."""
    return MESSAGE_MODE if is_message(kind) else LOG_MODE


def hashed_directory(queue_id: str, depth: int = 1) -> str:
    """Return the sub-directory, such as "A" or "A/3", in which a hashed queue keeps this id.

    Postfix hashes a long id by its microseconds, written as five hexadecimal digits
    (mail_queue_dir(3), `MQID_LG_GET_HEX_USEC`).
    """
    digits = queue_id[: queue_id.rindex("z")][-_MICROSECOND_DIGITS:]
    microseconds = 0
    for digit in digits:
        microseconds = microseconds * len(_BASE52_DIGITS) + _DIGIT_VALUE[digit]
    return "/".join(f"{microseconds:05X}"[:depth])


def candidate_paths(kind: Kind, queue_id: str) -> Iterator[str]:
    """Yield every path, relative to queue_directory, at which a file may lie, likeliest first.

    All hash depths are tried: after a change of `hash_queue_names` files stay where they were.
    """
    hashed = [hashed_directory(queue_id, depth) for depth in range(1, MAX_HASH_DEPTH + 1)]
    names = [name for name, of_kind in DIRECTORIES.items() if of_kind is kind]
    for name in names:
        yield f"{name}/{queue_id}"
        for sub in hashed:
            yield f"{name}/{sub}/{queue_id}"


def is_hash_directory(name: str) -> bool:
    """Tell whether a directory's name is one level of a hashed queue."""
    return len(name) == 1 and name in "0123456789ABCDEF"


def parse_key(kind: str, queue_id: str) -> Key | None:
    """Return the key for two words of a peer, None if they name no queue file."""
    if kind not in Kind.__members__.values() or not is_queue_id(queue_id):
        return None
    return Key(Kind(kind), queue_id)


def looks_whole(head: bytes, tail: bytes) -> bool:
    """Tell from its first and last two bytes that a file begins and ends as a message does.

    False does not mean that it is broken: a message that a milter has edited may end otherwise.
    """
    return head[:1] == b"C" and tail[-2:] == b"E\0"


def find_defect(data: bytes) -> str | None:
    """Return what is wrong with a message file's records, None if it reads from start to end."""
    if data[:1] != b"C":
        return "it does not begin with a size record"
    offset, jumps = 0, 0
    while offset < len(data):
        kind = data[offset]
        body, length = read_length(data, offset + 1)
        end = body + length
        if kind not in _PRINTABLE or end > len(data):
            return f"the record at byte {offset} is torn"
        if kind == _END:
            return None
        offset = end
        if kind == _POINTER:
            target = pointer_target(data[body:end])
            jumps += 1
            if target is None or jumps > _MOST_JUMPS:
                return "a pointer record leads nowhere"
            offset = target or end
    return "it has no end record"


def read_length(data: bytes, offset: int) -> tuple[int, int]:
    """Return where the record's bytes begin and how many they are; a torn length is too long."""
    length, shift = 0, 0
    while offset < len(data):
        byte = data[offset]
        offset += 1
        length |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - the continuation bit
            return offset, length
        shift += 7
    return offset, 1 << 62


def pointer_target(body: bytes) -> int | None:
    """Return the offset that a pointer record names; 0 means: read on."""
    text = body.strip()
    return int(text) if text.isdigit() and len(text) <= _POINTER_DIGITS else None
