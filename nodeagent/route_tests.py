"""Runs the route tests that the control plane asks for, beside the loop and one at a time.

A test is asked for in the answer to a heartbeat until its result has arrived, so a lost result is
sent again and nothing is tried twice. It has a thread of its own: a next hop that hangs delays no
push and no heartbeat.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import structlog

from nodeagent.adapters.smtp_dialogue import try_route
from nodeagent.core.route_wire import RouteTestQuestion, RouteTestResult, RouteTestWish
from nodeagent.errors import AgentError

log = structlog.get_logger()


class RouteTestCalls(Protocol):
    """The calls of the control plane that a route test makes."""

    def route_test(self, question: RouteTestQuestion) -> RouteTestWish:
        """Fetch what is to be tried, credentials included."""

    def report_route_test(self, result: RouteTestResult) -> None:
        """Report how it went."""


class RouteTester:
    """Follows the wishes; `follow` returns at once."""

    def __init__(self, control_plane: RouteTestCalls) -> None:
        self._control_plane = control_plane
        self._lock = threading.Lock()
        self._is_busy = False
        self._last: RouteTestResult | None = None
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="route-test")

    def follow(self, wanted: int | None) -> None:
        """Try the route of this test, or send the result again that did not arrive."""
        with self._lock:
            if wanted is None or self._is_busy:
                return
            self._is_busy = True
        self._worker.submit(self._carry_out, wanted)

    def stop(self) -> None:
        """Take no more wishes; one that runs ends by its own limits."""
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _carry_out(self, wanted: int) -> None:
        try:
            if self._last is None or self._last.id != wanted:
                wish = self._control_plane.route_test(RouteTestQuestion(id=wanted))
                self._last = try_route(wish)
            self._control_plane.report_route_test(self._last)
        except AgentError as error:
            log.warning("route test", id=wanted, reason=str(error))
        finally:
            with self._lock:
                self._is_busy = False
