"""What validation found: one sentence a field, collected in the order of the checks."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

from controlplane.core.names import UNPRINTABLE, BadValue

T = TypeVar("T")
U = TypeVar("U")

SHOWN_CHARACTERS = 60


class Problem(NamedTuple):
    """One field of a spec and the sentence that says what is wrong with it.

    `field` is the path of the value with dots, list members by index: "nodes.0.address".
    """

    field: str
    sentence: str


class Findings:
    """Collects problems; the first sentence on a field stands, later ones are dropped."""

    def __init__(self) -> None:
        self._found: dict[str, str] = {}

    def add(self, field: str, sentence: str) -> None:
        """Note a problem."""
        self._found.setdefault(field, sentence)

    def problems(self) -> tuple[Problem, ...]:
        """Return everything noted, in that order."""
        return tuple(Problem(field, sentence) for field, sentence in self._found.items())

    def parsed(self, field: str, text: str, parse: Callable[[str], T]) -> T | None:
        """Return `parse(text)`, or None after noting why it cannot be used."""
        if UNPRINTABLE.search(text):
            self.unprintable(field)
            return None
        try:
            return parse(text)
        except BadValue as bad:
            self.add(field, f"{quoted(text)} {bad}.")
            return None

    def unprintable(self, field: str) -> None:
        """Note a value that could break out of its line."""
        name = field.rpartition(".")[2] if not field[-1:].isdigit() else field
        self.add(field, f"{name} must not contain line breaks or control characters.")

    def in_range(self, field: str, value: float, lowest: float, highest: float) -> bool:
        """Tell whether `value` lies in the range; note it otherwise. NaN lies in no range."""
        if lowest <= value <= highest:
            return True
        name = field.rpartition(".")[2]
        self.add(field, f"{name} {value} is not between {lowest} and {highest}.")
        return False

    def unique(self, field: str, value: U, seen: dict[U, str]) -> bool:
        """Tell whether `value` is the first of its kind in `seen`; note it otherwise."""
        first = seen.setdefault(value, field)
        if first == field:
            return True
        self.add(field, f"{value} is already used by {first}.")
        return False


def quoted(text: str) -> str:
    """Return a value for a sentence: in quotes, and short."""
    short = text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 3] + "..."
    return f'"{short}"'
