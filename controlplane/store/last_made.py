"""Keeps what was made last, and from what: for what takes longer to make than to compare."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

Source = TypeVar("Source")
Made = TypeVar("Made")


class LastMade(Generic[Source, Made]):
    """Makes a value anew only when its source differs from the last one; for any thread."""

    def __init__(self, make: Callable[[Source], Made]) -> None:
        self._make = make
        self._last: tuple[Source, Made] | None = None

    def of(self, source: Source) -> Made:
        """Return what `source` makes."""
        last = self._last
        if last is None or last[0] != source:
            self._last = last = (source, self._make(source))
        return last[1]
