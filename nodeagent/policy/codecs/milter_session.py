"""What milter packets mean: one connection from an MTA, as steps without I/O.

Theory of operation. `receive` takes a packet and gives a `Step`: packets to send (often none), a
question to the policy, or the end of an SMTP session. A question is answered by `answer`, before
the next packet is given; that is a step, too. `STATES` says which packet may come when; all others
raise `OutOfOrder`.

As few round trips as the policy allows: while negotiating, the MTA is told to await no answer at
stages that are not judged, nor to headers and parts of the body, to send nothing that is not
looked at, and to send three macros in place of its thirty. What is left for a message that is
judged at its end alone is one answer.

A session is judged by the settings that were in force when it was negotiated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum, auto
from typing import Any, ClassVar, Final

from nodeagent.policy.codecs import milter_packets as wire
from nodeagent.policy.codecs.milter import OutOfOrder, Packet, Steps
from nodeagent.policy.codecs.milter_content import (
    RECIPIENT_OVERHEAD_BYTES,
    Content,
    address_in,
    client_of,
)
from nodeagent.policy.codecs.milter_replies import FAULT, Inexpressible, refusal
from nodeagent.policy.codecs.milter_terms import agree, stages_of, steps_for
from nodeagent.policy.document import PolicySettings
from nodeagent.policy.model import (
    Decision,
    Envelope,
    Message,
    Session,
    Stage,
    Verdict,
)
from nodeagent.policy.places import HEALTH_CHECK
from nodeagent.policy.ports import Unjudged, unjudged

NOTHING: Final[tuple[Packet, ...]] = ()
GO_ON: Final[tuple[Packet, ...]] = (wire.Continue(),)
ACCEPTED: Final[tuple[Packet, ...]] = (wire.Accept(),)
SKIP: Final[tuple[Packet, ...]] = (wire.Skip(),)
CODES_WITH_MACROS: Final = frozenset({wire.Helo.code, wire.Mail.code, wire.EndOfMessage.code})
NO_MACROS: Final = wire.Macros(b"\0")


@dataclass(frozen=True, slots=True)
class Ask:
    """What the policy has to judge before anything else happens."""

    stage: Stage
    session: Session
    envelope: Envelope
    message: Message | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The session refuses by itself: what to send, and what was to be judged."""

    packets: tuple[Packet, ...]
    asked: Ask
    decision: Decision


@dataclass(frozen=True, slots=True)
class Ended:
    """An SMTP session is over; `goes_on`: another one may follow on the same socket."""

    session: Session | None  # None: no client was connected
    messages: int
    goes_on: bool


Step = Ask | Refused | Ended | tuple[Packet, ...]


class State(IntEnum):
    """How far a connection has come."""

    NEW = auto()
    READY = auto()  # negotiated, no client yet
    SESSION = auto()
    ENVELOPE = auto()  # from MAIL on
    HEADERS = auto()
    BODY = auto()


_MESSAGE: Final = frozenset({State.ENVELOPE, State.HEADERS, State.BODY})
_CONNECTED: Final = _MESSAGE | {State.SESSION}
_NEGOTIATED: Final = _CONNECTED | {State.READY}
STATES: Final[dict[type[Packet], frozenset[State]]] = {
    wire.Negotiate: frozenset({State.NEW}),
    wire.Macros: _NEGOTIATED,
    wire.Connect: frozenset({State.READY}),
    wire.Helo: frozenset({State.SESSION, State.ENVELOPE}),
    wire.Mail: frozenset({State.SESSION, State.ENVELOPE}),
    wire.Rcpt: frozenset({State.ENVELOPE}),
    wire.Data: frozenset({State.ENVELOPE}),
    wire.HeaderField: frozenset({State.ENVELOPE, State.HEADERS}),
    wire.EndOfHeaders: frozenset({State.ENVELOPE, State.HEADERS}),
    wire.Body: _MESSAGE,
    wire.EndOfMessage: _MESSAGE,
    wire.Abort: _NEGOTIATED,
    wire.Quit: frozenset(State),
    wire.QuitNewConnection: _NEGOTIATED,
    wire.UnknownCommand: _CONNECTED,
}
"""In which states a packet may come."""


def _refused_for(problem: Decision, asked: Ask) -> Refused:
    return Refused((refusal(problem.verdict, problem.reply),), asked, problem)


