"""A small DNS server on a free port of 127.0.0.1: answers from a table, fails or is silent."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import dns.flags
import dns.message
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

SERVFAIL = "SERVFAIL"
SILENCE = "SILENCE"
TTL_S = 60


class DnsServer:
    """`zone` has records by name in lower case and type, or SERVFAIL or SILENCE for a name."""

    def __init__(self) -> None:
        self.zone: dict[str, dict[str, list[str]] | str] = {}
        self.asked: list[tuple[str, str]] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._socket.getsockname()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def txt(self, name: str, *texts: str) -> None:
        """Give a name TXT records, long ones in pieces."""
        pieces = [
            " ".join(f'"{text[at : at + 200]}"' for at in range(0, len(text) or 1, 200))
            for text in texts
        ]
        self.add(name, "TXT", *pieces)

    def add(self, name: str, kind: str, *values: str) -> None:
        """Give a name records of one type."""
        records = self.zone.setdefault(name.lower(), {})
        assert isinstance(records, dict)
        records[kind] = list(values)

    def close(self) -> None:
        """End the server."""
        self._socket.sendto(b"", self.address)
        self._thread.join(10)
        self._socket.close()

    def _serve(self) -> None:
        while True:
            packet, peer = self._socket.recvfrom(65_535)
            if not packet:
                return
            answer = self._answer(dns.message.from_wire(packet))
            if answer is not None:
                self._socket.sendto(answer.to_wire(max_size=65_535), peer)

    def _answer(self, query: dns.message.Message) -> dns.message.Message | None:
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        kind = dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, kind))
        records = self.zone.get(name)
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.RA
        if records == SILENCE:
            return None
        if records == SERVFAIL:
            answer.set_rcode(dns.rcode.SERVFAIL)
        elif not isinstance(records, dict):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        elif kind in records:
            rrset = dns.rrset.from_text_list(
                question.name, TTL_S, dns.rdataclass.IN, question.rdtype, records[kind]
            )
            answer.answer.append(rrset)
        return answer


@contextmanager
def running_dns() -> Iterator[DnsServer]:
    """Run a server as long as the block."""
    server = DnsServer()
    try:
        yield server
    finally:
        server.close()
