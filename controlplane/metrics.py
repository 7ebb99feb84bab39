"""Every metric: what it is called, what it says, and how it follows from a situation.

Theory of operation. A scrape reads one situation, so that the metrics of one scrape fit together,
and keeps nothing between scrapes. What is not known has no sample: a count that could not be read
is missing and not zero. `METRICS` is the list that the reference, the dashboard and the alert
rules are checked against. Names and units follow Prometheus' own practice: base units, `_total`
for what only rises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from controlplane import __version__
from controlplane.core.attention import RULES, find_attention
from controlplane.core.situation import (
    KnownFlow,
    KnownNode,
    KnownPush,
    KnownReport,
    Situation,
)
from nodeagent.core.contract import Role, VrrpState

Samples = Iterator[tuple[tuple[str, ...], float]]


@dataclass(frozen=True)
class MetricRow:
    """One metric: its name, labels and text, and its samples in a situation."""

    name: str
    labels: tuple[str, ...]
    text: str
    samples: Callable[[Situation], Samples]

    @property
    def is_counter(self) -> bool:
        """Tell whether it only rises, but for starts of the agent."""
        return self.name.endswith("_total")


class ClusterMetrics(Collector):
    """The metrics of one situation."""

    def __init__(self, situation: Situation) -> None:
        self._situation = situation

    def collect(self) -> Iterable[Metric]:
        """Yield every metric; one without samples is shown by its name alone."""
        for row in METRICS:
            kind = CounterMetricFamily if row.is_counter else GaugeMetricFamily
            family = kind(row.name, row.text, labels=row.labels)
            for labels, value in row.samples(self._situation):
                family.add_metric(labels, value)
            yield family


def make_process_metrics() -> CollectorRegistry:
    """Return the metrics of this process: its CPU time, memory, open files and interpreter."""
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    return registry


def _reports(situation: Situation) -> Iterator[tuple[KnownNode, KnownReport]]:
    for node in situation.nodes:
        if node.present is not None:
            yield node, node.present


def _of_reports(read: Callable[[KnownReport], float | None]) -> Callable[[Situation], Samples]:
    """Return the samples of what each node's present report says, where it says anything."""

    def samples(situation: Situation) -> Samples:
        for node, report in _reports(situation):
            value = read(report)
            if value is not None:
                yield (node.name,), value

    return samples


def _of_node(name: str, text: str, read: Callable[[KnownReport], float | None]) -> MetricRow:
    """Return the metric of one figure of each present report."""
    return MetricRow(name, ("node",), text, _of_reports(read))


def _info(situation: Situation) -> Samples:
    yield (situation.cluster, __version__), 1


def _recovering(situation: Situation) -> Samples:
    yield (), situation.is_recovering


def _vip_holders(situation: Situation) -> Samples:
    for vip in situation.vips:
        yield (vip,), len(situation.holders_of(vip))


def _attention(situation: Situation) -> Samples:
    found = [one.rule for one in find_attention(situation)]
    for rule in RULES:
        yield (rule.name, rule.severity.value), found.count(rule.name)


def _certificate(situation: Situation) -> Samples:
    if situation.certificate_ends_at_s is not None:
        yield (), situation.certificate_ends_at_s


def _switchover(situation: Situation) -> Samples:
    yield (), situation.switchover is not None


def _adopting(situation: Situation) -> Samples:
    for one in situation.adoptions:
        yield (one.queue, one.holder), one.messages


def _up(situation: Situation) -> Samples:
    for node in situation.nodes:
        if not node.is_struck_off:
            yield (node.name,), node.is_fresh


def _last_seen(situation: Situation) -> Samples:
    for node in situation.nodes:
        if node.seen_at_s is not None:
            yield (node.name,), node.seen_at_s


def _agent_info(situation: Situation) -> Samples:
    for node, report in _reports(situation):
        yield (node.name, report.agent_version, report.freezer), 1


def _role(situation: Situation) -> Samples:
    for node, report in _reports(situation):
        for role in Role:
            yield (node.name, role.value), report.role is role


