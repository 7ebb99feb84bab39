"""What both databases remember of a switchover, from the question to the last adopted message."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.fernet import Fernet
from sqlmodel import Session

from controlplane.core.spec import NodeSpec
from controlplane.core.switchover_steps import SwitchoverFacts, steps_of
from controlplane.store.audit import SYSTEM
from controlplane.store.cluster import ClusterStore
from controlplane.store.crypto import SecretBox
from controlplane.store.engine import Database
from controlplane.store.facts import StoredFacts
from controlplane.store.instance import ensure_instance
from controlplane.store.leases import ensure_lease
from controlplane.store.nouns import NODES
from controlplane.store.ownership import Ownership
from controlplane.store.ownership_tables import AgentRow
from controlplane.store.switchover_progress import read_facts
from controlplane.store.switchovers import (
    cancel_switchover,
    read_switchover,
    request_switchover,
)
from nodeagent.core import contract as wire
from nodeagent.core.contract import NodeReport, PushReport, Role

A, B = "node-a", "node-b"
VIP = "198.51.100.100"
IDS = ("4bXXXX1234zXX1", "4bXXXX1234zXX2")


class Cluster:
    """Two enrolled nodes and what they tell the control plane, without agents behind them."""

    def __init__(self, database: Database) -> None:
        self.database = database
        box = SecretBox(Fernet.generate_key())
        self.calls = Ownership(database, StoredFacts(box))
        store = ClusterStore(database, box)
        for last, name in ((11, A), (12, B)):
            store.put_item(NODES, NodeSpec(name=name, address=f"198.51.100.{last}"), SYSTEM)
        with database.write() as session:
            ensure_instance(session)
            for name in (A, B):
                self._enrol(session, name)
        for name in (A, B):
            self.calls.reconcile(name, wire.ReconcileRequest())

    @staticmethod
    def _enrol(session: Session, name: str) -> None:
        session.add(AgentRow(name=name, public_key_pem="k", ssh_host_keys=[], enrolled_at=1.0))
        ensure_lease(session, name)

    def ask(self, source: str = A, destination: str = B) -> int:
        """Ask for a switchover; return its number."""
        with self.database.write() as session:
            number = request_switchover(session, source, destination, "admin").id
        assert number is not None
        return number

    def report(self, node: str, **values: Any) -> None:
        """Report as a heartbeat does."""
        report = NodeReport(**{"role": Role.STANDBY, **values})
        self.calls.heartbeat(node, wire.HeartbeatRequest(report=report))

    def generation(self, queue: str) -> int:
        """Return the generation of a queue's lease."""
        view = self.calls.heartbeat(
            B, wire.HeartbeatRequest(report=NodeReport(role=Role.STANDBY))
        ).view
        return next(lease.generation for lease in view.leases if lease.queue == queue)

    def facts(self, number: int) -> SwitchoverFacts:
        """Return what was seen."""
        with self.database.read() as session:
            return read_facts(session, read_switchover(session, number))

    def states(self, number: int) -> str:
        """Return the states of all steps in one line."""
        return " ".join(step.state for step in steps_of(self.facts(number)))


@pytest.fixture
def cluster(database: Database) -> Cluster:
    """Give the cluster on each database."""
    return Cluster(database)


def _push(age_s: float) -> PushReport:
    return PushReport(
        peer=B, generation=1, sequence=1, age_s=age_s, messages=2, sent=2, freeze_ms=1.0
    )


def _hand_over(cluster: Cluster, number: int) -> None:
    """Do everything that the two agents do, as far as the control plane sees it."""
    cluster.calls.grant(A, wire.LeaseRequest(queue=A, generation=cluster.generation(A), to=B))
    cluster.calls.acquire(B, wire.LeaseRequest(queue=A))
    generation = cluster.generation(A)
    request = wire.ReceiptRequest(queue=A, generation=generation, ids=IDS)
    cluster.calls.commit_receipt(B, request)
    question = wire.ReceiptQuestion(queue=A, generation=generation)
    cluster.calls.finish_receipt(B, question)
    cluster.calls.release(B, wire.LeaseRequest(queue=A, generation=generation))
    cluster.calls.finish_switchover(A, wire.SwitchoverResult(id=number, ok=True, text="Moved."))


