"""For what each rule of `attention` holds: pure functions of a situation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from controlplane.core.situation import KnownNode, KnownReport, Situation

COPY_AGE_PUSHES: Final = 6
COPY_AGE_LEAST_S: Final = 30.0
GROWN_LEAST: Final = 100
GROWN_FACTOR: Final = 2
CERTIFICATE_WARN_DAYS: Final = 30
CERTIFICATE_BAD_DAYS: Final = 7
DAY_S: Final = 86_400
CLOCK_WARN_S: Final = 5.0
"""No lease needs equal clocks; logs and traces of several nodes are read side by side.

Not less: the way of a report is part of the offset, and an agent gives one up after
`lease_renew_deadline_s`, 5 s by default. The test of a peer has the same limit.
"""
CLOCK_BAD_S: Final = 150.0
"""At twice as much the control plane refuses what the node's key has signed, and its lease ends."""
DISK_WARN_SHARE: Final = 0.1
"""Some days' notice of a disk that fills slowly; a burst of mail is a smaller part of a disk."""
DISK_BAD_SHARE: Final = 0.05
"""Hours at most: on a disk of 20 GB it is room for 1,000 messages of 1 MB.

Postfix refuses mail only below 1.5 times `message_size_limit`, but a push to this node and the
receipt of an adoption need room before that.
"""
LAST_RESORT_FREEZER: Final = "stop-start"

ROTATION_LIMIT_S: Final = 300.0
"""A rotation takes seconds: three ticks of the node, two of each peer, and a login at each."""

Values = Mapping[str, str | int]


@dataclass(frozen=True)
class Finding:
    """For what a rule holds: the values of its message, and since when, if that is known."""

    values: Values = field(default_factory=dict)
    since_s: float | None = None


def _present(situation: Situation) -> Iterator[tuple[KnownNode, KnownReport]]:
    for node in situation.nodes:
        if node.present is not None and not node.is_struck_off:
            yield node, node.present


def recovering(situation: Situation) -> Iterator[Finding]:
    """Yield the nodes that a restored control plane waits for."""
    if situation.is_recovering:
        yield Finding({"nodes": ", ".join(situation.awaited) or "-"})


def vip_twice(situation: Situation) -> Iterator[Finding]:
    """Yield the VIPs that several nodes say they hold."""
    for vip in situation.vips:
        holders = situation.holders_of(vip)
        if len(holders) > 1:
            yield Finding({"vip": vip, "nodes": ", ".join(holders)})


def vip_nowhere(situation: Situation) -> Iterator[Finding]:
    """Yield the VIPs that no node says it holds, once any node has said anything."""
    if any(node.report is not None for node in situation.nodes):
        for vip in situation.vips:
            if not situation.holders_of(vip):
                yield Finding({"vip": vip})


def silent(situation: Situation) -> Iterator[Finding]:
    """Yield the nodes whose last report is too old to be the present."""
    for node in situation.nodes:
        if node.report is not None and not node.is_fresh and not node.is_struck_off:
            yield Finding({"node": node.name}, node.seen_at_s)


def fenced(situation: Situation) -> Iterator[Finding]:
    """Yield the nodes that have not proved their own lease."""
    for node, report in _present(situation):
        if not report.is_proven:
            yield Finding({"node": node.name})


def lease_lost(situation: Situation) -> Iterator[Finding]:
    """Yield the silent nodes whose queue nobody holds and nobody has adopted."""
    for finding in silent(situation):
        lease = situation.lease_of(str(finding.values["node"]))
        if lease is not None and not lease.is_held and lease.holder == lease.queue:
            yield Finding({"node": lease.queue}, lease.expires_at_s)


def older_database(situation: Situation) -> Iterator[Finding]:
    """Yield the queues of which a node has seen a later generation than we have."""
    for lease in situation.leases:
        if lease.seen_generation > lease.generation:
            values: Values = {
                "node": lease.queue,
                "seen": lease.seen_generation,
                "known": lease.generation,
            }
            yield Finding(values)


def postfix_down(situation: Situation) -> Iterator[Finding]:
    """Yield the nodes on which Postfix does not run."""
    for node, report in _present(situation):
        if report.postfix_running is False:
            yield Finding({"node": node.name})


def config_refused(situation: Situation) -> Iterator[Finding]:
    """Yield the nodes that refused a configuration, with their reasons."""
    for node, report in _present(situation):
        if report.config_error and report.config_failed_version is not None:
            values: Values = {
                "node": node.name,
                "version": report.config_failed_version,
                "error": report.config_error,
            }
            yield Finding(values)


