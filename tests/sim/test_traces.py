"""The counterexamples of the ownership protocol: harmless with their clause, found without it."""

from __future__ import annotations

import pytest

from tests.sim.bugs import PLANTED, REAL
from tests.sim.traces import TRACES
from tests.sim.world import World


def ids(number: int) -> str:
    """Name a case by its trace."""
    return f"{number}-{TRACES[number].__name__}"


def test_every_trace_has_a_planted_bug():
    """None of the nineteen clauses goes unproved."""
    assert set(TRACES) == set(PLANTED) == set(range(1, 20))


@pytest.mark.parametrize("number", TRACES, ids=ids)
def test_a_trace_does_no_harm_with_its_clause(number: int):
    """The protocol as it ships survives each counterexample, and everything comes to rest."""
    with World(bugs=REAL) as world:
        TRACES[number](world)
        world.settle()
    assert world.truth.violations == [], "\n".join(world.trace)


@pytest.mark.parametrize("number", TRACES, ids=ids)
def test_a_trace_is_found_without_its_clause(number: int):
    """A simulator that does not see the missing clause proves nothing."""
    with World(bugs=PLANTED[number]) as world:
        TRACES[number](world)
        world.settle()
    assert world.truth.violations != [], "\n".join(world.trace)
