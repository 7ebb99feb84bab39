"""The milter door on real sockets: faults, limits, slow decisions, stopping."""

from __future__ import annotations

import asyncio
import random
import socket
import stat
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from nodeagent.policy.codecs import milter_packets as wire
from nodeagent.policy.codecs.milter_stream import LONGEST_PACKET, encode
from nodeagent.policy.doors.listening import CannotListen
from nodeagent.policy.doors.milter_server import Limits, MilterDoor
from nodeagent.policy.model import ACCEPT, Decision, Reply, RuleKind, Stage, Verdict
from tests.fakes.milter_client import MilterClient
from tests.fakes.milter_dialogue import CLIENT, MESSAGE, POSTFIX_OFFERS, envelope, judging, whole
from tests.fakes.milter_door import DoorThread, Question, ScriptedPolicy
from tests.fakes.milter_postfix import wait_for

REFUSED = Decision(Verdict.REJECT, Reply(550, "5.7.1", "no"))
FAULTY = wire.ReplyCode("451 4.3.0 This cannot be judged now; try again later")
NO_MEMORY = wire.ReplyCode("451 4.3.2 Too much mail is being judged at once; try again later")
GO_ON = wire.Continue()


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def runs(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    """Give both event loops that the code is meant for."""
    return request.param


@pytest.fixture
def door(tmp_path: Path, runs: Callable[[Any], Any]) -> Iterator[DoorThread]:
    """Give a door that accepts everything until a test says otherwise."""
    with DoorThread(tmp_path / "milter.sock", runs=runs) as made:
        yield made


def noted(door: DoorThread, count: int = 1) -> list[tuple[str, Stage, Verdict]]:
    """Wait for so many answers without a decision; return the rule, stage and verdict of each."""
    wait_for(lambda: len(door.policy.unjudged) >= count)
    for _, decision in door.policy.unjudged:
        assert [fired.kind for fired in decision.fired] == [RuleKind.FAULT]
    return [
        (decision.fired[0].rule, asked.stage, decision.verdict)
        for asked, decision in door.policy.unjudged
    ]


async def later(decision: Decision = ACCEPT, delay_s: float = 0.05) -> Decision:
    """Decide after a while."""
    await asyncio.sleep(delay_s)
    return decision


def test_a_message_is_judged_over_a_unix_socket(door: DoorThread) -> None:
    """A whole session, and the log of its end."""
    with MilterClient(door.path) as client:
        assert client.begin(CLIENT) == [GO_ON]
        client.send(wire.Helo("h"), *envelope())
        assert [client.receive() for _ in range(2)] == [GO_ON] * 2
        client.send(*MESSAGE)
        assert client.ask(wire.EndOfMessage(b"")) == wire.Accept()
        client.send(wire.Quit())
        assert client.receive() is None
    wait_for(lambda: door.policy.ended)
    ((session, messages),) = door.policy.ended
    assert (session.helo, messages) == ("h", 1)
    (asked,) = door.policy.asked(Stage.DATA)
    assert asked.message is not None
    assert asked.message.body == b"body\r\n"


def test_a_message_is_judged_over_tcp(door: DoorThread) -> None:
    """The same, in one piece and without waiting."""
    with MilterClient(door.port) as client:
        client.begin(CLIENT)
        client.send(*whole(), *whole())
        replies = [client.receive() for _ in range(6)]
        assert replies == [GO_ON, GO_ON, wire.Accept()] * 2


def test_one_byte_at_a_time_is_enough(door: DoorThread) -> None:
    """The network may cut where it likes."""
    with MilterClient(door.path) as client:
        for packet in (POSTFIX_OFFERS, CLIENT, wire.Mail(("<a@x>",))):
            for byte in encode(packet):
                client.socket.sendall(bytes((byte,)))
            assert client.receive() is not None
        assert [asked.stage for asked in door.policy.questions] == [Stage.CONNECT, Stage.MAIL]


def test_a_decision_that_takes_time_is_awaited_in_order(door: DoorThread) -> None:
    """What was sent meanwhile is judged afterwards, one after the other."""
    door.policy.rule = lambda _question: later()
    with MilterClient(door.path) as client:
        client.send(POSTFIX_OFFERS, CLIENT, wire.Helo("h"), *whole("b@y", "c@y"), wire.Quit())
        assert isinstance(client.receive(), wire.Negotiate)
        assert [client.receive() for _ in range(6)] == [*[GO_ON] * 4, wire.Accept(), None]
    stages = [asked.stage for asked in door.policy.questions]
    assert stages == [Stage.CONNECT, Stage.EHLO, Stage.MAIL, Stage.RCPT, Stage.RCPT, Stage.DATA]


def test_nothing_is_read_while_a_decision_is_pending(door: DoorThread) -> None:
    """An MTA that sends on is held back by its socket, not taken into memory."""
    go_on = asyncio.Event()

    async def wait() -> Decision:
        await go_on.wait()
        return ACCEPT

    door.policy.rule = lambda asked: wait() if asked.stage is Stage.CONNECT else ACCEPT
    with MilterClient(door.path) as client:
        client.begin()
        client.send(CLIENT)
        wait_for(lambda: door.policy.questions)
        sent = client.send_until_stuck(encode(wire.Helo("h" * 10_000)), 64 * 1024 * 1024)
        assert sent < 8 * 1024 * 1024
        door.loop.call_soon_threadsafe(go_on.set)
        assert client.receive() == GO_ON


def test_progress_is_told_while_a_decision_is_pending(tmp_path: Path) -> None:
    """Postfix begins its time limit anew with each."""
    policy = ScriptedPolicy(settings=judging(decision_timeout_s=60))
    limits = Limits(progress_s=0.05)
    with (
        DoorThread(tmp_path / "m", policy, limits) as door,
        MilterClient(door.path) as client,
    ):

        async def refuse_after_progress() -> Decision:
            await asyncio.to_thread(wait_for, lambda: client.progress >= 2, 30)
            return REFUSED

        policy.rule = lambda _question: refuse_after_progress()
        assert client.begin(CLIENT) == [wire.ReplyCode("550 5.7.1 no")]
        assert client.progress >= 2


def test_a_decision_that_takes_too_long_is_451(tmp_path: Path) -> None:
    """The limit is the policy's; the session goes on."""
    policy = ScriptedPolicy(
        lambda asked: later(delay_s=600) if asked.stage is Stage.DATA else ACCEPT,
        judging(decision_timeout_s=0.2),
    )
    with DoorThread(tmp_path / "m", policy) as door, MilterClient(door.path) as client:
        client.begin(CLIENT, *envelope())
        assert client.ask(wire.EndOfMessage(b"")) == FAULTY
        assert client.ask(wire.Mail(("<a@x>",))) == GO_ON
        assert noted(door) == [("hook:timeout", Stage.DATA, Verdict.TEMPFAIL)]
        assert policy.unjudged[0][0] == policy.asked(Stage.DATA)[0]


async def broken() -> Decision:
    """Fail."""
    raise RuntimeError("a plugin is broken")


async def cancelled() -> Decision:
    """Be cancelled by somebody else."""
    raise asyncio.CancelledError


@pytest.mark.parametrize("decide", [broken, cancelled])
@pytest.mark.parametrize("stage", [Stage.CONNECT, Stage.RCPT, Stage.DATA])
def test_a_decision_that_fails_is_451(
    door: DoorThread, stage: Stage, decide: Callable[[], Any]
) -> None:
    """Never a silent accept; and the session goes on."""
    door.policy.rule = lambda asked: decide() if asked.stage is stage else ACCEPT
    with MilterClient(door.path) as client:
        packets = {
            Stage.CONNECT: (CLIENT,),
            Stage.RCPT: (CLIENT, *envelope()),
            Stage.DATA: (CLIENT, *envelope(), wire.EndOfMessage(b"")),
        }[stage]
        replies = client.begin(*packets)
        assert replies == [*[GO_ON] * (len(packets) - 1), FAULTY]
        assert client.ask(wire.Mail(("<a@x>",))) == GO_ON
    assert noted(door) == [("hook:defect", stage, Verdict.TEMPFAIL)]
    detail = door.policy.unjudged[0][1].fired[0].matched
    assert detail == ("cancelled" if decide is cancelled else "RuntimeError('a plugin is broken')")


def raises(_question: Question) -> Decision:
    """Fail at once."""
    raise RuntimeError("the engine is broken")


@pytest.mark.parametrize("pending_first", [False, True])
def test_a_decision_that_raises_at_once_is_451_too(door: DoorThread, pending_first: bool) -> None:
    """The fault is reported where all faults of the program are, and the connection is closed."""
    if pending_first:
        door.policy.rule = lambda asked: later() if asked.stage is Stage.CONNECT else raises(asked)
    with MilterClient(door.path) as client:
        if not pending_first:
            client.begin(CLIENT)
            door.policy.rule = raises
            assert client.ask(wire.Mail(("<a@x>",))) == FAULTY
        else:
            client.send(POSTFIX_OFFERS, CLIENT, wire.Mail(("<a@x>",)))
            assert [client.receive() for _ in range(3)][1:] == [GO_ON, FAULTY]
        assert client.receive() is None
    wait_for(lambda: door.errors)
    assert isinstance(door.errors[0]["exception"], RuntimeError)
    assert noted(door) == [("hook:defect", Stage.MAIL, Verdict.TEMPFAIL)]
    with MilterClient(door.path) as client:
        assert isinstance(client.ask(POSTFIX_OFFERS), wire.Negotiate)


def test_an_mta_that_goes_away_takes_its_decision_with_it(door: DoorThread) -> None:
    """Nobody waits for what nobody reads; the door goes on."""
    door.policy.rule = lambda asked: later(delay_s=0.2) if asked.stage is Stage.DATA else ACCEPT
    with MilterClient(door.path) as client:
        client.begin(CLIENT, *envelope())
        client.send(wire.EndOfMessage(b""))
        wait_for(lambda: door.policy.asked(Stage.DATA))
    wait_for(lambda: not door.door.conversations)
    wait_for(lambda: door.policy.ended)
    assert door.door.held_bytes == 0
    assert door.errors == []
    assert door.policy.unjudged == []


@pytest.mark.parametrize(
    "sent",
    [
        struct.pack("!I", LONGEST_PACKET + 1) + b"B",
        b"\0\0\0\x01Z",
        b"\0\0\0\0",
        b"\0\0\0\x02Qx",
        b"GET / HTTP/1.1\r\n\r\n",
        encode(wire.Helo("h")),
        encode(wire.EndOfMessage(b"")),
    ],
)
def test_bytes_that_are_no_milter_protocol_close_the_connection(
    door: DoorThread, sent: bytes
) -> None:
    """What Postfix then does is the administrator's choice; others notice nothing."""
    with MilterClient(door.path) as other, MilterClient(door.path) as client:
        other.begin(CLIENT)
        client.begin()
        client.socket.sendall(sent)
        assert client.receive() is None
        assert other.ask(wire.Mail(("<a@x>",))) == GO_ON
    assert door.errors == []


def test_replies_that_were_due_are_sent_before_the_connection_is_closed(door: DoorThread) -> None:
    """A decision that was made is not lost to the packet behind it."""
    with MilterClient(door.path) as client:
        client.begin()
        client.socket.sendall(encode(CLIENT) + b"\0\0\0\x01Z")
        assert client.receive() == GO_ON
        assert client.receive() is None


@pytest.mark.parametrize("seed", range(4))
def test_noise_does_not_hurt_the_door(door: DoorThread, seed: int) -> None:
    """Random and damaged streams over real sockets: connections end, the door does not."""
    noise = random.Random(seed)
    good = b"".join(map(encode, (POSTFIX_OFFERS, CLIENT, wire.Helo("h"), *whole(), *whole())))
    for _ in range(60):
        damaged = bytearray(good[: noise.randrange(len(good))])
        for _ in range(noise.randrange(4)):
            if damaged:
                damaged[noise.randrange(len(damaged))] = noise.randrange(256)
        if noise.random() < 0.3:
            damaged = bytearray(noise.randbytes(noise.randrange(200)))
        with MilterClient(door.path) as client:
            try:
                client.socket.sendall(damaged)
                client.socket.shutdown(socket.SHUT_WR)
                while client.socket.recv(65_536):
                    pass
            except (ConnectionResetError, BrokenPipeError):
                continue
    assert door.errors == []
    wait_for(lambda: not door.door.conversations)
    assert door.door.held_bytes == 0
    with MilterClient(door.path) as client:
        assert client.begin(CLIENT) == [GO_ON]


def test_memory_over_all_connections_is_bounded(tmp_path: Path) -> None:
    """Over the budget a message is 451 with a clear text; afterwards there is room again."""
    limits = Limits(held_bytes=1_000_000)
    with DoorThread(tmp_path / "m", limits=limits) as door:
        clients = [MilterClient(door.path) for _ in range(4)]
        for client in clients:
            client.begin(CLIENT, *envelope())
            client.send(*[wire.Body(b"x" * 60_000)] * 8)
        wait_for(lambda: door.door.held_bytes > 900_000)
        replies = [client.ask(wire.EndOfMessage(b"")) for client in clients]
        assert NO_MEMORY in replies
        assert wire.Accept() in replies
        assert door.door.held_bytes < 1_000_000
        refused = ("hook:memory", Stage.DATA, Verdict.TEMPFAIL)
        assert noted(door) == [refused] * replies.count(NO_MEMORY)
        assert [client.ask(wire.Mail(("<a@x>",))) for client in clients] == [GO_ON] * 4
        client = clients[replies.index(NO_MEMORY)]
        client.ask(wire.Rcpt(("<b@y>",)))
        assert client.ask(*MESSAGE, wire.EndOfMessage(b"")) == wire.Accept()
        for client in clients:
            client.socket.close()
        wait_for(lambda: not door.door.conversations)
        assert door.door.held_bytes == 0


def test_too_many_connections_are_told_so(tmp_path: Path) -> None:
    """From the limit on 451, far beyond it no conversation at all; then all is well again."""
    with DoorThread(tmp_path / "m", limits=Limits(connections=2)) as door:
        clients = [MilterClient(door.path) for _ in range(4)]
        replies = [client.begin(CLIENT)[0] for client in clients]
        crowded = wire.ReplyCode("451 4.3.2 Too many sessions at once; try again later")
        assert replies == [GO_ON, GO_ON, crowded, crowded]
        assert noted(door, 2) == [("hook:sessions", Stage.CONNECT, Verdict.TEMPFAIL)] * 2
        assert {asked.session.client.port for asked, _ in door.policy.unjudged} == {4711}
        with MilterClient(door.path) as fifth:
            assert fifth.receive() is None
        assert noted(door, 3)[2] == ("hook:closed", Stage.CONNECT, Verdict.TEMPFAIL)
        for client in clients:
            client.socket.close()
        wait_for(lambda: not door.door.conversations)
        with MilterClient(door.path) as client:
            assert client.begin(CLIENT) == [GO_ON]


def test_an_mta_that_does_not_read_is_left_waiting(door: DoorThread) -> None:
    """Its answers are not piled up in memory, and it gets all of them when it reads."""
    with MilterClient(door.path) as client:
        client.begin(CLIENT)
        mail, limit = encode(wire.Mail(("<a@x>",))), 16 * 1024 * 1024
        sent = client.send_until_stuck(mail * 1000, limit)
        assert sent < limit
        asked = len(door.policy.asked(Stage.MAIL))
        assert asked < sent // len(mail)
        replies = [client.receive() for _ in range(sent // len(mail))]
        assert set(replies) == {GO_ON}


# Sockets


def test_the_socket_has_the_mode_it_was_given(tmp_path: Path) -> None:
    """Nothing else is left in its directory, and it is gone after stopping."""
    with DoorThread(tmp_path / "m") as door:
        assert stat.S_IMODE(door.path.stat().st_mode) == 0o666
        assert [path.name for path in tmp_path.iterdir()] == ["m"]
    assert list(tmp_path.iterdir()) == []


def test_a_successor_takes_the_socket_over(tmp_path: Path) -> None:
    """What is listened to last answers; the one that stops does not remove it."""
    with DoorThread(tmp_path / "m") as first:
        with DoorThread(tmp_path / "m") as second, MilterClient(second.path) as client:
            first.stop()
            client.begin(CLIENT)
            assert len(second.policy.questions) == 1
            assert second.path.is_socket()
        assert not second.path.exists()


def listening(path: Path) -> None:
    """Listen on a path."""
    asyncio.run(MilterDoor(ScriptedPolicy()).listen_unix(path))


def test_a_socket_that_was_left_behind_is_replaced(tmp_path: Path) -> None:
    """A hook that was killed leaves its socket."""
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(str(tmp_path / "m"))
    with DoorThread(tmp_path / "m") as door, MilterClient(door.path) as client:
        assert client.begin(CLIENT) == [GO_ON]


def test_a_file_is_not_replaced(tmp_path: Path) -> None:
    """Only sockets are; the error says what is in the way."""
    (tmp_path / "m").write_text("precious")
    with pytest.raises(CannotListen, match="is no socket"):
        listening(tmp_path / "m")
    assert (tmp_path / "m").read_text() == "precious"


def test_a_place_that_cannot_be_listened_on_is_named(tmp_path: Path) -> None:
    """A directory that is missing, a path too long for a socket, a port in use."""
    for path in (tmp_path / "none" / "m", tmp_path / ("x" * 120)):
        with pytest.raises(CannotListen, match=str(path)):
            listening(path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotListen, match=f"port {port}"):
            asyncio.run(MilterDoor(ScriptedPolicy()).listen_tcp("127.0.0.1", port))


# Stopping


def test_stopping_lets_sessions_end(tmp_path: Path, runs: Callable[[Any], Any]) -> None:
    """A message that is under way is judged; a new connection is not taken."""
    with DoorThread(tmp_path / "m", runs=runs, grace_s=60) as door:
        with MilterClient(door.path) as client:
            client.begin(CLIENT, *envelope())
            door.loop.call_soon_threadsafe(door._stop.set)
            wait_for(lambda: not door.path.exists())
            assert client.ask(wire.EndOfMessage(b"")) == wire.Accept()
            client.send(wire.Quit())
        door._thread.join(30)
        assert not door._thread.is_alive()


def test_stopping_answers_what_is_pending(tmp_path: Path, runs: Callable[[Any], Any]) -> None:
    """After the grace a pending decision is 451, and idle connections are closed."""
    policy = ScriptedPolicy(lambda asked: later(delay_s=600) if asked.stage is Stage.DATA
                            else ACCEPT)  # fmt: skip
    with (
        DoorThread(tmp_path / "m", policy, runs=runs, grace_s=0.1) as door,
        MilterClient(door.path) as busy,
        MilterClient(door.path) as idle,
    ):
        idle.begin(CLIENT)
        busy.begin(CLIENT, *envelope())
        busy.send(wire.EndOfMessage(b""))
        wait_for(lambda: policy.asked(Stage.DATA))
        door.stop()
        assert [busy.receive(), busy.receive(), idle.receive()] == [FAULTY, None, None]
        assert len(policy.ended) == 2
        assert noted(door) == [("hook:stopped", Stage.DATA, Verdict.TEMPFAIL)]


def open_files() -> int:
    """Return how many files this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def test_connections_leave_no_open_files(door: DoorThread) -> None:
    """Neither on TCP, where a second handle of the socket is kept, nor on UNIX sockets."""
    with MilterClient(door.port) as client:
        client.begin(CLIENT)
    wait_for(lambda: not door.door.conversations)
    before = open_files()
    for _ in range(20):
        for where in (door.port, door.path):
            with MilterClient(where) as client:
                client.begin(CLIENT)
    wait_for(lambda: not door.door.conversations)
    wait_for(lambda: open_files() <= before + 2)
