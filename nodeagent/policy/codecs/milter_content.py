"""What milter packets carry, in the policy's own words: the client, addresses, a message."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from nodeagent.policy.codecs import milter_packets as wire
from nodeagent.policy.codecs.milter import BadPacket
from nodeagent.policy.model import Client, Decision, Header, Message, Reply, Verdict
from nodeagent.policy.ports import Unjudged, unjudged

HEADER_OVERHEAD_BYTES: Final = 200
RECIPIENT_OVERHEAD_BYTES: Final = 100
"""What Python needs to hold one beside its text."""
TOO_MANY_HEADERS: Final = unjudged(
    Unjudged.HEADERS,
    Verdict.REJECT,
    Reply(552, "5.3.4", "The headers of this message are too long"),
)


def address_in(argument: str) -> str:
    """Return an address of MAIL or RCPT without its angle brackets."""
    if argument.startswith("<") and argument.endswith(">"):
        return argument[1:-1]
    return argument


def client_of(packet: wire.Connect) -> Client:
    """Return who connected; raises `BadPacket` for an address that is none."""
    is_unnamed = packet.host.startswith("[") or packet.host.lower() == "unknown"
    name = None if is_unnamed else packet.host
    if packet.family not in {"4", "6"}:
        return Client(None, 0, name)
    return Client(_ip(packet.address), packet.port, name)


def _ip(text: str) -> IPv4Address | IPv6Address:
    """Read an address as Postfix ("2001:db8::1") or Sendmail ("IPv6:2001:db8::1") writes it."""
    plain = text[5:] if text[:5].lower() == "ipv6:" else text
    try:
        address = ip_address(plain.partition("%")[0])
    except ValueError as error:
        raise BadPacket("a client's address is no IP address") from error
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


class Content:
    """The content of the message that is coming in, as far as it is kept."""

    __slots__ = ("body_bytes", "headers", "held_bytes", "parts", "problem")

    def __init__(self) -> None:
        self.headers: list[Header] = []
        self.parts: list[bytes] = []
        self.body_bytes = 0
        self.held_bytes = 0
        self.problem: Decision | None = None  # what the whole message is refused for

    def give_up(self, problem: Decision) -> None:
        """Keep nothing of this message, and refuse it at its end."""
        self.headers, self.parts, self.held_bytes = [], [], 0
        self.problem = problem

    def add_header(self, packet: wire.HeaderField, limit_bytes: int) -> None:
        """Keep a header; where they get too long the whole message is refused."""
        if self.problem is not None:
            return
        value = packet.value
        if "\n" in value:
            value = value.replace("\r\n", "\n").replace("\n", "\r\n")
        self.headers.append(Header(packet.name, value))
        self.held_bytes += len(packet.name) + len(value) + HEADER_OVERHEAD_BYTES
        if self.held_bytes > limit_bytes:
            self.give_up(TOO_MANY_HEADERS)

    def add_body(self, data: bytes, limit_bytes: int) -> None:
        """Keep a part of the body as far as the limit allows, and count all of it."""
        room = limit_bytes - self.body_bytes
        self.body_bytes += len(data)
        if room > 0 and data and self.problem is None:
            kept = data[:room]
            self.parts.append(kept)
            self.held_bytes += len(kept)

    def message(self, queue_id: str | None) -> Message:
        """Return the message as the policy judges it."""
        return Message(tuple(self.headers), b"".join(self.parts), self.body_bytes, queue_id)
