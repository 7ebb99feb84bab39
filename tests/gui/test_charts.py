"""Charts show what was sampled: gaps stay gaps, and what nobody knows is no chart."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from controlplane.gui.charts import flow_chart, waiting, waiting_chart
from controlplane.store.engine import Database
from controlplane.store.samples import FLOW_COUNTS, QUEUE_COUNTS, History, Series, take_samples
from nodeagent.core.contract import NodeReport, QueueCounts, Role
from tests.fakes.reports import store_report


def series(node: str, deferred: list[int | None], accepted: list[int | None]) -> Series:
    """Return a node's samples; all other places are empty, all other flows unknown."""
    nothing: list[int | None] = [None] * len(deferred)
    places: dict[str, list[int | None]] = {name: [0] * len(deferred) for name in QUEUE_COUNTS}
    flows = dict.fromkeys(FLOW_COUNTS, nothing)
    return Series(node, places | {"deferred": deferred}, flows | {"accepted": accepted})


HISTORY = History(
    30,
    [0, 30, 60],
    (series("node-a", [4, None, 6], [None, 10, 5]), series("node-b", [0, 0, 0], [None, None, 1])),
)


def test_each_node_has_a_line_with_its_gaps() -> None:
    """What could not be counted is no point of it."""
    chart = waiting_chart(HISTORY)
    assert chart is not None
    assert [(one["label"], one["values"]) for one in chart["series"]] == [
        ("node-a", [4, None, 6]),
        ("node-b", [0, 0, 0]),
    ]


def test_flow_is_a_rate_over_who_knows() -> None:
    """Messages a minute; a kind that nobody counts has no value."""
    chart = flow_chart(HISTORY)
    assert chart is not None
    rates = {one["label"]: one["values"] for one in chart["series"]}
    assert rates["accepted"] == [None, 20.0, 12.0]
    assert rates["bounced"] == [None, None, None]


def test_rejected_mail_is_a_line_of_its_own() -> None:
    """From when on it was sampled; before that it is unknown and not 0."""
    sampled = series("node-a", [0, 0, 0], [3, 3, 3])
    sampled.flow["rejected"] = [None, 0, 5]
    chart = flow_chart(History(60, [0, 60, 120], (sampled,)))
    assert chart is not None
    (rejected,) = (one for one in chart["series"] if one["label"] == "rejected")
    assert rejected["values"] == [None, 0.0, 5.0]
    assert [one["tone"] for one in chart["series"]].count(rejected["tone"]) == 1


def test_without_a_known_value_there_is_no_chart() -> None:
    """An empty chart would look like zero."""
    unknown = History(10, [0, 10], (series("node-a", [1, 2], [None, None]),))
    assert flow_chart(unknown) is None
    assert waiting_chart(History(10, [0, 10], ())) is None


def test_the_page_shows_charts_and_says_what_it_does_not_know(
    watched: TestClient, sqlite_database: Database
) -> None:
    """The spans are links; a span that there is not is the shortest."""
    assert "There are no samples of this span yet." in watched.get("/").text
    report = NodeReport(role=Role.ACTIVE, queue=QueueCounts(incoming=0, active=0, deferred=41))
    with sqlite_database.write() as session:
        store_report(session, "node-a", report)
        take_samples(session)
    page = watched.get("/overview/charts?hours=24").text
    assert "data-chart=" in page
    assert "Mail flow is unknown: no agent reports it." in page
    assert '<a class="btn btn-sm" href="/?hours=24" aria-current="true">' in page
    assert 'href="/?hours=1" aria-current' in watched.get("/overview/charts?hours=x").text


def test_each_node_keeps_a_tone_of_its_own() -> None:
    """As far as there are tones; a sixth node begins again with the first."""
    nodes = tuple(series(f"node-{number}", [1], [None]) for number in range(6))
    chart = waiting_chart(History(30, [0], nodes))
    assert chart is not None
    tones = [one["tone"] for one in chart["series"]]
    assert len(set(tones[:5])) == 5
    assert tones[5] == tones[0]


def test_what_waits_is_the_sum_of_three_places() -> None:
    """One that could not be counted makes the whole unknown; held mail does not wait to be sent."""
    one = series("node-a", [300, 300], [None, None])
    places = {**one.queue, "incoming": [1, 1], "active": [20, None], "hold": [4_000, 4_000]}
    assert waiting(Series("node-a", places, one.flow)) == [321, None]


@pytest.mark.parametrize(
    ("step_s", "counts", "rates"),
    [
        (30, [1, 0], [2.0, 0.0]),
        (60, [7, 8], [7.0, 8.0]),
        (3600, [1, 90], [0.02, 1.5]),
    ],
)
def test_a_rate_is_messages_a_minute_whatever_a_sample_covers(
    step_s: int, counts: list[int | None], rates: list[float]
) -> None:
    """Old samples are thinned out; the line does not jump where they are."""
    chart = flow_chart(History(step_s, [0, step_s], (series("node-a", [0, 0], counts),)))
    assert chart is not None
    assert [one["values"] for one in chart["series"] if one["label"] == "accepted"] == [rates]
    assert chart["at"] == [0, step_s]


def test_every_kind_of_flow_has_a_name_and_a_tone_of_its_own() -> None:
    """A line that looks like another says nothing."""
    chart = flow_chart(HISTORY)
    assert chart is not None
    assert len({one["label"] for one in chart["series"]}) == len(FLOW_COUNTS)
    assert len({one["tone"] for one in chart["series"]}) == len(FLOW_COUNTS)
