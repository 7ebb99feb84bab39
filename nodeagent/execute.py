"""From an action to its effects: one method an action, no decision but what an answer dictates.

Every step of what takes several is persisted before the next one begins, so that a process killed
between any two lines carries on, or drops what nobody relies on yet, after its restart. The fault
points between the steps are where the tests kill it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import structlog

from nodeagent.core import actions as act
from nodeagent.core import contract as wire
from nodeagent.core.contract import ReceiptState
from nodeagent.core.guard_state import ProofKind, ProofOffer
from nodeagent.core.honoured import honoured_receipts
from nodeagent.core.lease import (
    Proof,
    drain_limit_s,
    proof_from_promises,
    proof_from_renewal,
    retired_keep_s,
)
from nodeagent.core.observation import Adoption, AdoptionStep, Observation, SwitchoverStep
from nodeagent.core.ports import Ports
from nodeagent.errors import AgentError, Refused, Unreachable

log = structlog.get_logger()


class Executor:
    """Carries out actions through the ports; holds no state of its own."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._methods: Final[dict[type[act.Action], Callable[[Any, Observation], None]]] = {
            act.SetAside: self._set_aside,
            act.Reconcile: self._reconcile,
            act.AskPromises: self._ask_promises,
            act.DecideAdoption: self._decide_adoption,
            act.DropAdoption: self._drop_adoption,
            act.AcquireLease: self._acquire_lease,
            act.WriteReceipt: self._write_receipt,
            act.CommitReceipt: self._commit_receipt,
            act.PlaceAdopted: self._place_adopted,
            act.FinishAdoption: self._finish_adoption,
            act.ReleaseLease: self._release_lease,
            act.Push: self._push,
            act.HandOver: self._hand_over,
            act.EndSwitchover: self._end_switchover,
            act.SetFault: self._set_fault,
            act.DropVip: self._drop_vip,
            act.ApplyConfig: self._apply_config,
            act.WriteSshFiles: self._write_ssh_files,
            act.RemoveRetired: self._remove_retired,
            act.ReportRecovery: self._report_recovery,
        }

    def execute(self, action: act.Action, observation: Observation) -> None:
        """Carry out one action; raises `AgentError` where it could not be completed."""
        self._methods[type(action)](action, observation)

    def bring_renewal(self, obs: Observation, sent_s: float, generation: int) -> None:
        """Bring the guard a renewal that the heartbeat sent at `sent_s` has got."""
        proof = proof_from_renewal(sent_s, generation, obs.timings)
        self._offer(ProofKind.RENEWED, proof, sent_s, obs)

    def _offer(
        self,
        kind: ProofKind,
        proof: Proof,
        sent_s: float,
        obs: Observation,
        *,
        retired: dict[str, int] | None = None,
    ) -> None:
        offer = ProofOffer(
            kind=kind,
            generation=proof.generation,
            deadline_s=proof.deadline_s,
            sent_s=sent_s,
            drain_s=drain_limit_s(obs.timings),
            retired=retired,
        )
        self._ports.guard.offer_proof(offer)

    def _set_aside(self, action: act.SetAside, _obs: Observation) -> None:
        self._ports.guard.set_aside(action.reason)

    def _reconcile(self, _action: act.Reconcile, obs: Observation) -> None:
        """Acquire, learn who owns what in the same answer, then retire and take back."""
        sent_s = self._ports.host.boot_time_s()
        ids = self._ports.guard.pending_ids()
        answer = self._ports.control_plane.reconcile(wire.ReconcileRequest(pending_ids=ids))
        self._ports.host.fault_point("reconciled")
        if answer.lease is None:
            raise Refused(answer.reason)
        for receipt in honoured_receipts(answer.elsewhere):
            self._ports.ledger.note_receipt(receipt)
        self._ports.ledger.note_generation(obs.node, answer.lease.generation)
        retired = {owned.id: owned.receipt for owned in answer.elsewhere}
        proof = proof_from_renewal(sent_s, answer.lease.generation, obs.timings)
        self._offer(ProofKind.ACQUIRED, proof, sent_s, obs, retired=retired)
        self._ports.host.fault_point("proof-brought")
        while not self._ports.guard.take_back_some():
            self._ports.host.fault_point("taking-back")
        if ids:
            self._ports.host.flush()
            text = f"{len(ids) - len(retired)} messages taken back, {len(retired)} retired."
            self._ports.host.event("reconciled", text)

    def _ask_promises(self, action: act.AskPromises, obs: Observation) -> None:
        if obs.guard is None:
            return
        sent_s = self._ports.host.boot_time_s()
        length_s = obs.timings.promise_s
        refused = [
            peer for peer in action.peers if not self._ports.peers.ask_promise(peer, length_s)
        ]
        if refused:
            raise Refused(f"{', '.join(refused)} did not promise to leave our queue alone.")
        proof = proof_from_promises(sent_s, obs.guard.generation, obs.timings)
        self._offer(ProofKind.PROMISED, proof, sent_s, obs)

    def _decide_adoption(self, action: act.DecideAdoption, _obs: Observation) -> None:
        self._ports.promises.decide_to_adopt(action.queue, skip_waiting=action.skip_waiting)
        self._ports.ledger.note_adoption(Adoption(action.queue, AdoptionStep.DECIDED))
        self._ports.host.fault_point("adoption-decided")

    def _drop_adoption(self, action: act.DropAdoption, _obs: Observation) -> None:
        self._ports.mirrors.drop_receipt(action.queue)
        self._ports.ledger.note_adoption(None)
        self._ports.promises.end_adoption(action.queue)

    def _acquire_lease(self, action: act.AcquireLease, obs: Observation) -> None:
        answer = self._ports.control_plane.acquire(action.queue)
        self._ports.host.fault_point("lease-acquired")
        known = self._ports.ledger.generations().get(action.queue, 0)
        if answer.lease is None or answer.lease.generation < known:
            reason = answer.reason or f"generation {known} was seen before"
            self._drop_adoption(act.DropAdoption(action.queue), obs)
            raise Refused(f"The lease of {action.queue} was refused: {reason}")
        generation = answer.lease.generation
        self._ports.ledger.note_generation(action.queue, generation)
        self._ports.ledger.note_adoption(Adoption(action.queue, AdoptionStep.LEASED, generation))
        self._ports.host.fault_point("adoption-leased")

    def _write_receipt(self, action: act.WriteReceipt, _obs: Observation) -> None:
        self._ports.mirrors.write_receipt(action.queue, action.generation)
        self._ports.host.fault_point("receipt-written")
        adoption = Adoption(action.queue, AdoptionStep.LISTED, action.generation)
        self._ports.ledger.note_adoption(adoption)
        self._ports.host.fault_point("adoption-listed")

    def _commit_receipt(self, action: act.CommitReceipt, obs: Observation) -> None:
        """Commit, or ask again: the control plane gives the same answer to the same receipt."""
        receipt = self._ports.mirrors.receipt(action.queue)
        ids = receipt[1] if receipt is not None and receipt[0] == action.generation else ()
        request = wire.ReceiptRequest(queue=action.queue, generation=action.generation, ids=ids)
        answer = self._ports.control_plane.commit_receipt(request)
        self._ports.host.fault_point("receipt-committed")
        if answer.state is ReceiptState.UNKNOWN or answer.number is None:
            self._drop_adoption(act.DropAdoption(action.queue), obs)
            raise Refused(f"The receipt for {action.queue} was refused: {answer.reason}")
        self._narrow(action.queue, answer.excluded)
        ids = tuple(name for name in ids if name not in set(answer.excluded))
        self._ports.ledger.note_receipt(
            wire.RememberedReceipt(
                number=answer.number,
                queue=action.queue,
                generation=action.generation,
                holder=obs.node,
                ids=ids,
            )
        )
        adoption = Adoption(action.queue, AdoptionStep.COMMITTED, action.generation)
        self._ports.ledger.note_adoption(adoption)
        text = f"{len(ids)} messages of {action.queue} are ours now, by receipt {answer.number}."
        self._ports.host.event("adopted", text)
        self._ports.host.fault_point("adoption-committed")

    def _narrow(self, queue: str, excluded: tuple[str, ...]) -> None:
        """Leave to their owner what another node has adopted from the same queue before."""
        if excluded:
            self._ports.mirrors.narrow_receipt(queue, excluded)
            text = f"{len(excluded)} messages of {queue} were adopted by another node before."
            self._ports.host.event("receipt-narrowed", text)

    def _place_adopted(self, action: act.PlaceAdopted, _obs: Observation) -> None:
        while not self._ports.guard.place_some(action.queue, action.generation):
            self._ports.host.fault_point("placing")
        self._ports.host.fault_point("placed")
        adoption = Adoption(action.queue, AdoptionStep.PLACED, action.generation)
        self._ports.ledger.note_adoption(adoption)
        self._ports.host.flush()
        self._ports.host.fault_point("adoption-placed")

    def _finish_adoption(self, action: act.FinishAdoption, _obs: Observation) -> None:
        self._ports.control_plane.finish_receipt(action.queue, action.generation)
        self._ports.host.fault_point("receipt-done")
        self._ports.mirrors.finish_receipt(action.queue)
        self._ports.host.fault_point("receipt-closed")
        self._ports.control_plane.release(action.queue, action.generation)
        self._ports.ledger.note_adoption(None)
        self._ports.host.fault_point("adoption-ended")
        self._ports.promises.end_adoption(action.queue)

    def _release_lease(self, action: act.ReleaseLease, _obs: Observation) -> None:
        self._ports.control_plane.release(action.queue, action.generation)

    def _push(self, action: act.Push, _obs: Observation) -> None:
        """Push to every peer; one that fails does not keep the others waiting."""
        failed: list[str] = []
        for peer in action.peers:
            try:
                self._ports.peers.push(peer, action.generation)
            except AgentError as error:
                failed.append(f"{peer}: {error}")
        if failed:
            raise Refused(f"The push failed. {' '.join(failed)}")

    def _hand_over(self, action: act.HandOver, obs: Observation) -> None:
        if action.id <= self._ports.ledger.last_switchover_id():
            self._report_failed_switchover(action.id, "An earlier attempt failed; see the events.")
            return
        try:
            messages = self._hand_over_queue(action, obs)
        except AgentError as error:
            self._ports.ledger.note_switchover(action.id, action.destination, None)
            self._ports.host.event("switchover-failed", str(error))
            self._report_failed_switchover(action.id, str(error))
            return
        self._ports.host.set_fault(is_fault=True)
        text = f"{messages} messages are granted to {action.destination}."
        self._ports.host.event("switchover", text)

    def _report_failed_switchover(self, number: int, text: str) -> None:
        """End the wish: while it stands nothing is pushed, so this is repeated until heard."""
        result = wire.SwitchoverResult(id=number, ok=False, text=text)
        self._ports.control_plane.report_switchover(result)

    def _hand_over_queue(self, action: act.HandOver, obs: Observation) -> int:
        """Push, drain, push the rest and set aside in one freeze, then grant; see section 4.6."""
        if not obs.holds_vips:
            raise Refused(f"{obs.node} owns no VIP, so there is nothing to hand over.")
        peers, generation = self._ports.peers, action.generation
        peers.push(action.destination, generation)
        last = peers.push_last(action.destination, generation, "switchover")
        self._ports.host.fault_point("switchover-pushed")
        answer = self._ports.control_plane.grant(obs.node, generation, action.destination)
        if answer.lease is None:
            raise Refused(f"The control plane refused the grant: {answer.reason}")
        self._ports.host.fault_point("switchover-granted")
        handed = SwitchoverStep.HANDED
        self._ports.ledger.note_switchover(action.id, action.destination, handed)
        return last.messages

    def _end_switchover(self, action: act.EndSwitchover, obs: Observation) -> None:
        destination = obs.switchover.destination if obs.switchover is not None else ""
        result = wire.SwitchoverResult(id=action.id, ok=True, text="The VIP has moved.")
        try:
            self._ports.control_plane.report_switchover(result)
        except Refused as error:
            log.warning("switchover result refused", reason=str(error))
        self._ports.ledger.note_switchover(action.id, destination, None)

    def _set_fault(self, action: act.SetFault, _obs: Observation) -> None:
        self._ports.host.set_fault(is_fault=action.is_fault)

    def _drop_vip(self, action: act.DropVip, _obs: Observation) -> None:
        self._ports.host.drop_vips(action.vips)
        text = f"keepalived is dead here; dropped {', '.join(action.vips)}, which a peer holds too."
        self._ports.host.event("orphaned-vip", text)

    def _apply_config(self, action: act.ApplyConfig, _obs: Observation) -> None:
        self._ports.host.apply_config(action.version)

    def _write_ssh_files(self, _action: act.WriteSshFiles, obs: Observation) -> None:
        if obs.view is not None:
            self._ports.host.write_ssh_files(obs.view.peers)

    def _remove_retired(self, action: act.RemoveRetired, obs: Observation) -> None:
        keep_s = retired_keep_s(obs.timings)
        while not self._ports.guard.remove_retired_some(action.receipts, keep_s):
            self._ports.host.fault_point("removing-retired")
        text = f"Retired mail was removed: receipt {', '.join(map(str, action.receipts))}."
        self._ports.host.event("retired-removed", text)

    def _report_recovery(self, _action: act.ReportRecovery, obs: Observation) -> None:
        if obs.view is None:
            raise Unreachable
        ledger = self._ports.ledger
        self._ports.control_plane.recover(
            wire.RecoveryRequest(
                instance_id=obs.view.instance_id,
                generations=ledger.generations(),
                receipts=ledger.receipts(),
            )
        )
        ledger.note_instance(obs.view.instance_id)
