"""Milter packets on a stream of bytes: written, and taken from any pieces it arrives in."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator, Mapping
from typing import Final

from nodeagent.policy.codecs.milter import Packet, PacketCut, PacketTooLong, UnknownPacket
from nodeagent.policy.codecs.milter_packets import COMMANDS, Macros

_LENGTH: Final = struct.Struct("!I")
_HEAD: Final = struct.Struct("!Ic")
LONGEST_PACKET: Final = 1024 * 1024
"""Postfix sends bodies in parts of 64 kB and headers of up to `header_size_limit` (100 kB)."""
HEAD_BYTES: Final = _HEAD.size
MACROS: Final = Macros.code
ANY_PACKET: Final = frozenset(bytes((code,)) for code in range(256)) | {b""}


def encode(packet: Packet) -> bytes:
    """Return a packet as it travels; raises ValueError when a text of it holds a NUL."""
    payload = packet.payload()
    return _LENGTH.pack(len(payload) + 1) + packet.code + payload


class PacketStream:
    """Takes packets from a stream: give it bytes by `feed`, then take what is whole by `next`.

    It holds what was fed and not taken, which is never parsed ahead: who stops asking stops work.
    Macros for other packets than `macros_for` are left out unread: Postfix sends some, mostly none,
    with each header.
    """

    def __init__(
        self,
        kinds: Mapping[bytes, type[Packet]] = COMMANDS,
        longest_bytes: int = LONGEST_PACKET,
        macros_for: Collection[bytes] = ANY_PACKET,
    ) -> None:
        self._macros_for = macros_for
        self._kinds = kinds
        self._longest_bytes = longest_bytes
        self._held: bytes | bytearray = b""
        self._start = 0

    @property
    def held_bytes(self) -> int:
        """Return how much was fed and not taken."""
        return len(self._held) - self._start

    def feed(self, data: bytes) -> None:
        """Add what came."""
        if not self.held_bytes:
            self._held = data
        elif isinstance(self._held, bytes):
            self._held = bytearray(self._held[self._start :] + data)
        else:
            del self._held[: self._start]
            self._held += data
        self._start = 0

    def next(self) -> Packet | None:
        """Take the next packet, or None when it is not whole yet.

        Raises `PacketTooLong`, `UnknownPacket`, `BadPacket`; then the stream is of no more use.
        """
        held, start, kinds = self._held, self._start, self._kinds
        held_bytes = len(held)
        while held_bytes - start >= HEAD_BYTES:
            length, code = _HEAD.unpack_from(held, start)
            kind = kinds.get(code)
            if kind is None or not 1 <= length <= self._longest_bytes:
                break
            first = start + HEAD_BYTES
            end = first + length - 1
            if end > held_bytes:
                return None
            self._start = end
            if code != MACROS or bytes(held[first : first + 1]) in self._macros_for:
                return kind.parse(bytes(held[first:end]))
            start = end
        self._refuse(held, start)
        return None

    def _refuse(self, held: bytes | bytearray, start: int) -> None:
        """Raise what is wrong with the packet that begins here, if that can be seen already."""
        if len(held) - start < _LENGTH.size:
            return
        (length,) = _LENGTH.unpack_from(held, start)
        code = bytes(held[start + _LENGTH.size : start + HEAD_BYTES])
        if length > self._longest_bytes:
            raise PacketTooLong(f"a packet of {length} bytes, at most {self._longest_bytes}")
        if length < 1:
            raise UnknownPacket("a packet without a kind")
        if code and code not in self._kinds:
            raise UnknownPacket(f"a packet of the unknown kind {code!r}")

    def __iter__(self) -> Iterator[Packet]:
        while (packet := self.next()) is not None:
            yield packet

    def end(self) -> None:
        """Say that nothing more comes; raises `PacketCut` in the middle of a packet."""
        if self.held_bytes:
            raise PacketCut(f"the connection ended {self.held_bytes} bytes into a packet")
