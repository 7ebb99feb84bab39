"""Nodes: the relay hosts as they are wanted, and what each says of itself."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Response, status
from pydantic import BaseModel, Field
from sqlalchemy import select
from sqlmodel import Session

from controlplane.api.cluster_access import (
    CREATED,
    NOT_FOUND,
    Body,
    NodeKey,
    StoreDep,
    mark_created,
)
from controlplane.api.permissions import READ, AdminCaller, OperateCaller
from controlplane.core.spec import ClusterMode, NodeSpec
from controlplane.errors import NotFound
from controlplane.store import agents
from controlplane.store.cluster import ClusterStore
from controlplane.store.cluster_tables import NodeRow
from controlplane.store.node_removal import remove_node
from controlplane.store.nouns import NODES
from controlplane.store.ownership_tables import AgentRow
from controlplane.store.reports import read_reports
from nodeagent.core.contract import NodeReport

router = APIRouter(prefix="/api/v1/nodes", tags=["nodes"])

AbandonQueue = Annotated[
    bool, Query(description="Remove it though mail that nobody adopts stays on its disk.")
]


class NodeBody(Body):
    """Everything of a node but its name."""

    address: str = Field(
        description="The node's own address; VRRP and SSH use it.", examples=["198.51.100.11"]
    )
    prefix_len: int | None = Field(
        default=None, description="Of the node's network. Null: 24 for IPv4, 64 for IPv6."
    )
    interface: str = Field(default="eth0", examples=["eth0"])
    vrrp_priority: int = Field(
        default=100, description="1 to 254; the highest takes the VIP at a common start."
    )
    cluster_mode: ClusterMode = ClusterMode.STANDALONE
    ssh_user: str = "root"
    ssh_port: int = 22
    hostname: str | None = Field(
        default=None, description="Postfix's myhostname. Null: <name>.<domain of the cluster>."
    )
    is_maintenance: bool = Field(default=False, description="Keep the node off the VIPs.")


class MaintenanceBody(Body):
    """Whether a node is kept off the VIPs."""

    is_maintenance: bool


class NodeStatus(BaseModel):
    """What is known of a node besides what was wanted of it."""

    is_enrolled: bool = Field(description="It has a key that is accepted.")
    enrolled_at: datetime | None = Field(description="When it got this key; null: never.")
    is_revoked: bool
    is_struck_off: bool
    token_expires_at: datetime | None = Field(
        description="When its one-time token ends; null: there is none, or it was used."
    )
    assigned_version: int | None = Field(description="The config version it shall run.")
    last_seen_s: float | None = Field(description="Seconds since its last report; null: never.")
    report: NodeReport | None = Field(description="That report.")


class NodeView(BaseModel):
    """A node as it is wanted and as it reports."""

    node: NodeSpec
    status: NodeStatus


@router.get("", dependencies=[READ])
def list_nodes(store: StoreDep) -> list[NodeView]:
    """List all nodes with their last reports."""
    with store.database.read() as session:
        return node_views(store, session)


@router.get("/{name}", responses=NOT_FOUND, dependencies=[READ])
def read_node(name: NodeKey, store: StoreDep) -> NodeView:
    """Show one node with its last report."""
    with store.database.read() as session:
        return node_view(store, session, name)


@router.put("/{name}", responses=CREATED)
def put_node(
    name: NodeKey, body: NodeBody, caller: AdminCaller, store: StoreDep, response: Response
) -> NodeSpec:
    """Create or replace a node.

    `is_maintenance` and the SSH settings reach the agents with their next heartbeat; everything
    else with the next apply.
    """
    node = NodeSpec(name=name, **body.model_dump())
    mark_created(response, is_new=store.put_item(NODES, node, caller.actor))
    return node


@router.put("/{name}/maintenance", responses=NOT_FOUND)
def put_maintenance(
    name: NodeKey, body: MaintenanceBody, caller: OperateCaller, store: StoreDep
) -> NodeSpec:
    """Keep a node off the VIPs, or let it have them again; nothing else of it changes."""
    with store.database.write() as session:
        present = store.read_item(session, NODES, name)
        node = present.model_copy(update={"is_maintenance": body.is_maintenance})
        store.put_in(session, NODES, node, caller.actor)
    return node


@router.delete("/{name}", status_code=status.HTTP_204_NO_CONTENT, responses=NOT_FOUND)
def delete_node(
    name: NodeKey, caller: AdminCaller, store: StoreDep, *, abandon_queue: AbandonQueue = False
) -> None:
    """Remove a node and revoke its key; its lease and the receipts that name it stay.

    Refused with `mail-left-behind` while mail waits on the node, or may do so.
    """
    with store.database.write() as session:
        remove_node(store, session, name, caller.actor, abandon_queue=abandon_queue)


def node_view(store: ClusterStore, session: Session, name: str) -> NodeView:
    """Return one node; raises NotFound."""
    for view in node_views(store, session):
        if view.node.name == name:
            return view
    raise NotFound(f"There is no node {name}.")


def node_views(store: ClusterStore, session: Session) -> list[NodeView]:
    """Return all nodes with what they reported, by name."""
    reports = read_reports(session)
    tokens = agents.waiting_tokens(session)
    known = {row.name: row for row in agents.list_agents(session)}
    versions = {
        row.name: row.assigned_version for row in session.execute(select(NodeRow)).scalars()
    }
    return [
        NodeView(
            node=node,
            status=_status(
                known.get(node.name),
                versions[node.name],
                reports.get(node.name),
                tokens.get(node.name),
            ),
        )
        for node in store.read_items(session, NODES)
    ]


def _status(
    agent: AgentRow | None,
    version: int | None,
    seen: tuple[float, NodeReport] | None,
    token_ends_s: float | None,
) -> NodeStatus:
    return NodeStatus(
        is_enrolled=agent is not None and agents.is_active(agent),
        enrolled_at=_moment(agent.enrolled_at if agent is not None else None),
        is_revoked=agent is not None and agent.revoked_at is not None,
        is_struck_off=agent is not None and agent.struck_off_at is not None,
        token_expires_at=_moment(token_ends_s),
        assigned_version=version,
        last_seen_s=seen[0] if seen is not None else None,
        report=seen[1] if seen is not None else None,
    )


def _moment(at_s: float | None) -> datetime | None:
    return None if at_s is None else datetime.fromtimestamp(at_s, UTC)
