"""Receivers of notifications on loopback: a web server and a mail server, which keep all of it."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session


@dataclass
class WebHook:
    """A web server that answers POST with `status`; `got` are the JSON bodies that came.

    With `waits` set, it answers only once that event is set.
    """

    status: int = 200
    location: str | None = None
    waits: threading.Event | None = None
    port: int = 0
    got: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)

    @contextmanager
    def serve(self) -> Iterator[WebHook]:
        """Listen until the end of the block."""
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers.get("content-length", 0))
                hook.paths.append(self.path)
                hook.got.append(json.loads(self.rfile.read(length)))
                if hook.waits is not None:
                    hook.waits.wait(60)
                self.send_response(hook.status)
                if hook.location is not None:
                    self.send_header("location", hook.location)
                self.send_header("content-length", "0")
                self.end_headers()

            do_GET = do_POST  # noqa: N815 - the same name

            def log_message(self, *arguments: Any) -> None:
                del arguments

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            if self.waits is not None:
                self.waits.set()
            server.shutdown()
            server.server_close()
            thread.join(10)

    @property
    def url(self) -> str:
        """The channel's URL, with a secret in its path."""
        return f"json://127.0.0.1:{self.port}/hooks/sesame"


@dataclass
class MailServer:
    """An SMTP server that answers RCPT with `answer` and keeps the mail."""

    answer: str = "250 OK"
    port: int = 0
    got: list[EmailMessage] = field(default_factory=list)
    recipients: list[str] = field(default_factory=list)

    async def handle_RCPT(  # noqa: N802 - what aiosmtpd calls
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Take a recipient."""
        del server, session, options
        if self.answer.startswith("2"):
            envelope.rcpt_tos.append(address)
        return self.answer

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - the same
        """Keep a mail."""
        del server, session
        content = envelope.original_content or b""
        message = message_from_bytes(content, policy=policy.default)
        assert isinstance(message, EmailMessage)
        self.got.append(message)
        self.recipients += envelope.rcpt_tos
        return "250 OK"

    @contextmanager
    def serve(self) -> Iterator[MailServer]:
        """Listen until the end of the block."""
        controller = _Controller(self, hostname="127.0.0.1", port=0)
        controller.start()
        assert controller.server is not None
        self.port = controller.server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            controller.stop()

    @property
    def url(self) -> str:
        """The channel's URL."""
        return f"mailto://127.0.0.1:{self.port}?from=relay@a.test&to=ops@b.test"


class _Controller(Controller):
    """Makes aiosmtpd's first connection to itself on the port that the system chose."""

    def _trigger_server(self) -> None:
        assert self.server is not None
        address = self.server.sockets[0].getsockname()
        with socket.create_connection(address, timeout=60) as connection:
            connection.recv(1024)
