"""What breaks or is turned away at the HTTP door: it has an answer that was chosen, and a line."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import structlog

from nodeagent.policy.codecs.hook_request import HookRequest
from nodeagent.policy.codecs.milter_content import HEADER_OVERHEAD_BYTES
from nodeagent.policy.codecs.stalwart import MOST_HEADERS, StalwartCodec
from nodeagent.policy.document import FaultAction, PolicySettings
from nodeagent.policy.doors import http_app
from nodeagent.policy.doors.http_app import BIG_AT_ONCE, BIG_BYTES, body_limit
from nodeagent.policy.doors.http_judging import BIG_BODY_BYTES, MANY_ARRAYS
from nodeagent.policy.log_wire import Door, LogKind
from nodeagent.policy.model import (
    AddHeader,
    AddRecipient,
    Decision,
    DeleteRecipient,
    Envelope,
    Message,
    RuleKind,
    Stage,
    Verdict,
)
from nodeagent.policy.ports import Unjudged
from nodeagent.policy.rare_lines import MOST_A_WINDOW
from tests.fakes.hook_requests import encoded, request
from tests.fakes.http_hook import BEARER, ServedHook, settings
from tests.fakes.milter_postfix import wait_for
from tests.fakes.policy_desk import DeskTwin, KeeperTwin
from tests.policy.policies import policy_of
from tests.policy.test_desk import World

DATA = encoded(request("data"))
TO_SUBSCRIBERS = Decision(
    changes=(DeleteRecipient("bill@foobar.test"), AddRecipient("7.2@list.relay.invalid"))
)
HEAD = f"POST /mta-hook HTTP/1.1\r\nHost: x\r\nAuthorization: {BEARER['Authorization']}\r\n"


class BrokenCodec(StalwartCodec):
    """Breaks where a test says, as a defect of ours or of a JSON library would."""

    def __init__(self, *, reading: Exception | None = None, writing: Exception | None = None):
        self.reading = reading
        self.writing = writing

    def read(self, body: bytes) -> HookRequest:
        """Break, or read."""
        if self.reading is not None:
            raise self.reading
        return super().read(body)

    def write(self, decision: Decision, stage: Stage | None) -> bytes:
        """Break at the changes of a mail, or write."""
        if self.writing is not None and decision.changes:
            raise self.writing
        return super().write(decision, stage)


class BrokenKeeper(KeeperTwin):
    """Breaks, as no keeper should."""

    def _keep(self, _mail: Any) -> str:
        raise ZeroDivisionError("the keeper has a defect")


@pytest.fixture
def desk() -> DeskTwin:
    """Give a desk."""
    return DeskTwin(settings())


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    """Give what the service logs."""
    with structlog.testing.capture_logs() as lines:
        yield lines


def served(desk: DeskTwin, codec: StalwartCodec, keeper: KeeperTwin | None = None) -> ServedHook:
    """Return a door that speaks by this codec."""
    made = ServedHook(desk, keeper or KeeperTwin())
    opened = made._open

    async def open_door() -> Any:
        door = await opened()
        door.app._codecs = {codec.path: codec}
        return door

    made._open = open_door  # type: ignore[method-assign]
    return made


def noted(desk: DeskTwin) -> list[tuple[str, Verdict]]:
    """Return the rule and verdict of what was answered without a decision."""
    for asked, decision in desk.unjudged:
        (fired,) = decision.fired
        assert asked.door is Door.HTTP
        assert fired.kind is RuleKind.FAULT
        assert fired.verdict is decision.verdict
    return [(decision.fired[0].rule, decision.verdict) for _, decision in desk.unjudged]


def errors(logged: list[Any]) -> list[str]:
    """Return what was logged as an error, with its exception."""
    return [line["event"] for line in logged if line["log_level"] == "error" and line["exc_info"]]


SAID = {FaultAction.ACCEPT: None, FaultAction.REJECT: 550}
READING = [
    ZeroDivisionError("a defect"),
    RecursionError("too deep"),
    MemoryError(),
    KeyError("bob@example.com"),
]


@pytest.mark.parametrize("action", list(FaultAction))
@pytest.mark.parametrize("broken", READING, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("size", [0, BIG_BODY_BYTES], ids=["small", "in a thread"])
def test_a_defect_while_reading_is_answered_as_chosen(
    desk: DeskTwin, logged: list[Any], action: FaultAction, broken: Exception, size: int
) -> None:
    """200 with what `on_fault` says, whatever `on_invalid` says; with a line, and a traceback."""
    other = FaultAction.REJECT if action is FaultAction.ACCEPT else FaultAction.ACCEPT
    desk.settings = settings(on_fault=action, on_invalid=other)
    with served(desk, BrokenCodec(reading=broken)) as hook:
        assert hook.ask(DATA + b" " * size).code == SAID.get(action, 451)
    assert desk.asked == []
    is_held = action is FaultAction.QUARANTINE  # of what could not be read nothing can be held
    verdict = Verdict.TEMPFAIL if is_held else Verdict(action.value)
    assert noted(desk) == [("hook:defect", verdict)]
    assert desk.unjudged[0][1].fired[0].matched == repr(broken)
    assert errors(logged) == ["the HTTP hook has a defect"]


def test_a_defect_is_not_told_to_the_client(desk: DeskTwin) -> None:
    """It may quote another mail, or our code."""
    with served(desk, BrokenCodec(reading=KeyError("bob@example.com"))) as hook:
        got = hook.ask(DATA)
    assert "bob" not in got.body.decode()
    assert "x-relay-error" not in got.headers


def test_a_defect_while_writing_is_a_tempfail(desk: DeskTwin, logged: list[Any]) -> None:
    """Never the accept that could not be said; asked again it may be said."""
    desk.settings = settings(on_fault=FaultAction.ACCEPT, on_invalid=FaultAction.ACCEPT)
    desk.decision = Decision(changes=(AddHeader("X-A", "b"),))
    codec = BrokenCodec(writing=TypeError("no JSON"))
    again = BEARER | {"Idempotency-Key": "one"}
    with served(desk, codec) as hook:
        assert hook.ask(DATA, again).code == 451
        assert noted(desk) == [("hook:unsayable", Verdict.TEMPFAIL)]
        codec.writing = None
        assert hook.ask(DATA, again).json["action"] == "accept"
    assert errors(logged) == ["the HTTP hook has a defect"]


@pytest.mark.parametrize("action", list(FaultAction))
def test_a_defect_of_the_keeper_leaves_the_mail_with_its_sender(
    desk: DeskTwin, logged: list[Any], action: FaultAction
) -> None:
    """It was judged: what was chosen for mail that cannot be judged lets nothing through here."""
    desk.settings = settings(on_fault=action, on_invalid=action)
    desk.decision = Decision(Verdict.QUARANTINE)
    with ServedHook(desk, BrokenKeeper()) as hook:
        assert hook.ask(DATA).code == 451
        assert (desk.held, desk.unjudged) == ([(Verdict.QUARANTINE, None)], [])
        desk.decision = TO_SUBSCRIBERS
        assert hook.ask(DATA).code == 451
        assert (desk.held[1:], desk.unjudged) == ([(Verdict.ACCEPT, None)], [])
    assert errors(logged) == ["the HTTP hook has a defect"] * 2
    whys = [line["why"] for line in logged if line["event"] == "a mail was not kept"]
    assert whys == ["ZeroDivisionError('the keeper has a defect')"] * 2


def test_a_mail_that_cannot_be_changed_is_not_held_unchanged(desk: DeskTwin) -> None:
    """A defect before the keeper is asked ends like one in it."""
    keeper = KeeperTwin()
    desk.decision = Decision(Verdict.QUARANTINE, changes=(AddHeader("X-A", None),))  # type: ignore[arg-type]
    with ServedHook(desk, keeper) as hook:
        assert hook.ask(DATA).code == 451
    assert keeper.kept == []
    assert desk.held == [(Verdict.QUARANTINE, None)]


def test_two_defects_at_once_still_lose_nothing(desk: DeskTwin) -> None:
    """The desk breaks, `on_fault` is quarantine, and the keeper breaks."""
    desk.settings = settings(on_fault=FaultAction.QUARANTINE)

    def explode(_asked: object) -> Decision:
        raise RuntimeError("a defect")

    desk.decision = explode
    with ServedHook(desk, BrokenKeeper()) as hook:
        assert hook.ask(DATA).code == 451
    assert (desk.held, desk.unjudged) == ([(Verdict.QUARANTINE, None)], [])


def test_a_keeper_that_breaks_once_is_asked_again(desk: DeskTwin) -> None:
    """The answer is not remembered under the request's id."""

    class Recovering(KeeperTwin):
        async def hold(self, envelope: Envelope, message: Message, reason: str) -> str:
            if not desk.held:
                raise AttributeError("a defect")
            return await super().hold(envelope, message, reason)

    keeper = Recovering()
    desk.decision = Decision(Verdict.QUARANTINE)
    with ServedHook(desk, keeper) as hook:
        codes = [hook.ask(DATA, BEARER | {"Idempotency-Key": "one"}).code for _ in range(3)]
    assert codes == [451, 250, 250]
    assert len(keeper.kept) == 1


