"""Counts the states that the automaton of regular expressions can have, before a stranger does.

Theory of operation. RE2 makes the states of its deterministic automaton when a text first asks for
them. A step to a state that is there costs about a nanosecond, a new one about `UNIT_NS` times its
units of work. So the most that any text can cost is the sum over all states, which is found here
by making them all (Glushkov's positions, subset construction over classes of characters), up to a
limit. An expression beyond it is refused: for it there may be a text that asks for a new state with
each byte.

Characters are told apart as the expressions do: all of ASCII, the letters that are written in them
with their neighbours, and samples of the scripts of the world.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from typing import Any, Final

import re2

from nodeagent.policy.engine.patterns import Atom, Choice, Node, Pattern, Repeat, parse

UNIT_NS: Final = 80  # measured: about 500 ns for a state, and 80 ns for each position in it
STATE_UNITS: Final = 6
STATE_BYTES: Final = 120
CLASS_BYTES: Final = 16
MOST_UNITS: Final = 150_000  # 12 ms; three times that was seen where classes are large
MOST_MEMORY_BYTES: Final = 6 * 1024 * 1024
MOST_POSITIONS: Final = 2_000
MOST_POSITIONS_TOGETHER: Final = 20_000
WIDE: Final = 20  # letters of ASCII
MOST_STEPS: Final = 2_000_000  # of our own counting
_CACHED: Final = 4_096
_SAMPLES: Final = (  # letters, marks, digits and signs of the scripts in use
    "\u00e4\u00c4\u00df\u00e9\u00f1\u00f8\u00fe\u00ff\u0141\u0142\u017f\u00a0\u00aa\u00b2"
    "\u00ab\u201c\u2013\u2026\u20ac\u2122\u00bd\u03a3\u03c3\u03c2\u0416\u0436\u0448\u05d0"
    "\u05d1\u05b0\u0639\u0647\u064b\u0663\u0939\u093f\u0969\u0e44\u0e17\u6f22\u5b57\u4eee"
    "\u540d\u3072\u30ab\ud55c\uae00\u13e3\u2163\u24d0\U0001d538\U0001f600\u0301\u200b\u2028"
    "\ue000\U00010400"
)
_TOO_MUCH: Final = (
    "Some texts would take too long to search with this regular expression; shorten repetitions"
    ' such as ".{0,40}" behind something that can begin anywhere, or write ".*".'
)
_NOTHING: Final = (True, 0, 0)
_ASCII: Final = "".join(map(chr, range(128)))


@dataclass(frozen=True)
class Work:
    """The most that any text can make RE2 build for some expressions."""

    units: int = 0
    states: int = 0
    loops: int = 0  # what goes on over many letters, so that what was read is long remembered
    problem: str | None = None  # one sentence, when it is more than the limit


@dataclass
class _Automaton:
    """Positions of the atoms, at most so many; masks are sets of positions."""

    most: int
    atoms: dict[Atom, int] = field(default_factory=dict)  # to the mask of its positions
    follow: list[int] = field(default_factory=list)  # what may stand behind each position
    first: int = 0
    always: int = 0  # of `first`, what may begin anywhere
    behind_empty: int = 0  # what is in no common list of RE2 with others that begin so

    def add(self, pattern: Pattern) -> None:
        """Put one more expression beside those that are there."""
        _, first, _ = self._build(pattern.tree)
        self.first |= first
        if not pattern.is_anchored:
            self.always |= first

    def wide_loops(self) -> int:
        """Return how many positions follow themselves over many kinds of letters."""
        return sum(
            bool(self.follow[position] & 1 << position)
            for atom, mask in self.atoms.items()
            if is_wide(atom)
            for position in _positions(mask)
        )

    def _build(self, node: Node) -> tuple[bool, int, int]:
        """Return whether a part can be empty, and where it begins and ends."""
        if isinstance(node, Atom):
            return self._position(node)
        if isinstance(node, Repeat):
            return self._repeat(node)
        if isinstance(node, Choice):
            built = [self._build(part) for part in node.parts]
            return any(one[0] for one in built), _union(built, 1), _union(built, 2)
        return self._row(self._build(part) for part in node.parts)

    def _position(self, atom: Atom) -> tuple[bool, int, int]:
        if len(self.follow) >= self.most:
            raise _TooLarge
        mask = 1 << len(self.follow)
        self.follow.append(0)
        self.atoms[atom] = self.atoms.get(atom, 0) | mask
        return False, mask, mask

    def _row(self, parts: Iterator[tuple[bool, int, int]]) -> tuple[bool, int, int]:
        can_be_empty, first, last = True, 0, 0
        for part_empty, part_first, part_last in parts:
            self._follows(last, part_first)
            self.behind_empty |= part_first if can_be_empty and first else 0
            first |= part_first if can_be_empty else 0
            last = part_last | (last if part_empty else 0)
            can_be_empty = can_be_empty and part_empty
        return can_be_empty, first, last

    def _repeat(self, node: Repeat) -> tuple[bool, int, int]:
        """Build copies as RE2 does: "x{2,4}" is "xx(x(x)?)?", "x{2,}" is "xx+"."""
        tail = _NOTHING
        if node.most is None:
            empty, first, last = self._build(node.part)
            self._follows(last, first)
            tail = (empty or node.least == 0, first, last)
        for _ in range((node.most or 0) - node.least):
            _, first, last = self._row(iter((self._build(node.part), tail)))
            tail = (True, first, last)
        required = node.least - (1 if node.most is None and node.least else 0)
        return self._row(chain((self._build(node.part) for _ in range(required)), (tail,)))

    def _follows(self, last: int, first: int) -> None:
        if first:
            for position in _positions(last):
                self.follow[position] |= first


def is_wide(atom: Atom) -> bool:
    """Tell whether it reads many kinds of letters."""
    return atom.letter is None and len(_read_by(atom, _ASCII)) > WIDE


class _TooLarge(Exception):
    """More positions or states than are looked at."""


@lru_cache(maxsize=_CACHED)
def work_of(*patterns: str) -> Work:
    """Return the work of expressions that RE2 has accepted, and that are searched together."""
    automaton = _Automaton(MOST_POSITIONS if len(patterns) == 1 else MOST_POSITIONS_TOGETHER)
    try:
        for pattern in patterns:
            automaton.add(parse(pattern))
    except (_TooLarge, RecursionError):
        return Work(problem="The regular expression is too large; use smaller repetitions.")
    except ValueError as error:
        return Work(problem=f"The regular expression is not understood: {error}.")
    units, states, is_whole = _count(automaton)
    return Work(units, states, automaton.wide_loops(), None if is_whole else _TOO_MUCH)


def _count(automaton: _Automaton) -> tuple[int, int, bool]:
    """Return units and number of states, and whether that is all of them."""
    classes = _classes(automaton)
    variants = _byte_variants(automaton)
    beginnings = [
        automaton.always | _next(automaton, automaton.always & letters) for letters in classes
    ]
    listed = automaton.first & ~automaton.behind_empty
    roots = sum(1 for mask in automaton.atoms.values() if mask & listed) // 4
    roots += (automaton.first & automaton.behind_empty).bit_count()
    seen, waiting = {automaton.first}, [automaton.first]
    units = memory_bytes = steps = 0
    while waiting:
        state = waiting.pop() & ~automaton.always
        active = state.bit_count()
        units += variants * (STATE_UNITS + active + roots)
        memory_bytes += variants * (STATE_BYTES + CLASS_BYTES * len(classes) + 4 * active)
        steps += len(classes) + active
        if units > MOST_UNITS or memory_bytes > MOST_MEMORY_BYTES or steps > MOST_STEPS:
            return units, len(seen), False
        for letters, beginning in zip(classes, beginnings, strict=True):
            hit = state & letters
            new = beginning | _next(automaton, hit) if hit else beginning
            if new not in seen:
                seen.add(new)
                waiting.append(new)
    return units, len(seen), True


def _byte_variants(automaton: _Automaton) -> int:
    """Return how many states RE2 may make of one of ours, as it can stop within a character.

    It reads bytes: a dot adds a few ways to be within one, the class of all letters a hundred.
    """
    wide = (one for one in automaton.atoms if one.letter is None and _read_by(one, _SAMPLES))
    sizes: Iterator[int] = (_compiled(one.expression).programsize for one in wide)
    return 1 + sum(2 + size // 10 for size in sizes)


def _next(automaton: _Automaton, positions: int) -> int:
    mask = 0
    for position in _positions(positions):
        mask |= automaton.follow[position]
    return mask


def _classes(automaton: _Automaton) -> list[int]:
    """Return, for each kind of character, the positions that read it."""
    written = {atom.letter for atom in automaton.atoms if atom.letter}
    beside = {chr(ord(one) + by) for one in written if one > "\x7f" for by in (-1, 1)}
    beside |= {letter for atom in automaton.atoms for letter in atom.expression if letter > "\x7f"}
    alphabet = "".join(sorted(set(_ASCII + _SAMPLES) | written | beside))
    reads: dict[str, int] = dict.fromkeys(alphabet, 0)
    for atom, mask in automaton.atoms.items():
        for letter in _read_by(atom, alphabet):
            reads[letter] |= mask
    return list(set(reads.values()))


@lru_cache(maxsize=_CACHED)
def _read_by(atom: Atom, alphabet: str) -> tuple[str, ...]:
    return tuple(_compiled(atom.expression).findall(alphabet))


def _compiled(expression: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    options.case_sensitive = False
    return re2.compile(expression, options)


def _positions(mask: int) -> Iterator[int]:
    while mask:
        lowest = mask & -mask
        yield lowest.bit_length() - 1
        mask ^= lowest


def _union(built: list[tuple[bool, int, int]], which: int) -> int:
    mask = 0
    for one in built:
        mask |= one[which]
    return mask
