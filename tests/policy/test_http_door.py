"""The HTTP door over real connections: routes, credentials, limits, and settings that change."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from nodeagent.policy.document import HttpDoor, PolicySettings
from nodeagent.policy.doors import listening
from nodeagent.policy.doors.http_app import body_limit
from nodeagent.policy.doors.http_credentials import is_allowed
from nodeagent.policy.model import Decision, Stage, Verdict
from tests.fakes.hook_requests import encoded, request
from tests.fakes.http_hook import BEARER, ServedHook, basic, settings, sha256
from tests.fakes.milter_postfix import wait_for
from tests.fakes.policy_desk import DeskTwin, KeeperTwin
from tests.fakes.postfix_instance import free_port

ASKED = encoded(request("rcpt"))


@pytest.fixture
def desk() -> DeskTwin:
    """Give a desk that rejects, so that an answer without it is told from one by it."""
    return DeskTwin(settings(), decision=Decision(verdict=Verdict.REJECT))


@pytest.fixture
def hook(desk: DeskTwin) -> Iterator[ServedHook]:
    """Give the door, open to `BEARER`."""
    with ServedHook(desk, KeeperTwin()) as served:
        yield served


def listens(port: int) -> bool:
    """Tell whether somebody listens at this loopback port."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            return True
    except OSError:
        return False


def test_a_question_gets_the_desks_answer(hook: ServedHook, desk: DeskTwin) -> None:
    """As JSON, with what was asked handed on."""
    got = hook.ask(ASKED)
    assert got.code == 550
    assert got.headers["content-type"] == "application/json"
    (asked,) = desk.asked
    assert asked.stage is Stage.RCPT
    assert asked.envelope.recipients == ("bill@foobar.test",)


def test_one_connection_serves_many_questions(hook: ServedHook) -> None:
    """Stalwart keeps its connections."""
    connection = hook.connect()
    for _ in range(20):
        connection.request("POST", "/mta-hook", ASKED, BEARER)
        got = connection.getresponse()
        assert got.status == 200
        got.read()
    connection.close()


def test_health_is_told_without_credentials(hook: ServedHook) -> None:
    """By GET and HEAD, and nothing else of it."""
    assert hook.ask(method="GET", path="/healthz", headers={}).json == {"status": "ok"}
    got = hook.ask(method="HEAD", path="/healthz", headers={})
    assert (got.status, got.body) == (200, b"")
    assert hook.ask(method="POST", path="/healthz", headers={}).status == 405


@pytest.mark.parametrize("path", ["/", "/mta-hook/", "/MTA-HOOK", "/v1/hooks/register", "/%00"])
def test_other_paths_are_not_there(hook: ServedHook, path: str) -> None:
    """404 with one sentence."""
    got = hook.ask(ASKED, path=path)
    assert got.status == 404
    assert got.json == {"error": "there is nothing at this path"}


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods_are_not_allowed(hook: ServedHook, desk: DeskTwin, method: str) -> None:
    """405 says which one is."""
    got = hook.ask(ASKED, method=method)
    assert got.status == 405
    assert got.headers["allow"] == "POST"
    assert desk.asked == []


@pytest.mark.parametrize(
    "content_type", [None, "application/json", "application/json; charset=utf-8", "text/plain", ""]
)
def test_the_content_type_does_not_matter(hook: ServedHook, content_type: str | None) -> None:
    """What can be read as JSON is read."""
    headers = BEARER if content_type is None else BEARER | {"Content-Type": content_type}
    assert hook.ask(ASKED, headers).code == 550


def test_a_compressed_body_is_refused(hook: ServedHook) -> None:
    """No MTA sends one, and unpacking is work for strangers."""
    assert hook.ask(ASKED, BEARER | {"Content-Encoding": "gzip"}).status == 415
    assert hook.ask(ASKED, BEARER | {"Content-Encoding": "identity"}).status == 200


CREDENTIALS = {
    "username": "relay",
    "password_sha256": sha256("pass:wörd"),
    "token_sha256": sha256("token"),
    "header_name": "X-Api-Key",
    "header_sha256": sha256("key"),
}


@pytest.mark.parametrize(
    ("headers", "is_known"),
    [
        (basic("relay", "pass:wörd"), True),
        (basic("relay", "wrong"), False),
        (basic("other", "pass:wörd"), False),
        (basic("", "pass:wörd"), False),
        ({"Authorization": "Basic !!!"}, False),
        ({"Authorization": "Basic cmVsYXk="}, False),
        ({"Authorization": "Bearer token"}, True),
        ({"Authorization": "bearer  token"}, True),
        ({"Authorization": "Bearer wrong"}, False),
        ({"Authorization": "Bearer"}, False),
        ({"Authorization": "token"}, False),
        ({"X-Api-Key": "key"}, True),
        ({"x-api-key": "key"}, True),
        ({"X-Api-Key": "wrong"}, False),
        ({"X-Api-Key": "wrong", "Authorization": "Bearer token"}, True),
        ({}, False),
    ],
)
def test_any_one_credential_opens(
    hook: ServedHook, headers: dict[str, str], is_known: bool
) -> None:
    """Basic, Bearer, or the header of the administrator's choice; all else is 401."""
    hook.apply(settings(hook.settings.http.port, **CREDENTIALS))
    got = hook.ask(ASKED, headers)
    assert got.status == (200 if is_known else 401)
    if not is_known:
        assert "realm=" in got.headers["www-authenticate"]
        assert "wrong" not in got.body.decode().replace("missing or wrong", "")


