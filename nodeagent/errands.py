"""Runs what the control plane asks of a node beside the loop, one at a time.

An errand is asked for in the answer to a heartbeat until its result has arrived, so a lost result
is sent again and nothing is done twice. Each kind has a thread of its own: a next hop or a peer
that hangs delays no push and no heartbeat.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, Protocol, TypeVar

import structlog

from nodeagent.adapters.api_client import ControlPlaneClient
from nodeagent.adapters.peer import SshFiles
from nodeagent.adapters.peer_test import PeerTester
from nodeagent.adapters.smtp_dialogue import try_route
from nodeagent.core.contract import HeartbeatAnswer
from nodeagent.core.route_wire import RouteTestQuestion, RouteTestResult, RouteTestWish
from nodeagent.core.ssh_wire import PeerTestQuestion, PeerTestReport, PeerTestWish
from nodeagent.errors import AgentError
from nodeagent.key_rotation import KeyRotation
from nodeagent.observe import Sources

log = structlog.get_logger()


class Numbered(Protocol):
    """A result that says which errand it is of."""

    @property
    def id(self) -> int:
        """Return the errand's number."""


ResultT = TypeVar("ResultT", bound=Numbered)


class Errand(Generic[ResultT]):
    """Follows the wishes of one kind; `follow` returns at once."""

    def __init__(
        self, name: str, carry_out: Callable[[int], ResultT], report: Callable[[ResultT], None]
    ) -> None:
        self._name = name
        self._carry_out = carry_out
        self._report = report
        self._lock = threading.Lock()
        self._is_busy = False
        self._last: ResultT | None = None
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    def follow(self, wanted: int | None) -> None:
        """Carry out this errand, or send its result again that did not arrive."""
        with self._lock:
            if wanted is None or self._is_busy:
                return
            self._is_busy = True
        self._worker.submit(self._run, wanted)

    def stop(self) -> None:
        """Take no more wishes; one that runs ends by its own limits."""
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _run(self, wanted: int) -> None:
        try:
            if self._last is None or self._last.id != wanted:
                self._last = self._carry_out(wanted)
            self._report(self._last)
        except AgentError as error:
            log.warning(self._name, id=wanted, reason=str(error))
        finally:
            with self._lock:
                self._is_busy = False


class RouteTestCalls(Protocol):
    """The calls of the control plane that a route test makes."""

    def route_test(self, question: RouteTestQuestion) -> RouteTestWish:
        """Fetch what is to be tried, credentials included."""

    def report_route_test(self, result: RouteTestResult) -> None:
        """Report how it went."""


class PeerTestCalls(Protocol):
    """The calls of the control plane that a test of a peer makes."""

    def peer_test(self, question: PeerTestQuestion) -> PeerTestWish:
        """Fetch which peer is to be tested."""

    def report_peer_test(self, report: PeerTestReport) -> None:
        """Report the steps done so far."""


def route_errand(calls: RouteTestCalls) -> Errand[RouteTestResult]:
    """Return what tries routes."""
    return Errand(
        "route-test",
        lambda number: try_route(calls.route_test(RouteTestQuestion(id=number))),
        calls.report_route_test,
    )


def peer_errand(calls: PeerTestCalls, tester: PeerTester) -> Errand[PeerTestReport]:
    """Return what tests peers; each step is reported when it is done."""

    def report_so_far(report: PeerTestReport) -> None:
        try:
            calls.report_peer_test(report)
        except AgentError as error:
            log.warning("peer-test", id=report.id, reason=str(error))  # the last report has it

    def carry_out(number: int) -> PeerTestReport:
        wish = calls.peer_test(PeerTestQuestion(id=number))
        return tester.test(wish, report_so_far)

    return Errand("peer-test", carry_out, calls.report_peer_test)


class Errands:
    """Everything that the answer to a heartbeat asks of this node beside the loop."""

    def __init__(
        self, calls: ControlPlaneClient, sources: Sources, wake: Callable[[], None]
    ) -> None:
        key, host = sources.identity.ssh_key, sources.host
        files = SshFiles(key.file, host.ssh_files.known_hosts, host.settings.run_directory)
        self._route_tests = route_errand(calls)
        self._peer_tests = peer_errand(calls, PeerTester(files))
        self._rotation = KeyRotation(key, files, calls.given_key, host.event, wake)

    def follow(self, answer: HeartbeatAnswer) -> None:
        """Begin what is asked for; returns at once."""
        self._route_tests.follow(answer.route_test)
        self._peer_tests.follow(answer.peer_test)
        self._rotation.follow(answer.ssh_replace, answer.ssh_replace_by, answer.view.peers)

    def stop(self) -> None:
        """Take no more wishes."""
        for errand in (self._route_tests, self._peer_tests, self._rotation):
            errand.stop()
