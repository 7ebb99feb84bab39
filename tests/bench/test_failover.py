"""Power losses and switchovers: how long the VIP is silent, and what becomes of the mail."""

from __future__ import annotations

import socket
import time

import pytest

from lab import hosts
from lab.layout import HOSTS, VIP
from tests.bench.figures import show
from tests.e2e.accounting import Load, account
from tests.e2e.driver import Lab

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1200)]

POWER_LOSSES = 3
PROBE_S = 0.005
PROBE_LIMIT_S = 0.05  # a lost SYN is sent again after a second only


def seconds_without_220() -> float:
    """Return how long nothing on the VIP says 220, from now on."""
    began_s = time.monotonic()
    while True:
        try:
            with socket.create_connection((VIP, 25), PROBE_LIMIT_S) as probe:
                if probe.recv(3) == b"220":
                    return time.monotonic() - began_s
        except OSError:
            time.sleep(PROBE_S)


def test_time_to_220_after_power_loss(lab: Lab):
    """Cut the power of the active host and ask the VIP until it answers; advert_int 0.1 s."""
    found = []
    for _ in range(POWER_LOSSES):
        active = lab.active()
        hosts.kill(HOSTS[active])
        found.append(seconds_without_220())
        lab.boot(active)
        lab.wait("ready")
    assert len(found) == POWER_LOSSES
    shown = ", ".join(f"{seconds:.2f}" for seconds in found)
    show("220 on the VIP after power loss, advert 0.1 s", f"{shown} s")


def test_power_loss_under_load(lab: Lab):
    """100 messages a second, a push a second, the dead host's disk back later."""
    active, standby = lab.active(), lab.standby()
    with Load(lab, rate=100) as load:
        load.go_on_for(10)
        lab.kill(active)
        lab.wait(f"active={standby}")
        load.go_on_for(10)
    lab.boot(active)
    lab.wait("ready")
    report = account(lab, load, settle_s=90)
    report.assert_nothing_lost()
    show("power loss under 100 messages/s", str(report))


def test_switchover_under_load(lab: Lab):
    """100 messages a second through a planned switchover."""
    standby = lab.standby()
    with Load(lab, rate=100) as load:
        load.go_on_for(5)
        lab.api().call("POST", "switchover", {"destination": standby})
        lab.wait(f"active={standby}")
        load.go_on_for(5)
    lab.wait("ready")
    report = account(lab, load)
    report.assert_nothing_lost()
    show("planned switchover under 100 messages/s", str(report))