def _vrrp(situation: Situation) -> Samples:
    for node, report in _reports(situation):
        for state in VrrpState:
            yield (node.name, state.value), report.vrrp is state


def _holds_vip(situation: Situation) -> Samples:
    for node, report in _reports(situation):
        if report.holds_vips is not None:
            for vip in situation.vips:
                yield (node.name, vip), vip in report.holds_vips


def _maintenance(situation: Situation) -> Samples:
    for node in situation.nodes:
        yield (node.name,), node.is_maintenance


def _queue(situation: Situation) -> Samples:
    for node, report in _reports(situation):
        for place, count in report.queue.model_dump().items():
            if count is not None:
                yield (node.name, place), count


def _of_pushes(read: Callable[[KnownPush], float]) -> Callable[[Situation], Samples]:
    """Return the samples of each node's last push to each peer."""

    def samples(situation: Situation) -> Samples:
        for node, report in _reports(situation):
            for push in report.pushes:
                yield (node.name, push.peer), read(push)

    return samples


def _of_flow(read: Callable[[KnownFlow], int | None]) -> Callable[[Situation], Samples]:
    """Return the samples of a flow count, of the nodes that know it."""
    return _of_reports(lambda report: None if report.flow is None else read(report.flow))


def _mirrors(situation: Situation) -> Samples:
    for node, report in _reports(situation):
        for mirror in report.mirrors:
            yield (node.name, mirror.queue), mirror.messages


def _config_wanted(situation: Situation) -> Samples:
    for node in situation.nodes:
        if node.assigned_version is not None:
            yield (node.name,), node.assigned_version


def _lease_held(situation: Situation) -> Samples:
    for lease in situation.leases:
        yield (lease.queue, lease.holder), lease.is_held


def _lease_generation(situation: Situation) -> Samples:
    for lease in situation.leases:
        yield (lease.queue,), lease.generation


