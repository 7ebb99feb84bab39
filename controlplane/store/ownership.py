"""The agents' side of the control plane: each call of `AGENT_API` is one transaction here.

`tests/fakes/lease_twin.py` is the same in memory, held to the same contract tests; the simulator
runs whole clusters on it.
"""

from __future__ import annotations

from sqlmodel import Session

from controlplane.errors import Forbidden, Invalid, NotFound, Recovering
from controlplane.store import (
    agents,
    instance,
    leases,
    node_tests,
    peer_tests,
    receipts,
    reports,
    route_tests,
    switchovers,
)
from controlplane.store.engine import Database
from controlplane.store.facts import FactsReader
from controlplane.store.heartbeats import Heartbeat, Heartbeats
from controlplane.store.leases import Claim
from controlplane.store.ownership_tables import (
    INSTANCE_ID,
    AgentRow,
    InstanceRow,
    PeerTestRow,
)
from controlplane.store.views import read_peers, remember_peers
from nodeagent.core import contract as wire
from nodeagent.core.route_wire import RouteTestResult
from nodeagent.core.ssh_wire import PeerTestReport, PeerTestWish


class Ownership:
    """Answers the agents; `node` is who asked, proved by its signature."""

    def __init__(self, database: Database, facts: FactsReader) -> None:
        self._database = database
        self._facts = facts
        self._heartbeats = Heartbeats(database, facts)

    def heartbeat(self, node: str, request: wire.HeartbeatRequest) -> wire.HeartbeatAnswer:
        """Store the report, renew when asked to and possible, and show the view."""
        (outcome,) = self._heartbeats.take([Heartbeat(node, request)])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def reconcile(self, node: str, request: wire.ReconcileRequest) -> wire.ReconcileAnswer:
        """Acquire the own lease and name the owners of the pending mail, in one transaction."""
        with self._database.write() as session:
            lease, reason = self._acquire(session, node, node)
            if lease is None:
                return wire.ReconcileAnswer(lease=None, reason=reason)
            elsewhere = receipts.owned_elsewhere(session, node, request.pending_ids)
            fresh = leases.read_lease(session, node)
            return wire.ReconcileAnswer(lease=fresh, elsewhere=elsewhere)

    def acquire(self, node: str, request: wire.LeaseRequest) -> wire.LeaseAnswer:
        """Acquire a peer's lease, or extend it while adopting."""
        if request.queue == node:
            raise Invalid("A node acquires its own lease by reconcile only.")
        with self._database.write() as session:
            lease, reason = self._acquire(session, request.queue, node)
            return wire.LeaseAnswer(lease=lease, reason=reason)

    def grant(self, node: str, request: wire.LeaseRequest) -> wire.LeaseAnswer:
        """Leave the own lease to a peer for one lease duration."""
        if request.queue != node:
            raise Forbidden(f"{node} can grant its own lease only.")
        if request.to is None or request.to == node:
            raise Invalid("A lease is granted to a peer.", {"to": "Name the receiving peer."})
        with self._database.write() as session:
            peer = session.get(AgentRow, request.to)
            if peer is None or not agents.is_active(peer):
                reason = f"{request.to} is not an enrolled node."
                return wire.LeaseAnswer(lease=None, reason=reason)
            claim = Claim(node, node, request.generation)
            duration_s = self._facts.cluster(session).timings.lease_duration_s
            lease = leases.grant(session, claim, request.to, duration_s)
            return self._answer(session, claim, lease)

    def release(self, node: str, request: wire.LeaseRequest) -> wire.LeaseAnswer:
        """Give a lease back."""
        with self._database.write() as session:
            claim = Claim(request.queue, node, request.generation)
            return self._answer(session, claim, leases.release(session, claim))

    def commit_receipt(self, node: str, request: wire.ReceiptRequest) -> wire.ReceiptAnswer:
        """Pass ownership of the named messages to `node`."""
        with self._database.write() as session:
            _refuse_while_recovering(session)
            return receipts.commit_receipt(session, node, request)

    def receipt_state(self, node: str, question: wire.ReceiptQuestion) -> wire.ReceiptAnswer:
        """Say what became of the node's own receipt; a commit under way is waited for."""
        with self._database.write() as session:
            _refuse_while_recovering(session)
            return receipts.read_state(session, node, question)

    def finish_receipt(self, node: str, question: wire.ReceiptQuestion) -> wire.ReceiptAnswer:
        """Note that everything the receipt names is in the node's live queue."""
        with self._database.write() as session:
            _refuse_while_recovering(session)
            return receipts.finish_receipt(session, node, question)

    def recover(self, node: str, request: wire.RecoveryRequest) -> None:
        """Take what the node remembers, after a restore."""
        with self._database.write() as session:
            duration_s = self._facts.cluster(session).timings.lease_duration_s
            instance.remember(session, node, request, duration_s)

    def config(self, node: str) -> wire.ConfigBundle:
        """Return the config version that is assigned to the node."""
        with self._database.read() as session:
            return self._facts.bundle(session, node)

    def finish_switchover(self, node: str, result: wire.SwitchoverResult) -> None:
        """Note how a switchover ended on its source."""
        with self._database.write() as session:
            switchovers.finish_switchover(session, node, result)

    def finish_route_test(self, node: str, result: RouteTestResult) -> None:
        """Note how a route test went on its node."""
        with self._database.write() as session:
            route_tests.finish(session, node, result)

    def peer_test(self, node: str, number: int) -> PeerTestWish:
        """Return the peer that the node shall test, as its view has it; raises NotFound."""
        with self._database.read() as session:
            row = node_tests.own(session, PeerTestRow, node, number, peer_tests.WHAT)
            known = read_peers(session, self._facts.cluster(session), remember_peers())
            peer = known.by_name.get(row.peer)
            if peer is None or peer.name == node:
                raise NotFound(f"{row.peer} is no peer of {node} any more.")
            return PeerTestWish(id=number, peer=peer)

    def report_peer_test(self, node: str, report: PeerTestReport) -> None:
        """Note the steps of a peer test that its node has done."""
        with self._database.write() as session:
            peer_tests.take_report(session, node, report)

    def _acquire(
        self, session: Session, queue: str, node: str
    ) -> tuple[wire.LeaseView | None, str]:
        duration_s = self._facts.cluster(session).timings.lease_duration_s
        before = leases.read_lease(session, queue)
        lease = leases.acquire(session, queue, node, duration_s)
        if lease is None:
            return None, refusal_reason(session, queue, node)
        if before is not None and before.holder != node:
            text = f"{node} holds the lease of {queue}'s queue at generation {lease.generation}."
            data = {"queue": queue, "generation": lease.generation, "before": before.holder}
            reports.add_event(session, "lease", text, node=node, data=data)
        return lease, ""

    @staticmethod
    def _answer(session: Session, claim: Claim, lease: wire.LeaseView | None) -> wire.LeaseAnswer:
        if lease is not None:
            return wire.LeaseAnswer(lease=lease)
        return wire.LeaseAnswer(lease=None, reason=_claim_refusal(session, claim))


def refusal_reason(session: Session, queue: str, node: str) -> str:
    """Say in one sentence why `node` cannot acquire the lease of `queue` now."""
    lease = leases.read_lease(session, queue)
    if lease is None:
        return f"There is no lease for {queue}."
    if instance.ensure_instance(session).is_recovering:
        return Recovering().detail
    if leases.is_older_than_cluster(session, queue):
        return f"This database is older than the cluster: {queue} has seen a higher generation."
    wait_s = max(0.0, lease.remaining_s)
    if lease.holder == node:
        return f"The lease of {queue} is granted to {lease.granted_to} for another {wait_s:.1f} s."
    return f"{lease.holder} holds the lease of {queue} for another {wait_s:.1f} s."


def _claim_refusal(session: Session, claim: Claim) -> str:
    if instance.ensure_instance(session).is_recovering:
        return Recovering().detail
    return receipts.not_held(claim)


def _refuse_while_recovering(session: Session) -> None:
    row = session.get(InstanceRow, INSTANCE_ID)
    if row is not None and row.is_recovering:
        raise Recovering
