"""Keeps what a stranger can cause without sending a mail from filling the policy log.

The log is bounded: its oldest lines are dropped at a size, and a gap says how many. A stranger who
only connects must not push out the lines of mails that way, so of what is asked without a message
some lines a minute are written for each rule, and the rest is counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

MOST_A_WINDOW: Final = 60
WINDOW_S: Final = 60.0


@dataclass
class _Window:
    began_s: float
    written: int = 0
    left_out: int = 0


@dataclass
class RareLines:
    """Times are of any clock that only rises; there are few rules, and none is a stranger's."""

    most: int = MOST_A_WINDOW
    window_s: float = WINDOW_S
    _windows: dict[str, _Window] = field(default_factory=dict)

    def takes(self, rule: str, now_s: float) -> bool:
        """Tell whether a line of this rule is written now; one that is not is counted."""
        window = self._windows.setdefault(rule, _Window(now_s))
        if now_s - window.began_s >= self.window_s:
            window.began_s, window.written = now_s, 0
        if window.written < self.most:
            window.written += 1
            return True
        window.left_out += 1
        return False

    def left_out(self, now_s: float | None) -> Iterator[tuple[str, int]]:
        """Give and forget what was counted in windows that are over by now; None: in all."""
        for rule, window in self._windows.items():
            is_over = now_s is None or now_s - window.began_s >= self.window_s
            if window.left_out and is_over:
                count, window.left_out = window.left_out, 0
                yield rule, count
