"""The virtual clock: a queue of events in a fixed order, and calls that wait for a later one.

Time passes only in `advance`. A process is paused between two lines by suspending its fiber: its
own call does not return while everything else goes on.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.sim.fibers import Fiber


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
        self._suspended: set[Fiber] = set()

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

    def start(self, run: Callable[[], None]) -> None:
        """Run something that may call `sleep_until`."""
        Fiber(run).resume()

    def sleep_until(self, at_s: float) -> None:
        """Suspend the running fiber until `at_s`."""
        fiber = Fiber.current
        if fiber is None:
            raise ValueError("Only what was begun by `start` can sleep.")
        self._suspended.add(fiber)
        self.after(max(0.0, at_s - self.now_s), fiber.resume)
        fiber.suspend()
        self._suspended.discard(fiber)

    def close(self) -> None:
        """Resume every fiber that still sleeps, so that it can end."""
        while self._suspended:
            self._suspended.pop().resume()