METRICS: Final = (
    MetricRow(
        "relay_info", ("cluster", "version"), "Always 1; the control plane's version.", _info
    ),
    MetricRow(
        "relay_recovering", (), "1 while a restored control plane waits for nodes.", _recovering
    ),
    MetricRow(
        "relay_attention",
        ("rule", "severity"),
        "For how many things a rule of what needs attention holds.",
        _attention,
    ),
    MetricRow(
        "relay_certificate_not_after_timestamp_seconds",
        (),
        "When the certificate of SMTP and GUI expires.",
        _certificate,
    ),
    MetricRow("relay_switchover_under_way", (), "1 while a switchover is under way.", _switchover),
    MetricRow(
        "relay_adopting_messages",
        ("queue", "holder"),
        "Messages of a queue that its new holder is taking over.",
        _adopting,
    ),
    MetricRow(
        "relay_vip_holders", ("vip",), "How many nodes say that they hold a VIP.", _vip_holders
    ),
    MetricRow(
        "relay_lease_held",
        ("queue", "holder"),
        "1 while the lease of a queue is held.",
        _lease_held,
    ),
    MetricRow(
        "relay_lease_generation",
        ("queue",),
        "Generation of a queue's lease; rises at each change of holder.",
        _lease_generation,
    ),
    MetricRow(
        "relay_node_up", ("node",), "1 while a node's last report is younger than a lease.", _up
    ),
    MetricRow(
        "relay_node_last_seen_timestamp_seconds",
        ("node",),
        "When a node reported last.",
        _last_seen,
    ),
    MetricRow(
        "relay_node_maintenance", ("node",), "1 while an operator keeps a node off.", _maintenance
    ),
    MetricRow(
        "relay_node_info",
        ("node", "version", "freezer"),
        "Always 1; the agent's version and how it freezes Postfix.",
        _agent_info,
    ),
    MetricRow(
        "relay_node_role", ("node", "role"), "1 for the node's role, 0 for the others.", _role
    ),
    MetricRow(
        "relay_node_vrrp_state",
        ("node", "state"),
        "1 for keepalived's state, 0 for the others.",
        _vrrp,
    ),
    MetricRow("relay_node_holds_vip", ("node", "vip"), "1 on who holds the VIP.", _holds_vip),
    _of_node(
        "relay_node_lease_proved",
        "1 while the node's lease guard holds a proof.",
        lambda report: report.is_proven,
    ),
    _of_node(
        "relay_node_postfix_running", "1 while Postfix runs.", lambda report: report.postfix_running
    ),
    _of_node(
        "relay_node_config_version",
        "The configuration that is live.",
        lambda report: report.config_version,
    ),
    MetricRow(
        "relay_node_config_assigned_version",
        ("node",),
        "The configuration that shall be live.",
        _config_wanted,
    ),
    _of_node(
        "relay_node_clock_offset_seconds",
        "How far its clock is ahead of the database's; the way of its report is part of it.",
        lambda report: report.clock_offset_s,
    ),
    _of_node(
        "relay_node_queue_filesystem_avail_bytes",
        "Free space where the queue is, for who is not root.",
        lambda report: report.disk.free_bytes,
    ),
    _of_node(
        "relay_node_queue_filesystem_size_bytes",
        "Size of the file system that the queue is on.",
        lambda report: report.disk.size_bytes,
    ),
    _of_node(
        "relay_node_queue_filesystem_files_free",
        "Free inodes where the queue is; without a sample where they are not counted.",
        lambda report: report.disk.free_inodes,
    ),
    _of_node(
        "relay_node_queue_filesystem_files",
        "Inodes of the file system that the queue is on.",
        lambda report: report.disk.inodes,
    ),
    MetricRow(
        "relay_queue_messages",
        ("node", "place"),
        "Messages on a node by place; without a sample where they could not be counted.",
        _queue,
    ),
    MetricRow(
        "relay_push_snapshot_timestamp_seconds",
        ("node", "peer"),
        "When the snapshot of the last push was taken.",
        _of_pushes(lambda push: push.at_s),
    ),
    MetricRow(
        "relay_push_messages",
        ("node", "peer"),
        "Messages in the mirror after the last push.",
        _of_pushes(lambda push: push.messages),
    ),
    MetricRow(
        "relay_push_sent_files",
        ("node", "peer"),
        "Files that the last push sent.",
        _of_pushes(lambda push: push.sent),
    ),
    MetricRow(
        "relay_push_freeze_seconds",
        ("node", "peer"),
        "How long Postfix stood still for the last push.",
        _of_pushes(lambda push: push.freeze_ms / 1000),
    ),
    MetricRow("relay_mirror_messages", ("node", "queue"), "Messages in a mirror.", _mirrors),
    MetricRow(
        "relay_mail_accepted_messages_total",
        ("node",),
        "Messages that Postfix has accepted since the agent's start.",
        _of_flow(lambda flow: flow.accepted),
    ),
    MetricRow(
        "relay_mail_delivered_recipients_total",
        ("node",),
        "Recipients to whom Postfix has delivered since the agent's start.",
        _of_flow(lambda flow: flow.delivered),
    ),
    MetricRow(
        "relay_mail_deferred_attempts_total",
        ("node",),
        "Attempts that Postfix has put off since the agent's start.",
        _of_flow(lambda flow: flow.deferrals),
    ),
    MetricRow(
        "relay_mail_bounced_recipients_total",
        ("node",),
        "Recipients to whom Postfix has given up delivering since the agent's start.",
        _of_flow(lambda flow: flow.bounced),
    ),
    MetricRow(
        "relay_trace_received_timestamp_seconds",
        ("node",),
        "When the node's message trace last brought something.",
        lambda situation: (((node,), at_s) for node, at_s in situation.traced),
    ),
    MetricRow(
        "relay_mail_rejections_total",
        ("node",),
        "Commands and messages that Postfix has refused since the agent's start.",
        _of_flow(lambda flow: flow.rejected),
    ),
)
