"""The clauses of the ownership protocol, as parts of a world, and each of them left out.

`REAL` runs what ships. Every other value replaces one part by one that lacks a clause of DESIGN.md
section 4: the simulator has to notice each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from nodeagent.core import contract as wire
from nodeagent.core import push_rules
from nodeagent.core.decision import OWNERSHIP, Actions, Rule
from nodeagent.core.guard_state import ProofOffer, after_aside
from nodeagent.core.observation import Observation
from nodeagent.core.promise_rules import Promise
from nodeagent.core.push_rules import (
    PushOffer,
    PushRefusal,
    PushVerdict,
    ReceiverState,
    judge_push,
)
from nodeagent.errors import Refused
from tests.fakes.lease_twin import TwinReceipt, owned_by
from tests.sim.control_plane_twin import ControlPlanePort
from tests.sim.guard_twin import Freeze, SimGuard
from tests.sim.peers_twin import SimPeers, Staged
from tests.sim.port_twins import SimMirrors
from tests.sim.postfix_twin import SimPostfix
from tests.sim.promises_twin import SimPromises

if TYPE_CHECKING:
    from tests.sim.node import Node


@dataclass(frozen=True)
class Clauses:
    """The parts that carry the protocol's clauses."""

    guard: type[SimGuard] = SimGuard
    postfix: type[SimPostfix] = SimPostfix
    control_plane: type[ControlPlanePort] = ControlPlanePort
    peers: type[SimPeers] = SimPeers
    mirrors: type[SimMirrors] = SimMirrors
    promises: type[SimPromises] = SimPromises
    ownership: tuple[Rule, ...] = OWNERSHIP
    judge_push: Callable[[ReceiverState, PushOffer], PushVerdict] = judge_push
    is_death_checked: bool = True
    is_restore_announced: bool = True


REAL: Final = Clauses()


class ReceiptsReadFirst(ControlPlanePort):
    """Trace 1: who owns what is read before the lease is acquired."""

    def reconcile(self, request: wire.ReconcileRequest) -> wire.ReconcileAnswer:
        """Read, and only then acquire."""
        last = {
            name: receipt
            for receipt in self._server.store.state.receipts.values()
            for name in request.pending_ids
            if name in receipt.ids
        }
        elsewhere = tuple(one for one in _elsewhere(last) if one.owner != self._node)
        self._process.point("receipts-read")
        answer = super().reconcile(request)
        return answer.model_copy(update={"elsewhere": elsewhere})


class QueueStaysAtTheDeadline(SimGuard):
    """Trace 2: a lost lease stops delivery, but nothing is made pending."""

    def set_aside(self, reason: str) -> None:
        """Stop, and keep everything where it is."""
        if self.node.agents == 0 or self.has_pending:
            super().set_aside(reason)
            return
        self._save(after_aside(self.state, self.node.boot_time_s()))
        self.node.postfix.kill_deliveries()
        self.is_draining = True

    def offer_proof(self, offer: ProofOffer) -> None:
        """Go on with what was there."""
        super().offer_proof(offer)
        self.is_draining = False


class CleanStopIsTrusted(SimGuard):
    """Trace 3: after a stop in good order nothing is set aside."""

    def set_aside(self, reason: str) -> None:
        """Trust the way the host was stopped."""
        if not self.node.disk.has_stopped_cleanly:
            super().set_aside(reason)


class FenceInTheAgent(SimGuard):
    """Trace 4: the deadline is looked at by the agent only."""

    def fence(self) -> None:
        """Do nothing where no agent lives."""
        if self.node.agent is not None:
            super().fence()


class GrantBeforeSettingAside(SimPeers):
    """Trace 5: the queue is frozen over the grant, but not set aside."""

    def snapshot(self, aside_reason: str | None) -> frozenset[str]:
        """Forget what is to happen at the end of the freeze."""
        del aside_reason
        return super().snapshot(None)


class OnlyTheQueueManagerStops(SimPostfix):
    """Trace 6: deliveries that run are not ended by a fence."""

    def kill_deliveries(self) -> None:
        """Leave every `smtp` process alone."""


class OwnQueuesReceiptDecides(ControlPlanePort):
    """Trace 8: the last receipt of the node's own queue decides, not that of any queue."""

    def reconcile(self, request: wire.ReconcileRequest) -> wire.ReconcileAnswer:
        """Look at the receipts of one queue only."""
        answer = super().reconcile(request)
        receipts = self._server.store.state.receipts.values()
        own = [one for one in receipts if one.queue == self._node]
        elsewhere = tuple(
            owned_by(name, one) for one in own for name in request.pending_ids if name in one.ids
        )
        return answer.model_copy(update={"elsewhere": elsewhere})


class NamesEverything(ControlPlanePort):
    """Part of trace 9: a receipt names also what an earlier one gave to somebody else."""

    def commit_receipt(self, request: wire.ReceiptRequest) -> wire.ReceiptAnswer:
        """Look at no earlier receipt."""
        self._server.store.looks_at_earlier_receipts = False
        return super().commit_receipt(request)


class GenerationNotRaised(SimMirrors):
    """Trace 9: an adoption leaves the mirror's generation and sequence as they were."""

    def raise_generation(self, queue: str, generation: int) -> None:
        """Forget it."""

    def close(self, queue: str, generation: int) -> None:
        """Forget it."""


