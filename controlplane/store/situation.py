"""Reads the cluster's situation from the tables, in one snapshot."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from cryptography import x509
from sqlalchemy import func, select
from sqlmodel import Session, col

from controlplane.core.situation import (
    Adoption,
    Happening,
    KnownFlow,
    KnownLease,
    KnownMirror,
    KnownNode,
    KnownPush,
    KnownReport,
    KnownRotation,
    Situation,
)
from controlplane.store.agents import is_active
from controlplane.store.clock import read_clock_s
from controlplane.store.cluster import read_settings
from controlplane.store.cluster_tables import CLUSTER_ID, CertificateRow, NodeRow, VipRow
from controlplane.store.instance import missing_nodes
from controlplane.store.ownership_tables import (
    INSTANCE_ID,
    AgentRow,
    EventRow,
    InstanceRow,
    LeaseRow,
    NodeReportRow,
    ReceiptRow,
    SwitchoverRow,
)
from controlplane.store.policy_status import present_problems
from controlplane.store.samples import queue_before
from controlplane.store.system import clock_offset_s, disk_of
from controlplane.store.trace_tables import TraceStreamRow
from controlplane.store.user_tables import UserRow
from controlplane.store.users import FIRST_ADMIN
from nodeagent.core.contract import NodeReport, SwitchoverWish
from nodeagent.core.event_kinds import EVENTS_DROPPED, SSH_ROTATION_WAITS

LOOK_BACK_S: Final = 86_400
LATE_S: Final = 3.0
"""An agent reports at each tick, half a second by default; this many without one are no hiccup."""
QUEUE_LOOK_BACK_S: Final = 1800
WATCHED_KINDS: Final = (EVENTS_DROPPED, "mirror-broken", "freezer-failed", "fence-failed")


def read_situation(session: Session) -> Situation:
    """Return what is known now."""
    now_s = read_clock_s(session)
    settings = read_settings(session)
    instance = session.get(InstanceRow, INSTANCE_ID)
    is_recovering = instance is not None and instance.is_recovering
    wish = _switchover(session)
    ends_at_s, is_own = _certificate(session)
    first = session.get(UserRow, FIRST_ADMIN)
    vips = session.execute(select(col(VipRow.address)).order_by(col(VipRow.address))).scalars()
    return Situation(
        now_s=now_s,
        cluster=settings.name,
        lease_duration_s=settings.timings.lease_duration_s,
        push_interval_s=settings.timings.push_interval_s,
        vips=tuple(vips),
        nodes=tuple(_nodes(session, now_s, settings.timings.lease_duration_s)),
        leases=tuple(_leases(session, now_s)),
        switchover=None if wish is None else _wish(wish),
        switchover_at_s=None if wish is None else wish.requested_at,
        adoptions=tuple(_adoptions(session)),
        is_recovering=is_recovering,
        awaited=tuple(missing_nodes(session)) if is_recovering else (),
        certificate_ends_at_s=ends_at_s,
        certificate_is_own=is_own,
        has_first_password=first is not None and first.password_changed_at is None,
        waited_before=tuple(sorted(queue_before(session, QUEUE_LOOK_BACK_S).items())),
        happenings=tuple(_happenings(session, now_s)),
        traced=tuple(_traced(session)),
    )


def _nodes(session: Session, now_s: float, limit_s: float) -> Iterator[KnownNode]:
    agents = {row.name: row for row in session.execute(select(AgentRow)).scalars()}
    reports = {row.node: row for row in session.execute(select(NodeReportRow)).scalars()}
    problems = present_problems(session)
    for row in session.execute(select(NodeRow).order_by(col(NodeRow.name))).scalars():
        agent, report = agents.get(row.name), reports.get(row.name)
        yield KnownNode(
            name=row.name,
            address=row.address,
            is_enrolled=agent is not None and is_active(agent),
            is_struck_off=agent is not None and agent.struck_off_at is not None,
            is_maintenance=row.is_maintenance,
            assigned_version=row.assigned_version,
            is_fresh=report is not None and now_s - report.seen_at <= limit_s,
            is_late=report is not None and now_s - report.seen_at > LATE_S,
            report=None if report is None else _report(report),
            rotation=None if agent is None else _rotation(session, agent),
            policy_problem=problems.get(row.name, ""),
            seen_at_s=None if report is None else report.seen_at,
        )


def _rotation(session: Session, agent: AgentRow) -> KnownRotation | None:
    """Return the rotation that is under way, with the node's last word on it since it was asked."""
    asked_at_s = agent.ssh_replace_at
    if agent.ssh_replace is None or asked_at_s is None:
        return None
    said = (
        select(col(EventRow.text))
        .where(col(EventRow.kind) == SSH_ROTATION_WAITS, col(EventRow.node) == agent.name)
        .where(col(EventRow.received_at) >= asked_at_s)
        .order_by(col(EventRow.received_at).desc(), col(EventRow.number).desc())
    )
    return KnownRotation(asked_at_s, session.execute(said.limit(1)).scalar())


