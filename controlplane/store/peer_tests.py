"""Tests of peers: one node takes each step of a push to another, and says what it showed."""

from __future__ import annotations

from typing import Final

from sqlmodel import Session

from controlplane.errors import Conflict, Invalid
from controlplane.store import audit, node_tests
from controlplane.store.audit import Actor
from controlplane.store.cluster import ClusterStore
from controlplane.store.nouns import NODES
from controlplane.store.ownership_tables import PeerTestRow
from controlplane.store.reports import TEXT_LENGTH, stored_text
from nodeagent.core.ssh_wire import PeerTestReport

WHAT: Final = "peer test"


def request_test(store: ClusterStore, node: str, peer: str, actor: Actor) -> PeerTestRow:
    """Wish that `node` tests `peer`; one wish a node at a time.

    Raises NotFound, Invalid beside `peer`, and Conflict when the node cannot.
    """
    if node == peer:
        raise Invalid(None, {"peer": "A node is not its own peer."})
    with store.database.write() as session:
        for name in (node, peer):
            store.read_item(session, NODES, name)
        node_tests.require_enrolled(session, node, "test a peer")
        if node_tests.waiting(session, PeerTestRow, node) is not None:
            raise Conflict(f"{node} is testing a peer already; wait for its result.")
        row = PeerTestRow(node=node, peer=peer, requested_by=actor.name[:64], requested_at=0.0)
        node_tests.add(session, row)
        audit.record(session, actor, "peer.test", node, after={"peer": peer})
    return row


def take_report(session: Session, node: str, report: PeerTestReport) -> None:
    """Note the steps so far, and the result once there is one; a finished test stays as it is."""
    row = node_tests.own(session, PeerTestRow, node, report.id, WHAT)
    if row.finished_at is not None or len(report.lines) < len(row.lines):
        return
    row.lines = [
        {**line.model_dump(mode="json"), "text": stored_text(line.text, TEXT_LENGTH)}
        for line in report.lines
    ]
    session.add(row)
    if report.ok is not None:
        node_tests.finish(session, row, is_ok=report.ok, text=report.text)
