"""The ownership calls over the twin and over a real database, with the same levers for tests.

Time passes by hand in both. In the real database that means moving the stored deadlines into the
past: its clock is its own. Lease durations are long, so what the test itself takes does not count.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any, Protocol

from sqlalchemy import Table, insert, select, update
from sqlmodel import Session, SQLModel, col

from controlplane.errors import NotFound
from controlplane.store import instance, leases
from controlplane.store.engine import Database
from controlplane.store.facts import ClusterFacts, NodeFacts
from controlplane.store.leases import ensure_lease
from controlplane.store.ownership import Ownership
from controlplane.store.ownership_tables import AgentRow, EventRow, LeaseRow, ReceiptRow
from nodeagent.core import contract as wire
from tests.fakes.lease_twin import LeaseTwin

DURATION_S = 1000.0
NODES = ("node-a", "node-b", "node-c")
TIMINGS = wire.Timings(lease_duration_s=DURATION_S)
FACTS = ClusterFacts(
    vips=("198.51.100.100",),
    timings=TIMINGS,
    nodes=tuple(
        NodeFacts(name=name, address=f"198.51.100.{number}")
        for number, name in enumerate(NODES, start=11)
    ),
)
BACKED_UP = ("leases", "receipts", "receipt_ids")


@dataclass
class StaticFacts:
    """Facts that a test sets by hand; it has no config files."""

    facts: ClusterFacts = field(default_factory=lambda: FACTS)

    def cluster(self, session: Session) -> ClusterFacts:
        """Return the facts as set."""
        del session
        return self.facts

    def bundle(self, session: Session, node: str) -> wire.ConfigBundle:
        """Refuse: there are no files here."""
        del session
        raise NotFound(f"No config version is assigned to {node} yet.")


class Calls(Protocol):
    """What agents call, in so far as ownership goes."""

    def heartbeat(self, node: str, request: wire.HeartbeatRequest) -> wire.HeartbeatAnswer:
        """Report, perhaps renew, and see."""

    def reconcile(self, node: str, request: wire.ReconcileRequest) -> wire.ReconcileAnswer:
        """Take the own lease back."""

    def acquire(self, node: str, request: wire.LeaseRequest) -> wire.LeaseAnswer:
        """Take a peer's lease."""

    def grant(self, node: str, request: wire.LeaseRequest) -> wire.LeaseAnswer:
        """Leave the own lease to a peer."""

    def release(self, node: str, request: wire.LeaseRequest) -> wire.LeaseAnswer:
        """Give a lease back."""

    def commit_receipt(self, node: str, request: wire.ReceiptRequest) -> wire.ReceiptAnswer:
        """Pass ownership."""

    def receipt_state(self, node: str, question: wire.ReceiptQuestion) -> wire.ReceiptAnswer:
        """Ask about a receipt."""

    def finish_receipt(self, node: str, question: wire.ReceiptQuestion) -> wire.ReceiptAnswer:
        """Close a receipt."""

    def recover(self, node: str, request: wire.RecoveryRequest) -> None:
        """Tell what is remembered."""


class World(Protocol):
    """One control plane with levers: enrolment, time, operators, backups."""

    calls: Calls

    def enrol(self, node: str) -> None:
        """Make the node known."""

    def advance(self, seconds: float) -> None:
        """Let time pass."""

    def confirm_dead(self, queue: str) -> bool:
        """Give an operator's word."""

    def strike_off(self, node: str) -> None:
        """Give a node up."""

    def backup(self) -> Any:
        """Copy leases and receipts."""

    def restore(self, backup: Any) -> None:
        """Put a copy back."""

    def instance_id(self) -> str:
        """Return the present instance."""

    def missing_nodes(self) -> list[str]:
        """Return whom a recovery waits for."""


