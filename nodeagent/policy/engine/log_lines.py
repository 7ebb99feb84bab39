"""Turns what was decided into a line of the policy log, as the cluster's privacy allows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from nodeagent.policy.engine.privacy import Redactor, storable
from nodeagent.policy.log_wire import MOST_FIRED, Door, FiredEntry, LogEntry, LogKind
from nodeagent.policy.model import Decision, Envelope, Fired, Header, Message, Session, Stage

MOST_RECIPIENTS = 20
LONGEST_QUEUE_ID = 64


@dataclass(frozen=True)
class Asked:
    """What a door asked: everything that a decision is about."""

    door: Door
    stage: Stage
    session: Session
    envelope: Envelope
    message: Message | None = None


@dataclass(frozen=True)
class Circumstances:
    """When it was decided, how long that took, and by which policy (None: by none)."""

    at: float  # seconds since 1970
    took_ms: float
    revision: int | None


def decision_line(
    asked: Asked, decision: Decision, about: Circumstances, redactor: Redactor
) -> LogEntry:
    """Return the line of one decision."""
    envelope, message = asked.envelope, asked.message
    headers = message.headers if message is not None else ()
    reply = decision.reply
    return LogEntry(
        at=about.at,
        kind=LogKind.MESSAGE,
        door=asked.door,
        stage=asked.stage,
        verdict=decision.verdict,
        code=reply.code if reply is not None else None,
        reply=reply.text[:500] if reply is not None else "",
        **_who(asked.session, redactor),
        sender=redactor.address(envelope.sender),
        recipients=_recipients(envelope, redactor),
        recipient_count=len(envelope.recipients),
        subject=redactor.text(first_header(headers, "subject")),
        message_id=redactor.text(first_header(headers, "message-id")),
        queue_id=_queue_id(message),
        size_bytes=message.size_bytes if message is not None else None,
        took_ms=round(about.took_ms, 3),
        revision=about.revision,
        fired=tuple(_fired(one, redactor) for one in decision.fired[:MOST_FIRED]),
    )


def connection_line(
    door: Door, session: Session, messages: int, at: float, redactor: Redactor
) -> LogEntry:
    """Return the line of a session that ended."""
    return LogEntry(
        at=at,
        kind=LogKind.CONNECTION,
        door=door,
        stage=Stage.CONNECT,
        **_who(session, redactor),
        messages=messages,
    )


def first_header(headers: Iterable[Header], name: str) -> str | None:
    """Return the value of the first header of that name (in lower case), without its folds."""
    for header in headers:
        if header.name.lower() == name:
            return " ".join(header.value.split())
    return None


def _who(session: Session, redactor: Redactor) -> dict[str, str | None]:
    ip = session.client.ip
    return {
        "client": redactor.text(str(ip)) if ip is not None else None,
        "helo": redactor.text(session.helo),
        "login": redactor.text(session.login),
    }


def _recipients(envelope: Envelope, redactor: Redactor) -> tuple[str, ...]:
    shown = (redactor.address(one) for one in envelope.recipients[:MOST_RECIPIENTS])
    return tuple(one for one in shown if one is not None)


def _queue_id(message: Message | None) -> str | None:
    if message is None or message.queue_id is None:
        return None
    return storable(message.queue_id, LONGEST_QUEUE_ID)


def _fired(one: Fired, redactor: Redactor) -> FiredEntry:
    return FiredEntry(
        kind=one.kind,
        rule=one.rule[:100],
        text=one.text[:500],
        verdict=one.verdict,
        severity=one.severity,
        score=min(max(one.score, 0.0), 1_000_000.0),
        matched=redactor.text(one.matched),
    )
