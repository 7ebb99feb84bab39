"""A next hop that speaks SMTP on loopback: with TLS and AUTH, and with the faults of real ones."""

from __future__ import annotations

import base64
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class NextHop:
    """What it offers and how it answers; `heard` are the lines that clients sent."""

    offers: tuple[str, ...] = ()
    offers_with_tls: tuple[str, ...] = ()
    answers: Mapping[str, str] = field(default_factory=dict)
    banner: str = "220 next.hop ESMTP"
    certificate: Path | None = None
    port: int = 0
    heard: list[str] = field(default_factory=list)

    @contextmanager
    def serve(self) -> Iterator[NextHop]:
        """Listen until the end of the block, one connection after the other."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = listener.getsockname()[1]
            thread = threading.Thread(target=self._accept, args=(listener,), daemon=True)
            thread.start()
            yield self
            listener.shutdown(socket.SHUT_RDWR)
        thread.join(timeout=5)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            try:
                self._talk(connection)
            except OSError:
                continue
            finally:
                connection.close()

    def _talk(self, connection: socket.socket) -> None:
        _send(connection, self.banner)
        has_tls = False
        while True:
            line = _receive(connection)
            if line is None:
                return
            self.heard.append(line)
            verb = line.partition(" ")[0].upper()
            _send(connection, self._answer(verb, line, has_tls=has_tls))
            if verb == "QUIT":
                return
            if verb == "STARTTLS" and self.certificate is not None:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(self.certificate)
                connection = context.wrap_socket(connection, server_side=True)
                has_tls = True

    def _answer(self, verb: str, line: str, *, has_tls: bool) -> str:
        for start, answer in self.answers.items():
            if line.upper().startswith(start):
                return answer
        if verb == "EHLO":
            lines = ("next.hop", *(self.offers_with_tls if has_tls else self.offers))
            return "\r\n".join(f"250{'-' if one != lines[-1] else ' '}{one}" for one in lines)
        return {"STARTTLS": "220 go ahead", "QUIT": "221 bye", "AUTH": "235 welcome"}.get(
            verb, "250 ok"
        )


def plain_token(user: str, password: str) -> str:
    """Return what AUTH PLAIN sends (RFC 4616)."""
    return base64.b64encode(f"\0{user}\0{password}".encode()).decode()


def _send(connection: socket.socket, text: str) -> None:
    connection.sendall(f"{text}\r\n".encode())


def _receive(connection: socket.socket) -> str | None:
    raw = b""
    while not raw.endswith(b"\n"):
        one = connection.recv(1)
        if not one:
            return None
        raw += one
    return raw.decode().rstrip("\r\n")
