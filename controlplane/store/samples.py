"""Samples over time: taken from fresh reports, thinned out with age, read back as series.

Theory of operation. Every `FINE_S` a job writes one row for each node whose last report
is no older; of a silent node there is no row, so that a chart has a gap there and no invented line.
After `COARSE_S` the fine rows of that span become one. Each function is one short transaction that
any number of instances may run: what is there already stays.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import delete, func, insert, literal, select
from sqlmodel import Session, col

from controlplane.store.clock import read_clock_s
from controlplane.store.ownership_tables import NodeReportRow
from controlplane.store.sample_tables import SampleRow
from nodeagent.core.contract import NodeReport

FINE_S: Final = 10
COARSE_S: Final = 300
HOUR_S: Final = 3600
FINE_KEEP_S: Final = 86_400
COARSE_KEEP_S: Final = 30 * 86_400
MOST_POINTS: Final = 400
SHOWN_STEPS_S: Final = (FINE_S, 30, 60, COARSE_S, 900, 1800, 3600, 7200)

QUEUE_COUNTS: Final = (
    "incoming",
    "active",
    "deferred",
    "hold",
    "pending",
    "retired",
    "quarantined",
)
FLOW_COUNTS: Final = ("accepted", "delivered", "deferrals", "bounced", "rejected")
COUNTS: Final = (*QUEUE_COUNTS, *FLOW_COUNTS)

Values = list[int | None]


@dataclass(frozen=True)
class Series:
    """One node's samples, one value for each moment of `History.at`; None: not known.

    Flow counts are those of the step alone.
    """

    node: str
    queue: dict[str, Values] = field(default_factory=dict)
    flow: dict[str, Values] = field(default_factory=dict)


@dataclass(frozen=True)
class History:
    """What was sampled of all nodes; `at` are the begins of the steps, in seconds since 1970."""

    step_s: int
    at: list[int]
    nodes: tuple[Series, ...]


def take_samples(session: Session) -> int:
    """Write the present step's sample of every node that is not silent; return how many."""
    now_s = read_clock_s(session)
    at = _begin_of_step(now_s, FINE_S)
    known = set(session.execute(_present(FINE_S, at)).scalars())
    fresh = col(NodeReportRow.seen_at) >= now_s - FINE_S
    reports = session.execute(select(NodeReportRow).where(fresh))
    rows = [
        {"node": row.node, "step_s": FINE_S, "at": at, **_counts_of(row)}
        for row in reports.scalars()
        if row.node not in known
    ]
    if rows:
        session.execute(insert(SampleRow), rows)
    return len(rows)


