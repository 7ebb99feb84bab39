"""The overview's live part, from a signed heartbeat to the browser's event, on a real server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from controlplane.gui.assets.build import build
from nodeagent.core.contract import Role
from tests.fakes.live_cluster import VIP, LiveCluster


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LiveCluster]:
    """Give a control plane with two agents."""
    build()
    made = LiveCluster(tmp_path / "state")
    yield made
    made.close()


def holder(event: str) -> str:
    """Return who holds the VIP in the picture that an event brings."""
    found = re.search(r'id="pic-vip-1".*?</g>', event, re.DOTALL)
    assert found is not None
    return " ".join(re.findall(r"node-[ab]", found[0]))


def test_a_failover_reaches_the_viewer_with_the_heartbeat(cluster: LiveCluster) -> None:
    """And a heartbeat that says nothing new sends nothing."""
    cluster.heartbeat("node-a", Role.ACTIVE)
    cluster.heartbeat("node-b", Role.STANDBY)
    with cluster.client() as client, cluster.follow(client) as next_event:
        assert holder(next_event()) == "node-a"
        for _ in range(3):
            cluster.heartbeat("node-a", Role.ACTIVE, rule="push")
        cluster.heartbeat("node-b", Role.ACTIVE)
        event = next_event()
        assert holder(event) == "node-a node-b"
        assert f"{VIP} is on several nodes at the same time" in event
        cluster.heartbeat("node-a", Role.FENCED)
        assert holder(next_event()) == "node-b"
