"""Alerts: which measured values are worth a notification, when, and what it says.

Theory of operation. Each rule gets a `Reading`: the subjects it is about (a node, a finding, or the
cluster as a whole), each with a value, or None where nothing is known; unknown neither begins nor
ends anything. A level rule (queue size) holds from its threshold on and until the value is below
`RELEASE` of it for `calm_s`; a rule of events (role changes) looks only at what happened since its
last notice. So that no storm is possible, whatever the values do:

* a rule says something new at most once in a cool-down, and its end once after that;
* everything that is due at one look is one message, a digest;
* after `BURST` messages within a cool-down what is due waits, and is one digest afterwards.

`judge` is pure: the same readings, states and time give the same messages.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

RELEASE: Final = 0.8
BURST: Final = 6
REMIND_S: Final = 86_400.0
LATE_S: Final = 120.0
"""How much later than its cool-down a rule may be looked at."""
MOST_SHOWN: Final = 5
MOST_KEYS: Final = 200
TEXT_LENGTH: Final = 300
BODY_LENGTH: Final = 3000
TITLE_LENGTH: Final = 160


class Unit(StrEnum):
    """What a threshold counts."""

    MESSAGES = "messages"
    MINUTES = "minutes"
    SECONDS = "seconds"
    EVENTS = "events"
    FINDINGS = "findings"
    NODES = "nodes"


@dataclass(frozen=True)
class Threshold:
    """What an administrator set for a rule."""

    is_enabled: bool
    value: float


@dataclass(frozen=True)
class AlertRule:
    """One row of the table; `threshold` is the default, `window_s` how far events are counted."""

    name: str
    title: str
    explanation: str
    unit: Unit
    threshold: float
    window_s: float | None = None
    """None: a level, which begins and ends."""

    @property
    def default(self) -> Threshold:
        """What holds while nobody has set anything."""
        return Threshold(is_enabled=True, value=self.threshold)

    @property
    def is_of_events(self) -> bool:
        """Tell whether single events are counted, which have no end."""
        return self.window_s is not None


@dataclass(frozen=True)
class Subject:
    """One thing that a rule measured; `key` tells it apart from the rule's others."""

    key: str
    value: float
    text: str


Reading = tuple[Subject, ...] | None
"""None: unknown. Nothing measured is an empty reading."""


@dataclass(frozen=True)
class RuleState:
    """What is remembered of a rule: whom its last notice named, when that was, since when calm."""

    announced: tuple[str, ...] = ()
    notified_at_s: float | None = None
    calm_since_s: float | None = None


@dataclass(frozen=True)
class Pace:
    """How often anything is said: at most once in `cool_down_s` a rule."""

    cool_down_s: float = 1800.0
    calm_s: float = 120.0
    tells_end: bool = True


class NoticeKind(StrEnum):
    """What became of a rule."""

    BEGUN = "begun"
    STILL = "still"
    ENDED = "ended"


@dataclass(frozen=True)
class Notice:
    """One rule's part of a message."""

    rule: AlertRule
    kind: NoticeKind
    texts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Judgement:
    """What is to be said now, and the states to keep."""

    notices: tuple[Notice, ...]
    states: Mapping[str, RuleState] = field(default_factory=dict)


def counted_since_s(rule: AlertRule, state: RuleState, now_s: float, pace: Pace) -> float:
    """Return from when on events count.

    Those that the last notice told of do not; those that its cool-down kept back still do.
    """
    window_s = rule.window_s or 0.0
    said_at_s = state.notified_at_s
    if said_at_s is None or now_s - said_at_s > pace.cool_down_s + window_s:
        return now_s - window_s
    return max(said_at_s, now_s - max(window_s, pace.cool_down_s + LATE_S))


def judge(
    readings: Mapping[str, Reading],
    thresholds: Mapping[str, Threshold],
    states: Mapping[str, RuleState],
    now_s: float,
    *,
    pace: Pace,
    said_lately: int = 0,
) -> Judgement:
    """Return what to say; `said_lately` is the number of messages within the last cool-down.

    A rule without a reading keeps its state; one that is switched off forgets it.
    """
    is_full = said_lately >= BURST
    notices: list[Notice] = []
    after: dict[str, RuleState] = {}
    for rule in RULES:
        state = states.get(rule.name, RuleState())
        threshold = thresholds.get(rule.name) or rule.default
        if not threshold.is_enabled:
            after[rule.name] = RuleState(notified_at_s=state.notified_at_s)
            continue
        reading = readings.get(rule.name)
        if reading is None:
            after[rule.name] = state
            continue
        look = _look_at_events if rule.is_of_events else _look_at_level
        notice, then = look(rule, reading, threshold.value, state, _Now(now_s, pace))
        if notice is not None and is_full:
            then, notice = state, None
        after[rule.name] = then
        if notice is not None and (notice.kind is not NoticeKind.ENDED or pace.tells_end):
            notices.append(notice)
    return Judgement(tuple(notices), after)


@dataclass(frozen=True)
class _Now:
    at_s: float
    pace: Pace

    def may_say(self, state: RuleState) -> bool:
        said_at_s = state.notified_at_s
        return said_at_s is None or self.at_s - said_at_s >= self.pace.cool_down_s


_Outcome = tuple[Notice | None, RuleState]