# What is turned away unread


def exchange(hook: ServedHook, sent: bytes) -> bytes:
    """Send bytes on a connection and return all that comes until it is closed."""
    with socket.create_connection(("127.0.0.1", hook.settings.http.port), timeout=60) as client:
        client.sendall(sent)
        got = b""
        while chunk := client.recv(65_536):
            got += chunk
    return got


def test_a_question_that_is_too_large_has_a_line(desk: DeskTwin) -> None:
    """413, whether its length is announced or found out."""
    with ServedHook(desk, KeeperTwin()) as hook:
        most = body_limit(hook.settings)
        announced = f"{HEAD}Content-Length: {most + 1}\r\n\r\n".encode()
        assert exchange(hook, announced).startswith(b"HTTP/1.1 413 ")
    assert noted(desk) == [("hook:too-large", Verdict.TEMPFAIL)]
    (asked, _), *_ = desk.unjudged
    assert (asked.stage, asked.message, asked.envelope) == (Stage.DATA, None, Envelope())


def test_a_question_that_does_not_come_has_a_line(
    desk: DeskTwin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503, and the connection is closed: the client announced more than it sends."""
    monkeypatch.setattr(http_app, "READING_LIMIT_S", 0.2)
    with ServedHook(desk, KeeperTwin()) as hook:
        got = exchange(hook, f"{HEAD}Content-Length: {len(DATA) + 1}\r\n\r\n".encode() + DATA)
    assert got.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 5" in got.lower()
    assert noted(desk) == [("hook:slow", Verdict.TEMPFAIL)]
    assert desk.asked == []


def test_a_large_question_that_gets_no_turn_has_a_line(
    desk: DeskTwin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503 says that there were too many; those before it are answered."""
    monkeypatch.setattr(http_app, "READING_LIMIT_S", 30.0)
    asked = request("data")
    asked["message"]["contents"] = "x" * (2 * BIG_BYTES)
    body = encoded(asked)
    desk.settings = settings(decision_timeout_s=60)
    desk.is_slow, desk.is_open = True, threading.Event()
    with ServedHook(desk, KeeperTwin()) as hook, ThreadPoolExecutor(BIG_AT_ONCE) as pool:
        first = [pool.submit(hook.ask, body) for _ in range(BIG_AT_ONCE)]
        while desk.at_once < BIG_AT_ONCE:
            time.sleep(0.01)
        monkeypatch.setattr(http_app, "READING_LIMIT_S", 3.0)
        assert hook.ask(body).status == 503
        monkeypatch.setattr(http_app, "READING_LIMIT_S", 30.0)
        desk.is_open.set()
        assert [one.result().status for one in first] == [200] * BIG_AT_ONCE
        assert noted(desk) == [("hook:busy", Verdict.TEMPFAIL)]
        assert hook.ask(body).status == 200


@pytest.mark.parametrize("token", [None, "0" * 64])
def test_who_may_not_ask_has_a_line(desk: DeskTwin, token: str | None) -> None:
    """Else nothing on the relay says why an MTA's mail is put off: its secret is another one."""
    desk.settings = settings(token_sha256=token)
    with ServedHook(desk, KeeperTwin()) as hook:
        assert hook.ask(DATA).status == (503 if token is None else 401)
    assert noted(desk) == [("hook:denied", Verdict.TEMPFAIL)]


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/mta-hook", 405), ("POST", "/other", 404)]
)
def test_what_is_no_question_has_no_line(
    desk: DeskTwin, method: str, path: str, status: int
) -> None:
    """A scanner's requests say nothing about mail."""
    with ServedHook(desk, KeeperTwin()) as hook:
        assert hook.ask(DATA, method=method, path=path).status == status
        assert hook.ask(method="GET", path="/healthz", headers={}).status == 200
    assert desk.unjudged == []