def copy_missing(situation: Situation) -> Iterator[Finding]:
    """Yield the nodes that should push and have pushed to nobody."""
    for node, report in _pushing(situation):
        if not report.pushes:
            yield Finding({"node": node.name})


def copy_old(situation: Situation) -> Iterator[Finding]:
    """Yield the nodes whose newest push is older than several intervals."""
    limit_s = max(COPY_AGE_LEAST_S, COPY_AGE_PUSHES * situation.push_interval_s)
    for node, report in _pushing(situation):
        if report.pushes:
            newest = max(report.pushes, key=lambda push: push.at_s)
            if situation.now_s - newest.at_s > limit_s:
                yield Finding({"node": node.name, "peer": newest.peer}, float(int(newest.at_s)))


def _pushing(situation: Situation) -> Iterator[tuple[KnownNode, KnownReport]]:
    """Yield the nodes that should push: they hold a VIP, and there is a node to push to."""
    for node, report in _present(situation):
        peers = [one for one in situation.nodes if one.is_enrolled and one.name != node.name]
        if report.holds_vips and peers:
            yield node, report


def no_standby(situation: Situation) -> Iterator[Finding]:
    """Yield the node that is alone."""
    enrolled = [node for node in situation.nodes if node.is_enrolled]
    if len(enrolled) == 1:
        yield Finding({"node": enrolled[0].name})


def queue_growing(situation: Situation) -> Iterator[Finding]:
    """Yield the nodes on which much more waits than half an hour ago."""
    before = dict(situation.waited_before)
    for node, report in _present(situation):
        now, then = _live_queue(report), before.get(node.name)
        if now is None or then is None:
            continue
        if now - then >= GROWN_LEAST and now >= GROWN_FACTOR * then:
            yield Finding({"node": node.name, "before": then, "now": now})


def _live_queue(report: KnownReport) -> int | None:
    counts = (report.queue.incoming, report.queue.active, report.queue.deferred)
    return None if None in counts else sum(count or 0 for count in counts)


def pending(situation: Situation) -> Iterator[Finding]:
    """Yield the nodes with mail set aside though their lease is proved."""
    for node, report in _present(situation):
        if report.queue.pending and report.is_proven:
            yield Finding({"node": node.name, "messages": report.queue.pending})


def quarantined(situation: Situation) -> Iterator[Finding]:
    """Yield the nodes with files in the quarantine."""
    for node, report in _present(situation):
        if report.queue.quarantined:
            yield Finding({"node": node.name, "messages": report.queue.quarantined})


def retired(situation: Situation) -> Iterator[Finding]:
    """Yield the nodes with mail that a peer has adopted."""
    for node, report in _present(situation):
        if report.queue.retired:
            yield Finding({"node": node.name, "messages": report.queue.retired})


def _certificate_left(situation: Situation, least: float, most: float) -> Iterator[Finding]:
    ends_at_s = situation.certificate_ends_at_s
    if ends_at_s is not None:
        days = (ends_at_s - situation.now_s) / DAY_S
        if least <= days < most:
            yield Finding({"days": int(days)})


def certificate_ended(situation: Situation) -> Iterator[Finding]:
    """Hold for a certificate that has expired."""
    ends_at_s = situation.certificate_ends_at_s
    if ends_at_s is not None and ends_at_s <= situation.now_s:
        yield Finding({}, ends_at_s)


def certificate_ends_now(situation: Situation) -> Iterator[Finding]:
    """Hold for the last days of a certificate."""
    yield from _certificate_left(situation, 1e-9, CERTIFICATE_BAD_DAYS)


def certificate_ends_soon(situation: Situation) -> Iterator[Finding]:
    """Hold for the last weeks of a certificate, but its last days."""
    yield from _certificate_left(situation, CERTIFICATE_BAD_DAYS, CERTIFICATE_WARN_DAYS)


def first_password(situation: Situation) -> Iterator[Finding]:
    """Hold while the first administrator's password was never changed."""
    if situation.has_first_password:
        yield Finding()


def happened(kind: str) -> Callable[[Situation], Iterator[Finding]]:
    """Return what yields the nodes of which an event of that kind came lately."""

    def find(situation: Situation) -> Iterator[Finding]:
        for one in situation.happenings:
            if one.kind == kind and one.node:
                yield Finding({"node": one.node}, one.last_at_s)

    return find


def not_enrolled(situation: Situation) -> Iterator[Finding]:
    """Yield the nodes without a key that is accepted."""
    for node in situation.nodes:
        if not node.is_enrolled and not node.is_struck_off:
            yield Finding({"node": node.name})