class _Connection:
    """What was agreed with the MTA, and which client is in a session."""

    def __init__(
        self,
        settings: PolicySettings,
        refuses: Decision | None = None,
        *,
        answers_body: bool = False,
    ) -> None:
        self._limit_bytes = settings.inspected_bytes
        self._refuses = refuses
        self.stages = stages_of(settings)
        self._wanted = steps_for(self.stages, answers_body=answers_body)
        if refuses is not None:
            self._wanted &= ~Steps.NO_REPLY_CONNECT
        self._silent: frozenset[type[Packet]] = frozenset()
        self._macros: dict[bytes, wire.Macros] = {}
        self._asked: Ask | None = None
        self._asked_bytes = 0
        self._said: tuple[Decision, tuple[Packet, ...]] | None = None
        self._state = State.NEW
        self._start_session()

    def _start_session(self) -> None:
        self._session = Session()
        self._accepted_login: str | None = None
        self._refused_helo: wire.ReplyCode | None = None
        self._messages = 0
        self._start_message()

    def receive(self, packet: Packet) -> Step:
        """Take the next packet; raises `MilterError` when it makes no sense."""
        kind = type(packet)
        if self._asked is not None or self._state not in STATES[kind]:
            raise OutOfOrder(f"{kind.__name__} came in the state {self._state.name}")
        return self.TAKES[kind](self, packet)

    def end(self) -> Ended:
        """Say that the connection is gone."""
        return self._end(goes_on=False)

    def _end(self, *, goes_on: bool) -> Ended:
        session = self._session if self._state in _CONNECTED else None
        ended = Ended(session, self._messages, goes_on)
        self._macros.clear()
        self._asked, self._asked_bytes = None, 0
        self._start_session()
        self._state = State.READY
        return ended

    def _ask(self, stage: Stage, envelope: Envelope, message: Message | None = None) -> Ask:
        self._asked = Ask(stage, self._session, envelope, message)
        return self._asked

    def _go_on(self, kind: type[Packet]) -> tuple[Packet, ...]:
        return NOTHING if kind in self._silent else GO_ON

    def _negotiate(self, packet: wire.Negotiate) -> Step:
        self._terms = agree(packet.version, packet.actions, packet.steps, self._wanted)
        self._silent = self._terms.silent
        self._state = State.READY
        return (self._terms.answer,)

    def _keep_macros(self, packet: wire.Macros) -> Step:
        if packet.command in CODES_WITH_MACROS:
            self._macros[packet.command] = packet
        return NOTHING

    def _macros_for(self, packet: Packet) -> wire.Macros:
        return self._macros.pop(packet.code, NO_MACROS)

    def _connect(self, packet: wire.Connect) -> Step:
        session = Session(client_of(packet))
        if self._refuses is not None:  # so there is no session, and no other packet may follow
            return _refused_for(self._refuses, Ask(Stage.CONNECT, session, Envelope()))
        self._session = session
        self._state = State.SESSION
        if Stage.CONNECT in self.stages and session.client.ip != HEALTH_CHECK:
            return self._ask(Stage.CONNECT, Envelope())
        return self._go_on(wire.Connect)

    def _helo(self, packet: wire.Helo) -> Step:
        self._know(self._macros_for(packet), packet.text, self._session.login)
        self._refused_helo = None
        if Stage.EHLO in self.stages:
            return self._ask(Stage.EHLO, Envelope())
        return self._go_on(wire.Helo)

    def _know(self, macros: wire.Macros, helo: str | None, login: str | None) -> None:
        """Keep what is known of the session by now; TLS is never switched off in one."""
        session = self._session
        is_encrypted = session.is_encrypted or bool(macros.get("tls_version"))
        self._session = Session(session.client, helo, login, is_encrypted)

    def _quit(self, _packet: wire.Quit) -> Step:
        return self._end(goes_on=False)

    def _quit_new_connection(self, _packet: wire.QuitNewConnection) -> Step:
        return self._end(goes_on=True)

    def _nothing_to_do(self, packet: Packet) -> Step:
        return self._go_on(type(packet))

    def _start_message(self) -> None:
        raise NotImplementedError

    TAKES: ClassVar[dict[type[Packet], Callable[[Any, Any], Step]]] = {
        wire.Negotiate: _negotiate,
        wire.Macros: _keep_macros,
        wire.Connect: _connect,
        wire.Helo: _helo,
        wire.Data: _nothing_to_do,
        wire.Quit: _quit,
        wire.QuitNewConnection: _quit_new_connection,
        wire.UnknownCommand: _nothing_to_do,
    }