@pytest.mark.parametrize(
    "half",
    [
        {"username": "relay"},
        {"password_sha256": sha256("x")},
        {"header_name": "X-Api-Key"},
        {"header_sha256": sha256("x")},
        {},
    ],
)
def test_without_a_credential_the_door_is_closed(hook: ServedHook, half: dict[str, str]) -> None:
    """503 says why; half a credential is none."""
    hook.apply(settings(hook.settings.http.port, token_sha256=None, **half))
    for headers in ({}, BEARER, basic("relay", ""), {"X-Api-Key": "x"}):
        got = hook.ask(ASKED, headers)
        assert got.status == 503
        assert "no credential is configured" in got.json["error"]


def test_an_empty_secret_opens_nothing() -> None:
    """Not even where its hash is configured."""
    door = HttpDoor(token_sha256=sha256(""), header_name="X-Key", header_sha256=sha256(""))
    assert not is_allowed({b"authorization": b"Bearer "}, door)
    assert not is_allowed({b"x-key": b""}, door)
    assert not is_allowed({}, door)


def test_a_body_beyond_the_limit_is_refused_before_it_comes(hook: ServedHook) -> None:
    """By its announced length: 413, and the connection ends."""
    most = body_limit(hook.settings)
    with socket.create_connection(("127.0.0.1", hook.settings.http.port), timeout=60) as client:
        head = f"POST /mta-hook HTTP/1.1\r\nHost: x\r\nContent-Length: {most + 1}\r\n"
        head += f"Authorization: {BEARER['Authorization']}\r\n\r\n"
        client.sendall(head.encode())
        got = b""
        while chunk := client.recv(65_536):
            got += chunk
    assert got.startswith(b"HTTP/1.1 413 ")


def test_a_body_that_grows_beyond_the_limit_is_refused(hook: ServedHook, desk: DeskTwin) -> None:
    """Chunked, so that nobody knows its length before."""
    most = body_limit(hook.settings)
    connection = hook.connect()
    connection.putrequest("POST", "/mta-hook")
    connection.putheader("Authorization", BEARER["Authorization"])
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    piece = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    try:
        for _ in range(most // 0x100000 + 2):
            connection.send(piece)
        connection.send(b"0\r\n\r\n")
    except OSError:
        pass  # the door does not listen to the end
    assert connection.getresponse().status == 413
    connection.close()
    assert desk.asked == []


def test_a_stranger_cannot_fill_the_memory_with_headers(hook: ServedHook) -> None:
    """Whoever sends headers without an end is cut off."""

    def send_without_end(client: socket.socket) -> None:
        client.sendall(b"GET /healthz HTTP/1.1\r\nX-A: ")
        for _ in range(2000):
            client.sendall(b"x" * 65_536)

    address = ("127.0.0.1", hook.settings.http.port)
    with (
        socket.create_connection(address, timeout=60) as client,
        pytest.raises(OSError, match=r"reset|[Bb]roken"),
    ):
        send_without_end(client)
    assert hook.ask(method="GET", path="/healthz", headers={}).status == 200


@pytest.mark.parametrize(
    "torn", [b"\x00\xff\x00\r\n\r\n", b"POST / HTTP/9.9\r\n\r\n", b"\r\n" * 99]
)
def test_what_is_no_http_ends_the_connection_alone(hook: ServedHook, torn: bytes) -> None:
    """The door goes on."""
    with socket.create_connection(("127.0.0.1", hook.settings.http.port), timeout=60) as client:
        client.sendall(torn)
        client.shutdown(socket.SHUT_WR)
        client.recv(4096)
    assert hook.ask(ASKED).code == 550


def test_a_client_that_goes_away_in_its_body_is_not_judged(
    hook: ServedHook, desk: DeskTwin
) -> None:
    """Half a question has no answer."""
    head = f"POST /mta-hook HTTP/1.1\r\nHost: x\r\nContent-Length: {len(ASKED) + 10}\r\n"
    head += f"Authorization: {BEARER['Authorization']}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", hook.settings.http.port), timeout=60) as client:
        client.sendall(head.encode() + ASKED)
    assert hook.ask(ASKED).code == 550
    assert len(desk.asked) == 1


