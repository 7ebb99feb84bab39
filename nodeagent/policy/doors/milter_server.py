"""The door for Postfix: listens for milter connections and asks the policy what they ask.

Theory of operation. One `_Conversation` a connection moves bytes between a socket and a
`MilterSession`, and asks `Decides` where the session has a question. While a decision is pending
nothing more is read from that connection, and the MTA hears every few seconds that it goes on.

Whatever goes wrong ends in an answer or in a closed connection, never in a message let through: a
decision that fails or takes too long is 451, so is a message for which there is no memory; after
bytes that are no milter protocol the connection is closed, and Postfix does what its
`milter_default_action` says, as it does when nobody listens here.
"""

from __future__ import annotations

import asyncio
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import structlog

from nodeagent.policy.codecs.milter import MilterError, Packet
from nodeagent.policy.codecs.milter_packets import Accept, Continue, Discard, Progress, Skip
from nodeagent.policy.codecs.milter_replies import FAULT
from nodeagent.policy.codecs.milter_session import (
    CODES_WITH_MACROS,
    Ask,
    Ended,
    MilterSession,
    Refused,
    Step,
)
from nodeagent.policy.codecs.milter_stream import PacketStream, encode
from nodeagent.policy.doors.listening import CannotListen, unix_listener
from nodeagent.policy.log_wire import Door
from nodeagent.policy.model import Decision, Envelope, Message, Reply, Session, Stage, Verdict
from nodeagent.policy.ports import Decides, Unjudged, unjudged

log = structlog.get_logger()

BACKLOG: Final = 512
CROWDED: Final = unjudged(
    Unjudged.SESSIONS,
    Verdict.TEMPFAIL,
    Reply(451, "4.3.2", "Too many sessions at once; try again later"),
)
NO_MEMORY: Final = unjudged(
    Unjudged.MEMORY,
    Verdict.TEMPFAIL,
    Reply(451, "4.3.2", "Too much mail is being judged at once; try again later"),
)
CLOSED: Final = unjudged(Unjudged.CLOSED, Verdict.TEMPFAIL)
ENCODED: Final[dict[type[Packet], bytes]] = {
    kind: encode(kind()) for kind in (Continue, Accept, Discard, Progress, Skip)
}


@dataclass(frozen=True)
class Limits:
    """What the door takes at once, and its times.

    From `connections` on, further clients are told 451; twice as many sockets are never open.
    """

    connections: int = 500
    held_bytes: int = 256 * 1024 * 1024  # of messages, over all connections
    progress_s: float = 3.0  # our main.cf has Postfix wait 10 s for an answer to a command


class MilterDoor:
    """Listens on any number of sockets; belongs to one event loop.

    `answers_body`: answer each part of a body, so that an MTA can skip the rest of a long one; that
    costs every short mail a round trip more.
    """

    def __init__(
        self, decides: Decides, limits: Limits | None = None, *, answers_body: bool = False
    ) -> None:
        self.decides = decides
        self.limits = limits or Limits()
        self.answers_body = answers_body
        self.held_bytes = 0
        self.conversations: set[_Conversation] = set()
        self._tasks: set[asyncio.Task[Decision]] = set()
        self._servers: list[asyncio.AbstractServer] = []
        self._socket_files: list[tuple[Path, int]] = []
        self._is_empty = asyncio.Event()
        self._is_empty.set()

    async def listen_unix(self, path: Path, mode: int = 0o660) -> None:
        """Listen on a UNIX socket; one that is there is replaced, without a moment of none.

        Raises `CannotListen`.
        """
        listener, inode = unix_listener(path, mode, BACKLOG)
        self._socket_files.append((path, inode))
        loop = asyncio.get_running_loop()
        make = self._conversation
        self._servers.append(await loop.create_unix_server(make, sock=listener, backlog=BACKLOG))

    async def listen_tcp(self, host: str, port: int) -> int:
        """Listen on a TCP port and return its number (0: any); raises `CannotListen`.

        A UNIX socket is faster by far; see docs/explanation/policy-hook.md.
        """
        loop = asyncio.get_running_loop()
        try:
            server = await loop.create_server(self._conversation, host, port, backlog=BACKLOG)
        except OSError as error:
            raise CannotListen(f"Nobody can listen on {host} port {port}: {error}.") from error
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    async def close(self, grace_s: float = 10.0) -> None:
        """Take no new connection, let open ones end for this long, then close them."""
        for server in self._servers:
            server.close()
        self._remove_socket_files()
        try:
            await asyncio.wait_for(self._is_empty.wait(), grace_s)
        except TimeoutError:
            log.info("milter connections are closed", connections=len(self.conversations))
        for conversation in tuple(self.conversations):
            conversation.stop()
        for task in tuple(self._tasks):
            task.cancel()

    def _remove_socket_files(self) -> None:
        """Remove what is still ours: a successor may listen at the same place already."""
        for path, inode in self._socket_files:
            if path.is_socket() and path.stat().st_ino == inode:
                path.unlink()

    def _conversation(self) -> _Conversation:
        return _Conversation(self)

    def enter(self, conversation: _Conversation) -> None:
        """Count a connection."""
        self.conversations.add(conversation)
        self._is_empty.clear()

    def leave(self, conversation: _Conversation) -> None:
        """Count it no more."""
        self.conversations.discard(conversation)
        if not self.conversations:
            self._is_empty.set()

    def note(self, asked: Ask, answered: Decision) -> None:
        """Have written down what was answered without a decision."""
        self.decides.note_unjudged(Door.MILTER, *_about(asked), answered=answered)

    def ask(self, asked: Ask, session: MilterSession) -> Decision | None:
        """Return the decision, None where it takes time: `start` it."""
        return self.decides.decide_now(
            Door.MILTER, *_about(asked), cannot_say=session.cannot_say, stages=session.stages
        )

    def start(self, asked: Ask, session: MilterSession) -> asyncio.Task[Decision]:
        """Begin a decision that takes time; it is kept until it ends, also when nobody waits."""
        coroutine = self.decides.decide(
            Door.MILTER, *_about(asked), cannot_say=session.cannot_say, stages=session.stages
        )
        task: asyncio.Task[Decision] = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


