"""The agent's port to the control plane, over the in-memory twin that passes the store's contract.

One call is one transaction at one moment. The network around it is the world's: a request may be
lost, may arrive long after its sender gave up (TCP retransmits for the dead too), and an answer
may be lost after the transaction.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import TYPE_CHECKING, TypeVar

from controlplane.errors import ControlPlaneError
from controlplane.store.facts import ClusterFacts, NodeFacts
from nodeagent.core import contract as wire
from nodeagent.core.brief import KnownPeers
from nodeagent.errors import Refused, Unreachable
from tests.fakes.lease_twin import LeaseTwin, TwinState
from tests.sim.truth import Committed

if TYPE_CHECKING:
    from tests.sim.agent_process import AgentProcess
    from tests.sim.world import World

T = TypeVar("T")
SERVER_ERROR = 500


class SimControlPlane:
    """The control plane as one process over its database."""

    def __init__(self, world: World, timings: wire.Timings) -> None:
        self.world = world
        nodes = tuple(NodeFacts(name, f"198.51.100.{n + 11}") for n, name in enumerate(world.names))
        self.store = LeaseTwin(
            lambda: world.clock.now_s, ClusterFacts((world.vip,), timings, nodes)
        )
        for name in world.names:
            self.store.enrol(name)
        self.is_up = True
        self.backup: TwinState | None = None
        self.switchovers = 0

    def commit(self, node: str, request: wire.ReceiptRequest) -> wire.ReceiptAnswer:
        """Commit a receipt and tell the truth about it."""
        before = set(self.store.state.receipts)
        answer = self.store.commit_receipt(node, request)
        if answer.number is not None and answer.number not in before:
            ids = frozenset(request.ids) - frozenset(answer.excluded)
            receipt = Committed(request.queue, request.generation, node, answer.number, ids)
            self.world.truth.committed(receipt)
        return answer

    def take_backup(self) -> None:
        """Copy the database."""
        self.backup = deepcopy(self.store.state)

    def restore(self) -> None:
        """Put the copy back, as `relay-controlplane restore` does."""
        if self.backup is None:
            raise ValueError("There is no backup to restore.")
        if self.world.bugs.is_restore_announced:
            self.store.restore(deepcopy(self.backup))
        else:
            self.store.state = deepcopy(self.backup)

    def wish_switchover(self, source: str, destination: str) -> None:
        """Ask for a switchover, as an operator does; one at a time."""
        if self.store.state.switchover is None:
            self.switchovers += 1
            self.store.state.switchover = wire.SwitchoverWish(
                id=self.switchovers, source=source, destination=destination
            )


class ControlPlanePort:
    """What one agent process can ask for."""

    def __init__(self, process: AgentProcess) -> None:
        self._process = process
        self._node = process.node.name
        self._server = process.world.control_plane
        self._known_peers = KnownPeers()

    def _call(self, name: str, transaction: Callable[[], T]) -> T:
        self._process.point(f"before-{name}", transaction)
        world = self._process.world
        if not world.is_linked(self._node, "cp") or not self._server.is_up:
            raise Unreachable("The control plane does not answer.")
        try:
            answer = transaction()
        except ControlPlaneError as error:
            if error.status >= SERVER_ERROR:
                raise Unreachable(error.detail) from error
            raise Refused(error.detail) from error
        self._process.point(f"after-{name}")
        return answer

    def heartbeat(self, request: wire.HeartbeatRequest) -> wire.HeartbeatAnswer:
        """Report, perhaps renew, and read the view, briefly as over the network."""
        asked = request.model_copy(update={"known_peers": self._known_peers.tag})
        answer = self._call("heartbeat", lambda: self._server.store.heartbeat(self._node, asked))
        return self._known_peers.complete(answer)

    def reconcile(self, request: wire.ReconcileRequest) -> wire.ReconcileAnswer:
        """Acquire the own lease and learn who owns the pending mail."""
        return self._call("reconcile", lambda: self._server.store.reconcile(self._node, request))

    def acquire(self, queue: str) -> wire.LeaseAnswer:
        """Acquire a peer's lease."""
        request = wire.LeaseRequest(queue=queue)
        return self._call("acquire", lambda: self._server.store.acquire(self._node, request))

    def grant(self, queue: str, generation: int, to: str) -> wire.LeaseAnswer:
        """Grant the own lease to a peer."""
        request = wire.LeaseRequest(queue=queue, generation=generation, to=to)
        return self._call("grant", lambda: self._server.store.grant(self._node, request))

    def release(self, queue: str, generation: int) -> wire.LeaseAnswer:
        """Give a lease back."""
        request = wire.LeaseRequest(queue=queue, generation=generation)
        return self._call("release", lambda: self._server.store.release(self._node, request))

    def commit_receipt(self, request: wire.ReceiptRequest) -> wire.ReceiptAnswer:
        """Commit a receipt."""
        return self._call("commit", lambda: self._server.commit(self._node, request))

    def finish_receipt(self, queue: str, generation: int) -> wire.ReceiptAnswer:
        """Mark a receipt as done."""
        question = wire.ReceiptQuestion(queue=queue, generation=generation)
        store = self._server.store
        return self._call("finish", lambda: store.finish_receipt(self._node, question))

    def recover(self, request: wire.RecoveryRequest) -> None:
        """Tell a restored control plane what this node remembers."""
        self._call("recover", lambda: self._server.store.recover(self._node, request))

    def report_switchover(self, result: wire.SwitchoverResult) -> None:
        """Report how a switchover ended."""
        store = self._server.store
        self._call("switchover", lambda: store.finish_switchover(self._node, result))
