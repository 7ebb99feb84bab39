"""Situations for tests: a healthy pair, and functions that change one thing in it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from controlplane.core.situation import KnownLease, KnownNode, KnownPush, KnownReport, Situation
from nodeagent.core.contract import QueueCounts, Role, VrrpState

NOW_S = 1_800_000_000.0
VIP = "198.51.100.100"
COUNTS = QueueCounts(incoming=0, active=1, deferred=41, hold=0, pending=0, retired=0, quarantined=0)


def known_push(**values: Any) -> KnownPush:
    """Return node-a's last push."""
    push = KnownPush(
        peer="node-b",
        generation=3,
        sequence=9,
        messages=42,
        sent=2,
        freeze_ms=3.5,
        at_s=NOW_S - 4,
    )
    return replace(push, **values)


def known_report(**values: Any) -> KnownReport:
    """Return the report of an idle, healthy standby."""
    report = KnownReport(
        role=Role.STANDBY,
        vrrp=VrrpState.BACKUP,
        holds_vips=(),
        is_proven=True,
        generation=3,
        queue=COUNTS,
        flow=None,
        pushes=(),
        mirrors=(),
        config_version=7,
        config_failed_version=None,
        config_error=None,
        postfix_running=True,
        freezer="cgroup-v2",
        rule="idle",
        agent_version="1.0",
    )
    return replace(report, **values)


def active_report(**values: Any) -> KnownReport:
    """Return the report of a healthy active node."""
    active: dict[str, Any] = {
        "role": Role.ACTIVE,
        "vrrp": VrrpState.MASTER,
        "holds_vips": (VIP,),
        "pushes": (known_push(),),
    }
    return known_report(**(active | values))


def known_node(name: str, report: KnownReport | None, **values: Any) -> KnownNode:
    """Return an enrolled node that has just reported."""
    node = KnownNode(
        name=name,
        address="198.51.100.11",
        is_enrolled=True,
        assigned_version=7,
        is_fresh=report is not None,
        report=report,
        seen_at_s=NOW_S - 1,
    )
    return replace(node, **values)


def healthy(**values: Any) -> Situation:
    """Return a pair of which nothing is to be said; node-a is active."""
    situation = Situation(
        now_s=NOW_S,
        cluster="relay",
        lease_duration_s=15.0,
        push_interval_s=5.0,
        vips=(VIP,),
        nodes=(known_node("node-a", active_report()), known_node("node-b", known_report())),
        leases=tuple(
            KnownLease(queue=name, holder=name, generation=3, is_held=True, expires_at_s=NOW_S + 9)
            for name in ("node-a", "node-b")
        ),
        certificate_ends_at_s=NOW_S + 400 * 86_400,
    )
    return replace(situation, **values)


def with_node(situation: Situation, name: str, **values: Any) -> Situation:
    """Return the situation with one node changed."""
    nodes = (replace(one, **values) if one.name == name else one for one in situation.nodes)
    return replace(situation, nodes=tuple(nodes))


def with_report(situation: Situation, name: str, **values: Any) -> Situation:
    """Return the situation with one node's report changed."""
    (node,) = (one for one in situation.nodes if one.name == name)
    assert node.report is not None
    return with_node(situation, name, report=replace(node.report, **values))
