"""Every packet of the milter protocol, as a class of its own.

Commands come from the MTA, replies and changes from the filter; some letters mean different
packets in the two directions, so there are two tables.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import ClassVar, Final, Self

from nodeagent.policy.codecs.milter import (
    ANY_NUMBER,
    NUL,
    U32,
    AddressPacket,
    BadPacket,
    FieldPacket,
    IndexedFieldPacket,
    Packet,
    RawPacket,
    TextPacket,
    TextsPacket,
    string,
    take_number,
    take_strings,
    text_of,
)

_U16: Final = struct.Struct("!H")
_NEGOTIATION: Final = struct.Struct("!III")


# Both ways


@dataclass(frozen=True, slots=True)
class Negotiate(Packet):
    """What both sides can do; the filter may add which macros it wants for which packet."""

    code: ClassVar[bytes] = b"O"
    version: int
    actions: int
    steps: int
    macros: tuple[tuple[int, str], ...] = ()

    def _write(self) -> bytes:
        lists = (U32.pack(stage) + string(names) for stage, names in self.macros)
        return _NEGOTIATION.pack(self.version, self.actions, self.steps) + b"".join(lists)

    @classmethod
    def _read(cls, payload: bytes) -> Self:
        if len(payload) < _NEGOTIATION.size:
            raise BadPacket("the negotiation is too short")
        version, actions, steps = _NEGOTIATION.unpack_from(payload)
        macros, rest = [], payload[_NEGOTIATION.size :]
        while rest:
            stage, rest = take_number(rest)
            names, ended, rest = rest.partition(NUL)
            if not ended:
                raise BadPacket("a list of macros is not ended by NUL")
            macros.append((stage, text_of(names)))
        return cls(version, actions, steps, tuple(macros))


# From the MTA


@dataclass(frozen=True, slots=True)
class Macros(Packet):
    """Values that the MTA has for the packet that follows; `command` is that packet's code."""

    code: ClassVar[bytes] = b"D"
    command: bytes
    values: tuple[tuple[str, str], ...] = ()

    def _write(self) -> bytes:
        return self.command + b"".join(string(text) for pair in self.values for text in pair)

    @classmethod
    def _read(cls, payload: bytes) -> Self:
        if not payload:
            raise BadPacket("macros for no packet")
        texts = take_strings(payload[1:], 0, ANY_NUMBER)
        if len(texts) % 2:
            raise BadPacket("a macro without a value")
        return cls(payload[:1], tuple(zip(texts[::2], texts[1::2], strict=True)))

    def get(self, name: str) -> str | None:
        """Return the value of a macro; "{i}" and "i" are the same name."""
        if not self.values:
            return None
        wanted = (name, f"{{{name}}}")
        return next((value for key, value in self.values if key in wanted), None)


@dataclass(frozen=True, slots=True)
class Connect(Packet):
    """A client connected; `family` is "4", "6", "L" (UNIX) or "U" (unknown, without the rest)."""

    code: ClassVar[bytes] = b"C"
    host: str
    family: str = "U"
    port: int = 0
    address: str = ""

    def _write(self) -> bytes:
        start = string(self.host) + self.family.encode("ascii")
        if self.family == "U":
            return start
        return start + _U16.pack(self.port) + string(self.address)

    @classmethod
    def _read(cls, payload: bytes) -> Self:
        host, ended, rest = payload.partition(NUL)
        family = rest[:1]
        if not ended or family not in {b"4", b"6", b"L", b"U"}:
            raise BadPacket("a connection of no known family")
        if family == b"U":
            return cls(text_of(host))
        if len(rest) < 1 + _U16.size:
            raise BadPacket("a connection without a port")
        (port,) = _U16.unpack_from(rest, 1)
        (address,) = take_strings(rest[1 + _U16.size :], 1, 1)
        return cls(text_of(host), family.decode("ascii"), port, address)


class Helo(TextPacket):
    """The client said HELO or EHLO."""

    __slots__ = ()
    code = b"H"


class Mail(TextsPacket):
    """MAIL: the sender in angle brackets, then each ESMTP parameter."""

    __slots__ = ()
    code = b"M"


class Rcpt(TextsPacket):
    """RCPT: the recipient in angle brackets, then each ESMTP parameter."""

    __slots__ = ()
    code = b"R"


class Data(Packet):
    """DATA."""

    __slots__ = ()
    code = b"T"


class HeaderField(FieldPacket):
    """A header field; folds are LF."""

    __slots__ = ()
    code = b"L"


class EndOfHeaders(Packet):
    """The empty line."""

    __slots__ = ()
    code = b"N"


