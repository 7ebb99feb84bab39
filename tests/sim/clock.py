"""The virtual clock: a queue of events in a fixed order, which may be advanced from inside an event.

Advancing from inside is how a process is paused between two lines: its own call does not return
while everything else goes on. Time never goes back; what became due meanwhile runs late.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(order=True)
class Event:
    """Something due at a time; equal times run in the order in which they were asked for."""

    at_s: float
    number: int
    run: Callable[[], None] = field(compare=False)
    is_cancelled: bool = field(default=False, compare=False)

    def cancel(self) -> None:
        """Have it never run."""
        self.is_cancelled = True


class Clock:
    """True time in seconds, which no node of the simulated cluster can read."""

    def __init__(self, now_s: float = 1000.0) -> None:
        self.now_s = now_s
        self._events: list[Event] = []
        self._number = 0

    def after(self, delay_s: float, run: Callable[[], None]) -> Event:
        """Run something `delay_s` from now."""
        if delay_s < 0:
            raise ValueError("Nothing happens in the past.")
        self._number += 1
        event = Event(self.now_s + delay_s, self._number, run)
        heapq.heappush(self._events, event)
        return event

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass and run what falls due."""
        until_s = self.now_s + seconds
        while self._events and self._events[0].at_s <= until_s:
            event = heapq.heappop(self._events)
            self.now_s = max(self.now_s, event.at_s)
            if not event.is_cancelled:
                event.run()
        self.now_s = max(self.now_s, until_s)