def no_nodes(situation: Situation) -> Iterator[Finding]:
    """Hold while there is no node."""
    if not situation.nodes:
        yield Finding()


def never_reported(situation: Situation) -> Iterator[Finding]:
    """Yield the enrolled nodes that were never heard of."""
    for node in situation.nodes:
        if node.is_enrolled and node.report is None:
            yield Finding({"node": node.name})


def config_behind(situation: Situation) -> Iterator[Finding]:
    """Yield the nodes that do not run what is assigned and have not refused it."""
    for node, report in _present(situation):
        wanted, live = node.assigned_version, report.config_version
        if wanted is not None and wanted not in {live, report.config_failed_version}:
            yield Finding({"node": node.name, "version": wanted})


def never_applied(situation: Situation) -> Iterator[Finding]:
    """Yield the nodes to which no configuration was ever assigned."""
    for node, _ in _present(situation):
        if node.assigned_version is None:
            yield Finding({"node": node.name})


def slow_freezer(situation: Situation) -> Iterator[Finding]:
    """Yield the nodes that can only stop Postfix."""
    for node, report in _present(situation):
        if report.freezer == LAST_RESORT_FREEZER:
            yield Finding({"node": node.name})


def versions_differ(situation: Situation) -> Iterator[Finding]:
    """Hold while agents of different versions report."""
    versions = {report.agent_version for _, report in _present(situation)}
    if len(versions) > 1:
        yield Finding({"versions": ", ".join(sorted(versions))})


def maintenance(situation: Situation) -> Iterator[Finding]:
    """Yield the nodes that an operator keeps off the VIPs."""
    for node in situation.nodes:
        if node.is_maintenance:
            yield Finding({"node": node.name})


def _clock_off(situation: Situation, least_s: float, most_s: float) -> Iterator[Finding]:
    for node, report in _present(situation):
        offset_s = report.clock_offset_s
        if offset_s is not None and least_s <= abs(offset_s) < most_s:
            yield Finding({"node": node.name, "seconds": round(abs(offset_s))})


def clock_off(situation: Situation) -> Iterator[Finding]:
    """Yield the nodes whose clock is too far off for logs to be read side by side."""
    yield from _clock_off(situation, CLOCK_WARN_S, CLOCK_BAD_S)


def clock_far_off(situation: Situation) -> Iterator[Finding]:
    """Yield the nodes whose clock is halfway to where the control plane refuses them."""
    yield from _clock_off(situation, CLOCK_BAD_S, math.inf)


def _disk_left(situation: Situation, least: float, most: float) -> Iterator[Finding]:
    for node, report in _present(situation):
        share = report.disk.free_share
        if share is not None and least <= share < most:
            yield Finding({"node": node.name, "percent": int(share * 100)})


def disk_nearly_full(situation: Situation) -> Iterator[Finding]:
    """Yield the nodes on which mail will soon find no room."""
    yield from _disk_left(situation, 0, DISK_BAD_SHARE)


def disk_filling(situation: Situation) -> Iterator[Finding]:
    """Yield the nodes whose disk should be looked at, but the nearly full ones."""
    yield from _disk_left(situation, DISK_BAD_SHARE, DISK_WARN_SHARE)


def policy_problem(situation: Situation) -> Iterator[Finding]:
    """Yield the nodes whose policy hook says that something is wrong."""
    for node, _ in _present(situation):
        if node.policy_problem:
            yield Finding({"node": node.name, "problem": node.policy_problem})


def rotation_needs_peer(situation: Situation) -> Iterator[Finding]:
    """Yield the silent peers, each with the node whose new SSH key waits for it."""
    for node, _ in _present(situation):
        if node.rotation is not None:
            for peer in _silent_peers(situation, node):
                yield Finding({"node": node.name, "peer": peer}, node.rotation.asked_at_s)


def rotation_waits(situation: Situation) -> Iterator[Finding]:
    """Yield the nodes whose SSH key is not replaced after long, though no peer is silent."""
    for node, _ in _present(situation):
        rotation = node.rotation
        if rotation is None or _silent_peers(situation, node):
            continue
        if situation.now_s - rotation.asked_at_s >= ROTATION_LIMIT_S:
            values: Values = {"node": node.name, "reason": rotation.reason or "-"}
            yield Finding(values, rotation.asked_at_s)


def _silent_peers(situation: Situation, node: KnownNode) -> list[str]:
    """Return the peers that a rotation waits for, whose last report is too old."""
    return [
        one.name
        for one in situation.nodes
        if one.name != node.name and one.is_enrolled and not one.is_fresh
    ]