class Body(RawPacket):
    """A part of the body, with CR LF."""

    __slots__ = ()
    code = b"B"


class EndOfMessage(RawPacket):
    """The message is whole; Sendmail may send the last part of the body with it."""

    __slots__ = ()
    code = b"E"


class Abort(Packet):
    """Forget this message, but not the session."""

    __slots__ = ()
    code = b"A"


class Quit(Packet):
    """The session is over."""

    __slots__ = ()
    code = b"Q"


class QuitNewConnection(Packet):
    """The session is over, another one follows on the same socket."""

    __slots__ = ()
    code = b"K"


class UnknownCommand(TextPacket):
    """The client sent an SMTP command that the MTA does not know."""

    __slots__ = ()
    code = b"U"


# From the filter


class Continue(Packet):
    """Go on."""

    __slots__ = ()
    code = b"c"


class Accept(Packet):
    """Take the message (or the whole session) without asking again."""

    __slots__ = ()
    code = b"a"


class Reject(Packet):
    """Refuse for good, in the MTA's words."""

    __slots__ = ()
    code = b"r"


class TempFail(Packet):
    """Refuse for now, in the MTA's words."""

    __slots__ = ()
    code = b"t"


class Discard(Packet):
    """Take the message and throw it away."""

    __slots__ = ()
    code = b"d"


class ConnectionFail(Packet):
    """Let the connection fail; Postfix does not know it."""

    __slots__ = ()
    code = b"f"


class Shutdown(Packet):
    """Answer 421 and close the session."""

    __slots__ = ()
    code = b"4"


class Progress(Packet):
    """The filter is still at work: start the time limit anew."""

    __slots__ = ()
    code = b"p"


class Skip(Packet):
    """Send no more packets of this kind for this message."""

    __slots__ = ()
    code = b"s"


class ReplyCode(TextPacket):
    """Refuse in these words: "550 5.7.1 text"; the MTA takes "%%" for "%"."""

    __slots__ = ()
    code = b"y"


class AddRecipient(TextPacket):
    """Add a recipient."""

    __slots__ = ()
    code = b"+"


class AddRecipientWith(AddressPacket):
    """Add a recipient with ESMTP parameters."""

    __slots__ = ()
    code = b"2"


class DeleteRecipient(TextPacket):
    """Take a recipient off."""

    __slots__ = ()
    code = b"-"


class ReplaceBody(RawPacket):
    """Put this in place of the body; several follow each other."""

    __slots__ = ()
    code = b"b"


class ChangeHeader(IndexedFieldPacket):
    """Replace the `index`th field of that name, from 1; an empty value takes it away."""

    __slots__ = ()
    code = b"m"


class AddHeader(FieldPacket):
    """Add a field below all others."""

    __slots__ = ()
    code = b"h"


class InsertHeader(IndexedFieldPacket):
    """Add a field as the `index`th of all, from 0, the MTA's own among them."""

    __slots__ = ()
    code = b"i"


class ChangeSender(AddressPacket):
    """Replace the envelope sender."""

    __slots__ = ()
    code = b"e"


class Quarantine(TextPacket):
    """Put the message on hold, for this reason."""

    __slots__ = ()
    code = b"q"


@dataclass(frozen=True, slots=True)
class SetMacros(Packet):
    """Which macros the filter wants; in practice it says so in `Negotiate`."""

    code: ClassVar[bytes] = b"l"
    stage: int
    names: str

    def _write(self) -> bytes:
        return U32.pack(self.stage) + string(self.names)

    @classmethod
    def _read(cls, payload: bytes) -> Self:
        stage, rest = take_number(payload)
        return cls(stage, take_strings(rest, 1, 1)[0])


COMMANDS: Final[dict[bytes, type[Packet]]] = {
    kind.code: kind
    for kind in (
        *(Negotiate, Macros, Connect, Helo, Mail, Rcpt, Data, HeaderField, EndOfHeaders, Body),
        *(EndOfMessage, Abort, Quit, QuitNewConnection, UnknownCommand),
    )
}
"""What an MTA sends."""

REPLIES: Final[dict[bytes, type[Packet]]] = {
    kind.code: kind
    for kind in (
        *(Negotiate, Continue, Accept, Reject, TempFail, Discard, ConnectionFail, Shutdown),
        *(Progress, Skip, ReplyCode, AddRecipient, AddRecipientWith, DeleteRecipient, ReplaceBody),
        *(ChangeHeader, AddHeader, InsertHeader, ChangeSender, Quarantine, SetMacros),
    )
}
"""What a filter sends."""