def test_a_stranger_cannot_fill_the_disk_by_being_turned_away(tmp_path: Path) -> None:
    """Of each rule some lines a minute; the rest is one gap that counts them."""
    world = World(tmp_path)
    door = settings()
    world.desk.use(policy_of(http=door.http))
    count = 3 * MOST_A_WINDOW
    with ServedHook(world.desk, KeeperTwin()) as hook:
        connection = hook.connect()
        for _ in range(count):
            connection.request("POST", "/mta-hook", DATA, {})
            got = connection.getresponse()
            assert got.status == 401
            got.read()
            connection.close()
        most = body_limit(hook.settings)
        exchange(hook, f"{HEAD}Content-Length: {most + 1}\r\n\r\n".encode())
    world.desk.close()
    lines = world.lines()
    rules = [one.fired[0].rule for one in lines if one.kind is LogKind.MESSAGE]
    written = rules.count(Unjudged.DENIED)
    lost = sum(one.lost or 0 for one in lines if one.kind is LogKind.GAP)
    assert written + lost == count
    assert MOST_A_WINDOW <= written <= 2 * MOST_A_WINDOW  # the minute may end in between
    assert rules[-1] == Unjudged.TOO_LARGE


# What is large once it is read


def with_headers(count: int) -> bytes:
    """Return a question about a mail of so many headers, as short as they can be."""
    asked = request("data")
    asked["message"]["headers"] = [["@", ""]]
    pairs = b",".join([b'["a",""]'] * count)
    return encoded(asked).replace(b'["@", ""]', pairs)


