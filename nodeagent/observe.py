"""Reads everything a tick needs, once; the only place where the agent looks at the world."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from nodeagent.adapters.clock import boot_time_s
from nodeagent.adapters.host import Host
from nodeagent.adapters.identity import Identity
from nodeagent.adapters.ledger import Ledger
from nodeagent.adapters.mirrors import Mirrors
from nodeagent.adapters.peers import Peers
from nodeagent.adapters.promises import Promises
from nodeagent.adapters.vip import held_vips
from nodeagent.core.contract import ClusterView, MailFlow, NodeReport
from nodeagent.core.observation import (
    ConfigState,
    GuardView,
    MirrorView,
    Observation,
    vrrp_state,
)
from nodeagent.core.ports import GuardPort
from nodeagent.errors import AgentError, BrokenState


@dataclass
class Memory:
    """What the loop carries from tick to tick beside the ledger."""

    view: ClusterView | None = None
    noted_view: ClusterView | None = None  # the last one on file
    view_at_s: float | None = None  # boot time at which the view's request was sent
    freezer: str = ""
    failed_version: int | None = None
    failed_reason: str | None = None
    removable_receipts: tuple[int, ...] = ()


@dataclass(frozen=True)
class Sources:
    """Everything that is read."""

    node: str
    guard: GuardPort
    host: Host
    ledger: Ledger
    mirrors: Mirrors
    promises: Promises
    peers: Peers
    identity: Identity
    flow: Callable[[], MailFlow | None]  # the message trace counts it, in its own thread


def _guard_view(sources: Sources, memory: Memory) -> GuardView | None:
    try:
        view, memory.freezer = sources.guard.status()
    except AgentError:
        return None
    return view


def _mirrors(sources: Sources) -> tuple[MirrorView, ...]:
    """Return what may be adopted; a mirror or a promise that cannot be read permits nothing."""
    try:
        return tuple(
            MirrorView(report.queue, report.messages, sources.promises.promised_s(report.queue))
            for report in sources.mirrors.reports()
        )
    except BrokenState:
        return ()


def _start_grace_s(sources: Sources, promise_s: float) -> float:
    try:
        return sources.promises.start_grace_s()
    except BrokenState:
        return promise_s


def observe(sources: Sources, memory: Memory, *, is_job_running: bool) -> Observation:
    """Return one complete observation; what cannot be read is None in it."""
    view = memory.view
    peers = tuple(peer.name for peer in view.peers) if view is not None else ()
    age_s = None if memory.view_at_s is None else boot_time_s() - memory.view_at_s
    host = sources.host
    vips = held_vips(view.vips) if view is not None else None
    is_running, is_fault_set = host.keepalived.is_running(), host.keepalived.is_fault_set()
    told = host.keepalived.state
    return Observation(
        node=sources.node,
        guard=_guard_view(sources, memory),
        view=view,
        view_age_s=age_s,
        holds_vips=vips,
        vrrp=vrrp_state(told, vips, is_running=is_running, is_fault_set=is_fault_set),
        mirrors=_mirrors(sources),
        adoption=sources.ledger.adoption(),
        switchover=sources.ledger.switchover(),
        start_grace_s=_start_grace_s(sources, view.timings.promise_s if view is not None else 0.0),
        push_age_s=sources.peers.push_age_s(peers),
        is_job_running=is_job_running,
        is_fault_set=is_fault_set,
        is_keepalived_running=is_running,
        config=ConfigState(host.config.live_version(), memory.failed_version, memory.failed_reason),
        ssh_files_current=view is None or host.ssh_files.is_current(view.peers),
        is_instance_known=view is None or sources.ledger.is_instance_known(view.instance_id),
        removable_receipts=memory.removable_receipts,
    )


def report_of(obs: Observation, sources: Sources, memory: Memory, rule: str) -> NodeReport:
    """Return what the heartbeat says of this node."""
    host = sources.host
    return NodeReport(
        role=obs.role,
        vrrp=obs.vrrp,
        holds_vips=obs.holds_vips,
        is_proven=obs.is_proven,
        generation=obs.guard.generation if obs.guard is not None else 0,
        queue=host.queue_counts(),
        flow=sources.flow(),
        pushes=sources.peers.reports(),
        mirrors=sources.mirrors.reports(),
        config_version=obs.config.live_version,
        config_failed_version=memory.failed_version,
        config_error=memory.failed_reason,
        rule=rule,
        agent_version=host.version,
        boot_id=host.boot_id,
        postfix_running=host.postfix.master_pid() is not None,
        freezer=memory.freezer,
        clock=datetime.now(UTC),
        disk_space_bytes=host.disk_space_bytes(),
        disk_inodes=host.disk_inodes(),
    )
