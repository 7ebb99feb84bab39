"""Runs a function in a process of its own that dies by SIGKILL before its n-th change on disk."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any, Final

CHANGES: Final = ("rename", "mkdir", "rmdir", "unlink", "link", "chown", "fsync")
MOST_STEPS: Final = 10_000


def die_before(step: int) -> None:
    """Arm this process: the `step`-th call that changes something on disk is never made."""
    left = step

    def arm(call: Callable[..., Any]) -> Callable[..., Any]:
        def dying(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            left -= 1
            if left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **kwargs)

        return dying

    for name in CHANGES:
        setattr(os, name, arm(getattr(os, name)))


def run_and_die(step: int, function: Callable[[], object]) -> bool:
    """Run `function` in a child that dies before its `step`-th change; False: it ended before.

    An error in the child fails the test that called.
    """
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            die_before(step)
            function()
            code = 0
        finally:
            if code:
                traceback.print_exc()
            os._exit(code)
    _child, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.waitstatus_to_exitcode(status) == 0, "the function failed in its own process"
    return False


def every_death(prepare: Callable[[], Callable[[], object]], check: Callable[[], None]) -> int:
    """Kill at each step in turn, each time in a world made anew; return how many steps there are.

    `prepare` makes a world and returns what to run in it; `check` looks at what is left of it.
    """
    for step in range(1, MOST_STEPS):
        if not run_and_die(step, prepare()):
            check()
            return step - 1
        check()
    raise AssertionError("it does not end")
