"""What benchmarks share: the printed table, freezes from a log, a queue of a known size."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

from tests.e2e.accounting import Load, Shape
from tests.e2e.driver import Lab, until
from tests.e2e.scenes import mirrored

_FREEZE: Final = re.compile(r"event='pushed'.* freeze_ms=([0-9.]+)")
_JOB_DONE: Final = "timestamp='([^']+)'.* event='job done' job='{job}'"
_FILL: Final = Shape(size_bytes=4000, per_session=100, timeout_s=60)
_FILL_LIMIT_S: Final = 600.0


def show(what: str, figure: str) -> None:
    """Print one row of the table."""
    print(f"\n| {what} | {figure} |")


def freezes_ms(lab: Lab, node: str) -> list[float]:
    """Give the length of every freeze that a node's agent has logged, in order."""
    return [float(text) for text in _FREEZE.findall(lab.log(node, "agent"))]


def quantile(values: Sequence[float], share: float) -> float:
    """Give the smallest value that at least this share of the values does not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def spread_ms(values: Sequence[float]) -> str:
    """Sum up lengths of time as median, p99 and maximum."""
    return (
        f"median {statistics.median(values):.1f}, p99 {quantile(values, 0.99):.1f},"
        f" max {max(values):.1f} ms"
    )


def jobs_done_s(lab: Lab, node: str, job: str) -> list[float]:
    """Give when an agent has logged the end of each job of this name, in seconds since 1970."""
    found = re.findall(_JOB_DONE.format(job=job), lab.log(node, "agent"))
    return [datetime.fromisoformat(text).timestamp() for text in found]


@contextmanager
def cluster_set(lab: Lab, **change: Any) -> Iterator[None]:
    """Change settings of the cluster for a while, live on both nodes inside and after."""
    before = lab.api().call("GET", "cluster")["settings"]
    _apply(lab, change)
    try:
        yield
    finally:
        _apply(lab, {name: before[name] for name in change})


def _apply(lab: Lab, change: dict[str, Any]) -> None:
    plane = lab.api()
    plane.call("PATCH", "cluster", change)
    plane.call("POST", "config/apply", {"reason": "benchmark"})
    lab.wait("ready")


def fill_queue(lab: Lab, count: int) -> Load:
    """Queue `count` messages that the destination has deferred once, all copied to the standby."""
    active, standby = lab.active(), lab.standby()
    lab.set_sink("defer")
    with Load(lab, rate=0, count=count, concurrency=16, shape=_FILL) as load:
        load.wait_for_count(_FILL_LIMIT_S)
    assert len(load.acknowledged) == count
    until(lambda: mirrored(lab, standby, active) == count, "the standby has a copy", 120)
    return load
