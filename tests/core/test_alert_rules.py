"""Alerts as a table of rules: what is said and when, and that no values make a storm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.core import alert_rules
from controlplane.core.alert_rules import (
    BODY_LENGTH,
    BURST,
    LATE_S,
    REMIND_S,
    RULES,
    TITLE_LENGTH,
    Judgement,
    Notice,
    NoticeKind,
    Pace,
    Reading,
    RuleState,
    Subject,
    Threshold,
    compose,
    counted_since_s,
    judge,
)

PACE = Pace(cool_down_s=1800.0, calm_s=120.0)
LOOK_S = 30.0
SIZE = next(rule for rule in RULES if rule.name == "queue-size")
ROLES = next(rule for rule in RULES if rule.name == "role-changes")


def waiting(**counts: float) -> tuple[Subject, ...]:
    """Return what the nodes' queues hold."""
    return tuple(Subject(node, count, f"{node}: {count}") for node, count in counts.items())


def events(count: int) -> tuple[Subject, ...]:
    """Return that many changes of a role."""
    return tuple(Subject(str(number), 1.0, f"change {number}") for number in range(count))


@dataclass
class Watch:
    """Looks at readings one after the other, as the job does."""

    now_s: float = 1_000_000.0
    pace: Pace = PACE
    thresholds: dict[str, Threshold] = field(default_factory=dict)
    states: Mapping[str, RuleState] = field(default_factory=dict)
    said: list[tuple[float, tuple[Notice, ...]]] = field(default_factory=list)

    def look(self, after_s: float = LOOK_S, **readings: Reading) -> list[str]:
        """Return what is said now, as "kind rule"."""
        self.now_s += after_s
        judged = self._judge({name.replace("_", "-"): one for name, one in readings.items()})
        self.states = judged.states
        if judged.notices:
            self.said.append((self.now_s, judged.notices))
        return [f"{one.kind} {one.rule.name}" for one in judged.notices]

    def _judge(self, readings: Mapping[str, Reading]) -> Judgement:
        lately = [at for at, _ in self.said if at > self.now_s - self.pace.cool_down_s]
        return judge(
            readings,
            self.thresholds,
            self.states,
            self.now_s,
            pace=self.pace,
            said_lately=len(lately),
        )


def test_a_rule_says_its_begin_once_and_its_end_once() -> None:
    """From the threshold on; the end only after it was calm for two minutes."""
    watch = Watch()
    assert watch.look(queue_size=waiting(a=999)) == []
    assert watch.look(queue_size=waiting(a=1000)) == ["begun queue-size"]
    assert watch.look(queue_size=waiting(a=5000)) == []
    assert watch.look(queue_size=waiting(a=0)) == []
    assert watch.look(119, queue_size=waiting(a=0)) == []
    assert watch.look(1, queue_size=waiting(a=0)) == ["ended queue-size"]
    assert watch.look(10_000, queue_size=waiting(a=0)) == []


def test_a_value_just_below_the_threshold_is_no_end() -> None:
    """Hysteresis: only below 80 percent of it is it over."""
    watch = Watch()
    watch.look(queue_size=waiting(a=1000))
    for _ in range(10):
        assert watch.look(200, queue_size=waiting(a=801)) == []
    watch.look(queue_size=waiting(a=799))
    assert watch.look(200, queue_size=waiting(a=799)) == ["ended queue-size"]


def test_what_comes_back_while_it_calms_down_is_still_the_same() -> None:
    """The two minutes count from the last time that it held."""
    watch = Watch()
    watch.look(queue_size=waiting(a=1000))
    watch.look(queue_size=waiting(a=0))
    watch.look(100, queue_size=waiting(a=1000))
    watch.look(queue_size=waiting(a=0))
    assert watch.look(100, queue_size=waiting(a=0)) == []
    assert watch.look(100, queue_size=waiting(a=0)) == ["ended queue-size"]


def test_a_second_node_is_news_after_the_cool_down() -> None:
    """At once it would be a second message within minutes; then both are named."""
    watch = Watch()
    watch.look(queue_size=waiting(a=1000, b=0))
    both = waiting(a=1000, b=2000)
    assert watch.look(queue_size=both) == []
    assert watch.look(PACE.cool_down_s - 2 * LOOK_S, queue_size=both) == []
    assert watch.look(queue_size=both) == ["begun queue-size"]
    assert watch.said[-1][1][0].texts == ("b: 2000", "a: 1000")
    assert watch.look(5000, queue_size=both) == []