def _look_at_events(
    rule: AlertRule, reading: tuple[Subject, ...], threshold: float, state: RuleState, now: _Now
) -> _Outcome:
    if not reading or sum(one.value for one in reading) < threshold or not now.may_say(state):
        return None, state
    return (
        Notice(rule, NoticeKind.BEGUN, _texts(reading)),
        RuleState(notified_at_s=now.at_s),
    )


def _look_at_level(
    rule: AlertRule, reading: tuple[Subject, ...], threshold: float, state: RuleState, now: _Now
) -> _Outcome:
    known = set(state.announced)
    holding = [
        one
        for one in reading
        if one.value >= threshold or (one.key in known and one.value >= threshold * RELEASE)
    ]
    if not holding:
        return _look_at_calm(rule, state, now)
    worst_first = sorted(holding, key=lambda one: (-one.value, one.key))
    keys = tuple(one.key for one in worst_first)[:MOST_KEYS]
    is_new = not set(keys) <= known
    is_reminder = not is_new and now.at_s - (state.notified_at_s or 0.0) >= REMIND_S
    if (is_new and now.may_say(state)) or is_reminder:
        kind = NoticeKind.STILL if is_reminder else NoticeKind.BEGUN
        return Notice(rule, kind, _texts(worst_first)), RuleState(keys, now.at_s)
    kept = tuple(key for key in state.announced if key in keys)
    return None, replace(state, announced=kept or state.announced, calm_since_s=None)


def _look_at_calm(rule: AlertRule, state: RuleState, now: _Now) -> _Outcome:
    if not state.announced:
        return None, replace(state, calm_since_s=None)
    since_s = now.at_s if state.calm_since_s is None else state.calm_since_s
    if now.at_s - since_s < now.pace.calm_s:
        return None, replace(state, calm_since_s=since_s)
    return Notice(rule, NoticeKind.ENDED), RuleState(notified_at_s=state.notified_at_s)


def _texts(subjects: Iterable[Subject]) -> tuple[str, ...]:
    return tuple(one.text[:TEXT_LENGTH] for one in subjects)


def compose(cluster: str, notices: tuple[Notice, ...]) -> tuple[str, str]:
    """Return title and body of the one message that says all notices."""
    if len(notices) == 1:
        title = _heading(notices[0])
    else:
        ended = sum(one.kind is NoticeKind.ENDED for one in notices)
        begun = len(notices) - ended
        parts = (f"{begun} alerts" if begun != 1 else "1 alert", f"{ended} ended")
        title = ", ".join(part for part, count in zip(parts, (begun, ended), strict=True) if count)
    body = "\n\n".join(_paragraph(one) for one in notices)
    return f"[{cluster}] {title}"[:TITLE_LENGTH], body[:BODY_LENGTH]


def _heading(notice: Notice) -> str:
    if notice.kind is NoticeKind.ENDED:
        return f"Ended: {notice.rule.title}"
    if notice.kind is NoticeKind.STILL:
        return f"Still: {notice.rule.title}"
    return notice.rule.title


def _paragraph(notice: Notice) -> str:
    lines = [_heading(notice)]
    lines += [f"* {text}" for text in notice.texts[:MOST_SHOWN]]
    more = len(notice.texts) - MOST_SHOWN
    if more > 0:
        lines.append(f"* and {more} more")
    if notice.kind is NoticeKind.ENDED:
        lines.append("* This holds no longer.")
    return "\n".join(lines)


RULES: Final = (
    AlertRule(
        "attention",
        "Needs attention now",
        "Findings of the worst kind on the overview: mail is in danger or waits.",
        Unit.FINDINGS,
        1,
    ),
    AlertRule(
        "role-changes",
        "Role of a node has changed",
        "Events within ten minutes; a failover, a switchover, or an agent that started.",
        Unit.EVENTS,
        1,
        window_s=600.0,
    ),
    AlertRule(
        "queue-size",
        "Much mail waits",
        "Messages that wait on one node.",
        Unit.MESSAGES,
        1000,
    ),
    AlertRule(
        "queue-age",
        "Mail waits for long",
        "Age of the oldest message that a node tries to deliver; held mail does not count.",
        Unit.MINUTES,
        240,
    ),
    AlertRule(
        "push-age",
        "Copy of a queue is old",
        "Age of the newest copy of an active node's queue.",
        Unit.SECONDS,
        300,
    ),
    AlertRule(
        "threats",
        "Threats",
        "Rules of the policy that fired within the last hour.",
        Unit.EVENTS,
        1000,
    ),
    AlertRule(
        "blocked",
        "Much mail is blocked",
        "Decisions of the last 24 hours that refused, put off or discarded.",
        Unit.EVENTS,
        10_000,
    ),
    AlertRule(
        "hook-silent",
        "Policy hook does not answer",
        "Since a node's policy hook last asked for the policy, while the policy is on.",
        Unit.SECONDS,
        90,
    ),
    AlertRule(
        "policy-refused",
        "Policy is not in force",
        "Nodes whose policy hook says why it does not have the newest policy.",
        Unit.NODES,
        1,
    ),
    AlertRule(
        "new-badwords",
        "New bad words",
        "Bad words that were added or changed within an hour.",
        Unit.EVENTS,
        100,
        window_s=3600.0,
    ),
    AlertRule(
        "blocklist-changes",
        "Blocklist changes",
        "Entries of the blocklist that people or programs changed within an hour.",
        Unit.EVENTS,
        1000,
        window_s=3600.0,
    ),
)
RULE_NAMES: Final = tuple(rule.name for rule in RULES)