class TwinWorld:
    """The twin on a clock that moves by hand."""

    def __init__(self) -> None:
        self.now_s = 1_000_000.0
        self.twin = LeaseTwin(lambda: self.now_s, FACTS)
        self.calls: Calls = self.twin

    def enrol(self, node: str) -> None:
        """Make the node known."""
        self.twin.enrol(node)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now_s += seconds

    def confirm_dead(self, queue: str) -> bool:
        """Give an operator's word that the node is off."""
        return self.twin.confirm_dead(queue)

    def strike_off(self, node: str) -> None:
        """Give a node up."""
        self.twin.strike_off(node)

    def backup(self) -> Any:
        """Return a copy of all state."""
        return copy.deepcopy(self.twin.state)

    def restore(self, backup: Any) -> None:
        """Put a backup's leases and receipts back; enrolments stay, as in the real world."""
        state = copy.deepcopy(self.twin.state)
        state.leases = {queue: copy.copy(row) for queue, row in backup.leases.items()}
        state.receipts = copy.deepcopy(backup.receipts)
        self.twin.restore(state)

    def instance_id(self) -> str:
        """Return the present instance."""
        return self.twin.instance_id

    def missing_nodes(self) -> list[str]:
        """Return whom a recovery waits for."""
        return self.twin.missing_nodes()


class RealWorld:
    """The real calls over a migrated database."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.calls: Calls = Ownership(database, StaticFacts())
        self.passed_s = 0.0

    def enrol(self, node: str) -> None:
        """Make the node known without the ceremony of a token."""
        with self.database.write() as session:
            row = session.get(AgentRow, node) or AgentRow(name=node)
            row.public_key_pem = "a key"
            row.struck_off_at = None
            session.add(row)
            ensure_lease(session, node)

    def advance(self, seconds: float) -> None:
        """Move every deadline that much closer."""
        self.passed_s += seconds
        with self.database.write() as session:
            session.execute(update(LeaseRow).values(expires_at=col(LeaseRow.expires_at) - seconds))
            session.execute(update(ReceiptRow).values(done_at=col(ReceiptRow.done_at) - seconds))

    def confirm_dead(self, queue: str) -> bool:
        """Give an operator's word that the node is off."""
        with self.database.write() as session:
            return leases.confirm_dead(session, queue) is not None

    def strike_off(self, node: str) -> None:
        """Give a node up."""
        with self.database.write() as session:
            instance.strike_off(session, node, DURATION_S)

    def backup(self) -> Any:
        """Return the rows of leases and receipts, and when they were read."""
        with self.database.read() as session:
            rows = {
                name: [dict(row) for row in session.execute(select(_table(name))).mappings()]
                for name in BACKED_UP
            }
        return self.passed_s, rows

    def restore(self, backup: Any) -> None:
        """Put the rows back as they were; the time since then has passed for them too."""
        taken_s, rows = backup
        with self.database.write() as session:
            for name in BACKED_UP:
                session.execute(_table(name).delete())
                if rows[name]:
                    session.execute(insert(_table(name)), rows[name])
            late_s = self.passed_s - taken_s
            session.execute(update(LeaseRow).values(expires_at=col(LeaseRow.expires_at) - late_s))
            instance.mark_restored(session)

    def instance_id(self) -> str:
        """Return the present instance."""
        with self.database.write() as session:
            return instance.ensure_instance(session).instance_id

    def missing_nodes(self) -> list[str]:
        """Return whom a recovery waits for."""
        with self.database.read() as session:
            return instance.missing_nodes(session)

    def events(self) -> list[EventRow]:
        """Return every event in the order in which it came."""
        with self.database.read() as session:
            return list(session.execute(select(EventRow).order_by(col(EventRow.number))).scalars())

    def receipts(self) -> list[ReceiptRow]:
        """Return every receipt by number."""
        with self.database.read() as session:
            return list(
                session.execute(select(ReceiptRow).order_by(col(ReceiptRow.number))).scalars()
            )


def _table(name: str) -> Table:
    return SQLModel.metadata.tables[name]