def thin_samples(session: Session) -> None:
    """Make one row of the fine ones of each whole `COARSE_S` that has passed."""
    newest = session.execute(
        select(func.max(col(SampleRow.at))).where(col(SampleRow.step_s) == COARSE_S)
    ).scalar()
    end = _begin_of_step(read_clock_s(session), COARSE_S)
    at = col(SampleRow.at)
    span = (at // COARSE_S) * COARSE_S
    fine = (
        select(col(SampleRow.node), literal(COARSE_S), span, *_largest())
        .where(col(SampleRow.step_s) == FINE_S, at < end)
        .where(at >= (newest + COARSE_S if newest is not None else 0))
        .group_by(col(SampleRow.node), span)
    )
    statement = insert(SampleRow).from_select(["node", "step_s", "at", *COUNTS], fine)
    session.execute(statement)


def prune_samples(session: Session) -> int:
    """Delete what has been kept for long enough, an hour of it at a time; return how many."""
    now_s = read_clock_s(session)
    deleted = 0
    for step_s, keep_s in ((FINE_S, FINE_KEEP_S), (COARSE_S, COARSE_KEEP_S)):
        at = col(SampleRow.at)
        is_step = col(SampleRow.step_s) == step_s
        oldest = session.execute(select(func.min(at)).where(is_step)).scalar()
        if oldest is None:
            continue
        limit = min(int(now_s) - keep_s, oldest + HOUR_S)
        old = delete(SampleRow).where(is_step, at < limit)
        deleted += session.connection().execute(old).rowcount
    return deleted


def read_history(session: Session, span_s: int) -> History:
    """Return the last `span_s` of all nodes, in steps that leave at most `MOST_POINTS`."""
    step_s = shown_step_s(span_s)
    end = _begin_of_step(read_clock_s(session), step_s) + step_s
    begin = end - math.ceil(span_s / step_s) * step_s
    base_s = FINE_S if span_s <= FINE_KEEP_S else COARSE_S
    at = col(SampleRow.at)
    span = (at // step_s) * step_s
    rows = session.execute(
        select(col(SampleRow.node), span, *_largest())
        .where(col(SampleRow.step_s) == base_s, at >= begin - step_s, at < end)
        .group_by(col(SampleRow.node), span)
        .order_by(col(SampleRow.node), span)
    ).all()
    moments = list(range(begin, end, step_s))
    by_node: dict[str, dict[int, Sequence[Any]]] = {}
    for node, moment, *counts in rows:
        by_node.setdefault(node, {})[int(moment)] = counts
    series = (_series(node, found, moments, step_s) for node, found in by_node.items())
    return History(step_s, moments, tuple(series))


def shown_step_s(span_s: int) -> int:
    """Return the finest step that shows `span_s` in at most `MOST_POINTS`, from what is kept."""
    finest = FINE_S if span_s <= FINE_KEEP_S else COARSE_S
    fitting = (step for step in SHOWN_STEPS_S if step >= finest and span_s / step <= MOST_POINTS)
    return next(fitting, SHOWN_STEPS_S[-1])


def queue_before(session: Session, ago_s: int) -> dict[str, int]:
    """Return, by node, how much waited `ago_s` ago; a node without a sample then is left out."""
    at = _begin_of_step(read_clock_s(session) - ago_s, FINE_S)
    rows = session.execute(
        select(SampleRow).where(
            col(SampleRow.step_s) == FINE_S, col(SampleRow.at).in_((at - FINE_S, at))
        )
    ).scalars()
    found = {row.node: (row.incoming, row.active, row.deferred) for row in rows}
    return {
        node: sum(count or 0 for count in counts)
        for node, counts in found.items()
        if None not in counts
    }


def _begin_of_step(now_s: float, step_s: int) -> int:
    return int(now_s // step_s) * step_s


def _present(step_s: int, at: int) -> Any:
    return select(col(SampleRow.node)).where(
        col(SampleRow.step_s) == step_s, col(SampleRow.at) == at
    )


def _largest() -> Iterable[Any]:
    return (func.max(getattr(SampleRow, name)) for name in COUNTS)


def _counts_of(row: NodeReportRow) -> dict[str, int | None]:
    report = NodeReport.model_validate(row.report)
    flow = report.flow.model_dump() if report.flow is not None else {}
    return {**report.queue.model_dump(), **{name: flow.get(name) for name in FLOW_COUNTS}}


def _series(
    node: str, found: dict[int, Sequence[Any]], moments: Sequence[int], step_s: int
) -> Series:
    nothing: Sequence[Any] = [None] * len(COUNTS)
    first_flow = len(QUEUE_COUNTS)
    rows = [found.get(moment, nothing) for moment in moments]
    before = [found.get(moment - step_s, nothing) for moment in moments]
    return Series(
        node,
        queue={name: [row[n] for row in rows] for n, name in enumerate(QUEUE_COUNTS)},
        flow={
            name: [rise(old[n], new[n]) for old, new in zip(before, rows, strict=True)]
            for n, name in enumerate(FLOW_COUNTS, first_flow)
        },
    )


def rise(before: int | None, after: int | None) -> int | None:
    """Return how much a count rose; one that fell began again at nothing."""
    if before is None or after is None:
        return None
    return after - before if after >= before else after
