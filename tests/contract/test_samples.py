"""Samples on both databases: only what was reported, thinned out, deleted when it is old."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import func, select, text
from sqlmodel import Session, col

from controlplane.store import samples
from controlplane.store.clock import read_clock_s
from controlplane.store.engine import Database
from controlplane.store.sample_tables import SampleRow
from nodeagent.core.contract import MailFlow, NodeReport, QueueCounts, Role
from tests.fakes.reports import store_report

HOUR_S = 3600


def report(database: Database, node: str, **values: Any) -> None:
    """Store what a node says of itself."""
    with database.write() as session:
        store_report(session, node, NodeReport(**{"role": Role.ACTIVE, **values}))


def take(database: Database, job: Callable[[Session], Any]) -> Any:
    """Run one job in a transaction of its own."""
    with database.write() as session:
        return job(session)


def put(database: Database, *, at: int, step_s: int = samples.FINE_S, **values: Any) -> None:
    """Store a sample as if it had been taken then."""
    with database.write() as session:
        session.add(SampleRow(**{"node": "node-a", "step_s": step_s, "at": at, **values}))


def now_of(database: Database, step_s: int) -> int:
    """Return the begin of the present step."""
    with database.read() as session:
        return int(read_clock_s(session) // step_s) * step_s


def stored(database: Database, step_s: int) -> list[SampleRow]:
    """Return the samples of one step, oldest first."""
    with database.read() as session:
        rows = select(SampleRow).where(col(SampleRow.step_s) == step_s)
        return list(session.execute(rows.order_by(col(SampleRow.at))).scalars())


def test_a_sample_is_what_the_node_reported(database: Database) -> None:
    """Counts that were not read are none, and a step has one sample however often it is taken."""
    flow = MailFlow(accepted=5, delivered=4, rejected=3)
    report(database, "node-a", queue=QueueCounts(incoming=1, deferred=7), flow=flow)
    for _ in range(2):
        take(database, samples.take_samples)
    rows = stored(database, samples.FINE_S)
    assert 1 <= len(rows) <= 2  # two only when a step ended between the two
    assert (rows[0].incoming, rows[0].active, rows[0].deferred) == (1, None, 7)
    assert (rows[0].accepted, rows[0].delivered, rows[0].bounced) == (5, 4, None)
    assert rows[0].rejected == 3


def test_a_silent_node_has_no_sample(database: Database) -> None:
    """Its last words are no measurement of now."""
    report(database, "node-a", queue=QueueCounts(active=3))
    with database.write() as session:
        session.execute(text("UPDATE node_reports SET seen_at = seen_at - 11"))
    assert take(database, samples.take_samples) == 0
    assert stored(database, samples.FINE_S) == []


def test_fine_samples_become_coarse_ones_once(database: Database) -> None:
    """The largest of five minutes is kept; the five minutes under way wait."""
    now = now_of(database, samples.COARSE_S)
    for number, count in enumerate((3, 9, 4)):
        at = now - samples.COARSE_S + number * samples.FINE_S
        put(database, at=at, deferred=count, delivered=100 + number)
    put(database, at=now, deferred=77)
    for _ in range(2):
        take(database, samples.thin_samples)
    first, *rest = stored(database, samples.COARSE_S)
    assert (first.at, first.deferred, first.delivered) == (now - samples.COARSE_S, 9, 102)
    assert [row.deferred for row in rest] in ([], [77])  # the latter when five minutes have ended


def test_each_span_of_time_is_thinned_by_itself(database: Database) -> None:
    """After an hour without a control plane nothing is made up for it."""
    now = now_of(database, samples.COARSE_S)
    for ago in (HOUR_S, samples.COARSE_S):
        put(database, at=now - ago, active=1)
    put(database, at=now - ago, node="node-b", active=2)
    take(database, samples.thin_samples)
    found = {(row.node, row.at) for row in stored(database, samples.COARSE_S) if row.at < now}
    assert found == {
        ("node-a", now - HOUR_S),
        ("node-a", now - samples.COARSE_S),
        ("node-b", now - samples.COARSE_S),
    }


def test_old_samples_are_deleted(database: Database) -> None:
    """Fine ones after a day, coarse ones after thirty, whatever lies between."""
    now = now_of(database, samples.FINE_S)
    for days in (0, 2, 20, 40):
        for step_s in (samples.FINE_S, samples.COARSE_S):
            at = (now - days * 86_400) // step_s * step_s
            put(database, at=at, step_s=step_s, active=days)
    while take(database, samples.prune_samples):
        pass
    assert [row.active for row in stored(database, samples.FINE_S)] == [0]
    assert [row.active for row in stored(database, samples.COARSE_S)] == [20, 2, 0]


def test_a_history_has_gaps_where_nothing_is_known(database: Database) -> None:
    """And flow is what a step added to the one before it, never across a gap."""
    now = now_of(database, samples.FINE_S)
    counts = {5: 100, 4: 103, 3: None, 2: 110, 1: 4}
    for steps_ago, accepted in counts.items():
        if accepted is not None:
            put(database, at=now - steps_ago * 10, deferred=steps_ago, accepted=accepted)
    with database.read() as session:
        history = samples.read_history(session, HOUR_S)
    (node,) = history.nodes
    assert history.step_s == 10
    assert len(history.at) == 360
    first = history.at.index(now - 50)
    assert node.queue["deferred"][first : first + 5] == [5, 4, None, 2, 1]
    assert node.flow["accepted"][first : first + 5] == [None, 3, None, None, 4]
    assert set(node.queue["active"]) == {None}


@pytest.mark.parametrize(
    ("span_s", "step_s"),
    [
        (600, 10),
        (HOUR_S, 10),
        (6 * HOUR_S, 60),
        (86_400, 300),
        (7 * 86_400, 1800),
        (2_592_000, 7200),
    ],
)
def test_a_history_is_as_fine_as_a_chart_can_show(span_s: int, step_s: int) -> None:
    """And never finer than what is kept for so long."""
    assert samples.shown_step_s(span_s) == step_s


def test_a_long_history_comes_from_the_coarse_samples(database: Database) -> None:
    """The largest queue of each step is what it shows."""
    now = now_of(database, 1800)
    for number, count in enumerate((1, 8, 2)):
        at = now - 1800 + number * samples.COARSE_S
        put(database, at=at, step_s=samples.COARSE_S, hold=count)
    with database.read() as session:
        history = samples.read_history(session, 7 * 86_400)
    (node,) = history.nodes
    known = {at: count for at, count in zip(history.at, node.queue["hold"], strict=True) if count}
    assert known == {now - 1800: 8}


def test_what_waited_before_is_known_only_from_a_sample(database: Database) -> None:
    """A node that was silent then, or could not count, is left out."""
    then = now_of(database, samples.FINE_S) - 1800
    put(database, at=then, incoming=0, active=2, deferred=40)
    put(database, at=then, node="node-b", incoming=None, active=2, deferred=40)
    with database.read() as session:
        found = samples.queue_before(session, 1800)
    assert found in ({"node-a": 42}, {})  # nothing when a step has ended since
    with database.read() as session:
        assert session.execute(select(func.count()).select_from(SampleRow)).scalar_one() == 2


@pytest.mark.parametrize(
    ("before", "after", "rise"), [(1, 4, 3), (4, 4, 0), (9, 2, 2), (None, 2, None), (2, None, None)]
)
def test_a_count_that_fell_began_again(
    before: int | None, after: int | None, rise: int | None
) -> None:
    """An agent that was started again counts from nothing."""
    assert samples.rise(before, after) == rise
