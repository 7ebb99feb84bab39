"""What a text must have for an expression to match: the longest part without a long repetition.

Theory of operation. Many expressions searched together are one automaton, whose states are the
combinations of theirs. An expression that reads "the rest of the line" stays open over it, and a
hostile text opens them in every order, so that nearly each byte asks for a new state. Parts without
such repetitions have few states together; and where one of them is, the whole expression is
searched by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from nodeagent.policy.engine.automata import is_wide
from nodeagent.policy.engine.patterns import Assertion, Atom, Choice, Node, Repeat, Sequence, parse

MOST_COPIES: Final = 4


@dataclass(frozen=True)
class _Part:
    """An expression that reads at least so many letters; `is_whole`: what follows it is next."""

    expression: str
    letters: int
    is_whole: bool


_NOTHING: Final = _Part("", 0, is_whole=True)
_CUT: Final = _Part("", 0, is_whole=False)


def necessary_part(pattern: str) -> str:
    """Return an expression, in any case, that is found in each text in which `pattern` is.

    That is `pattern` itself where it needs nothing for sure.
    """
    best = max(_row((parse(pattern).tree,)), key=lambda part: part.letters)
    return best.expression if best.letters else pattern


def _row(nodes: Iterable[Node]) -> Iterator[_Part]:
    """Give what stands between long repetitions; the last one is whole, if it is to the end."""
    open_part = _NOTHING
    for node in _flat(nodes):
        found = _part(node)
        together = open_part.expression + found.expression
        open_part = _Part(together, open_part.letters + found.letters, found.is_whole)
        if not found.is_whole:
            yield open_part
            open_part = _NOTHING
    yield open_part


def _flat(nodes: Iterable[Node]) -> Iterator[Node]:
    for node in nodes:
        if isinstance(node, Sequence) and not isinstance(node, Assertion):
            yield from _flat(node.parts)
        else:
            yield node


def _part(node: Node) -> _Part:
    """Return what a node begins with, up to the first long repetition."""
    if isinstance(node, Assertion):
        return _Part(node.expression, 0, is_whole=True)
    if isinstance(node, Atom):
        return _Part(node.expression, 1, is_whole=True)
    if isinstance(node, Repeat):
        return _repeated(node)
    if isinstance(node, Choice):
        return _one_of([_part(part) for part in node.parts])
    return next(_row(node.parts))


def _one_of(parts: list[_Part]) -> _Part:
    if not any(part.expression for part in parts):
        return _NOTHING if all(part.is_whole for part in parts) else _CUT
    is_whole = all(part.is_whole for part in parts)
    if not is_whole and any(not part.letters for part in parts):
        return _CUT
    alternatives = "|".join(part.expression for part in parts)
    return _Part(f"(?:{alternatives})", min(part.letters for part in parts), is_whole)


def _repeated(node: Repeat) -> _Part:
    part = _part(node.part)
    is_short = node.most is not None and node.most <= MOST_COPIES
    is_narrow = node.most is None and isinstance(node.part, Atom) and not is_wide(node.part)
    if part.is_whole and (is_short or is_narrow):
        most = "" if node.most is None else str(node.most)
        expression = f"(?:{part.expression}){{{node.least},{most}}}"
        return _Part(expression, part.letters * node.least, is_whole=True)
    return _Part(part.expression, part.letters, is_whole=False) if node.least else _CUT
