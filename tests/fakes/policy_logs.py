"""Entries of imagined policy logs, and the batches that a node would bring."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from controlplane.store.engine import POLICY_LOG_LOCK, Database
from controlplane.store.policy_log_intake import take_batch
from nodeagent.policy.log_wire import FiredEntry, LogBatch, LogEntry, LogKind, NumberedLogEntry
from nodeagent.policy.model import RuleKind, Severity, Stage, Verdict

STREAM = "a" * 32
START_S = 1_795_000_000.0


def batch(entries: Iterable[LogEntry], first: int = 1, stream: str = STREAM) -> LogBatch:
    """Return a batch that begins with this number."""
    numbered = (NumberedLogEntry(number=first + n, entry=one) for n, one in enumerate(entries))
    return LogBatch(stream=stream, entries=tuple(numbered))


def bring(database: Database, *entries: LogEntry, first: int = 1, node: str = "node-a") -> None:
    """Store entries as a node brings them, the first with this number."""
    with database.write(POLICY_LOG_LOCK) as session:
        take_batch(session, node, batch(entries, first))


def fired(kind: RuleKind, rule: str, verdict: Verdict, **more: Any) -> FiredEntry:
    """Return a rule that fired."""
    return FiredEntry(kind=kind, rule=rule, verdict=verdict, text=f"{rule} fired", **more)


def accepted(at: float = START_S, **more: Any) -> LogEntry:
    """Return a message that was let through."""
    return _message(at, Verdict.ACCEPT, **more)


def blocked(at: float = START_S, **more: Any) -> LogEntry:
    """Return a recipient that was refused by the blocklist."""
    rule = fired(RuleKind.BLOCKLIST, "block:7", Verdict.REJECT, matched="192.0.2.66")
    values: dict[str, Any] = {"stage": Stage.RCPT, "code": 554, "reply": "5.7.1 no"}
    return _message(at, Verdict.REJECT, **{**values, "fired": (rule,), **more})


def limited(at: float = START_S, **more: Any) -> LogEntry:
    """Return a sender that was put off by two rate limits."""
    rules = tuple(fired(RuleKind.RATE, f"rate:{n}", Verdict.TEMPFAIL) for n in (1, 2))
    values: dict[str, Any] = {"stage": Stage.MAIL, "code": 451, "reply": "4.7.1 slow down"}
    return _message(at, Verdict.TEMPFAIL, **{**values, "fired": rules, **more})


def quarantined(queue_id: str, at: float = START_S, **more: Any) -> LogEntry:
    """Return a message that was put into quarantine for a bad word and a threat."""
    rules = (
        fired(RuleKind.ALLOWLIST, "allow:1", Verdict.ACCEPT),
        fired(
            RuleKind.BADWORD,
            "badword:17",
            Verdict.QUARANTINE,
            severity=Severity.HIGH,
            matched="casino",
        ),
        fired(RuleKind.THREAT, "threat:sql-union", Verdict.ACCEPT, score=4.5),
    )
    values: dict[str, Any] = {"queue_id": queue_id, "fired": rules, "subject": "Win now"}
    return _message(at, Verdict.QUARANTINE, **{**values, **more})


def connection(at: float = START_S, **more: Any) -> LogEntry:
    """Return a session that ended."""
    values: dict[str, Any] = {"client": "192.0.2.66", "helo": "mx.x.test", "messages": 2}
    return LogEntry(at=at, kind=LogKind.CONNECTION, stage=Stage.CONNECT, **{**values, **more})


def gap(lost: int, text: str = "The disk was full.", at: float = START_S) -> LogEntry:
    """Return what a node says that it did not keep."""
    return LogEntry(at=at, kind=LogKind.GAP, lost=lost, text=text)


def _message(at: float, verdict: Verdict, **more: Any) -> LogEntry:
    values: dict[str, Any] = {
        "client": "192.0.2.66",
        "helo": "mx.x.test",
        "sender": "Ann@X.test",
        "recipients": ("bob@y.test",),
        "recipient_count": 1,
        "message_id": "<1@x.test>",
        "size_bytes": 5000,
        "took_ms": 0.4,
        "revision": 3,
    }
    return LogEntry(at=at, kind=LogKind.MESSAGE, verdict=verdict, **{**values, **more})
