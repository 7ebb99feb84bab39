"""Strangers at the HTTP door: what is slow, endless or too much is cut off, and others go on."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import time
from collections.abc import Iterator

import pytest

from nodeagent.http_heads import MOST_HEADER_BYTES
from nodeagent.policy.doors import http_protocol
from nodeagent.policy.doors.http_protocol import MOST_WAITING, PATIENCE_S
from nodeagent.policy.model import AddHeader, Decision, Verdict
from tests.fakes.hook_requests import encoded, request
from tests.fakes.http_hook import BEARER, ServedHook, settings
from tests.fakes.milter_postfix import wait_for
from tests.fakes.policy_desk import DeskTwin, KeeperTwin

ASKED = encoded(request("rcpt"))
AUTHORIZED = f"Authorization: {BEARER['Authorization']}\r\n"
HEAD = f"POST /mta-hook HTTP/1.1\r\nHost: x\r\n{AUTHORIZED}"
WHOLE = f"{HEAD}Content-Length: {len(ASKED)}\r\n\r\n".encode() + ASKED
CHUNKED = f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode()
BODY = b"1000\r\n" + b" " * 0x1000 + b"\r\n"
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
CUT_OFF = (ConnectionResetError, BrokenPipeError)


@pytest.fixture
def desk() -> DeskTwin:
    """Give a desk that rejects, so that an answer without it is told from one by it."""
    return DeskTwin(settings(), decision=Decision(verdict=Verdict.REJECT))


@pytest.fixture
def hook(desk: DeskTwin, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServedHook]:
    """Give the door, open to `BEARER`; at the end it still answers who is not `hasty`."""
    with ServedHook(desk, KeeperTwin()) as served:
        yield served
        monkeypatch.setattr(http_protocol, "PATIENCE_S", PATIENCE_S)
        assert served.ask(ASKED).status == 200


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> float:
    """Have little patience; give how much."""
    monkeypatch.setattr(http_protocol, "PATIENCE_S", 1.0)
    return 1.0


def connected(hook: ServedHook) -> socket.socket:
    """Return a connection to the door."""
    return socket.create_connection(("127.0.0.1", hook.settings.http.port), timeout=60)


def until_closed(client: socket.socket) -> bytes:
    """Return what comes until the door closes the connection, in whichever way."""
    got = b""
    with contextlib.suppress(*CUT_OFF):
        while chunk := client.recv(65_536):
            got += chunk
    return got


def some(client: socket.socket) -> bytes:
    """Return what comes next; an end is a failure."""
    chunk = client.recv(65_536)
    assert chunk, "the connection was closed before the answer was whole"
    return chunk


def one_answer(client: socket.socket) -> bytes:
    """Return one answer, head and body."""
    got = b""
    while b"\r\n\r\n" not in got:
        got += some(client)
    head, _, body = got.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    while len(body) < length:
        body += some(client)
    return head.split(b"\r\n")[0] + b" " + body


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(
    "sent", [b"", b"P", HEAD.encode(), b"\r\n", b"GET /healthz HTTP/1.1\r\nX: "]
)
def test_who_connects_and_sends_no_request_is_cut_off(hook: ServedHook, sent: bytes) -> None:
    """Else a stranger takes all descriptors, and with them the milter's, with a few packets."""
    with connected(hook) as client:
        with contextlib.suppress(*CUT_OFF):
            client.sendall(sent)
        assert until_closed(client) == b""


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("drop", [b"\r\n", b"x", b"X-A: b\r\n"], ids=["nothing", "value", "header"])
@pytest.mark.parametrize("before", [b"", HEALTH], ids=["first", "kept alive"])
def test_dripping_buys_no_time(hook: ServedHook, before: bytes, drop: bytes) -> None:
    """Neither at the first request nor behind one that was answered."""
    with connected(hook) as client:
        if before:
            client.sendall(before)
            assert one_answer(client).startswith(b"HTTP/1.1 200")
        with contextlib.suppress(*CUT_OFF):
            client.sendall(b"" if drop == b"\r\n" else b"GET / HTTP/1.1\r\nX-B: ")
        client.settimeout(0.05)
        until_s = time.monotonic() + 60
        is_open = True
        while is_open and time.monotonic() < until_s:
            try:
                client.sendall(drop)
                is_open = client.recv(1) != b""
            except TimeoutError:
                continue
            except CUT_OFF:
                is_open = False
        assert not is_open


