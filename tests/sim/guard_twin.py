"""The guard's twin: `nodeagent.guard` with sets for directories, over the same guard_state.

Each method is one operation under the guard's lock. It outlives the agent, dies with the host
and stands still while the host does; when a paused host goes on, its guard looks at the deadline
before anything else happens there, as the real one does within its polling interval.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from nodeagent.core.guard_state import GuardState, ProofOffer, after_aside, judge_proof
from nodeagent.core.observation import GuardView
from nodeagent.errors import BrokenState, Refused

if TYPE_CHECKING:
    from tests.sim.node import Node

FREEZE_LIMIT_S: Final = 0.5


@dataclass
class Freeze:
    """A freeze for a snapshot; `is_valid` turns False when it ended before its owner said so."""

    began_s: float
    is_valid: bool = True


class SimGuard:
    """The guard of one node; subclasses in `bugs` leave a clause out."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.freeze: Freeze | None = None
        self.is_draining = False
        self.busy_until_s = 0.0

    @property
    def state(self) -> GuardState:
        """What is on file in /run."""
        return self.node.run.guard

    @property
    def is_proven(self) -> bool:
        """Whether the node's old mail is its own at this moment."""
        return self.state.is_proven(self.node.boot_time_s())

    @property
    def has_pending(self) -> bool:
        """Whether any own mail is set aside."""
        return bool(self.node.disk.pending)

    @property
    def may_deliver(self) -> bool:
        """Whether the queue manager hands out mail."""
        return self.freeze is None and not self.is_draining

    def start(self) -> None:
        """Fence unless this boot's proof holds; a restarted guard has forgotten whose mail is."""
        self.freeze, self.is_draining = None, False
        self._save(replace(self.state, retired=None))
        if not self.is_proven:
            self.set_aside("start without a proof of the lease")
        self._watch_deadline()

    def _save(self, state: GuardState) -> None:
        self.node.run.guard = state

    def _watch_deadline(self) -> None:
        """Have the guard look when its proof runs out; an older watch finds nothing to do."""
        if self.state.deadline_s > 0:
            left_s = max(0.0, self.state.deadline_s - self.node.boot_time_s())
            self.node.on_own_clock(left_s, lambda: self.look(self))

    def look(self, watched: SimGuard) -> None:
        """Fence when the deadline has passed; `watched`: the guard that asked to be woken."""
        node = self.node
        if node.guard is not watched or not node.is_up or node.is_paused:
            return
        if self.state.is_fence_due(node.boot_time_s()) and self.busy_until_s <= node.now_s:
            self.fence()

    def fence(self) -> None:
        """Stop handing out mail, let running deliveries end for the drain limit, set aside."""
        if self.freeze is not None:
            self.freeze.is_valid = False
        self.is_draining = True
        left_s = self.state.drain_until_s - self.node.boot_time_s()
        if left_s <= 0 or not self.node.postfix.is_busy:
            self._end_fence()
            return
        self.busy_until_s = self.node.now_s + left_s / self.node.clock_rate
        self.node.on_own_clock(left_s, lambda: self.look(self))

    def _end_fence(self) -> None:
        self.busy_until_s = 0.0
        self.set_aside("the lease was not renewed in time")

    def set_aside(self, reason: str) -> None:
        """Drop the proof, kill every delivery, rename the queue aside; the order is the safety."""
        self._save(after_aside(self.state, self.node.boot_time_s()))
        if self.freeze is not None:
            self.freeze.is_valid = False
        self.is_draining = False
        self.node.postfix.kill_deliveries()
        self.node.disk.pending |= self.node.disk.live
        self.node.disk.live.clear()
        self.node.note("fence", reason)

    def status(self) -> GuardView:
        """Return what the guard knows."""
        remaining_s = max(0.0, self.state.deadline_s - self.node.boot_time_s())
        return GuardView(self.is_proven, remaining_s, self.state.generation, self.has_pending)

    def offer_proof(self, offer: ProofOffer) -> None:
        """Take a proof or refuse it."""
        self.look(self)
        state, refusal = judge_proof(self.state, offer, self.node.boot_time_s())
        if refusal:
            raise Refused(refusal)
        self._save(state)
        self._watch_deadline()

    def pending_ids(self) -> tuple[str, ...]:
        """Return the ids of pending messages."""
        return tuple(sorted(self.node.disk.pending))

    def may_take_back(self) -> Mapping[str, int]:
        """Return what is to be retired, or refuse because nothing may be moved now."""
        if not self.state.may_take_back(self.node.boot_time_s()):
            raise Refused("Nothing is taken back without a fresh proof of the lease.")
        return self.state.retired or {}

    def take_back_some(self) -> bool:
        """Move one pending message to where it belongs; True once nothing is pending."""
        retired, disk = self.may_take_back(), self.node.disk
        for name in sorted(disk.pending)[:1]:
            disk.pending.discard(name)
            if name in retired:
                disk.retired[name] = retired[name]
            else:
                disk.live.add(name)
        return not disk.pending

    def refuse_to_place(self) -> None:
        """Raise unless adopted mail may enter the live queue now."""
        if not self.is_proven or self.has_pending:
            raise Refused("Adopted mail is placed only while the own lease is proved.")

    def place_some(self, queue: str, generation: int) -> bool:
        """Move one message of a receipt into the live queue; True once all are there."""
        mirror = self.node.disk.mirror(queue)
        if mirror.receipt is None:
            raise BrokenState("There is no receipt.")
        if mirror.receipt[0] != generation:
            raise Refused("The receipt on disk is of another generation.")
        self.refuse_to_place()
        left = sorted(mirror.ids & mirror.receipt[1])
        for name in left[:1]:
            mirror.ids.discard(name)
            target = mirror.quarantine if name in self.node.disk.live else self.node.disk.live
            target.add(name)
        return len(left) <= 1

    def refuse_to_freeze(self) -> None:
        """Raise unless a snapshot may be taken now."""
        if not self.is_proven or self.has_pending:
            raise Refused("Nothing is pushed while the lease is not proved or mail is pending.")

    def begin_freeze(self) -> Freeze:
        """Freeze Postfix for a snapshot; it ends by itself after `FREEZE_LIMIT_S`."""
        self.look(self)
        if self.freeze is not None:
            raise Refused("Postfix is frozen already.")
        self.refuse_to_freeze()
        freeze = self.freeze = Freeze(self.node.boot_time_s())
        self.node.on_own_clock(FREEZE_LIMIT_S, lambda: self.abandon(freeze))
        return freeze

    def abandon(self, freeze: Freeze) -> None:
        """Thaw what nobody thawed: the agent is slow, hung or gone."""
        if self.freeze is freeze and self.node.guard is self and not self.node.is_paused:
            freeze.is_valid = False
            self.freeze = None
            self.node.postfix.thawed()

    def end_freeze(self, freeze: Freeze, aside_reason: str | None = None) -> None:
        """Thaw; with a reason the queue is set aside before anything of it runs again."""
        is_valid = self.freeze is freeze and freeze.is_valid and self.is_proven
        if is_valid and aside_reason is not None:
            self.set_aside(aside_reason)
        if self.freeze is freeze:
            self.freeze = None
            self.node.postfix.thawed()
        if not is_valid:
            raise Refused("The freeze ended before the snapshot was complete.")

    def begin_drain(self) -> None:
        """Stop handing out mail; running deliveries go on."""
        self.is_draining = True

    def end_drain(self) -> None:
        """Let the queue manager go on, unless the guard itself is fencing."""
        if self.busy_until_s <= 0:
            self.is_draining = False

    def agent_gone(self) -> None:
        """Its connections are closed: thaw, and let the queue manager go on."""
        if self.freeze is not None:
            self.abandon(self.freeze)
        self.end_drain()

    def resumed(self) -> None:
        """Look before anything else runs: the host goes on after a pause."""
        if self.freeze is not None and self.node.boot_time_s() - self.freeze.began_s > (
            FREEZE_LIMIT_S
        ):
            self.abandon(self.freeze)
        self.look(self)
