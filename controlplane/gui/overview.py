"""The first page: what runs where, worked out from reports, and no more than is known.

A node that has not reported for one lease duration may be anything: its last words are shown as
such, never as its present state.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from fastapi import Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from sqlalchemy import select
from sqlmodel import Session, col

from controlplane.api.cluster_access import StoreDep
from controlplane.api.events import EventFilter, EventView, find_events
from controlplane.api.nodes import NodeView, node_views
from controlplane.errors import Unavailable
from controlplane.gui.language import N_, UNKNOWN
from controlplane.gui.live import LiveDep, Topic
from controlplane.gui.shell import ReadShell, page_router
from controlplane.store.clock import read_clock_s
from controlplane.store.cluster import ClusterStore, read_settings
from controlplane.store.instance import ensure_instance, missing_nodes
from controlplane.store.ownership_tables import (
    INSTANCE_ID,
    InstanceRow,
    LeaseRow,
    NodeReportRow,
)
from controlplane.store.switchovers import current_switchover
from nodeagent.core.contract import SwitchoverWish

router = page_router()

SHOWN_EVENTS: Final = 20


@dataclass(frozen=True)
class Alert:
    """Something that needs attention: a message of the catalogue and what is filled in."""

    message: str
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Push:
    """The last push to one peer."""

    peer: str
    messages: int
    at_s: float


@dataclass(frozen=True)
class NodeState:
    """One node: what was wanted of it and what it said last."""

    view: NodeView
    seen_at_s: float | None
    is_fresh: bool
    pushes: tuple[Push, ...]
    counts: tuple[tuple[str, int | None], ...] | None
    tone: str  # of the badge, never the only carrier of meaning


@dataclass(frozen=True)
class LeaseState:
    """The lease of one queue."""

    queue: str
    holder: str
    generation: int
    is_held: bool
    granted_to: str | None
    push_peer: str | None
    push_messages: int | None
    push_at_s: float | None


@dataclass(frozen=True)
class Overview:
    """Everything that the page shows; equal to itself while nothing has changed."""

    cluster: str
    alerts: tuple[Alert, ...]
    nodes: tuple[NodeState, ...]
    leases: tuple[LeaseState, ...]
    switchover: SwitchoverWish | None
    events: tuple[EventView, ...]


def read_overview(store: ClusterStore) -> Overview:
    """Read the page's content in one snapshot."""
    with store.database.read() as session:
        settings = read_settings(session)
        limit_s = settings.timings.lease_duration_s
        seen = {row.node: row.seen_at for row in session.execute(select(NodeReportRow)).scalars()}
        nodes = tuple(
            node_state(view, seen.get(view.node.name), limit_s)
            for view in node_views(store, session)
        )
        return Overview(
            cluster=settings.name,
            alerts=(*_recovery(session), *_node_alerts(nodes), *_vip_alerts(nodes)),
            nodes=nodes,
            leases=tuple(_leases(session)),
            switchover=current_switchover(session),
            events=tuple(find_events(session, EventFilter(limit=SHOWN_EVENTS))),
        )


OVERVIEW: Final = Topic("overview", read_overview, "overview.html", "live")


@router.get("/")
def overview_page(shell: ReadShell, store: StoreDep) -> Response:
    """Show what runs where."""
    try:
        state = read_overview(store)
    except Unavailable:
        state = None
    return shell.page("overview.html", state=state)


@router.get("/overview/live", response_class=EventSourceResponse)
async def follow_overview(shell: ReadShell, live: LiveDep) -> AsyncIterator[ServerSentEvent]:
    """Send the page's content whenever it has changed."""
    async for event in live.stream(shell, OVERVIEW):
        yield event


def node_state(view: NodeView, seen_at_s: float | None, limit_s: float) -> NodeState:
    """Return what is known of a node; `limit_s` is how long a report counts as present."""
    report, age_s = view.status.report, view.status.last_seen_s
    is_fresh = report is not None and age_s is not None and age_s <= limit_s
    pushes = report.pushes if report is not None and seen_at_s is not None else ()
    tone = "bad"
    if report is not None and is_fresh:
        tone = "good" if report.is_proven and report.config_error is None else "warn"
    return NodeState(
        view=view.model_copy(update={"status": view.status.model_copy(update=_AGELESS)}),
        seen_at_s=seen_at_s,
        is_fresh=is_fresh,
        pushes=tuple(Push(one.peer, one.messages, (seen_at_s or 0) - one.age_s) for one in pushes),
        counts=None if report is None else tuple(report.queue.model_dump().items()),
        tone=tone,
    )


_AGELESS: Final = {"last_seen_s": None}
"""An age changes without anything having happened; `seen_at_s` stands for it."""


def _recovery(session: Session) -> Iterator[Alert]:
    row = session.get(InstanceRow, INSTANCE_ID)
    if row is not None and row.is_recovering:
        ensure_instance(session)
        names = ", ".join(missing_nodes(session))
        message = N_(
            "Restored from a backup: no lease is granted until these have reported: %(names)s."
        )
        yield Alert(message, {"names": names or UNKNOWN})


def _node_alerts(nodes: Sequence[NodeState]) -> Iterator[Alert]:
    for node in nodes:
        name, report = node.view.node.name, node.view.status.report
        if report is not None and not node.is_fresh:
            yield Alert(N_("%(node)s has stopped reporting."), {"node": name})
        if report is not None and report.config_error:
            values = {
                "node": name,
                "version": report.config_failed_version,
                "error": report.config_error,
            }
            yield Alert(N_("%(node)s refused configuration %(version)s: %(error)s"), values)


def _vip_alerts(nodes: Sequence[NodeState]) -> Iterator[Alert]:
    holders: dict[str, list[str]] = {}
    for node in nodes:
        report = node.view.status.report
        if report is not None and node.is_fresh:
            for vip in report.holds_vips or ():
                holders.setdefault(vip, []).append(node.view.node.name)
    for vip, names in sorted(holders.items()):
        if len(names) > 1:
            message = N_("%(vip)s is on several nodes at the same time: %(nodes)s.")
            yield Alert(message, {"vip": vip, "nodes": ", ".join(names)})
    if nodes and not holders:
        yield Alert(N_("No node reports that it holds a VIP: no mail is accepted."))


def _leases(session: Session) -> Iterator[LeaseState]:
    now_s = read_clock_s(session)
    for row in session.execute(select(LeaseRow).order_by(col(LeaseRow.queue))).scalars():
        yield LeaseState(
            queue=row.queue,
            holder=row.holder,
            generation=row.generation,
            is_held=row.expires_at > now_s,
            granted_to=row.granted_to,
            push_peer=row.push_peer,
            push_messages=row.push_messages,
            push_at_s=row.push_at,
        )
