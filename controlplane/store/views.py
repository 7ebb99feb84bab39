"""What heartbeats are answered with: the cluster as one transaction sees it, shown to each node.

Theory of operation. Many heartbeats share a transaction, and what their views have in common is
read once in it. Whatever takes long to build from many rows is kept from one transaction to the
next and used again only when the rows, which are always read, are the same: so a change shows at
once, also one that another instance of the control plane made.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from sqlalchemy import JSON, Text, cast, select, type_coerce
from sqlmodel import Session, col

from controlplane.core.known_hosts import trusted
from controlplane.store import instance, leases, node_tests, switchovers
from controlplane.store.clock import database_now
from controlplane.store.facts import ClusterFacts, NodeFacts
from controlplane.store.last_made import LastMade
from controlplane.store.ownership_tables import (
    AgentRow,
    NodeReportRow,
    PeerTestRow,
    RouteTestRow,
)
from nodeagent.core import contract as wire
from nodeagent.core.brief import is_lease_of_interest, is_sign_of_interest

_KEYS: Final = (
    col(AgentRow.name),
    col(AgentRow.public_key_pem).is_not(None) & col(AgentRow.revoked_at).is_(None),
    col(AgentRow.struck_off_at).is_not(None),
    col(AgentRow.ssh_public_key),
    col(AgentRow.ssh_next_public_key),
    cast(col(AgentRow.ssh_host_keys), Text),
)
_SIGNS: Final = (
    col(NodeReportRow.node),
    database_now() - col(NodeReportRow.seen_at),
    type_coerce(col(NodeReportRow.report), JSON)["holds_vips"],
)


@dataclass(frozen=True)
class Peers:
    """Lasting facts of all nodes that were not struck off, and their name as a whole."""

    tag: str
    by_name: dict[str, wire.PeerView]


@dataclass(frozen=True)
class Sign:
    """What a node last said of the VIPs that it holds, and how long ago."""

    holds_vips: tuple[str, ...]
    age_s: float


PeersMemory: TypeAlias = LastMade[tuple[tuple[NodeFacts, ...], list[Any]], Peers]


def remember_peers() -> PeersMemory:
    """Return an empty memory of the peers."""
    return LastMade(_make_peers)


def read_peers(session: Session, facts: ClusterFacts, memory: PeersMemory) -> Peers:
    """Return the lasting facts of all nodes."""
    rows = session.execute(select(*_KEYS).order_by(col(AgentRow.name))).all()
    return memory.of((facts.nodes, list(rows)))


class Views:
    """Shows nodes the cluster as one transaction sees it, after all that was written in it."""

    def __init__(
        self,
        session: Session,
        facts: ClusterFacts,
        peers: Peers,
        asked: Sequence[tuple[str, wire.HeartbeatRequest]],
    ) -> None:
        self._facts = facts
        self._peers = peers
        self._current = instance.ensure_instance(session)
        self._switchover = switchovers.current_switchover(session)
        self._route_tests = node_tests.all_waiting(session, RouteTestRow)
        self._peer_tests = node_tests.all_waiting(session, PeerTestRow)
        self._leases = _read_leases(session, asked)
        names = {lease.queue for lease in self._leases}
        needs_all = any(
            self._wants_all_peers(request) or request.report.holds_vips for _, request in asked
        )
        self._signs = _read_signs(session, None if needs_all else names)

    def answer(
        self, node: str, request: wire.HeartbeatRequest, **others: Any
    ) -> wire.HeartbeatAnswer:
        """Return the answer to one heartbeat; `others` are fields beside those of the cluster."""
        report, mine, shown = request.report, self._facts.by_name.get(node), self._leases
        if request.known_peers is not None:
            shown = tuple(one for one in shown if is_lease_of_interest(node, report, one))
        view = wire.ClusterView(
            instance_id=self._current.instance_id,
            is_recovering=self._current.is_recovering,
            node=node,
            vips=self._facts.vips,
            timings=self._facts.timings,
            config_version=mine.config_version if mine is not None else None,
            leases=shown,
            peers=self._shown_peers(node, request, shown),
            switchover=self._switchover,
            is_maintenance=mine.is_maintenance if mine is not None else False,
        )
        return wire.HeartbeatAnswer(
            view=view,
            route_test=self._route_tests.get(node),
            peer_test=self._peer_tests.get(node),
            peers_tag=self._peers.tag,
            is_brief=not self._wants_all_peers(request),
            **others,
        )

    def _wants_all_peers(self, request: wire.HeartbeatRequest) -> bool:
        return request.known_peers != self._peers.tag

    def _shown_peers(
        self, node: str, request: wire.HeartbeatRequest, shown: tuple[wire.LeaseView, ...]
    ) -> tuple[wire.PeerView, ...]:
        if self._wants_all_peers(request):
            names = list(self._peers.by_name)
        else:
            names = [
                name
                for name, sign in self._signs.items()
                if name in self._peers.by_name
                and is_sign_of_interest(request.report, shown, name, sign.holds_vips)
            ]
        return tuple(
            with_sign(self._peers.by_name[name], self._signs.get(name))
            for name in names
            if name != node
        )


def with_sign(peer: wire.PeerView, sign: Sign | None) -> wire.PeerView:
    """Return the peer with what is known of its life."""
    if sign is None:
        return peer
    return peer.model_copy(update={"holds_vips": sign.holds_vips, "last_seen_s": sign.age_s})


def _read_leases(
    session: Session, asked: Sequence[tuple[str, wire.HeartbeatRequest]]
) -> tuple[wire.LeaseView, ...]:
    if any(request.known_peers is None for _, request in asked):
        return leases.read_leases(session)
    nodes = {node for node, _ in asked}
    mirrored = {mirror.queue for _, request in asked for mirror in request.report.mirrors}
    return leases.read_leases_of_interest(session, nodes, nodes | mirrored)


def _read_signs(session: Session, names: Collection[str] | None) -> dict[str, Sign]:
    """Return the signs of life of the nodes named, None means all; who never reported has none."""
    statement = select(*_SIGNS).order_by(col(NodeReportRow.node))
    if names is not None:
        statement = statement.where(col(NodeReportRow.node).in_(names))
    return {
        node: Sign(tuple(holds_vips or ()), max(0.0, age_s))
        for node, age_s, holds_vips in session.execute(statement)
    }


def _make_peers(source: tuple[tuple[NodeFacts, ...], list[Any]]) -> Peers:
    nodes, rows = source
    keys = {row[0]: row[1:] for row in rows}
    struck_off = {name for name, (_, is_struck_off, *_keys) in keys.items() if is_struck_off}
    by_name = {
        node.name: _make_peer(node, keys.get(node.name))
        for node in nodes
        if node.name not in struck_off
    }
    told = json.dumps([peer.model_dump(mode="json") for peer in by_name.values()])
    return Peers(hashlib.sha256(told.encode()).hexdigest(), by_name)


def _make_peer(node: NodeFacts, keys: tuple[Any, ...] | None) -> wire.PeerView:
    is_trusted, _, ssh_key, next_key, host_keys = keys or (False, False, None, None, "[]")
    return wire.PeerView(
        name=node.name,
        address=node.address,
        ssh_user=node.ssh_user,
        ssh_port=node.ssh_port,
        ssh_public_key=ssh_key if is_trusted else None,
        ssh_next_public_key=next_key if is_trusted else None,
        ssh_host_keys=trusted(json.loads(host_keys), node.ssh_pins) if is_trusted else (),
    )
