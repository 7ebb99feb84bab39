"""What the lease guard knows and which proofs it takes: pure, so that the simulator runs it too.

Theory of operation. The guard is either *proven*, with a deadline, or it is not, and then the whole
old queue is set aside. Three kinds of proof exist. A RENEWED or PROMISED proof only extends what is
proven already: whatever was fenced in between stays fenced. An ACQUIRED proof makes an unproven
guard proven; it carries the answer to "which of the pending messages belong to somebody else", read
in the same transaction as the lease, and only with that answer may anything be taken back. Every
proof names the boot time at which its request was sent; a request sent before the last fence proves
nothing, however late its answer comes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum


class ProofKind(StrEnum):
    """Where a proof comes from."""

    ACQUIRED = "acquired"
    RENEWED = "renewed"
    PROMISED = "promised"


@dataclass(frozen=True)
class ProofOffer:
    """A proof as the agent brings it; `retired` maps queue id to receipt number (ACQUIRED only)."""

    kind: ProofKind
    generation: int
    deadline_s: float
    sent_s: float
    drain_s: float = 0.0
    retired: Mapping[str, int] | None = None


@dataclass(frozen=True)
class GuardState:
    """`deadline_s` 0: not proven. `aside_s`: the boot time of the last fence."""

    generation: int = 0
    deadline_s: float = 0.0
    aside_s: float = 0.0
    drain_s: float = 0.0
    retired: Mapping[str, int] | None = None

    def is_proven(self, now_s: float) -> bool:
        """Tell whether the node's old mail is its own at this moment."""
        return now_s < self.deadline_s

    def is_fence_due(self, now_s: float) -> bool:
        """Tell whether a proof has run out and the queue is not set aside yet."""
        return self.deadline_s > 0 and not self.is_proven(now_s)

    @property
    def drain_until_s(self) -> float:
        """Until when running deliveries may end by themselves.

        It counts from the deadline, not from the moment of looking: a host that stood still past it
        grants no further time, because somebody else may have adopted meanwhile.
        """
        return self.deadline_s + self.drain_s

    def may_take_back(self, now_s: float) -> bool:
        """Tell whether pending mail may be moved: proven, and told whose it is."""
        return self.is_proven(now_s) and self.retired is not None


def judge_proof(state: GuardState, offer: ProofOffer, now_s: float) -> tuple[GuardState, str]:
    """Return the state after this proof and "", or the same state and the sentence that refuses."""
    if offer.deadline_s <= now_s:
        return state, "The proof has already run out."
    if offer.sent_s < state.aside_s:
        return state, "The proof was asked for before the last fence."
    if offer.generation < state.generation:
        return state, f"Generation {offer.generation} is below {state.generation}."
    if offer.kind is ProofKind.ACQUIRED:
        return (
            replace(
                state,
                generation=offer.generation,
                deadline_s=offer.deadline_s,
                drain_s=offer.drain_s,
                retired=dict(offer.retired or {}),
            ),
            "",
        )
    if not state.is_proven(now_s):
        return state, "Only an acquired lease proves anything after a fence."
    if offer.generation != state.generation:
        return state, f"A renewal of generation {offer.generation} is not ours."
    deadline_s = max(state.deadline_s, offer.deadline_s)
    return replace(state, deadline_s=deadline_s, drain_s=offer.drain_s), ""


def after_aside(state: GuardState, now_s: float) -> GuardState:
    """Return the state once the queue is set aside: nothing is proved, nothing may come back."""
    return replace(state, deadline_s=0.0, aside_s=now_s, retired=None)
