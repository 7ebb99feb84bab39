"""Reads a regular expression that RE2 has accepted into a tree, to reason about its automaton.

Theory of operation. What one step of the automaton reads (a character, a class, a dot) stays text,
together with the flags in force: RE2 itself says later which characters it means. Anchors and word
boundaries read nothing, so they are empty; that can only make an automaton larger than it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import re2

_REPEAT: Final = re.compile(r"(?:([*+?])|\{(\d+)(,(\d*))?\})\??")
_FLAGS: Final = re.compile(r"\(\?([imsU]*(?:-[imsU]+)?)([:)])")
_GROUP: Final = re.compile(r"\((?:\?(?:P?<\w+>|:))?")
_NOTHING: Final = re.compile(r"\\[Az]|[\^$]")
_EDGE: Final = re.compile(r"\\[bB]")
_ESCAPE: Final = re.compile(r"\\(?:[pPx]\{[^}]*\}|x[0-9A-Fa-f]{2}|[pP].|[0-7]{1,3}|.)", re.DOTALL)
_CLASS: Final = re.compile(
    rf"\[\^?\]?(?:\[:\^?\w+:\]|{_ESCAPE.pattern}|[^\]\\])*\]",
    re.DOTALL,
)
_QUOTED: Final = re.compile(r"\\Q(.*?)(?:\\E|\Z)", re.DOTALL)
_STARTS: Final = ("^", r"\A")


@dataclass(frozen=True)
class Atom:
    """What reads one character: an expression of RE2 for it; `letter` when it is a plain one."""

    expression: str
    letter: str | None = None


@dataclass(frozen=True)
class Sequence:
    """One after the other; () reads nothing."""

    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Assertion(Sequence):
    """Reads nothing, and wants to be where it is: the edge of a word."""

    parts: tuple[Node, ...] = ()
    expression: str = ""


@dataclass(frozen=True)
class Choice:
    """One of them."""

    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Repeat:
    """`least` to `most` times; None: without end."""

    part: Node
    least: int
    most: int | None


Node = Atom | Sequence | Choice | Repeat
EMPTY: Final = Sequence(())


@dataclass(frozen=True)
class Pattern:
    """A whole expression; `is_anchored` when it can match at the start of the text only."""

    tree: Node
    is_anchored: bool


def parse(pattern: str) -> Pattern:
    """Return the tree of an expression; raises ValueError for what is not understood."""
    reader = _Reader(pattern)
    tree = reader.choice()
    if reader.place < len(pattern):
        raise ValueError(f"not understood at character {reader.place + 1}")
    is_choice = isinstance(tree, Choice)
    return Pattern(tree, pattern.startswith(_STARTS) and not is_choice)


class _Reader:
    """Recursive descent over the expression."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.place = 0
        self.flags: frozenset[str] = frozenset()  # of "s" and "-i": what changes an atom

    def choice(self) -> Node:
        """Read alternatives up to a closing parenthesis or the end."""
        outer = self.flags
        parts = [self.sequence()]
        while self.text.startswith("|", self.place):
            self.place += 1
            parts.append(self.sequence())
        self.flags = outer
        return parts[0] if len(parts) == 1 else Choice(tuple(parts))

    def sequence(self) -> Node:
        """Read what stands in one alternative."""
        parts: list[Node] = []
        while self.place < len(self.text) and self.text[self.place] not in "|)":
            items = list(self.items())
            repeat = _REPEAT.match(self.text, self.place)
            if items and repeat:
                self.place = repeat.end()
                items[-1] = _repeated(items[-1], repeat)
            parts += items
        return parts[0] if len(parts) == 1 else Sequence(tuple(parts))

    def items(self) -> Iterator[Node]:
        """Read one item; a quotation gives several, a change of flags none."""
        if self._takes(_NOTHING):
            yield EMPTY
        elif edge := self._takes(_EDGE):
            yield Assertion(expression=edge[0])
        elif quoted := self._takes(_QUOTED):
            for letter in quoted[1]:
                yield self._letter(letter)
        elif flags := self._takes(_FLAGS):
            yield from self._flagged(flags)
        elif self._takes(_GROUP):
            inner = self.choice()
            self._close()
            yield inner
        elif found := self._takes(_CLASS) or self._takes(_ESCAPE):
            yield self._atom(found[0])
        else:
            letter = self.text[self.place]
            self.place += 1
            yield self._atom(letter) if letter == "." else self._letter(letter)

    def _flagged(self, found: re.Match[str]) -> Iterator[Node]:
        on, _, off = found[1].partition("-")
        outer, new = self.flags, set(self.flags)
        new |= {"s"} & set(on) | ({"-i"} if "i" in off else set())
        new -= {"s"} & set(off) | ({"-i"} if "i" in on else set())
        self.flags = frozenset(new)
        if found[2] == ":":
            inner = self.choice()
            self._close()
            self.flags = outer
            yield inner

    def _takes(self, wanted: re.Pattern[str]) -> re.Match[str] | None:
        found = wanted.match(self.text, self.place)
        if found:
            self.place = found.end()
        return found

    def _close(self) -> None:
        if not self.text.startswith(")", self.place):
            raise ValueError("a parenthesis is not closed")
        self.place += 1

    def _letter(self, letter: str) -> Atom:
        return Atom(self._atom(str(re2.escape(letter))).expression, letter)

    def _atom(self, expression: str) -> Atom:
        flags = ("s" if "s" in self.flags else "") + ("-i" if "-i" in self.flags else "")
        return Atom(f"(?{flags}:{expression})" if flags else expression)


def _repeated(part: Node, found: re.Match[str]) -> Node:
    operator, least, comma, most = found.groups()
    if operator:
        return Repeat(part, 1 if operator == "+" else 0, 1 if operator == "?" else None)
    if comma is None:
        return Repeat(part, int(least), int(least))
    return Repeat(part, int(least), int(most) if most else None)
