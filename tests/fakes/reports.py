"""Reports of nodes that no agent sends."""

from __future__ import annotations

from sqlmodel import Session

from controlplane.store.reports import store_reports
from nodeagent.core.contract import NodeReport


def store_report(session: Session, node: str, report: NodeReport) -> None:
    """Have the control plane keep a report as the node's newest."""
    store_reports(session, [(node, report)])
