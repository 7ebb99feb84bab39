"""What the status page says, worked out from reports: plain words, and no more than is known.

A node that has not reported for one lease duration may be anything: its last words are shown as
such, never as its present state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlmodel import Session

from controlplane.api.events import EventFilter, EventView, find_events
from controlplane.api.leases import LeaseStatus, lease_statuses
from controlplane.api.nodes import NodeView, node_views
from controlplane.store.cluster import ClusterStore, read_settings
from controlplane.store.instance import ensure_instance, missing_nodes
from controlplane.store.ownership_tables import INSTANCE_ID, InstanceRow
from controlplane.store.switchovers import current_switchover
from nodeagent.core.contract import NodeReport, SwitchoverWish

SHOWN_EVENTS: Final = 20
MINUTE_S: Final = 60
HOUR_S: Final = 3600
DAY_S: Final = 86400


@dataclass(frozen=True)
class NodeLine:
    """One node in words."""

    name: str
    address: str
    role: str
    vips: str
    vrrp: str
    queue: str
    push: str
    config: str
    seen: str
    tone: str  # "good", "warn", "bad": the colour, never the only carrier of meaning


@dataclass(frozen=True)
class StatusPage:
    """Everything that the page shows."""

    cluster: str
    alerts: tuple[str, ...]
    nodes: tuple[NodeLine, ...]
    leases: tuple[LeaseStatus, ...]
    switchover: SwitchoverWish | None
    events: tuple[EventView, ...]


def read_status(store: ClusterStore, session: Session) -> StatusPage:
    """Read the page's content in one snapshot."""
    settings = read_settings(session)
    views = node_views(store, session)
    limit_s = settings.timings.lease_duration_s
    return StatusPage(
        cluster=settings.name,
        alerts=(*_recovery(session), *_alerts(views, limit_s)),
        nodes=tuple(node_line(view, limit_s) for view in views),
        leases=tuple(lease_statuses(session)),
        switchover=current_switchover(session),
        events=tuple(find_events(session, EventFilter(limit=SHOWN_EVENTS))),
    )


def node_line(view: NodeView, limit_s: float) -> NodeLine:
    """Return one node in words; `limit_s` is how long a report counts as present."""
    report, age_s = view.status.report, view.status.last_seen_s
    is_fresh = age_s is not None and age_s <= limit_s
    return NodeLine(
        name=view.node.name,
        address=view.node.address,
        role=_role(view, report, is_fresh=is_fresh),
        vips=_vips(report) if is_fresh and report is not None else "not known",
        vrrp=report.vrrp.value if is_fresh and report is not None else "not known",
        queue=_queue(report),
        push=_push(report),
        config=_config(view, report),
        seen="never" if age_s is None else f"{duration(age_s)} ago",
        tone=_tone(report, is_fresh=is_fresh),
    )


def duration(seconds: float) -> str:
    """Return a duration in the largest unit that fits, for people."""
    if seconds < MINUTE_S:
        return f"{seconds:.0f} s"
    if seconds < HOUR_S:
        return f"{seconds / MINUTE_S:.0f} min"
    if seconds < DAY_S:
        return f"{seconds / HOUR_S:.0f} h"
    return f"{seconds / DAY_S:.0f} d"


def _recovery(session: Session) -> tuple[str, ...]:
    row = session.get(InstanceRow, INSTANCE_ID)
    if row is None or not row.is_recovering:
        return ()
    ensure_instance(session)
    waits = ", ".join(missing_nodes(session)) or "nobody"
    return (f"Restored from a backup: no lease is granted until these have reported: {waits}.",)


def _alerts(views: Sequence[NodeView], limit_s: float) -> list[str]:
    alerts: list[str] = []
    holders: dict[str, list[str]] = {}
    for view in views:
        report, age_s = view.status.report, view.status.last_seen_s
        if age_s is not None and age_s > limit_s:
            alerts.append(f"{view.node.name} has not reported for {duration(age_s)}.")
        elif report is not None:
            for vip in report.holds_vips or ():
                holders.setdefault(vip, []).append(view.node.name)
        if report is not None and report.config_error:
            version = report.config_failed_version
            alerts.append(f"{view.node.name} refused config {version}: {report.config_error}")
    for vip, names in sorted(holders.items()):
        if len(names) > 1:
            alerts.append(f"{vip} is on {' and '.join(names)} at the same time.")
    if views and not holders:
        alerts.append("No node reports that it holds a VIP: no mail is accepted.")
    return alerts


def _role(view: NodeView, report: NodeReport | None, *, is_fresh: bool) -> str:
    if report is None:
        return "enrolled, silent" if view.status.is_enrolled else "not enrolled"
    if not is_fresh:
        return f"not known (last said {report.role.value})"
    suffix = ", maintenance" if view.node.is_maintenance else ""
    return f"{report.role.value}{suffix}"


def _vips(report: NodeReport) -> str:
    if report.holds_vips is None:
        return "could not be read"
    return ", ".join(report.holds_vips) or "none"


def _queue(report: NodeReport | None) -> str:
    if report is None:
        return "not known"
    counts = report.queue.model_dump()
    shown = [
        f"{name} {'?' if count is None else count}"
        for name, count in counts.items()
        if count is None or count > 0
    ]
    return ", ".join(shown) or "empty"


def _push(report: NodeReport | None) -> str:
    if report is None or not report.pushes:
        return "none"
    return "; ".join(
        f"{one.messages} to {one.peer}, {duration(one.age_s)} old" for one in report.pushes
    )


def _config(view: NodeView, report: NodeReport | None) -> str:
    wanted = view.status.assigned_version
    if wanted is None:
        return "none assigned"
    live = report.config_version if report is not None else None
    if live == wanted:
        return f"{wanted}"
    return f"{wanted} wanted, {'none' if live is None else live} live"


def _tone(report: NodeReport | None, *, is_fresh: bool) -> str:
    if report is None or not is_fresh:
        return "bad"
    return "good" if report.is_proven and report.config_error is None else "warn"
