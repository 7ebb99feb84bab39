"""Where everything that was asked is decided and written down, for both doors alike.

Theory of operation. The engine is pure, so somebody has to know the time, count, look up and write:
the desk. A policy is swapped whole between two questions. What is quick is decided at once, on the
event loop; long mails are judged in a thread, everything is where plugins are asked, and look-ups
are awaited, so that none of them keeps other sessions waiting. A decision to discard is given only
when it is on the disk: a mail that nobody has any more is in the log.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
import uuid
from collections.abc import Collection
from dataclasses import replace
from functools import partial
from typing import Final, Protocol

import structlog

from nodeagent.errors import AgentError
from nodeagent.policy.desk_log import DeskLog
from nodeagent.policy.document import FaultAction, PolicySettings, RateRule
from nodeagent.policy.engine.authentication import AuthenticationResults
from nodeagent.policy.engine.case import Case, Given
from nodeagent.policy.engine.judge import needs_authentication
from nodeagent.policy.engine.limits import rate_keys
from nodeagent.policy.engine.log_lines import Asked
from nodeagent.policy.engine.plugins import Plugins, judge_with
from nodeagent.policy.engine.policy import CompiledPolicy
from nodeagent.policy.engine.rates import RateBook
from nodeagent.policy.log_wire import Door
from nodeagent.policy.log_writer import LogWriter
from nodeagent.policy.model import (
    ACCEPT,
    Decision,
    Envelope,
    Fired,
    Message,
    Reply,
    Session,
    Stage,
    Verdict,
)
from nodeagent.policy.plugin_threads import PluginThreads
from nodeagent.policy.ports import CannotSay, Unjudged, is_for_our_postfix, unjudged
from nodeagent.policy.sync_wire import MOST_COUNTS, PolicyAnswer, PolicySync, RateCount

log = structlog.get_logger()

LONG_MAIL_BYTES: Final = 128 * 1024
"""Of headers and body. From here on a mail takes longer than the event loop may stand still."""
NOT_NOW: Final = Reply(451, "4.3.0", "The mail cannot be handled now, try again later")
NOT_KEPT: Final = unjudged(Unjudged.NOT_KEPT, Verdict.TEMPFAIL, NOT_NOW)
NOT_LOGGED: Final = unjudged(Unjudged.NOT_LOGGED, Verdict.TEMPFAIL, NOT_NOW)
NO_PLUGINS: Final = Plugins()
INACTIVE: Final = PolicySettings()
KEY_BYTES: Final = 16
HEADER_BYTES: Final = 200
"""What a header costs beside its name and its text."""


class Authenticates(Protocol):
    """What looks up SPF, DKIM and DMARC."""

    async def check(
        self,
        session: Session,
        envelope: Envelope,
        message: Message | None,
        settings: PolicySettings,
    ) -> AuthenticationResults:
        """Return what was found; raises nothing, and ends in time."""


class Desk:
    """Decides by the policy in force; `use` puts another one in its place."""

    def __init__(
        self, writer: LogWriter, authenticator: Authenticates, plugins: Plugins = NO_PLUGINS
    ) -> None:
        self._log = DeskLog(writer)
        self._authenticator = authenticator
        self._threads = PluginThreads()
        self._plugins = self._threads.bounded(plugins)
        self._has_plugins = bool(plugins)
        self._policy: CompiledPolicy | None = None
        self._source = uuid.uuid4().hex
        self._rates = RateBook(self._source)
        self._reported: tuple[RateCount, ...] = ()
        self._seen = 0

    @property
    def policy(self) -> CompiledPolicy | None:
        """Return the policy in force, None before the first."""
        return self._policy

    @property
    def settings(self) -> PolicySettings:
        """Return the settings in force now."""
        return self._policy.settings if self._policy is not None else INACTIVE

    def use(self, policy: CompiledPolicy) -> None:
        """Put a policy in force; questions that are being decided keep theirs."""
        self._policy = policy
        self._log.use(policy)

    def report(self, problem: str) -> PolicySync:
        """Return what is in force and what was counted since."""
        self._log.note_left_out()
        self._reported = self._rates.changed(MOST_COUNTS)
        problem = " ".join(filter(None, (self._threads.problem, problem)))
        return PolicySync(
            source=self._source,
            revision=self._policy.revision if self._policy is not None else None,
            problem=problem[:500],
            counts=self._reported,
            seen=self._seen,
        )

    def told(self, answer: PolicyAnswer) -> None:
        """Take in what others counted; what was reported last is known now."""
        self._rates.confirm(self._reported)
        self._rates.merge(answer.counts, time.time())
        self._seen = answer.seen

    def decide_now(
        self,
        door: Door,
        stage: Stage,
        session: Session,
        envelope: Envelope,
        message: Message | None = None,
        *,
        cannot_say: CannotSay | None = None,
        stages: Collection[Stage] | None = None,
    ) -> Decision | None:
        """Return the decision, or None where it takes a look-up or long work."""
        policy = self._policy
        if policy is None or not policy.settings.is_active:
            return ACCEPT
        if self._takes_long(message):
            return None
        if needs_authentication(stage, session, policy):
            return None
        began_s = time.perf_counter()
        asked = Asked(door, stage, session, envelope, message)
        decision = self._judge(asked, policy, self._given(asked, policy, None, stages))
        return self._noted(asked, _sayable(decision, cannot_say), policy, began_s)

    async def decide(
        self,
        door: Door,
        stage: Stage,
        session: Session,
        envelope: Envelope,
        message: Message | None = None,
        *,
        cannot_say: CannotSay | None = None,
        stages: Collection[Stage] | None = None,
    ) -> Decision:
        """Return the decision."""
        policy = self._policy
        if policy is None or not policy.settings.is_active:
            return ACCEPT
        began_s = time.perf_counter()
        asked = Asked(door, stage, session, envelope, message)
        results = None
        if needs_authentication(stage, session, policy):
            results = await self._authenticator.check(session, envelope, message, policy.settings)
        given = self._given(asked, policy, results, stages)
        if self._has_plugins:
            decision = await self._threads.run(partial(self._judge, asked, policy, given))
        elif self._takes_long(message):
            decision = await asyncio.to_thread(self._judge, asked, policy, given)
        else:
            decision = self._judge(asked, policy, given)
        return self._noted(asked, _sayable(decision, cannot_say), policy, began_s)

    def note_held(
        self,
        session: Session,
        envelope: Envelope,
        message: Message,
        decision: Decision,
        queue_id: str | None,
    ) -> None:
        """Write down where a mail from the HTTP door, or its copies are, or that they are not."""
        held = replace(message, queue_id=queue_id or message.queue_id)
        asked = Asked(Door.HTTP, Stage.DATA, session, envelope, held)
        if queue_id is None:
            decision = replace(NOT_KEPT, fired=(*NOT_KEPT.fired, *decision.fired))
        self._log.note(asked, decision)

    def note_unjudged(
        self,
        door: Door,
        stage: Stage,
        session: Session,
        envelope: Envelope,
        message: Message | None,
        *,
        answered: Decision,
    ) -> None:
        """Write down what a door answered by itself, without a message not more than so often."""
        note = self._log.note_rare if message is None else self._log.note
        note(Asked(door, stage, session, envelope, message), answered)

    def write_dropped(self, envelope: Envelope, message: Message, why: Fired) -> None:
        """Write down that a copy for a subscriber is discarded; it is on the disk now.

        Raises `BrokenState`; then it has to be kept.
        """
        asked = Asked(Door.MILTER, Stage.DATA, Session(), envelope, message)
        self._log.write(asked, Decision(Verdict.DISCARD, fired=(why,)))

    def close(self) -> None:
        """Write down what was only counted so far."""
        self._log.note_left_out(is_end=True)

    def end_connection(self, door: Door, session: Session, messages: int) -> None:
        """Write down that a session ended."""
        if self.settings.is_active:
            self._log.end_connection(door, session, messages)

    def _takes_long(self, message: Message | None) -> bool:
        """Tell whether it may: nobody knows what a plugin waits for."""
        return self._has_plugins or (message is not None and _length_of(message) > LONG_MAIL_BYTES)

    def _judge(self, asked: Asked, policy: CompiledPolicy, given: Given) -> Decision:
        case = Case(asked.stage, asked.session, asked.envelope, asked.message, policy, given)
        return judge_with(self._plugins, case, FaultAction.TEMPFAIL)

    def _given(
        self,
        asked: Asked,
        policy: CompiledPolicy,
        results: AuthenticationResults | None,
        stages: Collection[Stage] | None,
    ) -> Given:
        """Count this question and say what it exceeds."""
        now_s = time.time()
        if stages is None:
            settings = policy.settings
            stages = settings.http.stages if asked.door is Door.HTTP else settings.stages
        keys = rate_keys(asked.stage, asked.session, asked.envelope, policy, stages)
        hashed = [(rule, _hashed(rule, text, policy.settings)) for rule, text in keys]
        exceeded = self._rates.hit(hashed, now_s) if hashed else ()
        return Given(now_s=now_s, exceeded=exceeded, authentication=results)

    def _noted(
        self, asked: Asked, decision: Decision, policy: CompiledPolicy, began_s: float
    ) -> Decision:
        """Write the decision down; what cannot be written is not discarded."""
        is_mail = asked.stage is Stage.DATA
        if not is_mail and decision.verdict is Verdict.ACCEPT:
            return decision
        if asked.door is Door.HTTP and asked.message is not None and is_for_our_postfix(decision):
            return decision  # `note_held` will tell where it is, or that it was put off
        took_ms = (time.perf_counter() - began_s) * 1000
        if not is_mail or decision.verdict is not Verdict.DISCARD:
            self._log.note(asked, decision, policy, took_ms)
            return decision
        try:
            self._log.write(asked, decision, policy, took_ms)
        except AgentError as error:
            log.warning("nothing is discarded without a log", reason=str(error))
            put_off = replace(NOT_LOGGED, fired=(*NOT_LOGGED.fired, *decision.fired))
            self._log.note(asked, put_off)
            return put_off
        return decision


def _sayable(decision: Decision, cannot_say: CannotSay | None) -> Decision:
    """Return the decision, or what is answered where it cannot be said."""
    why = None if cannot_say is None else cannot_say(decision)
    if why is None:
        return decision
    unsaid = unjudged(Unjudged.UNSAYABLE, Verdict.TEMPFAIL, NOT_NOW, why)
    return replace(unsaid, fired=(*unsaid.fired, *decision.fired))


def _length_of(message: Message) -> int:
    """Return about how many bytes there are to judge; a header without a text is work, too."""
    headers = message.headers
    texts = sum([len(name) + len(value) for name, value in headers])
    return len(message.body) + texts + HEADER_BYTES * len(headers)


def _hashed(rule: RateRule, text: str, settings: PolicySettings) -> str:
    """Return the key under which the whole cluster counts: no address leaves the node."""
    secret = bytes.fromhex(settings.pseudonym_key or "")
    told = f"{rule.id}:{text}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(told, digest_size=KEY_BYTES, key=secret).hexdigest()
