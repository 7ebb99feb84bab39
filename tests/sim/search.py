"""A seeded random search: many short lives of a cluster, each repeated exactly by its seed.

    python -m tests.sim.search FIRST COUNT [NODES]

prints the trace of the first run that breaks a promise.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from random import Random
from typing import Final

from tests.sim.bugs import REAL, Clauses
from tests.sim.moves import Move, apply, random_move, random_weights
from tests.sim.traces import start
from tests.sim.world import World

MOVES: Final = 36
SKEWS: Final = (1.0, 0.96, 1.04)


@dataclass(frozen=True)
class Finding:
    """A run that broke a promise."""

    seed: int
    moves: tuple[Move, ...]
    violations: tuple[str, ...]
    trace: tuple[str, ...]


def play(moves: tuple[Move, ...], world: World, *, is_settled: bool = True) -> None:
    """Do the moves until a promise breaks; then heal everything and check the end."""
    start(world)
    for move in moves:
        apply(world, move)
        if world.truth.violations:
            return
    if is_settled:
        world.settle()


def live(
    seed: int,
    names: tuple[str, ...] = ("a", "b"),
    clauses: Clauses = REAL,
    kinds: tuple[str, ...] = (),
) -> Finding | None:
    """Play one life; with `kinds` only these faults happen in it."""
    random = Random(seed)
    rates = tuple(random.choice(SKEWS) for _ in names)
    weights, length = random_weights(random, kinds), random.randrange(6, MOVES)
    moves = tuple(random_move(random, names, weights) for _ in range(length))
    with World(names, bugs=clauses, clock_rates=rates) as world:
        play(moves, world)
        if not world.truth.violations:
            return None
        return Finding(seed, moves, tuple(world.truth.violations), tuple(world.trace))


def search(
    seeds: range,
    names: tuple[str, ...] = ("a", "b"),
    clauses: Clauses = REAL,
    kinds: tuple[str, ...] = (),
) -> Finding | None:
    """Return the first life that breaks a promise."""
    lives = (live(seed, names, clauses, kinds) for seed in seeds)
    return next((found for found in lives if found is not None), None)


def main() -> None:
    """Search, and print what was found."""
    first, count = int(sys.argv[1]), int(sys.argv[2])
    names = tuple("abcdef"[: int(sys.argv[3])]) if len(sys.argv) > 3 else ("a", "b")
    found = search(range(first, first + count), names)
    if found is None:
        sys.stdout.write(f"{count} lives, no promise broken.\n")
        return
    sys.stdout.write("\n".join((*found.trace, f"seed {found.seed}", *found.violations)) + "\n")


if __name__ == "__main__":
    main()
