"""The HTTP protocol of the control plane's server: headers end somewhere, bodies as they did."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal

import pytest
import uvicorn

from controlplane.http_protocol import SENTENCE, ControlPlaneHttp
from controlplane.server import _uvicorn_config
from controlplane.settings import Settings
from controlplane.tls import ServerTls
from nodeagent.http_heads import MOST_HEADER_BYTES

HEAD = b"POST / HTTP/1.1\r\nHost: relay\r\n"
LAST = HEAD + b"Connection: close\r\n\r\n"
TOO_LONG = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
MIB = 1024 * 1024


class Counting:
    """An application that says how long each body was, and remembers them."""

    def __init__(self) -> None:
        self.bodies: list[int] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Read the whole body, then answer."""
        assert scope["type"] == "http"
        size, is_whole = 0, False
        while not is_whole:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            size += len(message.get("body", b""))
            is_whole = not message.get("more_body", False)
        self.bodies.append(size)
        headers = [(b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body"})


class Served:
    """The application on a free port, and what a client hears of it."""

    def __init__(self, loop: Literal["asyncio", "uvloop"]) -> None:
        self.app = Counting()
        config = uvicorn.Config(
            self.app, http=ControlPlaneHttp, loop=loop, lifespan="off", ws="none", log_config=None
        )
        self._server = uvicorn.Server(config)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._server.run, args=([self._listener],))
        self._thread.start()

    def send(self, *pieces: bytes) -> list[int]:
        """Send the pieces; return the status of each answer until the server closes."""
        answer = b""
        with socket.create_connection(self._listener.getsockname(), timeout=60) as client:
            with suppress(ConnectionError):
                for piece in pieces:
                    client.sendall(piece)
            with suppress(ConnectionError):
                while more := client.recv(65_536):
                    answer += more
        return [int(one[:3]) for one in answer.split(b"HTTP/1.1 ")[1:]]

    def raw(self, request: bytes) -> bytes:
        """Send one request and read until the server closes."""
        with socket.create_connection(self._listener.getsockname(), timeout=60) as client:
            client.sendall(request)
            return b"".join(iter(lambda: client.recv(65_536), b""))

    def stop(self) -> None:
        """End the server."""
        self._server.should_exit = True
        self._thread.join()
        self._listener.close()


@pytest.fixture(params=["asyncio", "uvloop"])
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    """Give a server on each event loop: they read in pieces of their own sizes."""
    made = Served(request.param)
    yield made
    made.stop()


def filled(size_bytes: int, number: int = 1) -> bytes:
    """Return headers of that many bytes altogether."""
    each = size_bytes // number
    lines = (f"X-{one:06d}: ".encode() for one in range(number))
    return b"".join(line + b"x" * (each - len(line) - 2) + b"\r\n" for line in lines)


@pytest.mark.parametrize(
    "long",
    [
        HEAD + filled(MOST_HEADER_BYTES + 1) + b"\r\n",
        HEAD + filled(MOST_HEADER_BYTES + 4000, 500) + b"\r\n",
        HEAD + filled(2 * MIB) + b"\r\n",
        HEAD + b"X-Endless: " + b"x" * 2 * MIB,
        HEAD + b"x" * 2 * MIB,
        b"POST /?" + b"x" * MOST_HEADER_BYTES + b" HTTP/1.1\r\nHost: relay\r\n\r\n",
    ],
    ids=["one", "many", "huge", "endless", "name", "address"],
)
@pytest.mark.parametrize("piece_bytes", [1000, 100_000, 4 * MIB])
def test_headers_without_an_end_reach_nobody(served: Served, long: bytes, piece_bytes: int) -> None:
    """However they are cut into pieces: refused or cut off, and the application never runs."""
    pieces = [long[at : at + piece_bytes] for at in range(0, len(long), piece_bytes)]
    assert served.send(*pieces) in ([], [TOO_LONG])
    assert served.app.bodies == []
    assert served.send(LAST) == [200], "others are served"


def test_the_refusal_is_one_sentence(served: Served) -> None:
    """In the shape of every refusal of the API."""
    answer = served.raw(HEAD + filled(MOST_HEADER_BYTES + 1) + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 431 ")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert body.decode() == f'{{"detail":"{SENTENCE}","fields":{{}}}}'
    assert f"content-length: {len(body)}".encode() in head


def test_what_comes_behind_a_good_request_is_counted_too(served: Served) -> None:
    """In the same piece, in which another request ended."""
    good = HEAD + b"Content-Length: 3\r\n\r\nabc"
    long = HEAD + filled(MOST_HEADER_BYTES + 1) + b"\r\n"
    served.send(good + long)
    served.send(good, long)
    assert set(served.app.bodies) <= {3}


def test_trailers_end_too(served: Served) -> None:
    """What stands behind a chunked body, and beside its chunks, is no body."""
    chunked = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    trailers = filled(MOST_HEADER_BYTES + 1)
    assert served.send(chunked + b"3\r\nabc\r\n0\r\n" + trailers + b"\r\n") == []
    extension = b"3;" + b"x" * 2 * MIB + b"\r\nabc\r\n0\r\n\r\n"
    assert served.send(chunked, extension) == []
    assert served.app.bodies == []


def test_bodies_may_be_as_long_as_ever(served: Served) -> None:
    """Declared or in chunks, one behind the other, with headers of nearly all that there may be."""
    most = filled(MOST_HEADER_BYTES - 2000)
    body = b"x" * 3 * MIB
    declared = HEAD + most + f"Content-Length: {len(body)}\r\n\r\n".encode() + body
    chunk = b"10000\r\n" + body[:0x10000] + b"\r\n"
    chunked = HEAD + most + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 48 + b"0\r\n\r\n"
    assert served.send(declared, chunked, declared, LAST) == [200] * 4
    assert served.app.bodies == [len(body)] * 3 + [0]
    asked = HEAD + filled(2000) + b"\r\n"
    assert served.send(asked * 60 + LAST) == [200] * 61


def test_nonsense_is_answered_as_before(served: Served) -> None:
    """What is short and no HTTP is a 400."""
    assert served.send(b"nonsense\r\n\r\n") == [400]


def test_the_control_plane_serves_with_it(tmp_path: Path) -> None:
    """And no WebSocket, for which there is nothing to connect to, comes past it."""
    settings = Settings(state_dir=tmp_path, database_url="sqlite:///unused.db")
    config = _uvicorn_config(Counting(), settings, ServerTls(settings.state_dir))
    assert (config.http, config.ws) == (ControlPlaneHttp, "none")