class JudgedWhenStaged(SimPeers):
    """Trace 10: a push is judged when its session begins, not under the mirror's lock."""

    def begin_commit(self, receiver: Node, staged: Staged) -> str | None:
        """Judge now, once and for all."""
        return self.judge(receiver, staged.offer)


class PromisesForgottenAtStart(SimPromises):
    """Trace 12: nothing is waited for after a start."""

    def start(self, promise_s: float) -> None:
        """Adopt at once."""
        super().start(promise_s)
        self.node.disk.promises = replace(self.node.disk.promises, quiet_until_s=0.0)


class PromiseDespiteDecision(SimPromises):
    """Trace 13: a promise is given although the adoption is decided."""

    def promise(self, queue: str, asked_s: float) -> Promise:
        """Forget the decision for this once."""
        adopting = self.node.disk.promises.adopting
        self.node.disk.promises = replace(self.node.disk.promises, adopting=frozenset())
        given = super().promise(queue, asked_s)
        self.node.disk.promises = replace(self.node.disk.promises, adopting=adopting)
        return given


class TakeBackWithoutLooking(SimGuard):
    """Trace 14: the take-back does not look at the deadline again."""

    _retired: Mapping[str, int] | None = None

    def offer_proof(self, offer: ProofOffer) -> None:
        """Remember what to retire for ever."""
        super().offer_proof(offer)
        self._retired = self.state.retired

    def may_take_back(self) -> Mapping[str, int]:
        """Permit it always."""
        return self._retired or {}


class PendingIsNotLookedAt(SimGuard):
    """Part of trace 17: a freeze asks for the proof only."""

    def refuse_to_freeze(self) -> None:
        """Look at the proof alone."""
        if not self.is_proven:
            raise Refused("The lease is not proved.")


class SnapshotWithoutLooking(SimGuard):
    """Trace 18: the guard freezes for whoever asks."""

    def refuse_to_freeze(self) -> None:
        """Permit it always."""

    def end_freeze(self, freeze: Freeze, aside_reason: str | None = None) -> None:
        """Believe in every snapshot."""
        with suppress(Refused):
            super().end_freeze(freeze, aside_reason)


class PlacesWithoutLooking(SimGuard):
    """Part of trace 19: adopted mail is placed whoever holds the own lease."""

    def refuse_to_place(self) -> None:
        """Permit it always."""


def _elsewhere(last: Mapping[str, TwinReceipt]) -> Iterator[wire.OwnedElsewhere]:
    for name, receipt in last.items():
        yield owned_by(name, receipt)


def _rules(*names: str) -> tuple[Rule, ...]:
    return tuple(next(rule for rule in OWNERSHIP if rule.name == name) for name in names)


def _as_if_settled(rule: Rule) -> Rule:
    def plan(obs: Observation) -> Actions | None:
        if obs.guard is None:
            return None
        guard = replace(obs.guard, is_proven=True, has_pending=False)
        return rule.plan(replace(obs, guard=guard))

    return Rule(rule.name, rule.comment, plan)


def _before_reconcile(*rules: Rule) -> tuple[Rule, ...]:
    names = {rule.name for rule in rules}
    kept = [rule for rule in OWNERSHIP if rule.name not in names]
    place = next(n for n, rule in enumerate(kept) if rule.name == "reconcile")
    return (*kept[:place], *rules, *kept[place:])


def _judge_without(*left_out: PushRefusal) -> Callable[[ReceiverState, PushOffer], PushVerdict]:
    def judge(state: ReceiverState, offer: PushOffer) -> PushVerdict:
        for refusal, rule in push_rules.RULES:
            text = "" if refusal in left_out else rule(state, offer)
            if text:
                return PushVerdict(refusal, text)
        return PushVerdict()

    return judge


ADOPT_FIRST: Final = _before_reconcile(
    *map(_as_if_settled, _rules("adoption-placed", "adoption-next", "adopt"))
)

PLANTED: Final[dict[int, Clauses]] = {
    1: Clauses(control_plane=ReceiptsReadFirst),
    2: Clauses(guard=QueueStaysAtTheDeadline),
    3: Clauses(guard=CleanStopIsTrusted),
    4: Clauses(guard=FenceInTheAgent),
    5: Clauses(peers=GrantBeforeSettingAside),
    6: Clauses(postfix=OnlyTheQueueManagerStops),
    7: Clauses(judge_push=_judge_without(PushRefusal.RECEIPT)),
    8: Clauses(control_plane=OwnQueuesReceiptDecides),
    9: Clauses(mirrors=GenerationNotRaised, control_plane=NamesEverything),
    10: Clauses(peers=JudgedWhenStaged),
    11: Clauses(judge_push=_judge_without(PushRefusal.SEQUENCE, PushRefusal.BASE)),
    12: Clauses(promises=PromisesForgottenAtStart),
    13: Clauses(promises=PromiseDespiteDecision),
    14: Clauses(guard=TakeBackWithoutLooking),
    15: Clauses(is_restore_announced=False),
    16: Clauses(is_death_checked=False),
    17: Clauses(guard=PendingIsNotLookedAt, ownership=_before_reconcile(*_rules("push"))),
    18: Clauses(guard=SnapshotWithoutLooking),
    19: Clauses(guard=PlacesWithoutLooking, ownership=ADOPT_FIRST),
}
"""By the number of the trace in the list of counterexamples: the world without its clause."""
