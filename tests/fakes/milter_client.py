"""A milter client on a real socket, blocking: what an MTA does, byte by byte if need be."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Self

from nodeagent.policy.codecs.milter import Packet
from nodeagent.policy.codecs.milter_packets import REPLIES, Progress
from nodeagent.policy.codecs.milter_stream import PacketStream, encode
from tests.fakes.milter_dialogue import POSTFIX_OFFERS


class MilterClient:
    """Connects to a UNIX socket, or to a port of the loopback."""

    def __init__(self, where: Path | int) -> None:
        if isinstance(where, int):
            self.socket = socket.create_connection(("127.0.0.1", where))
        else:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.connect(str(where))
        self.socket.settimeout(60)
        self._stream = PacketStream(REPLIES)
        self.progress = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, *packets: Packet) -> None:
        """Send packets in one piece."""
        self.socket.sendall(b"".join(map(encode, packets)))

    def send_until_stuck(self, data: bytes, limit_bytes: int) -> int:
        """Send this over and over until the other side takes no more; return how much it took."""
        self.socket.settimeout(1)
        sent = 0
        try:
            while sent < limit_bytes:
                sent += self.socket.send(data[sent % len(data) :])
        except TimeoutError:
            pass
        self.socket.settimeout(60)
        return sent

    def receive(self) -> Packet | None:
        """Return the next reply that is no progress; None when the connection was closed."""
        while True:
            packet = self._stream.next()
            if isinstance(packet, Progress):
                self.progress += 1
            elif packet is not None:
                return packet
            else:
                try:
                    data = self.socket.recv(65_536)
                except ConnectionResetError:
                    return None
                if not data:
                    return None
                self._stream.feed(data)

    def ask(self, *packets: Packet) -> Packet | None:
        """Send packets and return the first reply."""
        self.send(*packets)
        return self.receive()

    def begin(self, *packets: Packet) -> list[Packet | None]:
        """Negotiate, then send packets, each of which is answered."""
        self.ask(POSTFIX_OFFERS)
        return [self.ask(packet) for packet in packets]