def test_a_decision_may_take_longer_than_a_head(
    hook: ServedHook, desk: DeskTwin, hasty: float
) -> None:
    """Patience is for those who have to send something."""
    desk.is_slow, desk.delay_s = True, 2 * hasty
    assert hook.ask(ASKED).code == 550
    with connected(hook) as client:
        client.sendall(WHOLE[:-1])
        time.sleep(2 * hasty)
        client.sendall(WHOLE[-1:])
        assert one_answer(client).startswith(b"HTTP/1.1 200")


def test_a_connection_may_rest_between_two_questions(hook: ServedHook, hasty: float) -> None:
    """Stalwart keeps its connections for longer than a head may take."""
    with connected(hook) as client:
        for _ in range(3):
            client.sendall(WHOLE)
            assert one_answer(client).startswith(b"HTTP/1.1 200")
            time.sleep(2 * hasty)


ENDLESS = {
    "trailers": (CHUNKED + BODY * 100 + b"0\r\n", b"X-Trailer: " + b"x" * 4096 + b"\r\n"),
    "a trailer": (CHUNKED + b"0\r\nX-Trailer: ", b"x" * 4096),
    "a chunk's extension": (CHUNKED + b"1;", b"x" * 4096),
    "chunks' extensions": (CHUNKED, b"1;" + b"x" * 4096 + b"\r\n{\r\n"),
    "a header": (HEAD.encode() + b"X-A: ", b"x" * 4096),
    "headers": (HEAD.encode(), b"X-A: " + b"x" * 4096 + b"\r\n"),
    "an address": (b"GET /", b"x" * 4096),
}


def send_without_end(client: socket.socket, piece: bytes) -> None:
    """Send 40 MB, in pieces."""
    for _ in range(10_000):
        client.sendall(piece)


@pytest.mark.parametrize("kind", ENDLESS)
def test_what_has_no_end_beside_a_body_is_cut_off(
    hook: ServedHook, desk: DeskTwin, kind: str
) -> None:
    """No limit of the body counts it; and a body saves nothing up for what comes behind it."""
    first, piece = ENDLESS[kind]
    with connected(hook) as client:
        client.sendall(first)
        with pytest.raises(CUT_OFF):
            send_without_end(client, piece)
    assert desk.asked == []


@pytest.mark.parametrize("more", [0, 1, 100_000])
def test_headers_that_come_whole_are_counted_too(hook: ServedHook, more: int) -> None:
    """Though their end is there when they are looked at."""
    with connected(hook) as client:
        with contextlib.suppress(*CUT_OFF):
            padding = b"X-A: " + b"x" * (MOST_HEADER_BYTES + more) + b"\r\n\r\n"
            client.sendall(HEALTH.removesuffix(b"\r\n") + padding)
        assert until_closed(client) == b""


@pytest.mark.parametrize("size", [16, 1000, 100_000])
def test_honest_chunks_are_read(hook: ServedHook, size: int) -> None:
    """However many there are."""
    padded = ASKED + b" " * (20 * MOST_HEADER_BYTES)
    pieces = [padded[start : start + size] for start in range(0, len(padded), size)]
    with connected(hook) as client:
        client.sendall(CHUNKED)
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(one), one) for one in pieces)
        client.sendall(chunks + b"0\r\nX-Trailer: a\r\n\r\n")
        answer = one_answer(client)
        assert json.loads(answer.partition(b" OK ")[2])["response"]["status"] == 550
        client.sendall(WHOLE)
        assert one_answer(client).startswith(b"HTTP/1.1 200")


