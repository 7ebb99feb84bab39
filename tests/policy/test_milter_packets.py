"""The milter codec: what is written can be read, in any pieces, and nothing crashes it."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.policy.codecs import milter, milter_packets
from nodeagent.policy.codecs.milter import (
    BadPacket,
    MilterError,
    Packet,
    PacketCut,
    PacketTooLong,
    UnknownPacket,
    bytes_of,
    text_of,
)
from nodeagent.policy.codecs.milter_packets import COMMANDS, REPLIES
from nodeagent.policy.codecs.milter_stream import LONGEST_PACKET, PacketStream, encode

TEXT = st.binary(max_size=40).map(lambda raw: text_of(raw.replace(b"\0", b"")))
SOME_TEXT = TEXT.filter(bool)
NUMBER = st.integers(0, 2**32 - 1)
FIELDS: dict[type[Packet], st.SearchStrategy[tuple[object, ...]]] = {
    milter.TextPacket: st.tuples(TEXT),
    milter.TextsPacket: st.tuples(st.lists(TEXT, min_size=1, max_size=5).map(tuple)),
    milter.RawPacket: st.tuples(st.binary(max_size=200)),
    milter.FieldPacket: st.tuples(TEXT, TEXT),
    milter.IndexedFieldPacket: st.tuples(NUMBER, TEXT, TEXT),
    milter.AddressPacket: st.one_of(st.tuples(TEXT), st.tuples(TEXT, SOME_TEXT)),
    milter_packets.Negotiate: st.tuples(
        *(NUMBER, NUMBER, NUMBER), st.lists(st.tuples(NUMBER, TEXT), max_size=4).map(tuple)
    ),
    milter_packets.Macros: st.tuples(
        st.binary(min_size=1, max_size=1), st.lists(st.tuples(TEXT, TEXT), max_size=4).map(tuple)
    ),
    milter_packets.Connect: st.one_of(
        st.tuples(TEXT),
        st.tuples(TEXT, st.sampled_from("46L"), st.integers(0, 65_535), TEXT),
    ),
    milter_packets.SetMacros: st.tuples(NUMBER, TEXT),
}


def packets_of(kind: type[Packet]) -> st.SearchStrategy[Packet]:
    """Return a strategy for all packets of a kind."""
    fields = next((made for base, made in FIELDS.items() if issubclass(kind, base)), st.just(()))
    return fields.map(lambda values: kind(*values))


ANY_COMMAND = st.one_of(*map(packets_of, COMMANDS.values()))
ANY_REPLY = st.one_of(*map(packets_of, REPLIES.values()))


def test_every_letter_of_the_protocol_is_there() -> None:
    """Postfix's tables of commands and replies, letter by letter."""
    assert b"".join(sorted(COMMANDS)) == bytes(sorted(b"CHMRTLNBEDAQKUO"))
    assert b"".join(sorted(REPLIES)) == bytes(sorted(b"cardtyfp4+-2bmhieqslO"))


@given(ANY_COMMAND)
def test_a_command_is_read_as_it_was_written(packet: Packet) -> None:
    """Encoding and decoding are each other's inverse for what an MTA sends."""
    stream = PacketStream()
    stream.feed(encode(packet))
    assert list(stream) == [packet]
    stream.end()


@given(ANY_REPLY)
def test_a_reply_is_read_as_it_was_written(packet: Packet) -> None:
    """Encoding and decoding are each other's inverse for what a filter sends."""
    stream = PacketStream(REPLIES)
    stream.feed(encode(packet))
    assert list(stream) == [packet]
    stream.end()


@given(st.lists(ANY_COMMAND, max_size=8), st.data())
def test_any_split_of_the_stream_gives_the_same_packets(
    packets: list[Packet], data: st.DataObject
) -> None:
    """It does not matter where the network cuts, nor whether packets are taken in between."""
    wire = b"".join(map(encode, packets))
    cuts = data.draw(st.lists(st.integers(0, len(wire)), max_size=20).map(sorted))
    stream, taken = PacketStream(), []
    for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        stream.feed(wire[start:end])
        if data.draw(st.booleans()):
            taken += list(stream)
    assert taken + list(stream) == packets
    assert stream.held_bytes == 0


