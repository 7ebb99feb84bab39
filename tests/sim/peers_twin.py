"""The other nodes' twin: pushes as sessions with separate moments, and promises.

A push greets the receiver, takes its snapshot in a freeze, stages it, and commits. The commit is
the receiver's act: once staged it may come late, twice, or after its sender is gone. The judgement
is the real `core.push_rules`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nodeagent.core.lease import drain_limit_s
from nodeagent.core.ports import LastPush
from nodeagent.core.push_rules import MirrorState, PushOffer, ReceiverState, after_push
from nodeagent.errors import Refused, Unreachable
from tests.sim.truth import Placed

if TYPE_CHECKING:
    from tests.sim.agent_process import AgentProcess
    from tests.sim.node import Node


@dataclass(frozen=True)
class Staged:
    """A push that lies complete at the receiver and waits for its commit."""

    offer: PushOffer
    puts: frozenset[str]
    gone: frozenset[str]
    snapshot_s: float


@dataclass(frozen=True)
class Sent:
    """The last push to one peer that was taken: what a push of changes builds on."""

    generation: int
    sequence: int
    ids: frozenset[str]


class SimPeers:
    """What one agent process can do with its peers."""

    def __init__(self, process: AgentProcess) -> None:
        self.process, self.node = process, process.node
        self.world = process.world
        self._sent: dict[str, Sent] = {}
        self._attempted_at_s: dict[str, float] = {}

    def push_age_s(self, peers: tuple[str, ...]) -> float | None:
        """Return the time since the last attempt to push to each of these; None before it."""
        if not peers or any(peer not in self._attempted_at_s for peer in peers):
            return None
        return self.node.boot_time_s() - min(self._attempted_at_s[peer] for peer in peers)

    def push(self, peer: str, generation: int) -> None:
        """Snapshot and push."""
        try:
            self._push(peer, generation, None)
        finally:
            self._attempted_at_s[peer] = self.node.boot_time_s()

    def push_last(self, peer: str, generation: int, aside_reason: str) -> LastPush:
        """Drain, push, and set the queue aside at the end of the push's freeze."""
        self.process.wait_until(self.node.guard.busy_until_s)
        self.node.guard.begin_drain()
        until_s = self.world.clock.now_s + drain_limit_s(self.process.timings)
        while self.node.postfix.is_busy and self.world.clock.now_s < until_s:
            self.process.wait_until(self.world.clock.now_s + 0.1)
        try:
            messages = self._push(peer, generation, aside_reason)
        finally:
            if self.process.is_current:
                self.node.guard.end_drain()
        return LastPush(messages, 0.0)

    def _push(self, peer: str, generation: int, aside_reason: str | None) -> int:
        self.process.point("push-decided")
        receiver = self._reach(peer)
        known = receiver.disk.mirror(self.node.name).state
        self._ask(receiver, generation)
        ids = self.snapshot(aside_reason)
        staged = self._stage(peer, known, generation, ids)
        self.process.point("push-staged")
        receiver = self._reach(peer)
        verdict = self.begin_commit(receiver, staged)
        commit = self._commit_of(receiver, staged, verdict)
        self.process.point("push-commit", commit)
        self._reach(peer)
        refusal = commit()
        self.process.point("push-answered")
        if refusal:
            raise Refused(refusal)
        offer = staged.offer
        self._sent[peer] = Sent(generation, offer.sequence, ids)
        return len(ids)

    def _reach(self, peer: str) -> Node:
        node = self.world.nodes[peer]
        if not node.is_running or not self.world.is_linked(self.node.name, peer):
            raise Unreachable(f"{peer} does not answer.")
        return node

    def _ask(self, receiver: Node, generation: int) -> None:
        offer = PushOffer(self.node.name, generation, self.process.id, self._addresses(self.node))
        refusal = self.judge(receiver, offer)
        if refusal:
            raise Refused(refusal)

    def _addresses(self, node: Node) -> frozenset[str]:
        return frozenset({self.world.vip} if node.holds_vip else ())

    def snapshot(self, aside_reason: str | None) -> frozenset[str]:
        """Freeze, link what is there, thaw; refused if it was not frozen all the while."""
        guard = self.node.guard
        self.process.wait_until(guard.busy_until_s)
        freeze = guard.begin_freeze()
        ids = frozenset(self.node.disk.live)
        self._check_snapshot()
        self.process.point("frozen")
        guard.end_freeze(freeze, aside_reason)
        self.process.point("snapshot-taken")
        return ids

    def _check_snapshot(self) -> None:
        """P4: a push comes from an owner that is proven and has nothing pending."""
        if not self.node.guard.is_proven or self.node.guard.has_pending:
            self.world.truth.violate("P4", f"{self.node.name} pushed without a proof of its lease")

    def _stage(self, peer: str, known: MirrorState, generation: int, ids: frozenset[str]) -> Staged:
        sent = self._sent.get(peer)
        is_full = sent is None or (sent.generation, sent.sequence) != (generation, known.sequence)
        before = frozenset() if sent is None or is_full else sent.ids
        offer = PushOffer(
            queue=self.node.name,
            generation=generation,
            agent=self.process.id,
            holds_vips=self._addresses(self.node),
            sequence=known.sequence + 1,
            base=known.sequence,
            is_full=is_full,
        )
        return Staged(offer, ids - before, before - ids, self.world.clock.now_s)

    def judge(self, receiver: Node, offer: PushOffer) -> str:
        """Return why the receiver drops this offer, or nothing."""
        mirror = receiver.disk.mirror(offer.queue)
        addresses = self._addresses(receiver)
        has_receipt = mirror.receipt is not None
        state = ReceiverState(mirror.state, self.node.name, addresses, has_receipt)
        verdict = self.world.bugs.judge_push(state, offer)
        return verdict.text

    def begin_commit(self, receiver: Node, staged: Staged) -> str | None:
        """Say nothing yet: the judgement that counts is made under the lock, at the commit."""
        del receiver, staged
        return None

    def _commit_of(self, receiver: Node, staged: Staged, verdict: str | None) -> Callable[[], str]:
        def commit() -> str:
            if not receiver.is_running:
                return "gone"
            refusal = self.judge(receiver, staged.offer) if verdict is None else verdict
            if not refusal:
                self._put_in_place(receiver, staged)
            return refusal

        return commit

    def _put_in_place(self, receiver: Node, staged: Staged) -> None:
        mirror = receiver.disk.mirror(staged.offer.queue)
        before = set(mirror.ids)
        if staged.offer.is_full:
            mirror.ids = set(staged.puts)
        else:
            mirror.ids = (mirror.ids - staged.gone) | staged.puts
        mirror.state = after_push(mirror.state, staged.offer, len(mirror.ids))
        if receiver.holds_vip:
            self.world.truth.violate("P4", f"{receiver.name} took a push while it owns the VIP")
        push = Placed(staged.offer.queue, receiver.name, staged.snapshot_s)
        self.world.truth.pushed(push, before, mirror.ids)
        receiver.note("push", f"{sorted(mirror.ids)} of {staged.offer.queue} in place")

    def ask_promise(self, peer: str, length_s: float) -> bool:
        """Ask for the promise not to adopt our queue for `length_s`; False: not given."""
        self.process.point("before-promise")
        try:
            receiver = self._reach(peer)
        except Unreachable:
            return False
        given = self.world.bugs.promises(receiver).promise(self.node.name, length_s)
        self.process.point("after-promise")
        return given.for_s >= length_s
