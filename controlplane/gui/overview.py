"""The first page: the cluster as a picture, what needs attention, and how mail went.

A node that has not reported for one lease duration may be anything: its last words are shown as
such, never as its present state. The picture and the tables follow live; the charts are read anew
every few seconds, once for all who look at the same span.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any, Final

from fastapi import Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from controlplane.api.cluster_access import StoreDep
from controlplane.api.events import EventFilter, EventView, find_events
from controlplane.core.attention import Attention, Severity, find_attention
from controlplane.core.situation import KnownNode, Situation
from controlplane.errors import Unavailable
from controlplane.gui.charts import SPANS, FlowCharts, read_charts
from controlplane.gui.cluster_picture import Picture, draw, tone_of
from controlplane.gui.live import LiveDep, Topic
from controlplane.gui.shell import ReadShell, Shell, page_router
from controlplane.store.cluster import ClusterStore
from controlplane.store.situation import read_situation

router = page_router()

SHOWN_EVENTS: Final = 20


@dataclass(frozen=True)
class Overview:
    """Everything that the page shows; equal to itself while nothing has changed."""

    situation: Situation
    attention: tuple[Attention, ...] = ()
    events: tuple[EventView, ...] = ()

    @property
    def picture(self) -> Picture:
        """The picture of the situation."""
        return draw(self.situation)

    @property
    def active(self) -> tuple[str, ...]:
        """The nodes that say that they hold a VIP."""
        nodes = self.situation.nodes
        return tuple(one.name for one in nodes if one.present and one.present.holds_vips)

    @property
    def waiting(self) -> int | None:
        """How many messages wait on all nodes; None while one of them is not known."""
        counts = [one.present.waiting if one.present else None for one in self.situation.nodes]
        return None if not counts or None in counts else sum(count or 0 for count in counts)

    @property
    def copy_at_s(self) -> float | None:
        """When the oldest of the active nodes' newest copies was taken; None: not known."""
        newest = [
            max((push.at_s for push in one.present.pushes), default=None)
            for one in self.situation.nodes
            if one.present and one.present.holds_vips
        ]
        known = [at_s for at_s in newest if at_s is not None]
        return min(known) if known and len(known) == len(newest) else None

    def count_of(self, severity: str) -> int:
        """Return how many things of a severity need attention."""
        return sum(one.severity is Severity(severity) for one in self.attention)

    def tone_of(self, node: KnownNode) -> str:
        """Return the tone of a node's badge, never the only carrier of meaning."""
        return tone_of(node)


def read_overview(store: ClusterStore) -> Overview:
    """Read the page's content in one snapshot."""
    with store.database.read() as session:
        situation = read_situation(session)
        events = find_events(session, EventFilter(limit=SHOWN_EVENTS))
    return Overview(situation, find_attention(situation), tuple(events))


OVERVIEW: Final = Topic("overview", read_overview, "overview.html", "live")


@router.get("/")
def overview_page(request: Request, shell: ReadShell, store: StoreDep) -> Response:
    """Show the cluster."""
    charts = read_charts(request, store)
    try:
        state = read_overview(store)
    except Unavailable:
        state = None
    return shell.page("overview.html", state=state, **_chart_values(shell, charts))


@router.get("/overview/live", response_class=EventSourceResponse)
async def follow_overview(shell: ReadShell, live: LiveDep) -> AsyncIterator[ServerSentEvent]:
    """Send the page's content whenever it has changed."""
    async for event in live.stream(shell, OVERVIEW):
        yield event


@router.get("/overview/charts")
def overview_charts(request: Request, shell: ReadShell, store: StoreDep) -> Response:
    """Show the charts alone, of the span that the address names."""
    charts = read_charts(request, store)
    return shell.fragment("overview.html", "charts", **_chart_values(shell, charts))


def _chart_values(shell: Shell, charts: FlowCharts | None) -> dict[str, Any]:
    if charts is not None and charts.flow is not None:
        labelled = [{**one, "label": shell.text(one["label"])} for one in charts.flow["series"]]
        charts = replace(charts, flow={**charts.flow, "series": labelled})
    return {"charts": charts, "spans": SPANS}