def test_a_new_port_is_followed(hook: ServedHook) -> None:
    """The old one is given up, the new one answers; nothing was started again."""
    old = hook.settings.http.port
    hook.apply(settings())
    assert hook.settings.http.port != old
    assert not listens(old)
    assert hook.ask(ASKED).code == 550


def test_a_new_address_on_the_same_port_is_followed(hook: ServedHook) -> None:
    """Also where the old one and the new one overlap."""
    port = hook.settings.http.port
    for address in ("0.0.0.0", "127.0.0.1", "::1"):
        hook.apply(settings(port, address=address))
        assert hook.door.problem is None
        assert hook.ask(ASKED).code == 550


def test_new_credentials_hold_from_the_next_request_on(hook: ServedHook) -> None:
    """On connections that are open, too."""
    connection = hook.connect()
    for token, status in (("other", 401), ("a-long-random-token", 200)):
        hook.apply(settings(hook.settings.http.port, token_sha256=sha256(token)))
        connection.request("POST", "/mta-hook", ASKED, BEARER)
        got = connection.getresponse()
        got.read()
        assert got.status == status
    connection.close()


def test_a_port_that_is_taken_is_taken_by_the_next_edit(hook: ServedHook) -> None:
    """`problem` says which it was; an edit waits for no retry."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        wanted = settings(taken.getsockname()[1])
        hook.apply(wanted)
        assert hook.door.problem is not None
        assert f"port {wanted.http.port}" in hook.door.problem
    hook.apply(wanted)
    assert hook.door.problem is None
    assert hook.ask(ASKED).code == 550


def test_a_port_that_is_taken_is_tried_again_without_an_edit(hook: ServedHook) -> None:
    """Whoever had it is gone: the door opens by itself, and `problem` ends."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        hook.apply(settings(taken.getsockname()[1]))
        assert hook.door.problem is not None
    wait_for(lambda: hook.door.problem is None)
    assert hook.ask(ASKED).code == 550
    assert hook.door._trying is not None
    wait_for(hook.door._trying.done)


def test_it_goes_on_trying_ever_more_rarely(
    hook: ServedHook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to a limit; each time it says what is in the way."""
    monkeypatch.setattr(listening, "FIRST_RETRY_S", 0.01)
    monkeypatch.setattr(listening, "LONGEST_RETRY_S", 0.05)
    rests: list[float] = []
    sleep = asyncio.sleep

    async def slept(rest_s: float) -> None:
        rests.append(rest_s)
        await sleep(rest_s)

    monkeypatch.setattr(listening.asyncio, "sleep", slept)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        hook.apply(settings(taken.getsockname()[1]))
        wait_for(lambda: len([one for one in rests if one in {0.01, 0.02, 0.04, 0.05}]) >= 6)
        assert hook.door.problem is not None
    tried = [one for one in rests if one in {0.01, 0.02, 0.04, 0.05}]
    assert tried[:6] == [0.01, 0.02, 0.04, 0.05, 0.05, 0.05]
    wait_for(lambda: hook.door.problem is None)


@pytest.mark.parametrize("is_enabled", [True, False])
def test_an_edit_ends_the_tries_at_the_old_place(hook: ServedHook, is_enabled: bool) -> None:
    """Nobody listens there later on."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        old = taken.getsockname()[1]
        hook.apply(settings(old))
        trying = hook.door._trying
        hook.apply(settings(is_enabled=is_enabled))
        assert hook.door.problem is None
        assert trying is not None
        wait_for(trying.done)
    assert not listens(old)
    if is_enabled:
        assert hook.ask(ASKED).code == 550


def test_closing_ends_the_tries(desk: DeskTwin) -> None:
    """A process that ends does not open its door once more."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with ServedHook(desk, KeeperTwin()) as hook:
            hook.apply(settings(taken.getsockname()[1]))
            trying = hook.door._trying
        assert trying is not None
        assert hook.door._trying is None


def test_a_server_that_ends_by_itself_comes_back(hook: ServedHook) -> None:
    """Whatever ended it, an administrator who switched the door on finds it open."""
    server = hook.door._server
    assert server is not None
    server.should_exit = True
    wait_for(lambda: hook.door._server is not server)
    wait_for(lambda: hook.door.problem is None and hook.door._server is not None)
    assert hook.ask(ASKED).code == 550


def test_an_address_that_is_none_is_told(hook: ServedHook) -> None:
    """It is a problem, not the end of the process."""
    hook.apply(settings(address="no address"))
    assert "cannot listen at no address" in str(hook.door.problem)


def test_a_door_that_is_switched_off_does_not_listen() -> None:
    """And on again."""
    port = free_port()
    desk = DeskTwin(PolicySettings(http=HttpDoor(is_enabled=False, port=port)))
    with ServedHook(desk, KeeperTwin()) as hook:
        assert not listens(port)
        hook.apply(settings(port))
        assert hook.ask(ASKED).code is None
        hook.apply(settings(port, is_enabled=False))
        assert not listens(port)
