"""What a codec of the HTTP door reads and writes, whichever JSON it speaks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from nodeagent.errors import AgentError
from nodeagent.policy.model import Decision, Envelope, Message, Session, Stage


class InvalidRequest(AgentError):
    """The request cannot be read; the message says in one sentence what is wrong, and where."""


@dataclass(frozen=True)
class HookRequest:
    """One question of an MTA; `message` is given at DATA and then only."""

    stage: Stage
    session: Session
    envelope: Envelope
    message: Message | None = None


class HttpCodec(Protocol):
    """One wire format over HTTP; it does no I/O and keeps no state."""

    @property
    def name(self) -> str:
        """Return its name and version, as logs show it."""

    @property
    def path(self) -> str:
        """Return the path of the URL that speaks it."""

    def read(self, body: bytes) -> HookRequest:
        """Return the question; raises `InvalidRequest`."""

    def write(self, decision: Decision, stage: Stage | None) -> bytes:
        """Return the body of the answer; the stage is None where the question was not readable."""
