"""The steps of a switchover, read off what was seen: pure, one table of what each sight proves."""

from __future__ import annotations

from dataclasses import fields
from itertools import product
from typing import Any

import pytest

from controlplane.core.switchover_steps import (
    StepName,
    StepState,
    SwitchoverFacts,
    is_settled,
    steps_of,
)

ASKED_S = 100.0
PUSHED = {"pushed_at_s": 101.0, "pushed_messages": 7}
GRANTED = {"is_granted": True, "can_adopt": True}
TAKEN = {"granted_at_s": 102.0, "can_adopt": True}
ADOPTED = {"adopted_at_s": 103.0, "adopted_messages": 7}
PLACED = {**ADOPTED, "is_placed": True}
DONE = {"finished_at_s": 104.0, "is_ok": True}
FAILED = {"finished_at_s": 104.0, "is_ok": False}

SEEN: list[tuple[dict[str, Any], str]] = [
    ({}, "done running waiting waiting waiting"),
    (PUSHED, "done done running waiting waiting"),
    (GRANTED, "done done done running running"),
    (TAKEN, "done done done running running"),
    ({**TAKEN, **ADOPTED}, "done done done running running"),
    ({**TAKEN, **PLACED}, "done done done done running"),
    ({**TAKEN, "has_moved": True}, "done done done running done"),
    ({**TAKEN, **PLACED, **DONE}, "done done done done done"),
    ({**GRANTED, **DONE}, "done done done running done"),
    ({**PUSHED, **DONE}, "done done done missed done"),
    (FAILED, "done failed missed missed missed"),
    ({**PUSHED, **FAILED}, "done done failed missed missed"),
    ({**GRANTED, **FAILED}, "done done done running missed"),
    ({**TAKEN, **PLACED, **FAILED}, "done done done done missed"),
    ({"has_moved": True}, "done running waiting waiting waiting"),
]


@pytest.mark.parametrize(("seen", "states"), SEEN)
def test_each_sight_proves_its_steps(seen: dict[str, Any], states: str) -> None:
    """What was granted was pushed; a VIP that is elsewhere proves nothing without a grant."""
    steps = steps_of(SwitchoverFacts(ASKED_S, **seen))
    assert " ".join(step.state for step in steps) == states


def test_steps_say_when_and_how_many() -> None:
    """Only what was seen has a moment."""
    facts = SwitchoverFacts(ASKED_S, **PUSHED, **TAKEN, **PLACED, **DONE)
    steps = steps_of(facts)
    assert [step.at_s for step in steps] == [100.0, 101.0, 102.0, 103.0, 104.0]
    assert [step.messages for step in steps] == [None, 7, None, 7, None]
    assert [step.at_s for step in steps_of(SwitchoverFacts(ASKED_S, **DONE))][1:4] == [None] * 3


CHOICES: dict[str, tuple[Any, ...]] = {
    "requested_at_s": (ASKED_S,),
    "finished_at_s": (None, 104.0),
    "is_ok": (None, True, False),
    "pushed_at_s": (None, 101.0),
    "pushed_messages": (None, 7),
    "granted_at_s": (None, 102.0),
    "is_granted": (False, True),
    "can_adopt": (False, True),
    "adopted_at_s": (None, 103.0),
    "adopted_messages": (None, 7),
    "is_placed": (False, True),
    "has_moved": (False, True),
}


def test_no_sights_together_make_a_senseless_row() -> None:
    """Over all of them: the chain has no hole, and only a finished switchover fails or settles."""
    assert list(CHOICES) == [field.name for field in fields(SwitchoverFacts)]
    for values in product(*CHOICES.values()):
        facts = SwitchoverFacts(**dict(zip(CHOICES, values, strict=True)))
        if (facts.finished_at_s is None) is not (facts.is_ok is None):
            continue
        asked, pushed, granted, adopted, moved = (step.state for step in steps_of(facts))
        assert asked is StepState.DONE
        if granted is StepState.DONE:
            assert pushed is StepState.DONE
        if moved is StepState.DONE or adopted is StepState.DONE:
            assert granted is StepState.DONE
        if facts.finished_at_s is None:
            assert StepState.FAILED not in {pushed, granted}
            assert not is_settled(steps_of(facts)) or adopted in {StepState.DONE, StepState.MISSED}
        else:
            assert {pushed, granted, moved} <= {StepState.DONE, StepState.FAILED, StepState.MISSED}


@pytest.mark.parametrize(
    ("seen", "is_over"),
    [
        ({}, False),
        (PUSHED, False),
        (TAKEN, False),
        ({**TAKEN, **PLACED}, False),
        ({**TAKEN, **ADOPTED, **DONE}, False),
        ({**GRANTED, **FAILED}, False),
        ({**TAKEN, **PLACED, **DONE}, True),
        ({**TAKEN, **PLACED, "has_moved": True}, True),
        ({**TAKEN, **PLACED, **FAILED}, True),
        ({**PUSHED, **DONE}, True),
        (FAILED, True),
    ],
)
def test_a_switchover_is_settled_when_nothing_more_is_to_come(
    seen: dict[str, Any], is_over: bool
) -> None:
    """A source that reports its end does not end the adoption, which is the destination's."""
    assert is_settled(steps_of(SwitchoverFacts(ASKED_S, **seen))) is is_over


def test_steps_come_in_their_order_under_names_that_scripts_know() -> None:
    """The API and `relayctl` show them; what was asked is the first of them, at its moment."""
    steps = steps_of(SwitchoverFacts(ASKED_S))
    assert [step.name for step in steps] == list(StepName)
    assert [str(name) for name in StepName] == ["asked", "pushed", "granted", "adopted", "moved"]
    assert {str(state) for state in StepState} == {
        *("done", "running", "waiting", "failed", "missed")
    }
