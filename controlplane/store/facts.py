"""What an agent's view needs of the administrators' tables, read inside the caller's transaction.

`ClusterFacts` is the seam between ownership and configuration: ownership knows the protocol only,
and the simulator's twin has facts of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from sqlalchemy import select
from sqlmodel import Session, col

from controlplane.core.known_hosts import Pin
from controlplane.errors import NotFound
from controlplane.store.cluster_tables import (
    CLUSTER_ID,
    ClusterRow,
    ConfigFilesRow,
    NodeRow,
    VipRow,
)
from controlplane.store.crypto import SecretBox
from controlplane.store.host_keys import pins_of
from controlplane.store.sealed_files import open_files
from nodeagent.core.contract import ConfigBundle, Timings


@dataclass(frozen=True)
class NodeFacts:
    """One node as the administrators want it."""

    name: str
    address: str
    ssh_user: str = "root"
    ssh_port: int = 22
    config_version: int | None = None
    is_maintenance: bool = False
    ssh_pins: tuple[Pin, ...] = ()


@dataclass(frozen=True)
class ClusterFacts:
    """What is wanted of the cluster, in so far as the ownership protocol carries it."""

    vips: tuple[str, ...] = ()
    timings: Timings = field(default_factory=Timings)
    nodes: tuple[NodeFacts, ...] = ()

    def node(self, name: str) -> NodeFacts | None:
        """Return the facts of one node, None when no administrator described it."""
        return next((node for node in self.nodes if node.name == name), None)


class FactsReader(Protocol):
    """Reads the administrators' wishes in the transaction of `session`."""

    def cluster(self, session: Session) -> ClusterFacts:
        """Return everything but config files."""

    def bundle(self, session: Session, node: str) -> ConfigBundle:
        """Return the files assigned to `node`; `NotFound` when there are none."""


class StoredFacts:
    """Reads the facts from the tables behind the REST API."""

    def __init__(self, box: SecretBox) -> None:
        self._box = box

    def cluster(self, session: Session) -> ClusterFacts:
        """Return everything but config files."""
        cluster = session.get(ClusterRow, CLUSTER_ID)
        settings = cluster.settings if cluster is not None else {}
        nodes = session.execute(select(NodeRow).order_by(col(NodeRow.name))).scalars()
        vips = session.execute(select(col(VipRow.address)).order_by(col(VipRow.address))).scalars()
        return ClusterFacts(
            vips=tuple(vips),
            timings=Timings.model_validate(settings.get("timings", {})),
            nodes=tuple(_facts(node) for node in nodes),
        )

    def bundle(self, session: Session, node: str) -> ConfigBundle:
        """Return the files assigned to `node`; `NotFound` when there are none."""
        row = session.get(NodeRow, node)
        if row is None or row.assigned_version is None:
            raise NotFound(f"No config version is assigned to {node} yet.")
        files = session.get(ConfigFilesRow, (row.assigned_version, node))
        if files is None:
            raise NotFound(f"Config version {row.assigned_version} has no files for {node}.")
        return ConfigBundle(
            version=files.version,
            sha256=files.sha256,
            files=open_files(self._box, files.files_sealed),
        )


def _facts(row: NodeRow) -> NodeFacts:
    return NodeFacts(
        name=row.name,
        address=row.address,
        ssh_user=row.ssh_user,
        ssh_port=row.ssh_port,
        config_version=row.assigned_version,
        is_maintenance=row.is_maintenance,
        ssh_pins=pins_of(row),
    )
