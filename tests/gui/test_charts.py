"""Charts show what was sampled: gaps stay gaps, and what nobody knows is no chart."""

from __future__ import annotations

from fastapi.testclient import TestClient

from controlplane.gui.charts import flow_chart, waiting_chart
from controlplane.store.engine import Database
from controlplane.store.reports import store_report
from controlplane.store.samples import FLOW_COUNTS, QUEUE_COUNTS, History, Series, take_samples
from nodeagent.core.contract import NodeReport, QueueCounts, Role


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
