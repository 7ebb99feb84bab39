"""Being scheduled before Postfix and everything else on the host, for whoever stops mail flow."""

from __future__ import annotations

import os
import sys
from typing import Final

import structlog

log = structlog.get_logger()

MOST_URGENT: Final = -20
SWITCH_INTERVAL_S: Final = 0.0005


def take_precedence() -> None:
    """Raise the calling thread's priority; threads and processes that it starts do not inherit it.

    A thread that holds Postfix frozen gives up Python's lock at every system call, and gets it back
    from a busy thread only after a switch interval: 5 ms each unless it is made short.
    """
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    os.sched_setscheduler(0, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, os.sched_param(0))
    try:
        os.setpriority(os.PRIO_PROCESS, 0, MOST_URGENT)
    except PermissionError:
        log.warning("no precedence", reason="this process may not raise its priority")