def test_what_holds_for_a_day_is_said_again() -> None:
    """One message among many is overlooked."""
    watch = Watch()
    watch.look(queue_size=waiting(a=1000))
    assert watch.look(REMIND_S - 1, queue_size=waiting(a=1000)) == []
    assert watch.look(1, queue_size=waiting(a=1000)) == ["still queue-size"]


def test_unknown_neither_begins_nor_ends_anything() -> None:
    """A silent node, or a list that nobody has sent, is no good news."""
    watch = Watch()
    watch.look(queue_size=waiting(a=1000))
    for _ in range(10):
        assert watch.look(1000, queue_size=None) == []
    assert watch.look(queue_size=waiting(a=1000)) == []
    assert watch.look(queue_size=()) == []
    assert watch.look(200, queue_size=()) == ["ended queue-size"]


def test_a_rule_that_is_switched_off_says_nothing() -> None:
    """Not even that it ended; switched on again, it begins anew, after the cool-down."""
    watch = Watch()
    watch.look(queue_size=waiting(a=1000))
    watch.thresholds["queue-size"] = Threshold(is_enabled=False, value=1000)
    assert watch.look(queue_size=waiting(a=9000)) == []
    watch.thresholds.clear()
    assert watch.look(queue_size=waiting(a=9000)) == []
    assert watch.look(PACE.cool_down_s, queue_size=waiting(a=9000)) == ["begun queue-size"]


def test_a_threshold_that_was_set_counts() -> None:
    """And not the program's own."""
    watch = Watch(thresholds={"queue-size": Threshold(is_enabled=True, value=5)})
    assert watch.look(queue_size=waiting(a=5)) == ["begun queue-size"]


def test_the_end_can_be_left_unsaid() -> None:
    """The rule is over all the same."""
    watch = Watch(pace=replace(PACE, tells_end=False))
    watch.look(queue_size=waiting(a=1000))
    watch.look(queue_size=waiting(a=0))
    assert watch.look(1000, queue_size=waiting(a=0)) == []
    assert watch.look(1000, queue_size=waiting(a=1000)) == ["begun queue-size"]


def test_events_have_no_end() -> None:
    """Each that comes after the cool-down is said anew."""
    watch = Watch()
    assert watch.look(role_changes=events(1)) == ["begun role-changes"]
    assert watch.look(role_changes=()) == []
    assert watch.look(role_changes=events(2)) == []
    assert watch.look(PACE.cool_down_s, role_changes=events(2)) == ["begun role-changes"]


def test_events_that_a_cool_down_kept_back_still_count() -> None:
    """A failover five minutes after another one is told of, if late."""
    now_s = 1_000_000.0
    assert ROLES.window_s == 600.0
    assert counted_since_s(ROLES, RuleState(), now_s, PACE) == now_s - 600.0
    said = RuleState(notified_at_s=now_s - PACE.cool_down_s - LOOK_S)
    assert counted_since_s(ROLES, said, now_s, PACE) == said.notified_at_s
    long_ago = RuleState(notified_at_s=now_s - 50_000)
    assert counted_since_s(ROLES, long_ago, now_s, PACE) == now_s - 600.0
    late = RuleState(notified_at_s=now_s - PACE.cool_down_s - LATE_S - 1)
    assert counted_since_s(ROLES, late, now_s, PACE) == now_s - PACE.cool_down_s - LATE_S


def test_everything_that_is_due_at_one_look_is_one_message() -> None:
    """Many rules at the same moment are a digest."""
    watch = Watch()
    said = watch.look(
        queue_size=waiting(a=2000), role_changes=events(3), push_age=waiting(a=400), attention=()
    )
    assert sorted(said) == ["begun push-age", "begun queue-size", "begun role-changes"]
    title, body = compose("mail", watch.said[0][1])
    assert title == "[mail] 3 alerts"
    assert body.count("\n\n") == 2
    assert "* change 2" in body


