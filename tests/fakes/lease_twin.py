"""An in-memory twin of `controlplane.store.ownership.Ownership` on a clock of the test's own.

It answers the same calls with the same wire types and passes the same contract tests as the real
one on SQLite and PostgreSQL; the simulator runs whole clusters on it. Errors are those of the real
one, so that a fake transport translates both alike. What it leaves out: config files, tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from controlplane.errors import Conflict, Forbidden, Invalid, NotFound, Recovering
from controlplane.store.facts import ClusterFacts
from nodeagent.core import contract as wire
from nodeagent.core.brief import is_lease_of_interest, is_sign_of_interest
from nodeagent.core.lease import retired_keep_s


@dataclass
class TwinLease:
    """One row; `expires_at` counts on the twin's clock."""

    queue: str
    holder: str
    expires_at: float
    generation: int = 0
    granted_to: str | None = None
    confirmed_dead: bool = False
    seen_generation: int = 0


@dataclass
class TwinReceipt:
    """One committed adoption."""

    number: int
    queue: str
    generation: int
    holder: str
    ids: set[str]
    done_at: float | None = None

    @property
    def is_done(self) -> bool:
        """Whether its holder has put everything into its live queue."""
        return self.done_at is not None


@dataclass
class TwinState:
    """All that a backup holds; copy it deeply and put it back to play a restore."""

    leases: dict[str, TwinLease] = field(default_factory=dict)
    receipts: dict[int, TwinReceipt] = field(default_factory=dict)
    enrolled: set[str] = field(default_factory=set)
    struck_off: set[str] = field(default_factory=set)
    seen_at: dict[str, float] = field(default_factory=dict)
    reports: dict[str, wire.NodeReport] = field(default_factory=dict)
    switchover: wire.SwitchoverWish | None = None
    is_recovering: bool = False
    memories: dict[str, wire.RecoveryRequest] = field(default_factory=dict)


