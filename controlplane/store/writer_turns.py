"""Who writes next on SQLite: in the order of coming, and heartbeats before log lines.

SQLite's lock goes to whoever asks in the moment it is free, and the others sleep between two
tries: a stream of long transactions leaves a short one "locked" until its time is up. So threads of
one process take turns before they ask for it. Other processes on the same file are left to it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from controlplane.errors import Unavailable


class WriterTurns:
    """One turn at a time; what is urgent is served first, otherwise first come, first served."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._changed = threading.Condition()
        self._is_taken = False
        self._urgent: deque[object] = deque()
        self._patient: deque[object] = deque()

    @property
    def waiting(self) -> int:
        """How many stand in line."""
        return len(self._urgent) + len(self._patient)

    @contextmanager
    def turn(self, *, is_urgent: bool) -> Iterator[None]:
        """Wait for the turn and have it; raises `Unavailable` when it does not come in time."""
        ticket = object()
        waiting = self._urgent if is_urgent else self._patient
        with self._changed:
            waiting.append(ticket)
            is_ours = self._changed.wait_for(lambda: self._is_next(ticket), self._limit_s)
            waiting.remove(ticket)
            if not is_ours:
                self._changed.notify_all()
                raise Unavailable("The database is busy; try again.")
            self._is_taken = True
        try:
            yield
        finally:
            with self._changed:
                self._is_taken = False
                self._changed.notify_all()

    def _is_next(self, ticket: object) -> bool:
        return not self._is_taken and (self._urgent or self._patient)[0] is ticket