def _report(row: NodeReportRow) -> KnownReport:
    said = NodeReport.model_validate(row.report)
    flow = None if said.flow is None else KnownFlow(**said.flow.model_dump())
    return KnownReport(
        role=said.role,
        vrrp=said.vrrp,
        holds_vips=said.holds_vips,
        is_proven=said.is_proven,
        generation=said.generation,
        queue=said.queue,
        flow=flow,
        pushes=tuple(
            KnownPush(**push.model_dump(exclude={"age_s"}), at_s=row.seen_at - push.age_s)
            for push in said.pushes
        ),
        mirrors=tuple(KnownMirror(**mirror.model_dump()) for mirror in said.mirrors),
        config_version=said.config_version,
        config_failed_version=said.config_failed_version,
        config_error=said.config_error,
        postfix_running=said.postfix_running,
        freezer=said.freezer,
        rule=said.rule,
        agent_version=said.agent_version,
        clock_offset_s=clock_offset_s(said, row.seen_at),
        disk=disk_of(said),
    )


def _leases(session: Session, now_s: float) -> Iterator[KnownLease]:
    for row in session.execute(select(LeaseRow).order_by(col(LeaseRow.queue))).scalars():
        yield KnownLease(
            queue=row.queue,
            holder=row.holder,
            generation=row.generation,
            is_held=row.expires_at > now_s,
            granted_to=row.granted_to,
            confirmed_dead=row.confirmed_dead,
            seen_generation=row.seen_generation,
            expires_at_s=row.expires_at,
        )


def _switchover(session: Session) -> SwitchoverRow | None:
    under_way = select(SwitchoverRow).where(col(SwitchoverRow.finished_at).is_(None))
    return session.execute(under_way.order_by(col(SwitchoverRow.id))).scalars().first()


def _wish(row: SwitchoverRow) -> SwitchoverWish:
    return SwitchoverWish(id=row.id or 0, source=row.source, destination=row.destination)


def _traced(session: Session) -> Iterator[tuple[str, float]]:
    node = col(TraceStreamRow.node)
    newest = select(node, func.max(col(TraceStreamRow.received_at))).group_by(node).order_by(node)
    return ((name, received_at) for name, received_at in session.execute(newest))


def _adoptions(session: Session) -> Iterator[Adoption]:
    rows = select(ReceiptRow).where(~col(ReceiptRow.is_done)).order_by(col(ReceiptRow.number))
    for row in session.execute(rows).scalars():
        yield Adoption(row.queue, row.holder, row.generation, row.messages, row.committed_at)


def _certificate(session: Session) -> tuple[float | None, bool]:
    row = session.get(CertificateRow, CLUSTER_ID)
    if row is None:
        return None, False
    certificate = x509.load_pem_x509_certificate(row.certificate_pem.encode())
    return certificate.not_valid_after_utc.timestamp(), row.is_own


def _happenings(session: Session, now_s: float) -> Iterator[Happening]:
    """Count what was lost or broken within the last day, by kind and node."""
    kind, node = col(EventRow.kind), col(EventRow.node)
    last = func.max(col(EventRow.received_at))
    rows = session.execute(
        select(kind, node, func.count(), last)
        .where(kind.in_(WATCHED_KINDS), col(EventRow.received_at) > now_s - LOOK_BACK_S)
        .group_by(kind, node)
        .order_by(kind, node)
    )
    for found_kind, found_node, count, last_at_s in rows:
        yield Happening(found_kind, found_node or "", count, last_at_s)