class LeaseTwin:
    """The control plane as agents see it; `facts` may be replaced at any time."""

    def __init__(self, clock: Callable[[], float], facts: ClusterFacts | None = None) -> None:
        self.clock = clock
        self.facts = facts or ClusterFacts()
        self.state = TwinState()
        self.instances = 1
        self.events: dict[str, tuple[str, wire.EventReport]] = {}
        self.results: list[tuple[str, wire.SwitchoverResult]] = []

    @property
    def instance_id(self) -> str:
        """Changes with each restore."""
        return f"instance-{self.instances}"

    def enrol(self, node: str) -> None:
        """Make the node known, with a lease that has run out."""
        self.state.enrolled.add(node)
        self.state.struck_off.discard(node)
        self._ensure_lease(node)

    def heartbeat(self, node: str, request: wire.HeartbeatRequest) -> wire.HeartbeatAnswer:
        """Store the report, renew when asked to and possible, and show the view."""
        self.state.reports[node] = request.report
        self.state.seen_at[node] = self.clock()
        for event in request.events:
            self.events.setdefault(event.id, (node, event))
        lease = self.state.leases.get(node)
        if lease is not None and not self.state.is_recovering:
            seen = max(request.generation, request.report.generation)
            if seen > lease.generation:
                lease.seen_generation = max(lease.seen_generation, seen)
        renewed = request.renew and self._renew(node, request.generation)
        known = tuple(event.id for event in request.events)
        answer = wire.HeartbeatAnswer(
            view=self._view(node),
            renewed=renewed,
            acknowledged_events=known,
            removable_receipts=tuple(
                key.number for key in request.kept_receipts if self._is_removable(key)
            ),
            peers_tag=repr((self.facts.nodes, sorted(self.state.struck_off))),
        )
        return answer if request.known_peers is None else told_briefly(answer, request)

    def reconcile(self, node: str, request: wire.ReconcileRequest) -> wire.ReconcileAnswer:
        """Acquire the own lease and name the owners of the pending mail."""
        lease = self._acquire(node, node)
        if lease is None:
            return wire.ReconcileAnswer(lease=None, reason="The lease is not free.")
        elsewhere = []
        for name in request.pending_ids:
            last = self._last_receipt_naming(name)
            if last is not None and last.holder != node:
                elsewhere.append(owned_by(name, last))
        return wire.ReconcileAnswer(lease=lease, elsewhere=tuple(elsewhere))

    def acquire(self, node: str, request: wire.LeaseRequest) -> wire.LeaseAnswer:
        """Acquire a peer's lease, or extend it while adopting."""
        if request.queue == node:
            raise Invalid("A node acquires its own lease by reconcile only.")
        return _answer(self._acquire(request.queue, node))

    def grant(self, node: str, request: wire.LeaseRequest) -> wire.LeaseAnswer:
        """Leave the own lease to a peer for one lease duration."""
        if request.queue != node:
            raise Forbidden(f"{node} can grant its own lease only.")
        if request.to is None or request.to == node:
            raise Invalid("A lease is granted to a peer.")
        lease = self.state.leases.get(node)
        is_peer = request.to in self.state.enrolled - self.state.struck_off
        if lease is None or not is_peer or not self._is_trusted(lease):
            return _answer(None)
        if not self._is_held(node, node, request.generation):
            return _answer(None)
        lease.granted_to = request.to
        lease.expires_at = self.clock() + self._duration_s
        return _answer(self._lease_view(lease))

    def release(self, node: str, request: wire.LeaseRequest) -> wire.LeaseAnswer:
        """Give a lease back."""
        lease = self.state.leases.get(request.queue)
        if lease is None or (lease.holder, lease.generation) != (node, request.generation):
            return _answer(None)
        lease.expires_at = min(lease.expires_at, self.clock())
        lease.granted_to = None
        lease.confirmed_dead = False
        return _answer(self._lease_view(lease))

    def confirm_dead(self, queue: str) -> bool:
        """End the own node's lease now, on an operator's word."""
        lease = self.state.leases.get(queue)
        if lease is None or lease.holder != queue or not self._is_trusted(lease):
            return False
        lease.expires_at = min(lease.expires_at, self.clock())
        lease.granted_to = None
        lease.confirmed_dead = True
        return True

    def commit_receipt(self, node: str, request: wire.ReceiptRequest) -> wire.ReceiptAnswer:
        """Pass ownership of the named messages to `node`."""
        self._refuse_while_recovering()
        known = self._find(node, request.queue, request.generation)
        if known is not None:
            if not known.ids <= set(request.ids):
                raise Conflict("A receipt was committed with other messages.")
            return _receipt_answer(known, set(request.ids) - known.ids)
        is_held = self._is_held(request.queue, node, request.generation)
        if request.queue == node or not is_held:
            return wire.ReceiptAnswer(state=wire.ReceiptState.UNKNOWN, reason="Not held.")
        number = max(self.state.receipts, default=0) + 1
        ids = {name for name in request.ids if self._is_at(name, request.queue)}
        receipt = TwinReceipt(number, request.queue, request.generation, node, ids)
        self.state.receipts[number] = receipt
        return _receipt_answer(receipt, set(request.ids) - ids)

    def receipt_state(self, node: str, question: wire.ReceiptQuestion) -> wire.ReceiptAnswer:
        """Say what became of the node's own receipt."""
        self._refuse_while_recovering()
        known = self._find(node, question.queue, question.generation)
        if known is not None:
            return _receipt_answer(known)
        is_held = self._is_held(question.queue, node, question.generation)
        reason = "" if is_held else "Not held."
        return wire.ReceiptAnswer(state=wire.ReceiptState.UNKNOWN, reason=reason)

    def finish_receipt(self, node: str, question: wire.ReceiptQuestion) -> wire.ReceiptAnswer:
        """Note that everything the receipt names is in the node's live queue."""
        self._refuse_while_recovering()
        known = self._find(node, question.queue, question.generation)
        if known is not None:
            known.done_at = self.clock() if known.done_at is None else known.done_at
        return self.receipt_state(node, question)

    def recover(self, node: str, request: wire.RecoveryRequest) -> None:
        """Take what the node remembers, after a restore."""
        if request.instance_id != self.instance_id:
            raise Conflict("This report was meant for another instance of the control plane.")
        if not self.state.is_recovering:
            self._merge(node, request.receipts)
            return
        self.state.memories[node] = request
        self._finish_if_complete()

    def config(self, node: str) -> wire.ConfigBundle:
        """Refuse: the twin has no config files."""
        raise NotFound(f"No config version is assigned to {node} yet.")

    def finish_switchover(self, node: str, result: wire.SwitchoverResult) -> None:
        """Note how a switchover ended on its source."""
        wish = self.state.switchover
        if wish is not None and wish.id == result.id and wish.source == node:
            self.state.switchover = None
            self.results.append((node, result))

    def restore(self, backup: TwinState) -> None:
        """Put an earlier state back: a new instance that waits for all nodes."""
        self.state = backup
        self.state.is_recovering = True
        self.state.memories = {}
        self.instances += 1

    def strike_off(self, node: str) -> None:
        """Stop waiting for a node that is gone for good."""
        self.state.struck_off.add(node)
        self._finish_if_complete()

    def missing_nodes(self) -> list[str]:
        """Return the nodes that a recovery still waits for."""
        if not self.state.is_recovering:
            return []
        wanted = set(self.state.enrolled)
        for memory in self.state.memories.values():
            wanted |= set(memory.generations)
        return sorted(wanted - self.state.struck_off - set(self.state.memories))

    @property
    def _duration_s(self) -> float:
        return self.facts.timings.lease_duration_s

    def _ensure_lease(self, queue: str) -> TwinLease:
        fresh = TwinLease(queue, queue, self.clock())
        return self.state.leases.setdefault(queue, fresh)

    def _is_trusted(self, lease: TwinLease) -> bool:
        return not self.state.is_recovering and lease.seen_generation <= lease.generation

    def _is_held(self, queue: str, node: str, generation: int) -> bool:
        lease = self.state.leases.get(queue)
        if lease is None or (lease.holder, lease.generation) != (node, generation):
            return False
        return lease.expires_at > self.clock()

    def _renew(self, node: str, generation: int) -> bool:
        lease = self.state.leases.get(node)
        if lease is None or not self._is_trusted(lease) or lease.granted_to is not None:
            return False
        if not self._is_held(node, node, generation):
            return False
        lease.expires_at = self.clock() + self._duration_s
        return True

    def _acquire(self, queue: str, node: str) -> wire.LeaseView | None:
        lease = self.state.leases.get(queue)
        if lease is None or not self._is_trusted(lease):
            return None
        has_expired = lease.expires_at <= self.clock()
        is_mine = lease.holder == node and lease.granted_to in {None, node}
        if not (is_mine or has_expired or lease.granted_to == node):
            return None
        if lease.holder != node or queue == node or has_expired:
            lease.generation += 1
        lease.holder = node
        lease.expires_at = self.clock() + self._duration_s
        lease.granted_to = None
        lease.confirmed_dead = lease.confirmed_dead and queue != node
        return self._lease_view(lease)

    def _find(self, node: str, queue: str, generation: int) -> TwinReceipt | None:
        key = (queue, generation, node)
        for number in sorted(self.state.receipts, reverse=True):
            receipt = self.state.receipts[number]
            if (receipt.queue, receipt.generation, receipt.holder) == key:
                return receipt
        return None

    def _is_removable(self, key: wire.ReceiptKey) -> bool:
        known = self.state.receipts.get(key.number)
        if known is None or known.done_at is None or self.state.is_recovering:
            return False
        is_meant = (known.queue, known.generation, known.holder) == (
            key.queue,
            key.generation,
            key.holder,
        )
        kept_s = self.clock() - known.done_at
        return is_meant and kept_s >= retired_keep_s(self.facts.timings)

    looks_at_earlier_receipts = True
    """A planted bug of the simulator switches it off."""

    def _is_at(self, name: str, queue: str) -> bool:
        """Tell whether no earlier adoption has taken this message away from `queue`'s node."""
        last = self._last_receipt_naming(name)
        return last is None or last.holder == queue or not self.looks_at_earlier_receipts

    def _last_receipt_naming(self, name: str) -> TwinReceipt | None:
        naming = [receipt for receipt in self.state.receipts.values() if name in receipt.ids]
        return max(naming, key=lambda receipt: receipt.number, default=None)

    def _refuse_while_recovering(self) -> None:
        if self.state.is_recovering:
            raise Recovering

    def _merge(self, node: str, remembered: tuple[wire.RememberedReceipt, ...]) -> None:
        for one in remembered:
            known = self.state.receipts.get(one.number)
            if known is None:
                known = TwinReceipt(one.number, one.queue, one.generation, one.holder, set())
                self.state.receipts[one.number] = known
            elif known.holder != one.holder:
                continue
            elif one.holder == node:
                known.queue, known.generation = one.queue, one.generation
            known.ids |= set(one.ids)

    def _finish_if_complete(self) -> None:
        if not self.state.is_recovering or self.missing_nodes():
            return
        highest: dict[str, int] = {}
        for node in sorted(self.state.memories):
            memory = self.state.memories[node]
            self._merge(node, memory.receipts)
            pairs = list(memory.generations.items())
            pairs += [(receipt.queue, receipt.generation) for receipt in memory.receipts]
            for queue, generation in pairs:
                highest[queue] = max(generation, highest.get(queue, 0))
        for queue in highest:
            self._ensure_lease(queue)
        for lease in self.state.leases.values():
            known = max(lease.generation, lease.seen_generation, highest.get(lease.queue, 0))
            lease.generation = known + 1
            lease.holder = lease.queue
            lease.expires_at = self.clock() + self._duration_s
            lease.granted_to = None
            lease.confirmed_dead = False
        self.state.is_recovering = False

    def _lease_view(self, lease: TwinLease) -> wire.LeaseView:
        return wire.LeaseView(
            queue=lease.queue,
            holder=lease.holder,
            generation=lease.generation,
            remaining_s=lease.expires_at - self.clock(),
            granted_to=lease.granted_to,
            confirmed_dead=lease.confirmed_dead,
        )

    def _view(self, node: str) -> wire.ClusterView:
        mine = self.facts.node(node)
        leases = [self.state.leases[queue] for queue in sorted(self.state.leases)]
        return wire.ClusterView(
            instance_id=self.instance_id,
            is_recovering=self.state.is_recovering,
            node=node,
            vips=self.facts.vips,
            timings=self.facts.timings,
            config_version=mine.config_version if mine is not None else None,
            leases=tuple(self._lease_view(lease) for lease in leases),
            peers=self._peers(node),
            switchover=self.state.switchover,
            is_maintenance=mine.is_maintenance if mine is not None else False,
        )

    def _peers(self, node: str) -> tuple[wire.PeerView, ...]:
        peers = []
        for peer in self.facts.nodes:
            if peer.name == node or peer.name in self.state.struck_off:
                continue
            report = self.state.reports.get(peer.name)
            seen_at = self.state.seen_at.get(peer.name)
            peers.append(
                wire.PeerView(
                    name=peer.name,
                    address=peer.address,
                    ssh_user=peer.ssh_user,
                    ssh_port=peer.ssh_port,
                    holds_vips=(report.holds_vips or ()) if report is not None else (),
                    last_seen_s=self.clock() - seen_at if seen_at is not None else None,
                )
            )
        return tuple(peers)


