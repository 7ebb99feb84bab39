"""Reports of nodes that no agent sends."""

from __future__ import annotations

from typing import Any

from sqlmodel import Session

from controlplane.store.engine import Database
from controlplane.store.leases import acquire, ensure_lease
from controlplane.store.ownership_tables import AgentRow
from controlplane.store.reports import store_reports
from nodeagent.core.contract import NodeReport, Role


def store_report(session: Session, node: str, report: NodeReport) -> None:
    """Have the control plane keep a report as the node's newest."""
    store_reports(session, [(node, report)])


def report_as(database: Database, node: str, **values: Any) -> None:
    """Have a node report itself as a standby, or as `values` say."""
    with database.write() as session:
        store_report(session, node, NodeReport(**{"role": Role.STANDBY, **values}))


def enrol_owners(database: Database, *nodes: str) -> None:
    """Have agents enrolled, each of which owns its node's queue."""
    with database.write() as session:
        for node in nodes:
            session.add(AgentRow(name=node, public_key_pem="k", ssh_host_keys=[], enrolled_at=1.0))
            ensure_lease(session, node)
            acquire(session, node, node, 15.0)
