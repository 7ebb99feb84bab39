"""The shapes of the policy log over REST: what is asked for, and what is shown."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from controlplane.api.cluster_access import PRINTABLE, Since
from controlplane.api.mail_security.nodes import PolicyNodeView
from controlplane.core.times import in_these_years
from controlplane.store.clock import SECONDS_A_DAY
from controlplane.store.policy_log_search import (
    MOST_COUNTED,
    ConnectionFilter,
    LogFilter,
    ThreatFilter,
)
from controlplane.store.policy_log_tables import (
    PolicyConnectionRow,
    PolicyMessageRow,
    PolicyThreatRow,
)
from nodeagent.core.names import NODE_NAME_PATTERN
from nodeagent.policy.log_wire import Door, FiredEntry
from nodeagent.policy.model import RuleKind, Severity, Stage, Verdict

MOST_PASSED: Final = 100_000
QUEUE_ID: Final = r"^\s*[0-9A-Za-z.-]{1,64}\s*$"
_STARS: Final = "or the beginning of one with a `*` at the end."


DayOrTime = Annotated[
    AwareDatetime | date,
    Field(union_mode="left_to_right"),
    AfterValidator(in_these_years),
]
"""A point in time with its zone, or a whole day in UTC."""


def _begin_s(value: datetime | date | None) -> float | None:
    if value is None or isinstance(value, datetime):
        return None if value is None else value.timestamp()
    return datetime.combine(value, time(), UTC).timestamp()


def _end_s(value: datetime | date | None) -> float | None:
    """Return when it is over: a day ends with the day."""
    begin_s = _begin_s(value)
    if begin_s is None or isinstance(value, datetime):
        return begin_s
    return begin_s + SECONDS_A_DAY


class ThreatQuery(BaseModel):
    """Which lines of the threat log; every field narrows the search."""

    model_config = ConfigDict(extra="forbid")

    severity: Severity | None = None
    type: RuleKind | None = Field(default=None, description="Which part of the engine fired.")
    rule: str | None = Field(
        default=None, max_length=100, pattern=PRINTABLE, description=f"A rule, {_STARS}"
    )
    from_date: DayOrTime | None = Field(
        default=None, description="Not older: a time with its zone, or a day (UTC)."
    )
    to_date: DayOrTime | None = Field(
        default=None, description="Older than this time, or not newer than this day (UTC)."
    )

    def to_filter(self) -> ThreatFilter:
        """Return what the store takes."""
        return ThreatFilter(
            severity=self.severity,
            kind=self.type,
            rule=self.rule,
            since_s=_begin_s(self.from_date),
            until_s=_end_s(self.to_date),
        )


class PagedThreatQuery(ThreatQuery):
    """Which lines of the threat log, and which page of them."""

    limit: int = Field(default=50, ge=1, le=500)
    offset: int = Field(
        default=0, ge=0, le=MOST_PASSED, description="How many are passed; narrow by time instead."
    )


class ThreatView(BaseModel):
    """One rule that fired; null is what is not known or not told."""

    number: int
    at: datetime = Field(description="By the clock of the node.")
    node: str
    message: int = Field(description="The decision's number in the log.")
    stage: Stage
    verdict: Verdict = Field(description="What became of the mail; this rule may want less.")
    type: RuleKind
    rule: str
    severity: Severity | None
    score: float
    text: str = Field(description="Why, without an address or a subject.")
    matched: str | None = Field(description="What of the mail it matched.")
    client: str | None
    sender: str | None


class ThreatPage(BaseModel):
    """Rules that fired, newest first."""

    threats: list[ThreatView]
    total: int = Field(description=f"How many match in all, counted up to {MOST_COUNTED}.")
    has_more_than: bool = Field(description="There are more than `total`.")


class Paged(BaseModel):
    """Which page of a log."""

    after: str | None = Field(
        default=None, max_length=40, description="The `next` of the page before."
    )
    newer_than: int | None = Field(
        default=None,
        ge=0,
        lt=2**53,
        description="Those that arrived after this number, oldest first: for following. Not with "
        "`after`.",
    )
    limit: int = Field(default=50, ge=1, le=500)

    @model_validator(mode="after")
    def _goes_one_way(self) -> Self:
        if self.after is not None and self.newer_than is not None:
            raise ValueError("give either after or newer_than")
        return self


class LogQuery(BaseModel):
    """Which decisions; every field narrows the search."""

    model_config = ConfigDict(extra="forbid")

    verdict: Verdict | None = None
    stage: Stage | None = None
    door: Door | None = None
    node: str | None = Field(default=None, pattern=NODE_NAME_PATTERN)
    sender: str | None = Field(
        default=None,
        max_length=320,
        pattern=PRINTABLE,
        description=f"A whole address, `@domain`, {_STARS} `<>`: bounces.",
    )
    client: str | None = Field(
        default=None, max_length=320, pattern=PRINTABLE, description=f"An IP address, {_STARS}"
    )
    queue_id: str | None = Field(default=None, pattern=QUEUE_ID)
    message_id: str | None = Field(default=None, max_length=322, pattern=PRINTABLE)
    since: Since | None = Field(default=None, description="Not older.")
    until: Since | None = Field(default=None, description="Older.")

    def to_filter(self) -> LogFilter:
        """Return what the store takes."""
        return LogFilter(
            verdict=self.verdict,
            stage=self.stage,
            door=self.door,
            node=self.node,
            sender=self.sender,
            client=self.client,
            queue_id=None if self.queue_id is None else self.queue_id.strip(),
            message_id=self.message_id,
            since_s=_begin_s(self.since),
            until_s=_begin_s(self.until),
        )


class PagedLogQuery(Paged, LogQuery):
    """Which decisions, and which page of them."""


class FiredView(BaseModel):
    """One rule that fired."""

    type: RuleKind
    rule: str
    text: str
    verdict: Verdict = Field(description="What this rule alone would have done.")
    severity: Severity | None
    score: float
    matched: str | None = Field(description="What of the mail it matched.")


class DecisionView(BaseModel):
    """One decision; null is what is not known or not told."""

    number: int
    at: datetime = Field(description="By the clock of the node.")
    node: str
    door: Door
    stage: Stage
    verdict: Verdict
    reply_code: int | None = Field(description="Of the SMTP reply.")
    reply: str
    client: str | None
    helo: str | None
    login: str | None = Field(description="The SASL user name.")
    sender: str | None = Field(description="Empty: the null sender of a bounce.")
    recipients: list[str] = Field(description="The first 20.")
    recipient_count: int
    subject: str | None
    message_id: str | None
    queue_id: str | None
    size_bytes: int | None
    took_ms: float | None
    revision: int | None = Field(description="Of the policy that decided.")
    rules: list[str] = Field(description="The names of those that fired.")
    text: str


class DecisionDetail(DecisionView):
    """One decision with its reasons."""

    fired: list[FiredView]


class LogPage(BaseModel):
    """Decisions, newest first; with `newer_than` oldest first, and no `next`."""

    entries: list[DecisionView]
    next: str | None = Field(description="For `after`; null: this was the last page.")


class ConnectionQuery(BaseModel):
    """Which connections; every field narrows the search."""

    model_config = ConfigDict(extra="forbid")

    node: str | None = Field(default=None, pattern=NODE_NAME_PATTERN)
    client: str | None = Field(
        default=None, max_length=320, pattern=PRINTABLE, description=f"An IP address, {_STARS}"
    )
    since: Since | None = Field(default=None, description="Not older.")
    until: Since | None = Field(default=None, description="Older.")

    def to_filter(self) -> ConnectionFilter:
        """Return what the store takes."""
        return ConnectionFilter(
            node=self.node,
            client=self.client,
            since_s=_begin_s(self.since),
            until_s=_begin_s(self.until),
        )


class PagedConnectionQuery(Paged, ConnectionQuery):
    """Which connections, and which page of them."""


class ConnectionView(BaseModel):
    """One SMTP session; null is what is not known or not told."""

    number: int
    at: datetime = Field(description="When it ended, by the clock of the node.")
    node: str
    door: Door
    client: str | None
    helo: str | None
    login: str | None
    messages: int = Field(description="How many mails it brought.")


class ConnectionPage(BaseModel):
    """Sessions that ended, newest first; with `newer_than` oldest first, and no `next`."""

    connections: list[ConnectionView]
    next: str | None = Field(description="For `after`; null: this was the last page.")


class PolicyStatusView(BaseModel):
    """The policy hook in numbers; a day is the last 24 hours, in steps of five minutes."""

    active: bool = Field(description="Whether the policy is switched on.")
    revision: int = Field(description="Of the policy; nodes have it within two seconds.")
    badwords_count: int
    blocklist_count: int
    threats_24h: int = Field(description="Lines of the threat log.")
    blocked_emails_24h: int = Field(
        description="Decisions that refused, put off or discarded: message, recipient or session."
    )
    rate_limit_blocks_24h: int = Field(description="Of these, those with a rate limit as a reason.")
    quarantined_24h: int
    accepted_24h: int = Field(description="Messages that were let through.")
    connections_24h: int
    nodes: list[PolicyNodeView]


class RuleCount(BaseModel):
    """How often a rule fired."""

    rule: str
    count: int


class TrendsView(BaseModel):
    """Counts over time; each series has one value for each moment of `at`. No series: all zero."""

    step_s: int
    at: list[datetime] = Field(description="The steps' begins; the last step is still open.")
    verdicts: dict[str, list[int]] = Field(description="Decisions by verdict.")
    threats: dict[str, list[int]] = Field(description="Lines of the threat log by type.")
    severities: dict[str, list[int]] = Field(description="The same by severity, if they have one.")
    top_rules: list[RuleCount] = Field(description="The ten that fired most, over all steps.")


def shown_time(seconds: float) -> datetime:
    """Return seconds since 1970 as they are shown."""
    return datetime.fromtimestamp(seconds, UTC)


def threat_view(row: PolicyThreatRow) -> ThreatView:
    """Return a line of the threat log as it is shown."""
    values = row.model_dump(exclude={"day", "at", "kind"})
    return ThreatView(**values, type=RuleKind(row.kind), at=shown_time(row.at))


def decision_view(row: PolicyMessageRow) -> DecisionView:
    """Return a decision as it is shown in a list."""
    return DecisionView(**_decision(row))


def decision_detail(row: PolicyMessageRow) -> DecisionDetail:
    """Return a decision with every rule that fired."""
    return DecisionDetail(**_decision(row), fired=[fired_view(one) for one in row.fired])


def _decision(row: PolicyMessageRow) -> dict[str, Any]:
    hidden = {"day", "at", "sender_key", "sender_domain", "fired", "code"}
    return {
        **row.model_dump(exclude=hidden),
        "at": shown_time(row.at),
        "reply_code": row.code,
        "rules": [str(one["rule"]) for one in row.fired],
    }


def fired_view(stored: dict[str, Any]) -> FiredView:
    """Return a rule that fired as it is shown."""
    one = FiredEntry.model_validate(stored)
    return FiredView(**one.model_dump(exclude={"kind"}), type=one.kind)


def connection_view(row: PolicyConnectionRow) -> ConnectionView:
    """Return a connection as it is shown."""
    return ConnectionView(**row.model_dump(exclude={"day", "at"}), at=shown_time(row.at))