class _Conversation(asyncio.Protocol):
    """One connection."""

    def __init__(self, door: MilterDoor) -> None:
        self._door = door
        self._stream = PacketStream(macros_for=CODES_WITH_MACROS)
        self._written: list[bytes] = []
        self._held_bytes = 0
        self._task: asyncio.Task[Decision] | None = None
        self._pending: Ask | None = None
        self._timers: list[asyncio.TimerHandle] = []
        self._is_full = False
        self._tcp: socket.socket | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, or refuse when there are too many already."""
        self._transport = cast("asyncio.Transport", transport)
        self._loop = asyncio.get_running_loop()
        door = self._door
        count = len(door.conversations)
        refuses = CROWDED if count >= door.limits.connections else None
        self._session = MilterSession(
            door.decides.settings, refuses, answers_body=door.answers_body
        )
        door.enter(self)
        if count >= 2 * door.limits.connections:
            log.warning("milter connection closed", problem="far too many connections")
            door.note(Ask(Stage.CONNECT, Session(), Envelope()), CLOSED)
            self._transport.abort()
        open_socket = transport.get_extra_info("socket")
        if open_socket.family != socket.AF_UNIX:
            self._tcp = socket.socket(fileno=os.dup(open_socket.fileno()))
            self._acknowledge()

    def _acknowledge(self) -> None:
        """Acknowledge at once what came: the MTA waits for that before it sends the rest.

        Linux forgets the option by itself (tcp(7)).
        """
        if self._tcp is not None:
            self._tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def connection_lost(self, _exc: Exception | None) -> None:
        """Forget everything that belonged to this connection."""
        door = self._door
        door.leave(self)
        door.held_bytes -= self._held_bytes
        self._held_bytes = 0
        if self._tcp is not None:
            self._tcp.close()
        self._stop_waiting()
        self._end(self._session.end())

    def data_received(self, data: bytes) -> None:
        """Take what came, as far as no decision is pending."""
        self._acknowledge()
        self._stream.feed(data)
        self._go_on()

    def pause_writing(self) -> None:
        """Do nothing more for an MTA that does not read its answers."""
        self._is_full = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on."""
        self._is_full = False
        if self._task is None:
            self._transport.resume_reading()
            self._go_on()

    def stop(self) -> None:
        """Answer what is pending, and close."""
        if self._task is not None and self._task.done():
            self._take_result(self._task)  # it was decided, and is in the log already
        self._give_up(Unjudged.STOPPED)
        self._transport.close()

    def _go_on(self) -> None:
        """Take all packets that are whole, until there is something to wait for."""
        try:
            while self._task is None and not self._is_full and not self._transport.is_closing():
                packet = self._stream.next()
                if packet is None:
                    break
                step = self._session.receive(packet)
                if step:
                    self._carry_out(step)
        except MilterError as error:
            log.warning("milter connection closed", problem=str(error))
            self._flush()
            self._transport.close()
        self._account()
        self._flush()

    def _carry_out(self, step: Step) -> None:
        while isinstance(step, Ask):
            decision = self._decide_now(step)
            if decision is None:
                self._wait_for(step)
                return
            step = self._session.answer(decision)
        if isinstance(step, Ended):
            self._end(step)
            if not step.goes_on:
                self._flush()
                self._transport.close()
            return
        if isinstance(step, Refused):
            self._door.note(step.asked, step.decision)
            step = step.packets
        for packet in step:
            self._written.append(ENCODED.get(type(packet)) or encode(packet))

    def _decide_now(self, asked: Ask) -> Decision | None:
        try:
            return self._door.ask(asked, self._session)
        except BaseException as error:
            fault = _fault(Unjudged.DEFECT, repr(error))
            self._carry_out(self._session.answer(fault))
            self._flush()
            self._transport.close()
            self._door.note(asked, fault)
            raise

    def _wait_for(self, asked: Ask) -> None:
        self._task, self._pending = self._door.start(asked, self._session), asked
        self._task.add_done_callback(self._take_result)
        self._transport.pause_reading()
        limit_s = self._door.decides.settings.decision_timeout_s
        self._timers = [self._loop.call_later(limit_s, self._time_out)]
        self._say_progress_later()

    def _say_progress_later(self) -> None:
        later = self._loop.call_later(self._door.limits.progress_s, self._say_progress)
        self._timers[1:] = [later]

    def _say_progress(self) -> None:
        self._transport.write(ENCODED[Progress])
        self._say_progress_later()

    def _time_out(self) -> None:
        if self._task is not None and self._task.done():
            return  # it is in the log already, and taken in a moment
        log.warning("a decision took too long", answer=str(FAULT.code))
        self._give_up(Unjudged.TIMEOUT)

    def _take_result(self, task: asyncio.Task[Decision]) -> None:
        """Take a decision; what was cancelled or raised is none."""
        if task is not self._task:
            return
        defect = _defect_of(task)
        if defect is None:
            self._decided(task.result())
        else:
            self._give_up(Unjudged.DEFECT, defect)

    def _give_up(self, why: Unjudged, detail: str | None = None) -> None:
        """Answer what is pending without a decision, and write that down."""
        asked, fault = self._pending, _fault(why, detail)
        if asked is not None:
            self._decided(fault)
            self._door.note(asked, fault)

    def _decided(self, decision: Decision) -> None:
        self._stop_waiting()
        self._carry_out(self._session.answer(decision))
        if not self._is_full and not self._transport.is_closing():
            self._transport.resume_reading()
        self._go_on()

    def _stop_waiting(self) -> None:
        task, self._task, self._pending = self._task, None, None
        for timer in self._timers:
            timer.cancel()
        self._timers = []
        if task is not None:
            task.cancel()

    def _account(self) -> None:
        """Count what this connection holds; over the budget its message is given up."""
        door, held = self._door, self._session.held_bytes
        is_more = held > self._held_bytes
        door.held_bytes += held - self._held_bytes
        self._held_bytes = held
        if is_more and door.held_bytes > door.limits.held_bytes and self._task is None:
            log.warning("no memory for a message", held_bytes=door.held_bytes)
            self._session.give_up_message(NO_MEMORY)
            self._account()

    def _flush(self) -> None:
        if self._written:
            self._transport.write(b"".join(self._written))
            self._written.clear()

    def _end(self, ended: Ended) -> None:
        if ended.session is not None:
            self._door.decides.end_connection(Door.MILTER, ended.session, ended.messages)


def _about(asked: Ask) -> tuple[Stage, Session, Envelope, Message | None]:
    return asked.stage, asked.session, asked.envelope, asked.message


def _defect_of(task: asyncio.Task[Decision]) -> str | None:
    if task.cancelled():
        return "cancelled"
    error = task.exception()
    if error is not None:
        log.error("a decision failed", answer=str(FAULT.code), exc_info=error)
    return None if error is None else repr(error)


def _fault(why: Unjudged, detail: str | None) -> Decision:
    return unjudged(why, Verdict.TEMPFAIL, FAULT, detail)