class MilterSession(_Connection):
    """One connection; see the module's theory of operation.

    `refuses`: answer this to every client (there are too many connections). `answers_body`: answer
    each part of a body, so that the rest of a long one can be skipped.
    """

    def _start_message(self) -> None:
        self._envelope = Envelope()
        self._recipient_bytes = 0
        self._content = Content()

    @property
    def held_bytes(self) -> int:
        """Return how much memory is held, about: for what is coming in, and for what is judged."""
        return self._content.held_bytes + self._recipient_bytes + self._asked_bytes

    def give_up_message(self, problem: Decision) -> None:
        """Keep nothing more of the message that is coming in; at its end answer this (4xx)."""
        self._content.give_up(problem)

    def cannot_say(self, decision: Decision) -> str | None:
        """Return why the answer to what was asked cannot be this, None where it can."""
        asked = self._asked
        if asked is None or asked.stage is not Stage.DATA:
            return None
        try:
            packets = self._terms.speaker.message(decision, asked.envelope.recipients)
        except Inexpressible as error:
            return str(error)
        self._said = (decision, packets)  # to be sent in a moment
        return None

    def answer(self, decision: Decision) -> Step:
        """Take the decision that was asked for."""
        asked, self._asked, self._asked_bytes = self._asked, None, 0
        said, self._said = self._said, None
        if asked is None:
            raise OutOfOrder("a decision that nobody asked for")
        if said is not None and said[0] is decision:
            return said[1]
        if asked.stage is Stage.DATA:
            return self._answer_message(decision, asked)
        if decision.verdict is Verdict.REJECT or decision.verdict is Verdict.TEMPFAIL:
            return self._refused(asked, refusal(decision.verdict, decision.reply))
        return self._accepted(asked)

    def _accepted(self, asked: Ask) -> Step:
        if asked.stage is Stage.AUTH:
            self._accepted_login = self._session.login
            if Stage.MAIL in self.stages:
                return self._ask(Stage.MAIL, self._envelope)
        if asked.stage is Stage.RCPT:
            self._take_recipients(asked.envelope)
        return self._go_on(wire.Helo) if asked.stage is Stage.EHLO else GO_ON

    def _refused(self, asked: Ask, packet: wire.ReplyCode) -> Step:
        if asked.stage is Stage.EHLO:
            self._refused_helo = packet
            return self._go_on(wire.Helo)
        if asked.stage is Stage.AUTH or asked.stage is Stage.MAIL:
            self._start_message()
            self._state = State.SESSION
        return (packet,)

    def _answer_message(self, decision: Decision, asked: Ask) -> Step:
        try:
            return self._terms.speaker.message(decision, asked.envelope.recipients)
        except Inexpressible as error:
            problem = unjudged(Unjudged.UNSAYABLE, Verdict.TEMPFAIL, FAULT, str(error))
            return _refused_for(problem, asked)

    def _take_recipients(self, envelope: Envelope) -> None:
        self._envelope = envelope
        self._recipient_bytes += len(envelope.recipients[-1]) + RECIPIENT_OVERHEAD_BYTES

    def _mail(self, packet: wire.Mail) -> Step:
        self._start_message()
        if self._refused_helo is not None:
            self._state = State.SESSION
            return (self._refused_helo,)
        self._envelope = Envelope(address_in(packet.arguments[0]))
        self._state = State.ENVELOPE
        macros = self._macros_for(packet)
        login = macros.get("auth_authen") or None
        self._know(macros, self._session.helo, login)
        if Stage.AUTH in self.stages and login not in {None, self._accepted_login}:
            return self._ask(Stage.AUTH, Envelope())
        if Stage.MAIL in self.stages:
            return self._ask(Stage.MAIL, self._envelope)
        return self._go_on(wire.Mail)

    def _rcpt(self, packet: wire.Rcpt) -> Step:
        problem = self._content.problem
        recipients = (*self._envelope.recipients, address_in(packet.arguments[0]))
        envelope = Envelope(self._envelope.sender, recipients)
        if problem is not None:
            if wire.Rcpt in self._silent:
                return NOTHING
            return _refused_for(problem, Ask(Stage.RCPT, self._session, envelope))
        if Stage.RCPT in self.stages:
            return self._ask(Stage.RCPT, envelope)
        self._take_recipients(envelope)
        return self._go_on(wire.Rcpt)

    def _header(self, packet: wire.HeaderField) -> Step:
        self._state = State.HEADERS
        self._content.add_header(packet, self._limit_bytes)
        return self._go_on(wire.HeaderField)

    def _end_of_headers(self, packet: wire.EndOfHeaders) -> Step:
        self._state = State.BODY
        return self._go_on(type(packet))

    def _body(self, packet: wire.Body) -> Step:
        self._state = State.BODY
        content = self._content
        content.add_body(packet.data, self._limit_bytes)
        is_enough = content.problem is not None or content.body_bytes > self._limit_bytes
        return SKIP if self._terms.can_skip and is_enough else self._go_on(wire.Body)

    def _end_of_message(self, packet: wire.EndOfMessage) -> Step:
        self._content.add_body(packet.data, self._limit_bytes)
        content, envelope, held_bytes = self._content, self._envelope, self.held_bytes
        queue_id = self._macros_for(packet).get("i") or None
        self._start_message()
        self._state = State.SESSION
        self._messages += 1
        if Stage.DATA not in self.stages:
            return ACCEPTED
        if content.problem is not None:
            message = content.message(queue_id)
            return _refused_for(content.problem, Ask(Stage.DATA, self._session, envelope, message))
        self._asked_bytes = held_bytes
        return self._ask(Stage.DATA, envelope, content.message(queue_id))

    def _abort(self, _packet: wire.Abort) -> Step:
        self._start_message()
        if self._state is not State.READY:
            self._state = State.SESSION
        return NOTHING

    TAKES: ClassVar[dict[type[Packet], Callable[[Any, Any], Step]]] = {
        **_Connection.TAKES,
        wire.Mail: _mail,
        wire.Rcpt: _rcpt,
        wire.HeaderField: _header,
        wire.EndOfHeaders: _end_of_headers,
        wire.Body: _body,
        wire.EndOfMessage: _end_of_message,
        wire.Abort: _abort,
    }
