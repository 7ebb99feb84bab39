"""The wire types of the policy log: what the hook decided.

It travels as the message trace does (`nodeagent.core.stream_wire`). Personal texts are full,
pseudonyms ("~" and 20 hexadecimal digits) or None, as the cluster's privacy says; that is done
before an entry is written to the node's disk.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field, StringConstraints

from nodeagent.core.contract import Wire
from nodeagent.core.stream_wire import Batch, Numbered, StreamEntry
from nodeagent.core.stream_wire import unpack as unpack_batch
from nodeagent.policy.model import RuleKind, Severity, Stage, Verdict

MOST_FIRED: Final = 50
MOST_PLAIN_BYTES: Final = 8 * 1024 * 1024

Personal = Annotated[str, StringConstraints(max_length=320)]
Text = Annotated[str, StringConstraints(max_length=500)]


class Door(StrEnum):
    """How the MTA came in."""

    MILTER = "milter"
    HTTP = "http"


class LogKind(StrEnum):
    """What an entry is about."""

    CONNECTION = "connection"  # a session that ended: how many mails it brought
    MESSAGE = "message"  # a decision that a message, a recipient or a session got
    GAP = "gap"  # entries that were not kept, and why


class FiredEntry(Wire):
    """One rule that fired."""

    kind: RuleKind
    rule: Annotated[str, StringConstraints(max_length=100)]
    text: Text = ""
    verdict: Verdict = Verdict.ACCEPT
    severity: Severity | None = None
    score: float = Field(default=0.0, ge=0, le=1_000_000)
    matched: Personal | None = None


class LogEntry(StreamEntry):
    """One line of the policy log; None for what is not known or not told."""

    kind: LogKind
    door: Door = Door.MILTER
    stage: Stage = Stage.DATA
    verdict: Verdict = Verdict.ACCEPT
    code: int | None = Field(default=None, ge=200, le=599)
    reply: Text = ""
    client: Personal | None = None
    helo: Personal | None = None
    login: Personal | None = None
    sender: Personal | None = None
    recipients: tuple[Personal, ...] = Field(default=(), max_length=20)
    recipient_count: int = Field(default=0, ge=0, lt=2**31)
    subject: Personal | None = None
    message_id: Personal | None = None
    queue_id: Annotated[str, StringConstraints(max_length=64)] | None = None
    size_bytes: int | None = Field(default=None, ge=0, lt=2**53)
    took_ms: float | None = Field(default=None, ge=0, lt=2**31)
    revision: int | None = Field(default=None, ge=0, lt=2**53)  # of the policy
    messages: int = Field(default=0, ge=0, lt=2**31)  # CONNECTION: how many it brought
    fired: tuple[FiredEntry, ...] = Field(default=(), max_length=MOST_FIRED)
    text: Text = ""


NumberedLogEntry = Numbered[LogEntry]
LogBatch = Batch[LogEntry]


def unpack(body: bytes) -> LogBatch:
    """Return the batch that was packed; raises ValueError (pydantic's too) for anything else."""
    return unpack_batch(LogBatch, body, MOST_PLAIN_BYTES)
