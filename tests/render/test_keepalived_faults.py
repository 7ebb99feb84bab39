"""Real keepalived processes with the rendered files that die, stand still or lose each other.

keepalived decides who answers and nothing else; these are the facts about it that the rules of the
agent and the failure modes rest on.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from controlplane.core.spec import VrrpSpec
from tests.render.keepalived_world import Host, ip, namespaces, stop_all, wait_until
from tests.render.specs import NODE_A, NODE_B, VIP, pair

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("keepalived") is None,
    reason="needs root, network namespaces and keepalived",
)

ADVERT_INT_S = 0.5


@dataclass
class Pair:
    """node-a, which has the VIP, and node-b, which stands by."""

    first: Host
    second: Host
    switch: str

    def holders(self) -> list[str]:
        """Name the nodes that have the VIP."""
        return [host.node for host in (self.first, self.second) if VIP.address in host.addresses()]

    def wait_for_holders(self, *names: str) -> None:
        """Wait until exactly these nodes have the VIP."""
        wait_until(
            lambda: self.holders() == list(names),
            lambda: f"{self.holders()}\n{self.first.log()}\n{self.second.log()}",
        )

    def cut(self) -> None:
        """Keep the two from hearing each other without taking a link down."""
        ip("-n", self.switch, "link", "set", "p0", "nomaster")

    def heal(self) -> None:
        """Undo the cut."""
        ip("-n", self.switch, "link", "set", "p0", "master", "br0")


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Pair]:
    """Give the pair with the VIP on node-a."""
    spec = pair(vrrp=VrrpSpec(advert_int_s=ADVERT_INT_S))
    with namespaces(2) as names:
        hosts = [
            Host(name, spec, node.name, tmp_path / node.name)
            for name, node in zip(names, (NODE_A, NODE_B), strict=True)
        ]
        made = Pair(*hosts, switch=f"rt{os.getpid()}s")
        try:
            made.first.start()
            made.wait_for_holders("node-a")
            made.second.start()
            wait_until(lambda: made.second.states() == ["BACKUP"], made.second.log)
            yield made
        finally:
            stop_all(hosts)


def processes_of(host: Host) -> list[int]:
    """Give keepalived and its VRRP process, which does the work; the parent first."""
    parent = host.keepalived.pid
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [parent, *(int(pid) for pid in children)]


def kill_without_a_word(host: Host) -> None:
    """End both at once, so that neither can clear up after the other."""
    parent, pids = host.keepalived, processes_of(host)
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            os.kill(pid, number)
    parent.wait(10)


def test_a_clean_stop_hands_the_vip_over(running: Pair) -> None:
    """An advert of priority 0 says good-bye; a clean reboot is therefore faster than a crash."""
    running.first.keepalived.send_signal(signal.SIGTERM)
    running.wait_for_holders("node-b")
    wait_until(lambda: running.second.states() == ["BACKUP", "MASTER"], running.second.log)


def test_a_killed_keepalived_leaves_the_vip_on_both_hosts(running: Pair) -> None:
    """Nobody takes the address off; this is why the VIP permits nothing about old mail."""
    kill_without_a_word(running.first)
    running.wait_for_holders("node-a", "node-b")


def test_a_keepalived_that_is_started_again_takes_a_left_vip_off(running: Pair) -> None:
    """It starts as BACKUP and hears the other one, so the unit's restart ends the double VIP."""
    kill_without_a_word(running.first)
    running.wait_for_holders("node-a", "node-b")
    for name in ("pid", "vrrp.pid"):
        (running.first.root / name).unlink(missing_ok=True)
    running.first.start_keepalived()
    running.wait_for_holders("node-b")
    time.sleep(6 * ADVERT_INT_S)
    assert running.holders() == ["node-b"]


def test_a_keepalived_that_stands_still_and_goes_on_ends_on_one_host(running: Pair) -> None:
    """Meanwhile both have the VIP; afterwards the higher priority keeps it."""
    pids = processes_of(running.first)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    running.wait_for_holders("node-a", "node-b")
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    running.wait_for_holders("node-a")
    time.sleep(6 * ADVERT_INT_S)
    assert running.holders() == ["node-a"]


def test_a_cut_between_the_nodes_gives_both_the_vip_and_healing_one(running: Pair) -> None:
    """No link goes down, so neither can know; healed, the higher priority stays MASTER."""
    running.cut()
    running.wait_for_holders("node-a", "node-b")
    running.heal()
    running.wait_for_holders("node-a")
    time.sleep(6 * ADVERT_INT_S)
    assert running.holders() == ["node-a"]
    states = ["BACKUP", "MASTER", "BACKUP"]
    wait_until(lambda: running.second.states() == states, running.second.log)


def test_a_link_that_goes_down_is_a_fault(running: Pair) -> None:
    """A host without a network gives the address up; back on it, it takes nothing away."""
    ip("-n", running.switch, "link", "set", "p0", "down")
    running.wait_for_holders("node-b")
    wait_until(lambda: running.first.states()[-1] == "FAULT", running.first.log)
    ip("-n", running.switch, "link", "set", "p0", "up")
    wait_until(lambda: running.first.states()[-1] == "BACKUP", running.first.log)
    time.sleep(6 * ADVERT_INT_S)
    assert running.holders() == ["node-b"]
