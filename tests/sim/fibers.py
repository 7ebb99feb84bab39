"""Calls that can be suspended: in threads, of which exactly one runs at any moment.

The simulator's own thread runs the events. A fiber runs inside one event until it suspends itself
or ends; a later event resumes it. Nothing ever runs in parallel, so a run is repeated exactly.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import ClassVar


class _Thread:
    """A thread that runs one fiber after another."""

    idle: ClassVar[list[_Thread]] = []

    def __init__(self) -> None:
        self.may_go = threading.Lock()
        self.may_go.acquire()
        self.fiber: Fiber | None = None
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            self.may_go.acquire()
            if self.fiber is not None:
                self.fiber.run_here()


class Fiber:
    """One call in a thread that is its own until the call ends."""

    current: ClassVar[Fiber | None] = None

    def __init__(self, run: Callable[[], None]) -> None:
        self._run = run
        self._thread = _Thread.idle.pop() if _Thread.idle else _Thread()
        self._thread.fiber = self
        self._has_come_back = threading.Lock()
        self._has_come_back.acquire()
        self._error: BaseException | None = None
        self.is_over = False

    def resume(self) -> None:
        """Let it run until it suspends itself or ends; raises what it raised."""
        if self.is_over:
            return
        before, Fiber.current = Fiber.current, self
        self._thread.may_go.release()
        self._has_come_back.acquire()
        Fiber.current = before
        if self.is_over:
            _Thread.idle.append(self._thread)
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def suspend(self) -> None:
        """Go back to whoever resumed this fiber; called from inside."""
        self._has_come_back.release()
        self._thread.may_go.acquire()

    def run_here(self) -> None:
        """Run the call; its thread calls this once."""
        try:
            self._run()
        except BaseException as error:  # noqa: BLE001 - it is raised again in `resume`
            self._error = error
        finally:
            self.is_over = True
            self._has_come_back.release()
