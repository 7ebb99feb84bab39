"""A policy that does what a test says, behind the real milter door in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from nodeagent.policy.document import PolicySettings
from nodeagent.policy.doors.milter_server import Limits, MilterDoor
from nodeagent.policy.log_wire import Door
from nodeagent.policy.model import ACCEPT, Decision, Envelope, Message, Session, Stage
from nodeagent.policy.ports import CannotSay


@dataclass(frozen=True)
class Question:
    """What the door asked."""

    stage: Stage
    session: Session
    envelope: Envelope
    message: Message | None


Rule = Callable[[Question], "Decision | Awaitable[Decision]"]


def accept_all(_question: Question) -> Decision:
    """Accept."""
    return ACCEPT


@dataclass
class ScriptedPolicy:
    """A `Decides` that asks `rule`; what it gives may be awaited. All questions are kept."""

    rule: Rule = accept_all
    settings: PolicySettings = field(default_factory=lambda: PolicySettings(is_active=True))
    questions: list[Question] = field(default_factory=list)
    ended: list[tuple[Session, int]] = field(default_factory=list)
    unjudged: list[tuple[Question, Decision]] = field(default_factory=list)
    keeps: bool = True
    _pending: dict[int, Awaitable[Decision]] = field(default_factory=dict)

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
        """Ask the rule; None when its answer has to be awaited."""
        assert cannot_say is not None
        assert stages is not None
        assert door is Door.MILTER
        question = Question(stage, session, envelope, message)
        if self.keeps:
            self.questions.append(question)
        answer = self.rule(question)
        if isinstance(answer, Decision):
            return answer
        self._pending[id(envelope)] = answer
        return None

    async def decide(
        self,
        _door: Door,
        _stage: Stage,
        _session: Session,
        envelope: Envelope,
        _message: Message | None = None,
        *,
        cannot_say: CannotSay | None = None,
        stages: Collection[Stage] | None = None,
    ) -> Decision:
        """Await what the rule gave."""
        assert cannot_say is not None
        assert stages is not None
        return await self._pending.pop(id(envelope))

    def note_held(
        self,
        session: Session,
        envelope: Envelope,
        message: Message,
        decision: Decision,
        queue_id: str | None,
    ) -> None:
        """Postfix itself holds what came by milter, so nobody asks."""
        raise AssertionError((session, envelope, message, decision, queue_id))

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
        """Keep what was answered without a decision."""
        assert door is Door.MILTER
        self.unjudged.append((Question(stage, session, envelope, message), answered))

    def end_connection(self, door: Door, session: Session, messages: int) -> None:
        """Keep it."""
        assert door is Door.MILTER
        self.ended.append((session, messages))

    def asked(self, stage: Stage) -> list[Question]:
        """Return the questions of one stage."""
        return [question for question in self.questions if question.stage is stage]


@dataclass
class DoorThread:
    """A real door on `path` (and on a TCP port), in a thread with an event loop of its own."""

    path: Path
    policy: ScriptedPolicy = field(default_factory=ScriptedPolicy)
    limits: Limits | None = None
    answers_body: bool = False
    runs: Callable[[Any], Any] = asyncio.run
    port: int = 0
    grace_s: float = 0.0
    errors: list[dict[str, Any]] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._is_up = threading.Event()
        self._thread = threading.Thread(target=lambda: self.runs(self._serve()), daemon=True)
        self._thread.start()
        assert self._is_up.wait(60)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop it as the process does."""
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(30)
            assert not self._thread.is_alive()

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.loop.set_exception_handler(lambda _loop, context: self.errors.append(context))
        self._stop = asyncio.Event()
        self.door = MilterDoor(self.policy, self.limits, answers_body=self.answers_body)
        await self.door.listen_unix(self.path, 0o666)
        self.port = await self.door.listen_tcp("127.0.0.1", 0)
        self._is_up.set()
        await self._stop.wait()
        await self.door.close(self.grace_s)