@given(st.one_of(st.binary(max_size=300), st.lists(ANY_COMMAND, max_size=3)), st.data())
def test_random_bytes_give_packets_or_a_named_error(
    start: bytes | list[Packet], data: st.DataObject
) -> None:
    """Bytes that are no milter stream never end in anything but a `MilterError`."""
    wire = start if isinstance(start, bytes) else b"".join(map(encode, start))
    noise = bytearray(wire)
    for _ in range(data.draw(st.integers(0, 4))):
        if noise:
            noise[data.draw(st.integers(0, len(noise) - 1))] = data.draw(st.integers(0, 255))
    stream, problem = PacketStream(), "none"
    try:
        stream.feed(bytes(noise))
        for packet in stream:
            assert type(packet) in COMMANDS.values()
        stream.end()
    except MilterError as error:
        problem = str(error)
    assert problem


@given(st.sampled_from(sorted(COMMANDS)), st.binary(max_size=60))
def test_random_payloads_are_read_whole_or_refused(code: bytes, payload: bytes) -> None:
    """What a payload is read as is written as the same bytes again, so nothing is made up."""
    try:
        packet = COMMANDS[code].parse(payload)
    except BadPacket:
        return
    is_connection = isinstance(packet, milter_packets.Connect)
    if not (is_connection and packet.family == "U"):
        assert packet.payload() == payload


def test_one_byte_at_a_time_is_enough() -> None:
    """A long packet that drips in is held once, and comes out whole."""
    wire = encode(milter_packets.Body(b"x" * 50_000))
    stream = PacketStream()
    for place in range(len(wire) - 1):
        stream.feed(wire[place : place + 1])
        assert stream.next() is None
    assert stream.held_bytes == len(wire) - 1
    stream.feed(wire[-1:])
    assert stream.next() == milter_packets.Body(b"x" * 50_000)


def test_a_packet_that_says_it_is_too_long_is_refused_at_once() -> None:
    """Four bytes are enough to know; nothing of the rest is waited for."""
    stream = PacketStream()
    stream.feed(struct.pack("!I", LONGEST_PACKET + 1))
    with pytest.raises(PacketTooLong, match=f"{LONGEST_PACKET + 1} bytes"):
        stream.next()


def test_the_longest_packet_is_taken() -> None:
    """The limit itself is allowed."""
    packet = milter_packets.Body(b"x" * (LONGEST_PACKET - 1))
    stream = PacketStream()
    stream.feed(encode(packet))
    assert stream.next() == packet


@pytest.mark.parametrize("code", [b"\0", b"Z", b"c", b"\xff"])
def test_an_unknown_packet_is_named_before_it_is_whole(code: bytes) -> None:
    """The letter decides; a filter's reply is no command, either."""
    stream = PacketStream()
    stream.feed(struct.pack("!I", 100) + code)
    with pytest.raises(UnknownPacket, match="unknown kind"):
        stream.next()


def test_a_packet_without_a_letter_is_unknown() -> None:
    """A length of zero is no packet."""
    stream = PacketStream()
    stream.feed(struct.pack("!I", 0))
    with pytest.raises(UnknownPacket, match="without a kind"):
        stream.next()


@pytest.mark.parametrize("length", [1, 3, 5, 9])
def test_a_cut_packet_is_named(length: int) -> None:
    """The end of the stream in the middle of a packet is an error, between packets it is not."""
    wire = encode(milter_packets.Helo("client.example"))
    stream = PacketStream()
    stream.feed(wire + wire[:length])
    assert list(stream) == [milter_packets.Helo("client.example")]
    with pytest.raises(PacketCut, match=f"{length} bytes into a packet"):
        stream.end()


