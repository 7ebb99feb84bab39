"""A whole cluster on the virtual clock: hosts, network, VIP, clients, and an operator.

The VIP follows keepalived's rules (RFC 9568 with `nopreempt`): who hears nobody better takes it,
so that a partition leaves it on both sides, and a killed keepalived leaves it where it was.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Self

from nodeagent.core.contract import Timings
from tests.sim.bugs import REAL, Clauses
from tests.sim.clock import Clock
from tests.sim.control_plane_twin import SimControlPlane
from tests.sim.faults import Effect
from tests.sim.node import Node
from tests.sim.truth import Committed, Truth

TICK_S: Final = 1.0
VRRP_S: Final = 0.3
TIMINGS: Final = Timings(
    lease_duration_s=15,
    lease_margin_s=3,
    lease_renew_deadline_s=6,
    lease_retry_s=2,
    push_interval_s=5,
    promise_s=15,
)


class World:
    """One run; `names[0]` has the highest VRRP priority."""

    vip = "198.51.100.100"

    def __init__(
        self,
        names: tuple[str, ...] = ("a", "b"),
        *,
        bugs: Clauses = REAL,
        clock_rates: tuple[float, ...] = (),
        timings: Timings = TIMINGS,
    ) -> None:
        if len(set(names)) != len(names) or "cp" in names or len(names) < 1:
            raise ValueError("Each node needs a name of its own, and `cp` is taken.")
        self.names, self.bugs = names, bugs
        self.clock = Clock()
        self.trace: list[str] = []
        self.cuts: set[frozenset[str]] = set()
        self.truth = Truth(self._is_on_file)
        self.nodes: dict[str, Node] = {}
        self._armed: dict[tuple[str, str], list[Effect]] = {}
        self._mails = 0
        self.control_plane = SimControlPlane(self, timings)
        rates = clock_rates or (1.0,) * len(names)
        for number, (name, rate) in enumerate(zip(names, rates, strict=True)):
            self.nodes[name] = Node(self, name, len(names) - number, rate)
        for number, node in enumerate(self.nodes.values()):
            node.boot()
            self.clock.after(0.1 * (number + 1), self._beat_of(node))

    def __enter__(self) -> Self:
        """Use it as a context, so that no process of it is left behind."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Kill every agent."""
        for node in self.nodes.values():
            node.agent = None
        self.clock.close()

    def _beat_of(self, node: Node) -> Callable[[], None]:
        def beat() -> None:
            self.clock.after(TICK_S, beat)
            node.tick()
            self.check()

        return beat

    def node(self, name: str) -> Node:
        """Return a node by its name."""
        return self.nodes[name]

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(seconds)
        self.check()

    def run_until(self, is_reached: Callable[[], bool], limit_s: float = 60.0) -> bool:
        """Let time pass until something is so, or the limit is reached; tell which."""
        until_s = self.clock.now_s + limit_s
        while not is_reached() and self.clock.now_s < until_s:
            self.run(0.1)
        return is_reached()

    def is_linked(self, one: str, other: str) -> bool:
        """Tell whether packets pass between two hosts."""
        return frozenset({one, other}) not in self.cuts

    def cut(self, one: str, other: str) -> None:
        """Drop all packets between two hosts; `cp` is the control plane."""
        known = {*self.names, "cp"}
        if one == other or not {one, other} <= known:
            raise ValueError(f"There is no link between {one} and {other}.")
        self.trace.append(f"{self.clock.now_s - 1000:8.2f} cut: {one} {other}")
        self.cuts.add(frozenset({one, other}))
        self.vrrp_changed()

    def mend(self, one: str, other: str) -> None:
        """Let packets pass again."""
        self.cuts.discard(frozenset({one, other}))
        self.vrrp_changed()

    def arm(self, node: str, point: str, *effects: Effect) -> None:
        """Have these effects happen, one after another, whenever that point is reached."""
        if node not in self.nodes:
            raise ValueError(f"There is no node {node}.")
        self._armed.setdefault((node, point), []).extend(effects)

    def armed_at(self, node: str, point: str) -> Effect | None:
        """Take the next effect that waits at a point."""
        waiting = self._armed.get((node, point))
        return waiting.pop(0) if waiting else None

    def waiting_points(self) -> set[tuple[str, str]]:
        """Return the points at which something is still to happen."""
        return {place for place, effects in self._armed.items() if effects}

    def disarm(self) -> None:
        """Forget what has not happened yet."""
        self._armed.clear()

    def vrrp_changed(self) -> None:
        """Have keepalived notice in its own time."""
        self.clock.after(VRRP_S, self.elect)

    def elect(self) -> None:
        """Settle who holds the VIP now."""
        for node in self.nodes.values():
            if not self._takes_part(node):
                node.holds_vip = node.holds_vip and node.is_up and not node.run.is_fault_set
                continue
            rivals = [
                other
                for other in self.nodes.values()
                if other is not node
                and self._takes_part(other)
                and self.is_linked(node.name, other.name)
            ]
            holders = [other for other in rivals if other.holds_vip]
            if node.holds_vip:
                node.holds_vip = all(other.priority < node.priority for other in holders)
            elif not holders:
                node.holds_vip = True
                node.note("vip", "comes here")

    def _takes_part(self, node: Node) -> bool:
        is_keepalived_well = node.is_keepalived_running and not node.run.is_fault_set
        return node.is_running and is_keepalived_well

    def move_vip(self, name: str) -> None:
        """Put the VIP on one node, as its administrator could by hand."""
        for node in self.nodes.values():
            node.holds_vip = node.name == name and node.is_up

    def stop_keepalived(self, name: str) -> None:
        """Stop keepalived in good order: it takes the VIP away with it."""
        self.nodes[name].is_keepalived_running = False
        self.nodes[name].holds_vip = False
        self.vrrp_changed()

    def send(self, to: str | None = None) -> str | None:
        """Send a new message to the VIP; return its queue id, or None where nobody answers."""
        holders = [node for node in self.nodes.values() if node.is_running and node.holds_vip]
        wanted = [node for node in holders if to in {None, node.name}]
        if not wanted:
            return None
        self._mails += 1
        name = f"{self._mails:010d}z{self._mails}"
        wanted[0].postfix.accept(name)
        return name

    def confirm_dead(self, name: str) -> None:
        """Have an operator vouch that a host is off; the prompt makes sure that it is."""
        if self.bugs.is_death_checked and self.nodes[name].is_up:
            raise ValueError(f"{name} is not off.")
        self.control_plane.store.confirm_dead(name)

    def deliver_all(self) -> None:
        """Have every Postfix deliver what it may."""
        for node in self.nodes.values():
            for name in node.postfix.deliverable():
                node.postfix.deliver(name)

    def heal(self) -> None:
        """End every fault; hosts that were off are booted, what was stopped is started."""
        self.disarm()
        self.cuts.clear()
        self.control_plane.is_up = True
        for node in self.nodes.values():
            node.boot()
            node.start_agent()
            node.is_keepalived_running = True
        self.vrrp_changed()

    def settle(self, rounds: int = 6) -> None:
        """Heal everything, let it run with mail being delivered, and check how it ends."""
        self.heal()
        for _ in range(rounds):
            self.run(25.0)
            self.deliver_all()
        self.check()
        check_end(self)

    def _is_on_file(self, receipt: Committed) -> bool:
        known = self.control_plane.store.state.receipts.get(receipt.number)
        if known is not None and (known.holder, known.generation) == (
            receipt.holder,
            receipt.generation,
        ):
            return True
        remembered = (node.disk.ledger.receipts.get(receipt.number) for node in self.nodes.values())
        return any(
            one is not None and one.holder == receipt.holder and set(one.ids) & receipt.ids
            for one in remembered
        )

    def check(self) -> None:
        """Check what must hold at every moment."""
        for name in self.truth.undelivered():
            owner = self.nodes[self.truth.owner(name)]
            is_there = name in owner.disk.live or name in owner.disk.pending
            if not is_there and not _is_adopting(owner, name):
                self.truth.violate("P7", f"{owner.name} owns {name} and does not have it")
        for node in self.nodes.values():
            freeze = node.guard.freeze
            if freeze is not None and node.is_running and node.agent is None:
                self.truth.violate("P3", f"{node.name} is frozen and has no agent")


