"""The milter protocol, version 6: its packets as values, and their bytes.

Theory of operation. Every packet is a 32-bit length, one byte that says which packet it is, and a
payload. Each packet is one frozen class here that can write its payload and read it back; strings
end with NUL and keep bytes that are not UTF-8 as surrogates. `milter_stream` puts packets on a
stream and takes them from it, `milter_session` knows what they mean. Nothing here does I/O.

There is no written standard: what is said here follows Postfix's `src/milter/milter8.c` and the
public constants of Sendmail's libmilter.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import ClassVar, Final, Self

VERSION: Final = 6
NUL: Final = b"\0"
U32: Final = struct.Struct("!I")


class MilterError(Exception):
    """The other side does not speak the milter protocol; the connection is of no more use."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or self.__doc__)


class PacketTooLong(MilterError):
    """A packet says that it is longer than any that we take."""


class PacketCut(MilterError):
    """The connection ended in the middle of a packet."""


class UnknownPacket(MilterError):
    """A packet is of a kind that the protocol does not have."""


class BadPacket(MilterError):
    """A packet's payload is not what its kind has."""


class OutOfOrder(MilterError):
    """A packet came at a time when it makes no sense."""


class Actions(IntFlag):
    """What a filter may do to a message (SMFIF)."""

    ADD_HEADERS = 1 << 0
    CHANGE_BODY = 1 << 1
    ADD_RECIPIENTS = 1 << 2
    DELETE_RECIPIENTS = 1 << 3
    CHANGE_HEADERS = 1 << 4
    QUARANTINE = 1 << 5
    CHANGE_SENDER = 1 << 6
    ADD_RECIPIENTS_WITH = 1 << 7
    SET_MACROS = 1 << 8


class Steps(IntFlag):
    """What the MTA need not send, and what the filter will not answer (SMFIP)."""

    NO_CONNECT = 1 << 0
    NO_HELO = 1 << 1
    NO_MAIL = 1 << 2
    NO_RCPT = 1 << 3
    NO_BODY = 1 << 4
    NO_HEADERS = 1 << 5
    NO_END_OF_HEADERS = 1 << 6
    NO_REPLY_HEADER = 1 << 7
    NO_UNKNOWN = 1 << 8
    NO_DATA = 1 << 9
    SKIP = 1 << 10
    REJECTED_RCPT = 1 << 11
    NO_REPLY_CONNECT = 1 << 12
    NO_REPLY_HELO = 1 << 13
    NO_REPLY_MAIL = 1 << 14
    NO_REPLY_RCPT = 1 << 15
    NO_REPLY_DATA = 1 << 16
    NO_REPLY_UNKNOWN = 1 << 17
    NO_REPLY_END_OF_HEADERS = 1 << 18
    NO_REPLY_BODY = 1 << 19
    LEADING_SPACE = 1 << 20


class MacroStage(IntEnum):
    """For which of its packets the MTA is told which macros to send (SMFIM)."""

    CONNECT = 0
    HELO = 1
    MAIL = 2
    RCPT = 3
    DATA = 4
    END_OF_MESSAGE = 5
    END_OF_HEADERS = 6


def text_of(raw: bytes) -> str:
    """Return bytes of the wire as text; what is not UTF-8 becomes surrogates."""
    return raw.decode("utf-8", "surrogateescape")


def bytes_of(text: str) -> bytes:
    """Return what `text_of` was given; lone surrogates that never were bytes become "?"."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")


def string(text: str) -> bytes:
    """Return a string as it travels; raises ValueError when it holds a NUL."""
    raw = bytes_of(text)
    if NUL in raw:
        raise ValueError("no string of the milter protocol holds a NUL")
    return raw + NUL


def take_strings(payload: bytes, least: int, most: int) -> list[str]:
    """Return all strings of a payload, each ended by NUL; raises `BadPacket`."""
    parts = payload.split(NUL)
    if parts.pop() or not least <= len(parts) <= most:
        raise BadPacket(f"{len(parts)} strings ended by NUL, where {least} to {most} stand")
    return [text_of(part) for part in parts]


def take_number(payload: bytes) -> tuple[int, bytes]:
    """Return the number that a payload begins with, and the rest; raises `BadPacket`."""
    if len(payload) < U32.size:
        raise BadPacket("the payload is too short for a number")
    return U32.unpack_from(payload)[0], payload[U32.size :]


ANY_NUMBER: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet without a payload; those with one say how it is written and read."""

    code: ClassVar[bytes]

    def payload(self) -> bytes:
        """Return the bytes behind the code; raises ValueError for what cannot be sent."""
        return self._write()

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """Read a payload; raises `BadPacket`."""
        return cls._read(payload)

    def _write(self) -> bytes:
        return b""

    @classmethod
    def _read(cls, payload: bytes) -> Self:
        if payload:
            raise BadPacket(f"{len(payload)} bytes behind {cls.code!r}, which has none")
        return cls()


@dataclass(frozen=True, slots=True)
class TextPacket(Packet):
    """A packet that is one string."""

    text: str

    def _write(self) -> bytes:
        return string(self.text)

    @classmethod
    def _read(cls, payload: bytes) -> Self:
        return cls(take_strings(payload, 1, 1)[0])


@dataclass(frozen=True, slots=True)
class TextsPacket(Packet):
    """A packet that is one string or more: an address, then its ESMTP parameters."""

    arguments: tuple[str, ...]

    def _write(self) -> bytes:
        return b"".join(map(string, self.arguments))

    @classmethod
    def _read(cls, payload: bytes) -> Self:
        return cls(tuple(take_strings(payload, 1, ANY_NUMBER)))


@dataclass(frozen=True, slots=True)
class RawPacket(Packet):
    """A packet that is bytes of the body."""

    data: bytes

    def _write(self) -> bytes:
        return self.data

    @classmethod
    def _read(cls, payload: bytes) -> Self:
        return cls(payload)


@dataclass(frozen=True, slots=True)
class FieldPacket(Packet):
    """A packet that is a header field."""

    name: str
    value: str

    def _write(self) -> bytes:
        return string(self.name) + string(self.value)

    @classmethod
    def _read(cls, payload: bytes) -> Self:
        parts = payload.split(NUL)
        if len(parts) != 3 or parts[2]:  # noqa: PLR2004
            raise BadPacket("a header field is no two strings ended by NUL")
        return cls(text_of(parts[0]), text_of(parts[1]))


@dataclass(frozen=True, slots=True)
class IndexedFieldPacket(Packet):
    """A packet that is a place and a header field."""

    index: int
    name: str
    value: str

    def _write(self) -> bytes:
        return U32.pack(self.index) + string(self.name) + string(self.value)

    @classmethod
    def _read(cls, payload: bytes) -> Self:
        index, rest = take_number(payload)
        name, value = take_strings(rest, 2, 2)
        return cls(index, name, value)


@dataclass(frozen=True, slots=True)
class AddressPacket(Packet):
    """A packet that is an address and, if there are any, its ESMTP parameters."""

    address: str
    parameters: str = ""

    def _write(self) -> bytes:
        return string(self.address) + (string(self.parameters) if self.parameters else b"")

    @classmethod
    def _read(cls, payload: bytes) -> Self:
        return cls(*take_strings(payload, 1, 2))