def told_briefly(
    answer: wire.HeartbeatAnswer, request: wire.HeartbeatRequest
) -> wire.HeartbeatAnswer:
    """Return the answer as one who sent `known_peers` is told it."""
    view, report = answer.view, request.report
    leases = tuple(one for one in view.leases if is_lease_of_interest(view.node, report, one))
    if request.known_peers != answer.peers_tag:
        shown = view.model_copy(update={"leases": leases})
        return answer.model_copy(update={"view": shown})
    peers = tuple(
        peer
        for peer in view.peers
        if peer.last_seen_s is not None
        and is_sign_of_interest(report, leases, peer.name, peer.holds_vips)
    )
    shown = view.model_copy(update={"leases": leases, "peers": peers})
    return answer.model_copy(update={"view": shown, "is_brief": True})


def _answer(lease: wire.LeaseView | None) -> wire.LeaseAnswer:
    return wire.LeaseAnswer(lease=lease, reason="" if lease is not None else "Not free.")


def _receipt_answer(receipt: TwinReceipt, excluded: set[str] | None = None) -> wire.ReceiptAnswer:
    state = wire.ReceiptState.DONE if receipt.is_done else wire.ReceiptState.COMMITTED
    names = tuple(sorted(excluded or ()))
    return wire.ReceiptAnswer(state=state, number=receipt.number, excluded=names)


def owned_by(name: str, receipt: TwinReceipt) -> wire.OwnedElsewhere:
    """Return what a reconcile says of a message that `receipt` gave away."""
    return wire.OwnedElsewhere(
        id=name,
        receipt=receipt.number,
        owner=receipt.holder,
        queue=receipt.queue,
        generation=receipt.generation,
    )
