"""How far a switchover has come: steps that follow from what the control plane itself has seen.

Theory of operation. The source pushes, grants its lease and gives up the VIP; the destination
adopts (section 4.6). Neither says "I am at step three": each step is read off what it leaves
behind, a push in a report, a lease that is granted or has another holder, a receipt. Granting
proves pushing, for nothing is granted that was not pushed. Adopting and moving the VIP go side by
side.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class StepName(StrEnum):
    """What happens in a switchover."""

    ASKED = "asked"
    PUSHED = "pushed"
    GRANTED = "granted"
    ADOPTED = "adopted"
    MOVED = "moved"


class StepState(StrEnum):
    """How far one step is; MISSED: it did not happen, and will not."""

    DONE = "done"
    RUNNING = "running"
    WAITING = "waiting"
    FAILED = "failed"
    MISSED = "missed"


@dataclass(frozen=True)
class SwitchoverFacts:
    """What was seen of one switchover; None: not seen. Moments are the database's clock."""

    requested_at_s: float
    finished_at_s: float | None = None
    is_ok: bool | None = None
    pushed_at_s: float | None = None
    pushed_messages: int | None = None
    granted_at_s: float | None = None
    is_granted: bool = False
    can_adopt: bool = False  # the lease is granted to the destination, or the destination's
    adopted_at_s: float | None = None
    adopted_messages: int | None = None
    is_placed: bool = False  # all adopted mail is in the destination's live queue
    has_moved: bool = False  # the destination says that it holds a VIP, the source that it does not


@dataclass(frozen=True)
class Step:
    """One step; `messages` where the step concerns mail."""

    name: StepName
    state: StepState
    at_s: float | None = None
    messages: int | None = None


OPEN: Final = (StepState.RUNNING, StepState.WAITING)


def steps_of(facts: SwitchoverFacts) -> tuple[Step, ...]:
    """Return all steps in their order."""
    is_granted = (
        facts.is_granted
        or facts.granted_at_s is not None
        or facts.adopted_at_s is not None
        or facts.is_ok is True
    )
    is_pushed = is_granted or facts.pushed_at_s is not None
    is_over = facts.finished_at_s is not None
    return (
        Step(StepName.ASKED, StepState.DONE, facts.requested_at_s),
        Step(
            StepName.PUSHED,
            _state(is_done=is_pushed, is_next=True, is_over=is_over),
            facts.pushed_at_s,
            facts.pushed_messages,
        ),
        Step(
            StepName.GRANTED,
            _state(is_done=is_granted, is_next=is_pushed, is_over=is_over),
            facts.granted_at_s,
        ),
        Step(
            StepName.ADOPTED,
            _adopted(facts, is_granted=is_granted),
            facts.adopted_at_s,
            facts.adopted_messages,
        ),
        Step(
            StepName.MOVED,
            _moved(facts, is_granted=is_granted),
            facts.finished_at_s if facts.is_ok else None,
        ),
    )


def is_settled(steps: tuple[Step, ...]) -> bool:
    """Tell whether nothing more is to be expected."""
    return not any(step.state in OPEN for step in steps)


def _state(*, is_done: bool, is_next: bool, is_over: bool) -> StepState:
    if is_done:
        return StepState.DONE
    if is_over:
        return StepState.FAILED if is_next else StepState.MISSED
    return StepState.RUNNING if is_next else StepState.WAITING


def _adopted(facts: SwitchoverFacts, *, is_granted: bool) -> StepState:
    if facts.adopted_at_s is not None:
        return StepState.DONE if facts.is_placed else StepState.RUNNING
    if not is_granted:
        return StepState.WAITING if facts.finished_at_s is None else StepState.MISSED
    return StepState.RUNNING if facts.can_adopt else StepState.MISSED


def _moved(facts: SwitchoverFacts, *, is_granted: bool) -> StepState:
    if facts.is_ok or (is_granted and facts.has_moved):
        return StepState.DONE
    if facts.finished_at_s is not None:
        return StepState.MISSED
    return StepState.RUNNING if is_granted else StepState.WAITING
