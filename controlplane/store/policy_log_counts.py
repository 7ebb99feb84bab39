"""How often what was decided: counted as entries come in, read without a look at the log.

Theory of operation. Each entry counts into a fine step and into an hour, both begun by its own
time; a time to come counts as now. The fine steps make a rolling day, the hours the trends. Which
rules fired is counted by the hour alone: there may be thousands of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from sqlalchemy import delete, func, select
from sqlmodel import Session, col

from controlplane.store.clock import SECONDS_A_DAY, read_clock_s
from controlplane.store.policy_log_tables import PolicyCountRow
from controlplane.store.upserts import add_up
from nodeagent.policy.log_wire import FiredEntry, LogEntry, LogKind
from nodeagent.policy.model import RuleKind, Stage, Verdict

FINE_S: Final = 300
HOUR_S: Final = 3600
DAY_S: Final = int(SECONDS_A_DAY)
FINE_KEEP_S: Final = 2 * DAY_S
TREND_DAYS: Final = 30
TOP_RULES: Final = 10
BLOCKED: Final = (Verdict.REJECT, Verdict.TEMPFAIL, Verdict.DISCARD)
_KEYS: Final = ("step_s", "at", "what", "name")


class What(StrEnum):
    """What is counted; the name beside it says which."""

    VERDICT = "verdict"  # of decisions; ACCEPT of whole messages only
    THREAT = "threat"  # lines of the threat log, by their rules' kind
    SEVERITY = "severity"  # the same by severity, where a rule has one
    RULE = "rule"  # the same by rule
    RATE = "rate"  # decisions that a rate limit was a reason for
    SESSION = "session"  # connections


RATE_BLOCKS: Final = "blocks"
CONNECTIONS: Final = "connections"


def is_threat(fired: FiredEntry) -> bool:
    """Tell whether a rule that fired belongs in the threat log: it did something, or rated it."""
    if fired.kind is RuleKind.ALLOWLIST:
        return False
    has_weight = fired.severity is not None or fired.score > 0
    return has_weight or fired.verdict is not Verdict.ACCEPT


def count_entries(session: Session, entries: Sequence[LogEntry]) -> None:
    """Add entries to the counts; the caller holds `POLICY_LOG_LOCK`."""
    now_s = read_clock_s(session)
    counted: Counter[tuple[int, int, str, str]] = Counter()
    for entry in entries:
        at = int(min(entry.at, now_s))
        for what, name in _counted(entry):
            steps = (HOUR_S,) if what is What.RULE else (FINE_S, HOUR_S)
            counted.update((step_s, at // step_s * step_s, what.value, name) for step_s in steps)
    rows = [dict(zip(_KEYS, key, strict=True), count=n) for key, n in sorted(counted.items())]
    add_up(session, PolicyCountRow, _KEYS, rows)


def _counted(entry: LogEntry) -> Iterator[tuple[What, str]]:
    if entry.kind is LogKind.CONNECTION:
        yield What.SESSION, CONNECTIONS
        return
    if entry.verdict is not Verdict.ACCEPT or entry.stage is Stage.DATA:
        yield What.VERDICT, entry.verdict.value
    is_blocked = entry.verdict is not Verdict.ACCEPT
    if is_blocked and any(one.kind is RuleKind.RATE and is_threat(one) for one in entry.fired):
        yield What.RATE, RATE_BLOCKS
    for one in entry.fired:
        if is_threat(one):
            yield What.THREAT, one.kind.value
            yield What.RULE, one.rule.replace("\0", "\ufffd")
            if one.severity is not None:
                yield What.SEVERITY, one.severity.value


@dataclass(frozen=True)
class Counts:
    """What was counted in a span of time."""

    threats: int
    blocked: int
    rate_blocks: int
    quarantined: int
    accepted: int
    connections: int


def count_recent(session: Session, span_s: float = DAY_S) -> Counts:
    """Return what was counted in the last `span_s`, up to two days, and up to `FINE_S` more."""
    begin = int(read_clock_s(session) - span_s) // FINE_S * FINE_S
    row = PolicyCountRow
    statement = (
        select(col(row.what), col(row.name), func.sum(col(row.count)))
        .where(col(row.step_s) == FINE_S, col(row.at) >= begin)
        .group_by(col(row.what), col(row.name))
    )
    found = {(what, name): int(count) for what, name, count in session.execute(statement)}
    verdicts = {one: found.get((What.VERDICT, one), 0) for one in Verdict}
    return Counts(
        threats=sum(count for (what, _name), count in found.items() if what == What.THREAT),
        blocked=sum(verdicts[one] for one in BLOCKED),
        rate_blocks=found.get((What.RATE, RATE_BLOCKS), 0),
        quarantined=verdicts[Verdict.QUARANTINE],
        accepted=verdicts[Verdict.ACCEPT],
        connections=found.get((What.SESSION, CONNECTIONS), 0),
    )


@dataclass(frozen=True)
class Trends:
    """Counts over time: one value a step of `at`, its begin in seconds since 1970."""

    step_s: int
    at: list[int]
    series: Mapping[What, Mapping[str, list[int]]]
    top_rules: list[tuple[str, int]]


def read_trends(session: Session, steps: int, step_s: int) -> Trends:
    """Return the last so many steps, the present one with them; `step_s` is whole hours."""
    end = int(read_clock_s(session)) // step_s * step_s + step_s
    begin = end - steps * step_s
    row = PolicyCountRow
    moments = list(range(begin, end, step_s))
    series: dict[What, dict[str, list[int]]] = {what: {} for what in What if what is not What.RULE}
    span = (col(row.at) // step_s) * step_s
    statement = (
        select(col(row.what), col(row.name), span, func.sum(col(row.count)))
        .where(col(row.step_s) == HOUR_S, col(row.at) >= begin, col(row.at) < end)
        .where(col(row.what) != What.RULE.value)
        .group_by(col(row.what), col(row.name), span)
    )
    for what, name, at, count in session.execute(statement):
        values = series[What(what)].setdefault(name, [0] * steps)
        values[(int(at) - begin) // step_s] = int(count)
    return Trends(step_s, moments, series, _top_rules(session, begin))


def _top_rules(session: Session, begin: int) -> list[tuple[str, int]]:
    row = PolicyCountRow
    count = func.sum(col(row.count))
    statement = (
        select(col(row.name), count)
        .where(col(row.step_s) == HOUR_S, col(row.at) >= begin, col(row.what) == What.RULE.value)
        .group_by(col(row.name))
        .order_by(count.desc(), col(row.name))
        .limit(TOP_RULES)
    )
    return [(name, int(found)) for name, found in session.execute(statement)]


def prune_counts(session: Session, keep_days: int) -> int:
    """Delete fine steps of before yesterday and hours of `keep_days` ago; return how many."""
    now_s = int(read_clock_s(session))
    deleted = 0
    row = PolicyCountRow
    keep_s = max(keep_days, TREND_DAYS + 1) * DAY_S
    for step_s, kept_s in ((FINE_S, FINE_KEEP_S), (HOUR_S, keep_s)):
        old = (col(row.step_s) == step_s) & (col(row.at) < now_s - kept_s)
        deleted += session.connection().execute(delete(row).where(old)).rowcount
    return deleted
