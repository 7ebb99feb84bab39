"""What an overview with 50 viewers costs the control plane, and how soon a failover is seen."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from controlplane.gui.assets.build import build
from nodeagent.core.contract import QueueCounts, Role
from tests.bench.figures import quantile, show
from tests.fakes.live_cluster import LiveCluster

pytestmark = pytest.mark.bench

VIEWERS = 50
MEASURED_S = 20.0
BEAT_S = 0.5
FAILOVERS = 20


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LiveCluster]:
    """Give a control plane with two agents."""
    build()
    made = LiveCluster(tmp_path / "state")
    made.heartbeat("node-a", Role.ACTIVE)
    made.heartbeat("node-b", Role.STANDBY)
    yield made
    made.close()


def cpu_s(cluster: LiveCluster) -> float:
    """Return the CPU time that the control plane's process has used."""
    assert cluster.process.server is not None
    stat = Path(f"/proc/{cluster.process.server.pid}/stat").read_text()
    user, system = stat.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def beat(cluster: LiveCluster, number: int) -> None:
    """Send one heartbeat of each node; mail comes and goes, so that every page changes."""
    counts = QueueCounts(incoming=0, active=number % 7, deferred=41, hold=0, pending=0)
    cluster.heartbeat("node-a", Role.ACTIVE, queue=counts)
    cluster.heartbeat("node-b", Role.STANDBY)


def cores(cluster: LiveCluster) -> float:
    """Return how many cores the process uses under two agents' heartbeats."""
    began_s, began_cpu_s, number = time.monotonic(), cpu_s(cluster), 0
    while (passed_s := time.monotonic() - began_s) < MEASURED_S:
        beat(cluster, number := number + 1)
        time.sleep(max(0.0, began_s + number * BEAT_S - time.monotonic()))
    return (cpu_s(cluster) - began_cpu_s) / passed_s


def test_fifty_viewers_cost_under_a_quarter_of_a_core(cluster: LiveCluster) -> None:
    """With two agents that report twice a second, and a page that changes at each report."""
    alone = cores(cluster)
    started = threading.Barrier(VIEWERS + 1)

    def view() -> None:
        with cluster.client() as client, cluster.follow(client) as next_event:
            next_event()
            started.wait()
            while not is_over.is_set():
                next_event()

    is_over = threading.Event()
    viewers = [threading.Thread(target=view, daemon=True) for _ in range(VIEWERS)]
    for viewer in viewers:
        viewer.start()
    started.wait(60)
    watched = cores(cluster)
    is_over.set()
    beat(cluster, 1)
    show("control plane, two agents, no viewer", f"{alone:.3f} cores")
    show(f"control plane, two agents, {VIEWERS} live viewers", f"{watched:.3f} cores")
    assert watched - alone < 0.25


def test_a_failover_is_seen_within_a_second(cluster: LiveCluster) -> None:
    """From the heartbeat's sending to the whole event at the viewer."""
    took_s = []
    with cluster.client() as client, cluster.follow(client) as next_event:
        next_event()
        for number in range(FAILOVERS):
            role = Role.ACTIVE if number % 2 else Role.FENCED
            began_s = time.monotonic()
            cluster.heartbeat("node-a", role)
            next_event()
            took_s.append(time.monotonic() - began_s)
            time.sleep(BEAT_S)
    middle, last = quantile(took_s, 0.5), max(took_s)
    show("heartbeat to viewer", f"median {middle * 1000:.0f}, max {last * 1000:.0f} ms")
    assert last < 1.0
