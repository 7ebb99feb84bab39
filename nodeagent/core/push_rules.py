"""Whether a mirror takes a push: the receiver's whole judgement, pure (DESIGN.md section 4.2).

Theory of operation. A push is an offer: whose queue it is, under which generation of the lease, the
sequence number it wants to become, and the one that it was computed against. The receiver looks
when a session begins, to spare a useless transfer, and again under the mirror's lock, which alone
counts: between the two anything may have happened, and a session outlives its sender.

A push is taken only on exactly the state that it was computed against (`base`), so a late one from
a session long dead is dropped whatever it holds. A push of changes only (not full) must also come
from the agent process and the generation that made the push before it.

The lowest generation is raised by this node's own adoption of the queue, before the receipt lists
what the mirror holds; nothing older gets in afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class PushRefusal(StrEnum):
    """Why a push is dropped; the words go over the wire and into events."""

    STRANGER = "stranger"
    DIRECTION = "direction"
    RECEIPT = "receipt"
    GENERATION = "generation"
    SEQUENCE = "sequence"
    BASE = "base"
    NOT_FULL = "not-full"


@dataclass(frozen=True, slots=True)
class MirrorState:
    """What a mirror has on disk about itself; `agent` names the process that pushed last."""

    queue: str
    highest_generation: int = 0  # of all pushes that were taken
    lowest_generation: int = 0  # raised by this node's own adoption
    sequence: int = 0
    agent: str = ""
    messages: int = 0

    @property
    def floor_generation(self) -> int:
        """The generation below which nothing is taken."""
        return max(self.highest_generation, self.lowest_generation)


@dataclass(frozen=True, slots=True)
class ReceiverState:
    """A mirror and its host at one moment; `addresses` None: they could not be read."""

    mirror: MirrorState
    peer: str  # whose key opened the connection
    addresses: frozenset[str] | None
    has_receipt: bool = False


@dataclass(frozen=True, slots=True)
class PushOffer:
    """What a sender says of its push; `sequence` 0: it only asks whether one would be taken."""

    queue: str
    generation: int
    agent: str
    holds_vips: frozenset[str]
    sequence: int = 0
    base: int = 0
    is_full: bool = False

    @property
    def is_question(self) -> bool:
        """Whether nothing is offered yet: the beginning of a session."""
        return self.sequence == 0


@dataclass(frozen=True, slots=True)
class PushVerdict:
    """Taken, or dropped with a reason and the sentence for people."""

    refusal: PushRefusal | None = None
    text: str = ""

    @property
    def is_accepted(self) -> bool:
        """Whether the push may be put in place."""
        return self.refusal is None


Rule = Callable[[ReceiverState, PushOffer], str]


def _stranger(state: ReceiverState, offer: PushOffer) -> str:
    if offer.queue == state.peer == state.mirror.queue:
        return ""
    return f"{state.peer} is a stranger to the queue {offer.queue!r}: it may push its own only."


def _direction(state: ReceiverState, offer: PushOffer) -> str:
    if state.addresses is None:
        return "This host's addresses cannot be read, so the direction is unknown."
    if not offer.holds_vips:
        return f"{offer.queue} owns no VIP, and mail flows from the active node only."
    both = sorted(offer.holds_vips & state.addresses)
    if both:
        return f"{', '.join(both)} is on this host too, and mail flows from the active node only."
    return ""


def _receipt(state: ReceiverState, _offer: PushOffer) -> str:
    if state.has_receipt:
        return f"This host is adopting {state.mirror.queue}; its receipt is not finished."
    return ""


def _generation(state: ReceiverState, offer: PushOffer) -> str:
    floor = state.mirror.floor_generation
    if offer.generation >= max(floor, 1):
        return ""
    return f"Generation {offer.generation} of {offer.queue} is old: {floor} is known here."


def _sequence(state: ReceiverState, offer: PushOffer) -> str:
    if offer.is_question or offer.sequence > state.mirror.sequence:
        return ""
    return f"Push {offer.sequence} of {offer.queue} is old: {state.mirror.sequence} is in place."


def _base(state: ReceiverState, offer: PushOffer) -> str:
    if offer.is_question or offer.base == state.mirror.sequence:
        return ""
    return f"The push builds on push {offer.base}, but {state.mirror.sequence} is in place."


def _not_full(state: ReceiverState, offer: PushOffer) -> str:
    known = (state.mirror.highest_generation, state.mirror.agent)
    if offer.is_question or offer.is_full or (offer.generation, offer.agent) == known:
        return ""
    return "The first push of a generation or of an agent process must compare everything."


RULES: Final[tuple[tuple[PushRefusal, Rule], ...]] = (
    (PushRefusal.STRANGER, _stranger),
    (PushRefusal.DIRECTION, _direction),
    (PushRefusal.RECEIPT, _receipt),
    (PushRefusal.GENERATION, _generation),
    (PushRefusal.SEQUENCE, _sequence),
    (PushRefusal.BASE, _base),
    (PushRefusal.NOT_FULL, _not_full),
)


def judge_push(state: ReceiverState, offer: PushOffer) -> PushVerdict:
    """Return whether the push is taken; the first rule that objects gives the reason."""
    for refusal, rule in RULES:
        text = rule(state, offer)
        if text:
            return PushVerdict(refusal, text)
    return PushVerdict()


def after_push(state: MirrorState, offer: PushOffer, messages: int) -> MirrorState:
    """Return the mirror's state once an accepted push is in place."""
    return MirrorState(
        queue=state.queue,
        highest_generation=offer.generation,
        lowest_generation=state.lowest_generation,
        sequence=offer.sequence,
        agent=offer.agent,
        messages=messages,
    )


def after_adoption(state: MirrorState, generation: int, messages: int) -> MirrorState:
    """Return the state once this node's own adoption raised the generation or took files out.

    The sequence moves and the agent is forgotten: whatever was computed against the mirror before
    does not fit any more, and the next push compares everything.
    """
    return MirrorState(
        queue=state.queue,
        highest_generation=state.highest_generation,
        lowest_generation=max(state.lowest_generation, generation),
        sequence=state.sequence + 1,
        agent="",
        messages=messages,
    )
