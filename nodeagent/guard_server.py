"""The lease guard's socket and its loop: JSON lines, one thread, a look at the deadline in between.

Nobody who connects can hold the guard up: what a client does not read within `SEND_LIMIT_S` ends
its connection.
"""

from __future__ import annotations

import json
import selectors
import socket
from pathlib import Path
from typing import Any, Final, Protocol

import structlog

log = structlog.get_logger()

POLL_S: Final = 0.02
SEND_LIMIT_S: Final = 0.5
LINE_LIMIT: Final = 64 * 1024 * 1024


class Served(Protocol):
    """What is served: the guard."""

    def tick(self) -> None:
        """Look at the clock; called at least every `POLL_S`."""

    def handle(self, connection: socket.socket, request: dict[str, Any]) -> dict[str, Any]:
        """Answer one request."""

    def disconnected(self, connection: socket.socket) -> None:
        """Forget a connection that has ended."""


class GuardServer:
    """The socket and the loop."""

    def __init__(self, guard: Served, path: Path) -> None:
        self._guard = guard
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        path.chmod(0o600)
        self._listener.listen(16)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ, None)
        self.is_stopping = False

    def serve(self) -> None:
        """Answer until told to stop; look at the deadline between any two requests."""
        while not self.is_stopping:
            for key, _events in self._selector.select(POLL_S):
                if key.data is None:
                    connection, _address = self._listener.accept()
                    connection.settimeout(SEND_LIMIT_S)
                    self._selector.register(connection, selectors.EVENT_READ, bytearray())
                else:
                    self._read(key)
                self._guard.tick()
            self._guard.tick()

    def _read(self, key: selectors.SelectorKey) -> None:
        connection, buffer = key.fileobj, key.data
        assert isinstance(connection, socket.socket)  # noqa: S101 - we registered nothing else
        try:
            data = connection.recv(1 << 20)
            buffer += data
            while b"\n" in buffer:
                line, _, rest = bytes(buffer).partition(b"\n")
                buffer[:] = rest
                answer = self._guard.handle(connection, _parse(line))
                connection.sendall(json.dumps(answer).encode() + b"\n")
        except (OSError, ValueError) as error:
            log.warning("request failed", error=str(error))
            data = b""
        if not data or len(buffer) > LINE_LIMIT:
            self._selector.unregister(connection)
            self._guard.disconnected(connection)
            connection.close()


def _parse(line: bytes) -> dict[str, Any]:
    try:
        request = json.loads(line)
    except RecursionError as error:
        raise ValueError("the request is nested too deep") from error
    if not isinstance(request, dict):
        raise ValueError("the request is no JSON object")  # noqa: TRY004 - as any other bad line
    return request
