"""Tables of the policy log: what the hook decided, which rules fired, and what was counted of it.

`at` is a node's clock, `day` the day on which the entry arrived by the database's, in days since
1970. On PostgreSQL the tables of entries are partitioned by `day`
(`controlplane.store.policy_partitions`), so that old ones go as a whole; numbers rise with the
arrival, and are given under `POLICY_LOG_LOCK`. Texts are as the cluster's privacy left them: full,
pseudonyms, or null. `*_key` is in lower case, for searching.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import JSON, BigInteger, Column, Float, Index
from sqlmodel import Field, SQLModel

from controlplane.store.log_streams import StreamColumns
from controlplane.store.trace_tables import NUMBER, key_type

BY_DAY: Final = {"postgresql_partition_by": "RANGE (day)", "sqlite_with_rowid": False}


def _newest_first(name: str, *columns: str) -> Index:
    return Index(name, *columns, "at", "number")


def _number() -> Any:
    return Field(sa_column=Column(NUMBER, primary_key=True, autoincrement=False))


def _day() -> Any:
    return Field(primary_key=True, sa_column_kwargs={"autoincrement": False})


class PolicyMessageRow(SQLModel, table=True):
    """One decision about a message, a recipient or a session."""

    __tablename__ = "policy_log_messages"
    __table_args__ = (
        _newest_first("ix_policy_log_messages_at"),
        _newest_first("ix_policy_log_messages_verdict", "verdict"),
        _newest_first("ix_policy_log_messages_sender", "sender_key"),
        _newest_first("ix_policy_log_messages_sender_domain", "sender_domain"),
        _newest_first("ix_policy_log_messages_client", "client"),
        Index("ix_policy_log_messages_queue_id", "queue_id"),
        Index("ix_policy_log_messages_message_id", "message_id"),
        BY_DAY,
    )

    number: int = _number()
    day: int = _day()
    at: float = Field(sa_type=Float)
    node: str = Field(max_length=63)
    door: str = Field(max_length=16)
    stage: str = Field(max_length=16)
    verdict: str = Field(max_length=16)
    code: int | None = None
    reply: str = Field(max_length=500)
    client: str | None = Field(default=None, sa_type=key_type(320))
    helo: str | None = Field(default=None, max_length=320)
    login: str | None = Field(default=None, max_length=320)
    sender: str | None = Field(default=None, max_length=320)
    sender_key: str | None = Field(default=None, sa_type=key_type(320))
    sender_domain: str | None = Field(default=None, sa_type=key_type(320))
    recipients: list[str] = Field(sa_column=Column(JSON, nullable=False))
    recipient_count: int
    subject: str | None = Field(default=None, max_length=320)
    message_id: str | None = Field(default=None, max_length=320)
    queue_id: str | None = Field(default=None, max_length=64)
    size_bytes: int | None = Field(default=None, sa_type=BigInteger)
    took_ms: float | None = Field(default=None, sa_type=Float)
    revision: int | None = Field(default=None, sa_type=BigInteger)
    fired: list[dict[str, Any]] = Field(sa_column=Column(JSON, nullable=False))
    """`log_wire.FiredEntry`, as it came."""
    text: str = Field(max_length=500)


class PolicyThreatRow(SQLModel, table=True):
    """One rule that fired with a consequence, a severity or a score; `message` is the decision."""

    __tablename__ = "policy_log_threats"
    __table_args__ = (
        _newest_first("ix_policy_log_threats_at"),
        _newest_first("ix_policy_log_threats_kind", "kind"),
        _newest_first("ix_policy_log_threats_severity", "severity"),
        _newest_first("ix_policy_log_threats_rule", "rule"),
        BY_DAY,
    )

    number: int = _number()
    day: int = _day()
    at: float = Field(sa_type=Float)
    node: str = Field(max_length=63)
    message: int = Field(sa_type=BigInteger)
    stage: str = Field(max_length=16)
    verdict: str = Field(max_length=16)
    """What became of the mail; the rule alone might have done less."""
    kind: str = Field(max_length=16)
    rule: str = Field(sa_type=key_type(100))
    severity: str | None = Field(default=None, max_length=16)
    score: float = Field(sa_type=Float)
    text: str = Field(max_length=500)
    matched: str | None = Field(default=None, max_length=320)
    client: str | None = Field(default=None, max_length=320)
    sender: str | None = Field(default=None, max_length=320)


class PolicyConnectionRow(SQLModel, table=True):
    """One SMTP session that ended."""

    __tablename__ = "policy_log_connections"
    __table_args__ = (
        _newest_first("ix_policy_log_connections_at"),
        _newest_first("ix_policy_log_connections_client", "client"),
        BY_DAY,
    )

    number: int = _number()
    day: int = _day()
    at: float = Field(sa_type=Float)
    node: str = Field(max_length=63)
    door: str = Field(max_length=16)
    client: str | None = Field(default=None, sa_type=key_type(320))
    helo: str | None = Field(default=None, max_length=320)
    login: str | None = Field(default=None, max_length=320)
    messages: int


class PolicyQuarantineRow(SQLModel, table=True):
    """Why a message is in quarantine; kept for as long as it lies in a queue.

    `action` is the queue action that was last asked for with it.
    """

    __tablename__ = "policy_quarantine"
    __table_args__ = (Index("ix_policy_quarantine_received", "received_at"),)

    queue_id: str = Field(primary_key=True, max_length=64)
    node: str = Field(max_length=63)
    """The node that held it; another may have adopted it since."""
    at: float = Field(sa_type=Float)
    received_at: float = Field(sa_type=Float)
    message: int = Field(sa_type=BigInteger)
    client: str | None = Field(default=None, max_length=320)
    login: str | None = Field(default=None, max_length=320)
    subject: str | None = Field(default=None, max_length=320)
    message_id: str | None = Field(default=None, max_length=320)
    revision: int | None = Field(default=None, sa_type=BigInteger)
    rules: str
    """The names of the rules that fired, each with a line break before and behind it."""
    kinds: str
    """Which parts of the engine fired, in the same way."""
    severity: str | None = Field(default=None, max_length=16)
    """The worst of those rules that have one."""
    fired: list[dict[str, Any]] = Field(sa_column=Column(JSON, nullable=False))
    action: int | None = None


class PolicyCountRow(SQLModel, table=True):
    """How often something was in one step of time, so that no page has to count a log.

    `at` is the step's begin in seconds since 1970, `step_s` its length.
    """

    __tablename__ = "policy_log_counts"

    step_s: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    at: int = Field(primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False})
    what: str = Field(primary_key=True, max_length=16)
    name: str = Field(primary_key=True, max_length=100)
    count: int = Field(sa_type=BigInteger)


class PolicyStreamRow(StreamColumns, table=True):
    """How far a node's spool of the policy log has been taken in."""

    __tablename__ = "policy_log_streams"
