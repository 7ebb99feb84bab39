"""Turns of writers: first come first served, heartbeats before log lines, nobody for ever."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from controlplane.errors import Unavailable
from controlplane.store.writer_turns import WriterTurns

LONG_S = 60.0


class Line:
    """Threads that wait for their turns while the test holds the first one."""

    def __init__(self) -> None:
        self.turns = WriterTurns(LONG_S)
        self.served: list[str] = []
        self._threads: list[threading.Thread] = []

    def join(self, name: str, *, is_urgent: bool, work: Callable[[], None] = lambda: None) -> None:
        """Have one more wait; return when it stands in line."""

        def run() -> None:
            with self.turns.turn(is_urgent=is_urgent):
                self.served.append(name)
                work()

        before = self.turns.waiting
        thread = threading.Thread(target=run)
        thread.start()
        self._threads.append(thread)
        while self.turns.waiting == before:
            time.sleep(0.001)

    def end(self) -> list[str]:
        """Wait for all; return the order in which they were served."""
        for thread in self._threads:
            thread.join(LONG_S)
            assert not thread.is_alive()
        return self.served


def test_first_come_first_served():
    """Nobody overtakes."""
    line = Line()
    with line.turns.turn(is_urgent=True):
        for number in range(5):
            line.join(str(number), is_urgent=True)
    assert line.end() == list("01234")


def test_heartbeats_go_before_log_lines():
    """However many log lines came first."""
    line = Line()
    with line.turns.turn(is_urgent=False):
        for number in range(3):
            line.join(f"log {number}", is_urgent=False)
        line.join("heartbeat 0", is_urgent=True)
        line.join("heartbeat 1", is_urgent=True)
    assert line.end() == ["heartbeat 0", "heartbeat 1", "log 0", "log 1", "log 2"]


def test_one_at_a_time():
    """Else SQLite's lock would decide, and it knows no order."""
    line, inside = Line(), []

    def work() -> None:
        inside.append(1)
        assert len(inside) == 1
        inside.pop()

    with line.turns.turn(is_urgent=True):
        for number in range(20):
            line.join(str(number), is_urgent=number % 2 == 0, work=work)
    assert len(line.end()) == 20


def test_a_turn_that_does_not_come_is_refused_and_blocks_nobody():
    """Whoever waited too long has left the line."""
    turns = WriterTurns(0.05)
    with (
        turns.turn(is_urgent=False),
        pytest.raises(Unavailable, match="busy"),
        turns.turn(is_urgent=True),
    ):
        pass
    with turns.turn(is_urgent=False):
        pass


def test_a_writer_that_fails_gives_the_turn_back():
    """An exception is rolled back, and the next one writes."""
    turns = WriterTurns(LONG_S)
    with pytest.raises(ValueError, match="no"), turns.turn(is_urgent=True):
        raise ValueError("no")
    with turns.turn(is_urgent=True):
        pass