def test_requests_may_wait_behind_each_other(hook: ServedHook, desk: DeskTwin) -> None:
    """They are answered in their order."""
    desk.is_slow, desk.delay_s = True, 0.05
    with connected(hook) as client:
        client.sendall(
            (WHOLE + HEALTH) * 4 + HEALTH.replace(b"\r\nHost", b"\r\nConnection: close\r\nHost")
        )
        got = until_closed(client)
    assert got.count(b"HTTP/1.1 200") == 9
    assert got.index(b'"action"') < got.index(b'"ok"')


def test_no_crowd_of_requests_waits_on_one_connection(hook: ServedHook, desk: DeskTwin) -> None:
    """Each costs a hundred times as much memory as bytes to send."""
    desk.is_slow, desk.delay_s = True, 0.5
    with connected(hook) as client:
        with contextlib.suppress(*CUT_OFF):
            client.sendall(WHOLE + HEALTH * 20_000)
        assert until_closed(client).count(b"HTTP/1.1 200") <= 1 + MOST_WAITING


@pytest.mark.usefixtures("hasty")
def test_who_does_not_read_his_answers_is_cut_off(hook: ServedHook, desk: DeskTwin) -> None:
    """They are in our memory as long as he is connected."""
    data = encoded(request("data"))
    desk.decision = Decision(changes=(AddHeader("X-Long", "x" * 1_000_000),))
    question = f"{HEAD}Content-Length: {len(data)}\r\n\r\n".encode() + data
    with connected(hook) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(question * MOST_WAITING)
        server = hook.door._server
        assert server is not None
        wait_for(lambda: desk.asked)
        wait_for(lambda: not server.server_state.connections)
    desk.decision = Decision()


def test_more_connections_than_anybody_needs_are_closed(
    hook: ServedHook, desk: DeskTwin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a line; who was there goes on, and there is room again when one leaves."""
    monkeypatch.setattr(http_protocol, "MOST_CONNECTIONS", 2)
    with connected(hook) as first, connected(hook) as second:
        for client in (first, second):
            client.sendall(WHOLE)
            assert one_answer(client).startswith(b"HTTP/1.1 200")
        with connected(hook) as third:
            assert until_closed(third) == b""
        first.sendall(WHOLE)
        assert one_answer(first).startswith(b"HTTP/1.1 200")
    ((_, decision),) = desk.unjudged
    assert decision.fired[0].rule == "hook:closed"
    server = hook.door._server
    assert server is not None
    wait_for(lambda: not server.server_state.connections)


ODD = {
    "upgrade": b"GET /healthz HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    "http2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "tunnel": b"CONNECT 127.0.0.1:25 HTTP/1.1\r\nHost: x\r\n\r\n",
    "star": b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    "path": b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
    "two lengths": HEAD.encode() + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nx",
    "length and chunks": HEAD.encode()
    + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "long length": HEAD.encode() + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
    "negative length": HEAD.encode() + b"Content-Length: -1\r\n\r\n",
    "folded": b"POST /mta-hook HTTP/1.1\r\nAuthorization: Bearer\r\n x\r\n\r\n",
    "bare": HEAD.replace("\r\n", "\n").encode() + b"\n",
    "smtp": b"EHLO x\r\nMAIL FROM:<a@b>\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 40,
}


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_question_is_not_judged_and_fills_no_log(
    hook: ServedHook, desk: DeskTwin, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    """A scanner finds an answer or an end; journald has not a line for each of its tries."""
    caplog.set_level(logging.DEBUG)
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # as the door set it before
    with connected(hook) as client:
        client.sendall(ODD[kind])
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_WR)
        until_closed(client)
    assert [one for one in desk.asked if one.message is not None] == []
    assert [one.message for one in caplog.records if one.name.startswith("uvicorn")] == []


def test_the_server_warns_of_nothing_that_strangers_send(hook: ServedHook) -> None:
    """Its own warnings have no limit."""
    del hook
    assert logging.getLogger("uvicorn.error").getEffectiveLevel() == logging.ERROR