def test_each_call_of_the_agents_moves_one_step_on(cluster: Cluster) -> None:
    """From the question to the end, in the order in which the agents call."""
    cluster.report(A, role=Role.ACTIVE, holds_vips=(VIP,), pushes=(_push(5.0),))
    number = cluster.ask()
    assert cluster.states(number) == "done running waiting waiting waiting"
    cluster.report(A, role=Role.ACTIVE, holds_vips=(VIP,), pushes=(_push(0.0),))
    assert cluster.states(number) == "done done running waiting waiting"
    generation = cluster.generation(A)
    cluster.calls.grant(A, wire.LeaseRequest(queue=A, generation=generation, to=B))
    assert cluster.states(number) == "done done done running running"
    cluster.calls.acquire(B, wire.LeaseRequest(queue=A))
    assert cluster.facts(number).granted_at_s is not None
    generation = cluster.generation(A)
    request = wire.ReceiptRequest(queue=A, generation=generation, ids=IDS)
    assert cluster.calls.commit_receipt(B, request).state is wire.ReceiptState.COMMITTED
    assert cluster.states(number) == "done done done running running"
    assert cluster.facts(number).adopted_messages == len(IDS)
    cluster.calls.finish_receipt(B, wire.ReceiptQuestion(queue=A, generation=generation))
    assert cluster.states(number) == "done done done done running"
    cluster.calls.finish_switchover(A, wire.SwitchoverResult(id=number, ok=True, text="Moved."))
    assert cluster.states(number) == "done done done done done"


def test_the_vip_is_seen_to_move_before_the_source_says_so(cluster: Cluster) -> None:
    """By what both report freshly, and only once the lease was granted."""
    number = cluster.ask()
    cluster.report(A, holds_vips=())
    cluster.report(B, role=Role.ACTIVE, holds_vips=(VIP,))
    assert cluster.states(number) == "done running waiting waiting waiting"
    generation = cluster.generation(A)
    cluster.calls.grant(A, wire.LeaseRequest(queue=A, generation=generation, to=B))
    cluster.report(B, role=Role.ACTIVE, holds_vips=(VIP,))
    assert cluster.states(number) == "done done done running done"


def test_a_failed_one_says_at_which_step(cluster: Cluster) -> None:
    """The push to the peer did not get through; nothing was granted."""
    number = cluster.ask()
    result = wire.SwitchoverResult(id=number, ok=False, text="The push failed.")
    cluster.calls.finish_switchover(A, result)
    assert cluster.states(number) == "done failed missed missed missed"


def test_one_that_is_withdrawn_after_the_grant_shows_what_happens_all_the_same(
    cluster: Cluster,
) -> None:
    """Withdrawing takes no lease back; the page must not say that nothing was handed over."""
    number = cluster.ask()
    cluster.calls.grant(A, wire.LeaseRequest(queue=A, generation=cluster.generation(A), to=B))
    with cluster.database.write() as session:
        cancel_switchover(session, number, "Withdrawn by admin.")
    assert cluster.states(number) == "done done done running missed"


def test_a_switchover_does_not_borrow_the_steps_of_the_next(cluster: Cluster) -> None:
    """What was seen after the next question belongs to that one."""
    first = cluster.ask()
    with cluster.database.write() as session:
        cancel_switchover(session, first, "Withdrawn by admin.")
    second = cluster.ask()
    _hand_over(cluster, second)
    assert cluster.states(first) == "done failed missed missed missed"
    assert cluster.states(second) == "done done done done done"


def test_nor_those_of_the_one_before(cluster: Cluster) -> None:
    """An earlier receipt and an earlier lease are none of its own."""
    first = cluster.ask()
    _hand_over(cluster, first)
    cluster.calls.reconcile(A, wire.ReconcileRequest())
    second = cluster.ask()
    assert cluster.states(second) == "done running waiting waiting waiting"
    assert cluster.states(first) == "done done done done done"
