"""Precedence in the real scheduler: for the thread that took it, for nothing that it starts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

from nodeagent.adapters.precedence import MOST_URGENT, SWITCH_INTERVAL_S, take_precedence

Answer = TypeVar("Answer")
UNPRIVILEGED = """
import os
from nodeagent.adapters.precedence import take_precedence
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
take_precedence()
print(os.getpriority(os.PRIO_PROCESS, 0))
"""
NICE = "import os; print(os.getpriority(os.PRIO_PROCESS, 0))"


def urgently(question: Callable[[], Answer]) -> Answer:
    """Answer a question in a thread that has taken precedence."""
    with ThreadPoolExecutor(max_workers=1, initializer=take_precedence) as worker:
        return worker.submit(question).result()


def own_nice() -> int:
    """Return the calling thread's nice value."""
    return os.getpriority(os.PRIO_PROCESS, 0)


@pytest.fixture(autouse=True)
def switch_interval():
    """Give this process back the interval it had."""
    before = sys.getswitchinterval()
    yield
    sys.setswitchinterval(before)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may raise a priority")
def test_the_thread_comes_first_and_the_others_stay_where_they_were():
    """Only the thread that asked is urgent."""
    before = own_nice()
    assert urgently(own_nice) == MOST_URGENT
    assert own_nice() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may raise a priority")
def test_what_it_starts_is_ordinary():
    """A Postfix or an rsync that an urgent thread starts runs as any other."""
    assert int(urgently(lambda: subprocess.check_output([sys.executable, "-c", NICE]))) == 0


def test_a_busy_thread_gives_way_soon():
    """Each system call inside a freeze may cost one switch interval, so it is short."""
    urgently(own_nice)
    assert sys.getswitchinterval() == pytest.approx(SWITCH_INTERVAL_S)


def test_without_the_right_to_it_work_goes_on():
    """An ordinary user's process says so and stays as it was."""
    done = subprocess.run(
        [sys.executable, "-c", UNPRIVILEGED], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "may not raise its priority" in done.stdout
    assert done.stdout.splitlines()[-1] == "0"