def test_a_mail_of_a_million_headers_is_refused(desk: DeskTwin) -> None:
    """As any that has too many for the policy, without all of them being looked at."""
    with ServedHook(desk, KeeperTwin()) as hook:
        assert hook.ask(with_headers(1_000_000)).code == 552
    assert desk.asked == []
    assert noted(desk) == [("hook:headers", Verdict.REJECT)]
    ((asked, _),) = desk.unjudged
    assert asked.message is not None
    assert len(asked.message.headers) == MOST_HEADERS


def test_headers_that_are_not_looked_at_are_refused_under_every_setting() -> None:
    """The largest `inspected_bytes` there can be takes fewer."""
    most = PolicySettings.model_fields["inspected_bytes"].metadata
    largest = max(one.le for one in most if hasattr(one, "le"))
    assert largest < MOST_HEADERS * HEADER_OVERHEAD_BYTES
    assert largest >= (MOST_HEADERS - 1) * HEADER_OVERHEAD_BYTES


class CountingCodec(StalwartCodec):
    """Counts how many questions it reads at a time."""

    def __init__(self) -> None:
        self.at_once = self.most_at_once = 0
        self.may_end = threading.Event()
        self._lock = threading.Lock()

    def read(self, body: bytes) -> HookRequest:
        """Read when the test says so."""
        with self._lock:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        assert self.may_end.wait(60)
        found = super().read(body)
        with self._lock:
            self.at_once -= 1
        return found


@pytest.mark.parametrize(("count", "at_once"), [(MANY_ARRAYS, 1), (30_000, 3)])
def test_what_is_mostly_structure_is_read_one_at_a_time(
    desk: DeskTwin, count: int, at_once: int
) -> None:
    """Else four of them would take more memory than the service may have; others are not held."""
    codec, body = CountingCodec(), with_headers(count)
    assert len(body) > BIG_BODY_BYTES
    with served(desk, codec) as hook, ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(hook.ask, body) for _ in range(3)]
        wait_for(lambda: codec.at_once >= at_once)
        assert hook.ask(method="GET", path="/healthz", headers={}).status == 200
        codec.may_end.set()
        assert [one.result().code for one in asked] == [552] * 3
    assert codec.most_at_once == at_once
