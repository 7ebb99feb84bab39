"""Twins of what a door of the policy hook asks: a desk that decides as told, and a keeper."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from nodeagent.policy.document import PolicySettings
from nodeagent.policy.log_wire import Door
from nodeagent.policy.model import ACCEPT, Decision, Envelope, Message, Session, Stage, Verdict
from nodeagent.policy.ports import NotKept


@dataclass(frozen=True)
class Asked:
    """What a door asked."""

    door: Door
    stage: Stage
    session: Session
    envelope: Envelope
    message: Message | None


@dataclass
class DeskTwin:
    """Decides what `decision` gives; at once, or after `delay_s` when it `is_slow`."""

    settings: PolicySettings = field(default_factory=PolicySettings)
    decision: Decision | Callable[[Asked], Decision] = ACCEPT
    is_slow: bool = False
    delay_s: float = 0.0
    asked: list[Asked] = field(default_factory=list)
    is_open: threading.Event | None = None  # until it is set, `decide` waits
    at_once: int = 0
    most_at_once: int = 0
    held: list[tuple[Verdict, str | None]] = field(default_factory=list)
    unjudged: list[tuple[Asked, Decision]] = field(default_factory=list)

    def decide_now(
        self,
        door: Door,
        stage: Stage,
        session: Session,
        envelope: Envelope,
        message: Message | None = None,
    ) -> Decision | None:
        """Return the decision, or None when `is_slow`."""
        if self.is_slow:
            return None
        return self._decided(Asked(door, stage, session, envelope, message))

    async def decide(
        self,
        door: Door,
        stage: Stage,
        session: Session,
        envelope: Envelope,
        message: Message | None = None,
    ) -> Decision:
        """Return the decision after `delay_s`."""
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(self.delay_s)
            if self.is_open is not None:
                await asyncio.to_thread(self.is_open.wait)
        finally:
            self.at_once -= 1
        return self._decided(Asked(door, stage, session, envelope, message))

    def note_held(
        self,
        session: Session,
        envelope: Envelope,
        message: Message,
        decision: Decision,
        queue_id: str | None,
    ) -> None:
        """Keep where the mail is."""
        del session, envelope, message
        self.held.append((decision.verdict, queue_id))

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
        self.unjudged.append((Asked(door, stage, session, envelope, message), answered))

    def end_connection(self, door: Door, session: Session, messages: int) -> None:
        """Nothing is written down here."""

    def _decided(self, asked: Asked) -> Decision:
        self.asked.append(asked)
        return self.decision(asked) if callable(self.decision) else self.decision


@dataclass
class Kept:
    """One mail that the keeper has."""

    envelope: Envelope
    message: Message
    reason: str | None = None  # None: it was sent


@dataclass
class KeeperTwin:
    """Keeps mail in a list, or keeps none while it `is_down`; refuses what the real one does."""

    is_down: bool = False
    kept: list[Kept] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    async def hold(self, envelope: Envelope, message: Message, reason: str) -> str:
        """Keep it with a reason."""
        return self._keep(Kept(envelope, message, reason))

    async def send(self, envelope: Envelope, message: Message) -> str:
        """Keep it without."""
        return self._keep(Kept(envelope, message))

    def _keep(self, mail: Kept) -> str:
        if self.is_down or not mail.message.is_whole or not mail.envelope.recipients:
            raise NotKept
        self.kept.append(mail)
        return f"4q{next(self._numbers)}"
