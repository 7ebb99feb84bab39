"""The guard's standstill: short for clients, sure for a fence, whatever the freezer does."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from nodeagent.adapters.clock import boot_time_s
from nodeagent.adapters.freezers import FROZEN_WITHIN_S, StillRunning
from nodeagent.adapters.postfix import Postfix
from nodeagent.adapters.standstill import PATIENCE_S, Standstill


@dataclass
class BusyFreezer:
    """A freezer on a host whose disk keeps a process from standing, the first `refusals` times."""

    refusals: int
    name: str = "busy"
    steps: list[str] = field(default_factory=list)

    def freeze(self, within_s: float = FROZEN_WITHIN_S) -> None:
        """Wait for as long as is allowed, then give up or succeed."""
        if self.refusals:
            self.refusals -= 1
            self.steps.append(f"tried {within_s:g}")
            time.sleep(within_s)
            raise StillRunning("A process waits for its disk.")
        self.steps.append("frozen")

    def thaw(self) -> None:
        """Let all go on."""
        self.steps.append("thawed")


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    """Give a queue directory whose master is this very process, as far as a pid file tells."""
    return tmp_path


def standstill(queue: Path, freezer: BusyFreezer, reports: list[str]) -> Standstill:
    """Give a standstill over a Postfix that always runs and this freezer."""

    class RunningPostfix(Postfix):
        def master_pid(self) -> int:
            return 1

    def report(kind: str, text: str) -> None:
        reports.append(f"{kind}: {text}")

    return Standstill(RunningPostfix(queue), queue / "stopped", report, lambda _m, _o: freezer)


def test_clients_go_on_between_two_attempts(queue):
    """Nobody waits for a slow disk in one piece, and only the last attempt counts as standing."""
    freezer = BusyFreezer(refusals=2)
    before_s = boot_time_s()
    began_s = standstill(queue, freezer, []).begin()
    assert freezer.steps == ["tried 0.01", "thawed", "tried 0.01", "thawed", "frozen"]
    assert began_s - before_s >= 2 * PATIENCE_S[0]


def test_in_the_end_it_waits_for_as_long_as_a_freeze_may_take(queue):
    """A disk that is always busy does not keep the queue from being pushed."""
    freezer = BusyFreezer(refusals=len(PATIENCE_S) - 1)
    standstill(queue, freezer, []).begin()
    assert freezer.steps[-1] == "frozen"
    assert freezer.steps.count("thawed") == len(PATIENCE_S) - 1


def test_what_never_stands_is_an_error_and_the_caller_ends_it(queue):
    """No snapshot is taken of a Postfix that runs."""
    freezer = BusyFreezer(refusals=len(PATIENCE_S))
    one = standstill(queue, freezer, [])
    with pytest.raises(StillRunning):
        one.begin()
    one.end()
    assert freezer.steps[-1] == "thawed"


def test_a_fence_lets_nothing_go_on_between_attempts(queue):
    """On a host that stood still, a moment more is a message delivered twice."""
    freezer = BusyFreezer(refusals=0)
    standstill(queue, freezer, []).begin_surely()
    assert freezer.steps == ["frozen"]