def check_end(world: World) -> None:
    """Check that nothing is lost and nothing stuck once everything is well again."""
    truth = world.truth
    for name in truth.undelivered():
        truth.violate("P7", f"{name} was never delivered")
    for lease in world.control_plane.store.state.leases.values():
        if lease.holder != lease.queue and lease.expires_at > world.clock.now_s:
            truth.violate("stuck", f"{lease.holder} keeps the lease of {lease.queue}")
    for node in world.nodes.values():
        stuck = {
            "pending mail": node.disk.pending,
            "an adoption": node.disk.ledger.adoption,
            "a switchover": node.disk.ledger.switchover,
            "a decision to adopt": node.disk.promises.adopting,
            "no proof": not node.guard.is_proven,
            "a receipt": [mirror for mirror in node.disk.mirrors.values() if mirror.receipt],
            "a fault": node.run.is_fault_set,
        }
        for what, is_so in stuck.items():
            if is_so:
                truth.violate("stuck", f"{node.name} is left with {what}")
    if sum(node.holds_vip for node in world.nodes.values()) != 1:
        truth.violate("P1", "the VIP is not on exactly one node")


def _is_adopting(node: Node, name: str) -> bool:
    return any(
        mirror.receipt is not None and name in mirror.receipt[1] and name in mirror.ids
        for mirror in node.disk.mirrors.values()
    )
