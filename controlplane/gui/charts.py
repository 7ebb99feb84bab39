"""What the overview's charts show: samples over a span, each read once for all who look at it."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from fastapi import Request

from controlplane.errors import Unavailable
from controlplane.gui.language import N_
from controlplane.store.cluster import ClusterStore
from controlplane.store.samples import FINE_S, FLOW_COUNTS, History, Series, Values, read_history

SPANS: Final = {"1": N_("1 hour"), "24": N_("1 day"), "168": N_("7 days"), "720": N_("30 days")}
"""The hours of each span that can be chosen."""
WAITING: Final = ("incoming", "active", "deferred")
TONES: Final = ("info", "warn", "good", "bad", "unknown")
FLOW_LABELS: Final = {
    "accepted": N_("accepted"),
    "delivered": N_("delivered"),
    "deferrals": N_("deferred"),
    "bounced": N_("bounced"),
    "rejected": N_("rejected"),
}
FLOW_TONES: Final = {
    "accepted": "info",
    "delivered": "good",
    "deferrals": "warn",
    "bounced": "bad",
    "rejected": "unknown",
}


@dataclass(frozen=True)
class FlowCharts:
    """The charts of one span; a chart without a single known value is None."""

    hours: str
    waiting: dict[str, Any] | None
    flow: dict[str, Any] | None


class ChartCache:
    """The last charts of each span, for as long as a sample takes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[float, FlowCharts]] = {}

    def get(self, hours: str, store: ClusterStore) -> FlowCharts:
        """Return the charts of a span; raises Unavailable."""
        with self._lock:
            read_at_s, charts = self._kept.get(hours, (0.0, None))
            if charts is None or time.monotonic() - read_at_s > FINE_S / 2:
                charts = _read(hours, store)
                self._kept[hours] = (time.monotonic(), charts)
            return charts


def read_charts(request: Request, store: ClusterStore) -> FlowCharts | None:
    """Return the charts of the span that is asked for; None while the database is away."""
    cache = request.app.state.charts
    assert isinstance(cache, ChartCache)  # noqa: S101 - create_app puts it there
    hours = request.query_params.get("hours", "1")
    try:
        return cache.get(hours if hours in SPANS else "1", store)
    except Unavailable:
        return None


def _read(hours: str, store: ClusterStore) -> FlowCharts:
    with store.database.read() as session:
        history = read_history(session, int(hours) * 3600)
    return FlowCharts(hours, waiting_chart(history), flow_chart(history))


def waiting_chart(history: History) -> dict[str, Any] | None:
    """Return how many messages waited, a line for each node."""
    return _chart(
        history,
        [
            {"label": one.node, "tone": TONES[number % len(TONES)], "values": waiting(one)}
            for number, one in enumerate(history.nodes)
        ],
    )


def flow_chart(history: History) -> dict[str, Any] | None:
    """Return what went a minute over all nodes that know theirs, a line for each kind."""
    series = []
    for name in FLOW_COUNTS:
        counts = _summed([one.flow[name] for one in history.nodes])
        values = [None if one is None else round(one * 60 / history.step_s, 2) for one in counts]
        series.append({"label": FLOW_LABELS[name], "tone": FLOW_TONES[name], "values": values})
    return _chart(history, series)


def waiting(series: Series) -> Values:
    """Return what waited on one node; None where a place could not be counted."""
    rows = zip(*(series.queue[place] for place in WAITING), strict=True)
    return [None if None in row else sum(count or 0 for count in row) for row in rows]


def _summed(rows: Sequence[Values]) -> Values:
    """Add up what is known at each moment; None where nobody knows."""
    known = [[count for count in counts if count is not None] for counts in zip(*rows, strict=True)]
    return [sum(counts) if counts else None for counts in known]


def _chart(history: History, series: list[dict[str, Any]]) -> dict[str, Any] | None:
    is_known = any(value is not None for one in series for value in one["values"])
    return {"at": history.at, "series": series} if is_known else None
