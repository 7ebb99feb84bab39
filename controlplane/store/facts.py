"""What an agent's view needs of the administrators' tables, read inside the caller's transaction.

`ClusterFacts` is the seam between ownership and configuration: ownership knows the protocol only,
and the simulator's twin has facts of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final, Protocol

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
from controlplane.store.last_made import LastMade
from controlplane.store.sealed_files import open_files
from nodeagent.core.contract import ConfigBundle, Timings

_NODE: Final = (
    col(NodeRow.name),
    col(NodeRow.address),
    col(NodeRow.ssh_user),
    col(NodeRow.ssh_port),
    col(NodeRow.assigned_version),
    col(NodeRow.is_maintenance),
    col(NodeRow.ssh_pins),
)


@dataclass(frozen=True)
class NodeFacts:
    """One node as the administrators want it; in the order of `_NODE`."""

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

    @cached_property
    def by_name(self) -> dict[str, NodeFacts]:
        """The nodes by their names; one that no administrator described is missing."""
        return {node.name: node for node in self.nodes}

    def node(self, name: str) -> NodeFacts | None:
        """Return the facts of one node, None when no administrator described it."""
        return self.by_name.get(name)


class ClusterReader(Protocol):
    """Reads the administrators' wishes in the transaction of `session`."""

    def cluster(self, session: Session) -> ClusterFacts:
        """Return everything but config files."""


class FactsReader(ClusterReader, Protocol):
    """Reads config files too."""

    def bundle(self, session: Session, node: str) -> ConfigBundle:
        """Return the files assigned to `node`; `NotFound` when there are none."""


class StoredCluster:
    """Reads the facts from the tables behind the REST API; makes them anew when those changed."""

    def __init__(self) -> None:
        self._facts = LastMade(_make_facts)

    def cluster(self, session: Session) -> ClusterFacts:
        """Return everything but config files."""
        cluster = session.get(ClusterRow, CLUSTER_ID)
        timings = cluster.settings.get("timings", {}) if cluster is not None else {}
        vips = session.execute(select(col(VipRow.address)).order_by(col(VipRow.address))).scalars()
        nodes = session.execute(select(*_NODE).order_by(col(NodeRow.name))).all()
        return self._facts.of((timings, tuple(vips), list(nodes)))


class StoredFacts(StoredCluster):
    """Reads and opens the nodes' config files as well."""

    def __init__(self, box: SecretBox) -> None:
        super().__init__()
        self._box = box

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


def _make_facts(source: tuple[dict[str, Any], tuple[str, ...], list[Any]]) -> ClusterFacts:
    timings, vips, nodes = source
    return ClusterFacts(
        vips=vips,
        timings=Timings.model_validate(timings),
        nodes=tuple(replace(NodeFacts(*node[:-1]), ssh_pins=pins_of(node)) for node in nodes),
    )