@pytest.mark.parametrize(
    ("code", "payload"),
    [
        (b"H", b"client.example"),
        (b"H", b"a\0b\0"),
        (b"H", b""),
        (b"M", b""),
        (b"R", b"<a@b>"),
        (b"L", b"Subject\0"),
        (b"L", b"Subject\0a\0b\0"),
        (b"L", b"Subject\0a"),
        (b"Q", b"x"),
        (b"D", b""),
        (b"D", b"Ci\0"),
        (b"C", b"host"),
        (b"C", b"host\0"),
        (b"C", b"host\x00X"),
        (b"C", b"host\x004\0"),
        (b"C", b"host\x004\0\x19192.0.2.1"),
        (b"O", b"\0\0\0\x06\0\0\0"),
        (b"O", bytes(12) + b"\0\0"),
        (b"O", bytes(12) + b"\0\0\0\0i"),
    ],
)
def test_a_malformed_payload_is_named(code: bytes, payload: bytes) -> None:
    """Strings without an end, too many or too few of them, numbers cut short."""
    with pytest.raises(BadPacket):
        COMMANDS[code].parse(payload)


@pytest.mark.parametrize(
    ("packet", "wire"),
    [
        (milter_packets.Helo("h"), b"\0\0\0\x03Hh\0"),
        (milter_packets.Connect("h", "4", 25, "1.2.3.4"), b"\0\0\0\x0eCh\x004\0\x191.2.3.4\0"),
        (milter_packets.Connect("h"), b"\0\0\0\x04Ch\x00U"),
        (milter_packets.Mail(("<a@b>", "SIZE=1")), b"\0\0\0\x0eM<a@b>\0SIZE=1\0"),
        (milter_packets.HeaderField("S", " x"), b"\0\0\0\x06LS\0 x\0"),
        (milter_packets.Negotiate(6, 1, 2, ((5, "i"),)), bytes.fromhex("00000013 4f 00000006")
         + bytes.fromhex("00000001 00000002 00000005 6900")),
        (milter_packets.ChangeHeader(1, "S", ""), b"\0\0\0\x08m\0\0\0\x01S\0\0"),
        (milter_packets.AddRecipientWith("<a>", ""), b"\0\0\0\x052<a>\0"),
        (milter_packets.ReplyCode("550 5.7.1 no"), b"\0\0\0\x0ey550 5.7.1 no\0"),
        (milter_packets.Progress(), b"\0\0\0\x01p"),
    ],
)  # fmt: skip
def test_bytes_are_those_of_the_protocol(packet: Packet, wire: bytes) -> None:
    """Samples by hand, so that a mistake on both sides of the codec cannot hide."""
    assert encode(packet) == wire


def test_a_text_with_nul_cannot_be_sent() -> None:
    """It would end the string and begin another one."""
    with pytest.raises(ValueError, match="NUL"):
        encode(milter_packets.Quarantine("a\0b"))


def test_macros_are_found_by_both_spellings() -> None:
    """Sendmail and Postfix write one-letter macros with and without braces."""
    macros = milter_packets.Macros(b"M", (("i", "4fXz"), ("{auth_authen}", "jane")))
    assert macros.get("i") == "4fXz"
    assert macros.get("auth_authen") == "jane"
    assert macros.get("tls_version") is None


@given(st.text(max_size=20))
def test_any_text_can_become_bytes(text: str) -> None:
    """Also one with lone surrogates, which no bytes ever were."""
    assert isinstance(bytes_of(text), bytes)


def test_bytes_that_are_not_utf8_come_back() -> None:
    """Latin-1 in a header is not lost, nor turned into anything else."""
    assert bytes_of(text_of(b"gr\xfc\xdfe")) == b"gr\xfc\xdfe"
    assert bytes_of("\ud800x") == b"?x"
