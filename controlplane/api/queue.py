"""The queue of the whole cluster: what every node reported of its own, in one list."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, Field
from sqlmodel import Session

from controlplane.api.permissions import READ
from controlplane.store.engine import ReadSession
from controlplane.store.reports import read_reports
from nodeagent.core.contract import MirrorReport, PushReport, QueueCounts

router = APIRouter(prefix="/api/v1/queue", tags=["queue"])


class NodeQueue(BaseModel):
    """The messages on one node as it last reported them."""

    node: str
    reported_age_s: float = Field(description="Seconds since that report.")
    counts: QueueCounts = Field(description="Null where the node could not read a directory.")
    total: int = Field(description="Incoming, active, deferred, hold and pending.")
    mirrors: tuple[MirrorReport, ...] = Field(description="Copies of other nodes' queues here.")
    pushes: tuple[PushReport, ...] = Field(description="The node's last push to each peer.")


class ClusterQueue(BaseModel):
    """All nodes' queues."""

    nodes: list[NodeQueue]
    total: int = Field(description="Messages owned by any node; mirrors are copies.")


@router.get("", dependencies=[READ])
def read_queue(session: ReadSession) -> ClusterQueue:
    """Show the queues of all nodes in one list."""
    return cluster_queue(session)


def cluster_queue(session: Session) -> ClusterQueue:
    """Return every node's last report of its queue."""
    nodes = [
        NodeQueue(
            node=name,
            reported_age_s=age_s,
            counts=report.queue,
            total=_total(report.queue),
            mirrors=report.mirrors,
            pushes=report.pushes,
        )
        for name, (age_s, report) in sorted(read_reports(session).items())
    ]
    return ClusterQueue(nodes=nodes, total=sum(node.total for node in nodes))


def _total(counts: QueueCounts) -> int:
    places = (counts.incoming, counts.active, counts.deferred, counts.hold, counts.pending)
    return sum(count for count in places if count is not None)