def test_after_a_burst_what_is_due_waits_and_is_not_forgotten() -> None:
    """It comes as one digest once the cool-down of the burst is over."""
    watch = Watch()
    watch.said = [(watch.now_s, ())] * BURST
    assert watch.look(queue_size=waiting(a=1000)) == []
    assert watch.look(queue_size=waiting(a=1000), push_age=waiting(a=400)) == []
    after = watch.look(PACE.cool_down_s, queue_size=waiting(a=1000), push_age=waiting(a=400))
    assert after == ["begun queue-size", "begun push-age"]


VALUES = st.one_of(
    st.none(), st.lists(st.sampled_from((0.0, 700.0, 850.0, 1000.0, 1e9)), min_size=1, max_size=3)
)
LOOKS = st.lists(
    st.tuples(
        st.sampled_from((30.0, 60.0, 700.0)),
        st.fixed_dictionaries({rule.name: VALUES for rule in RULES}),
    ),
    max_size=120,
)


@given(looks=LOOKS)
def test_no_values_make_a_storm(looks: list[tuple[float, dict[str, list[float] | None]]]) -> None:
    """One new word a rule and cool-down, one end after it, few messages in any cool-down."""
    watch = Watch()
    for after_s, values in looks:
        readings: dict[str, Reading] = {
            name.replace("-", "_"): None
            if found is None
            else tuple(Subject(str(n), value, "x") for n, value in enumerate(found))
            for name, found in values.items()
        }
        watch.look(after_s, **readings)
    times = [at for at, _ in watch.said]
    for at in times:
        assert len([one for one in times if at <= one < at + PACE.cool_down_s]) <= BURST
    for rule in RULES:
        said = [(at, one.kind) for at, notices in watch.said for one in notices if one.rule is rule]
        news = [at for at, kind in said if kind is not NoticeKind.ENDED]
        gaps = [later - earlier for earlier, later in pairwise(news)]
        assert all(gap >= PACE.cool_down_s for gap in gaps)
        kinds = [kind for _, kind in said]
        assert NoticeKind.ENDED not in kinds[:1]
        pairs = pairwise(kinds)
        assert (NoticeKind.ENDED, NoticeKind.ENDED) not in pairs


def test_a_message_names_the_worst_and_counts_the_rest() -> None:
    """Five subjects of a rule at most; whatever comes, the message stays short."""
    watch = Watch()
    watch.look(queue_size=waiting(**{f"n{number}": 2000.0 + number for number in range(9)}))
    title, body = compose("mail", watch.said[0][1])
    assert title == "[mail] Much mail waits"
    lines = body.splitlines()
    assert (lines[1], lines[-1], len(lines)) == ("* n8: 2008.0", "* and 4 more", 7)
    long = tuple(Notice(rule, NoticeKind.BEGUN, ("x" * 290,) * 9) for rule in RULES * 4)
    title, body = compose("c" * 200, long)
    assert (len(title), len(body)) == (TITLE_LENGTH, BODY_LENGTH)


@pytest.mark.parametrize(
    ("kinds", "title"),
    [
        ((NoticeKind.ENDED,), "[m] Ended: Much mail waits"),
        ((NoticeKind.STILL,), "[m] Still: Much mail waits"),
        ((NoticeKind.ENDED, NoticeKind.ENDED), "[m] 2 ended"),
        ((NoticeKind.BEGUN, NoticeKind.ENDED), "[m] 1 alert, 1 ended"),
    ],
)
def test_a_title_says_what_became_of_it(kinds: tuple[NoticeKind, ...], title: str) -> None:
    """Who reads it on a phone need not open it."""
    assert compose("m", tuple(Notice(SIZE, kind) for kind in kinds))[0] == title


def test_every_rule_can_be_told_apart_and_set() -> None:
    """Names are keys of the API and of tables; no default threshold is nothing."""
    names = [rule.name for rule in RULES]
    assert len(set(names)) == len(names)
    for rule in RULES:
        assert 0 < len(rule.name) <= 40
        assert rule.threshold > 0
        assert rule.explanation.endswith(".")
        assert rule.default == Threshold(is_enabled=True, value=rule.threshold)
    assert tuple(names) == alert_rules.RULE_NAMES
