"""What the pages of nodes follow live: all nodes, and one node with its keys, leases and peers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Final

from sqlmodel import Session

from controlplane.core.situation import KnownLease, KnownNode, Situation
from controlplane.core.spec import NodeSpec
from controlplane.gui.cluster_picture import tone_of
from controlplane.gui.live import Topic
from controlplane.store.agents import waiting_tokens
from controlplane.store.cluster import ClusterStore
from controlplane.store.nouns import NODES
from controlplane.store.ownership_tables import AgentRow
from controlplane.store.situation import read_situation


@dataclass(frozen=True)
class Enrolment:
    """What is known of a node's key and of its one-time token; None: there is none."""

    enrolled_at_s: float | None = None
    revoked_at_s: float | None = None
    token_ends_s: float | None = None


@dataclass(frozen=True)
class NodesState:
    """All nodes; equal to itself while nothing has happened."""

    situation: Situation
    specs: tuple[NodeSpec, ...]

    @property
    def rows(self) -> list[tuple[NodeSpec, KnownNode]]:
        """Each node as it is wanted and as it is known."""
        known = {node.name: node for node in self.situation.nodes}
        return [(spec, known[spec.name]) for spec in self.specs]

    def tone_of(self, node: KnownNode) -> str:
        """Return the tone of a node's badge."""
        return tone_of(node)


@dataclass(frozen=True)
class NodeState:
    """One node; `spec` and `known` are None once it was removed."""

    name: str
    spec: NodeSpec | None
    known: KnownNode | None
    peers: tuple[NodeSpec, ...]
    leases: tuple[KnownLease, ...]
    enrolment: Enrolment

    def tone_of(self, node: KnownNode) -> str:
        """Return the tone of the node's badge."""
        return tone_of(node)

    @property
    def own_lease(self) -> KnownLease | None:
        """The lease of its own queue."""
        return next((lease for lease in self.leases if lease.queue == self.name), None)


def read_nodes(store: ClusterStore) -> NodesState:
    """Read all nodes in one snapshot."""
    with store.database.read() as session:
        return NodesState(read_situation(session), tuple(store.read_items(session, NODES)))


def read_node(store: ClusterStore, name: str) -> NodeState:
    """Read one node in one snapshot."""
    with store.database.read() as session:
        situation = read_situation(session)
        specs = store.read_items(session, NODES)
        enrolment = _enrolment(session, name)
    return NodeState(
        name=name,
        spec=next((one for one in specs if one.name == name), None),
        known=next((one for one in situation.nodes if one.name == name), None),
        peers=tuple(one for one in specs if one.name != name),
        leases=tuple(one for one in situation.leases if name in {one.queue, one.holder}),
        enrolment=enrolment,
    )


def _enrolment(session: Session, name: str) -> Enrolment:
    agent = session.get(AgentRow, name)
    token_ends_s = waiting_tokens(session).get(name)
    if agent is None:
        return Enrolment(token_ends_s=token_ends_s)
    return Enrolment(agent.enrolled_at, agent.revoked_at, token_ends_s)


NODES_TOPIC: Final = Topic("nodes", read_nodes, "nodes.html", "live")


def node_topic(name: str) -> Topic[NodeState]:
    """Return the topic of one node, which has to be there: topics are kept."""
    return Topic(f"nodes/{name}", partial(read_node, name=name), "node.html", "live")
