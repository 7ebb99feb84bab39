"""The one clock of the ownership protocol."""

from __future__ import annotations

import time


def boot_time_s() -> float:
    """Return seconds since boot, counting suspend too (`CLOCK_BOOTTIME`, clock_gettime(2))."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
