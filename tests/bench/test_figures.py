"""The figures of the README, measured on the lab and printed; nothing here passes or fails by time.

make bench
"""

from __future__ import annotations

import re
import socket
import statistics
import time

import pytest

from lab import hosts
from lab.layout import HOSTS, VIP
from tests.e2e.accounting import Load, account
from tests.e2e.driver import Lab

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1200)]

FREEZE = re.compile(r"event='pushed'.* freeze_ms=([0-9.]+)")
POWER_LOSSES = 3
PROBE_S = 0.005
PROBE_LIMIT_S = 0.05  # a lost SYN is sent again after a second only


def show(what: str, figure: str) -> None:
    """Print one row of the table."""
    print(f"\n| {what} | {figure} |")


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


def test_freeze_for_each_push_under_load(lab: Lab):
    """100 messages a second for 40 seconds, a push a second."""
    active = lab.active()
    before = len(FREEZE.findall(lab.log(active, "agent")))
    with Load(lab, rate=100) as load:
        load.go_on_for(40)
    report = account(lab, load)
    report.assert_all_delivered()
    freezes = sorted(float(text) for text in FREEZE.findall(lab.log(active, "agent"))[before:])
    assert len(freezes) >= 20
    p99 = freezes[int(0.99 * (len(freezes) - 1))]
    show(
        f"freeze of {len(freezes)} pushes at 100 messages/s",
        f"median {statistics.median(freezes):.1f} ms, p99 {p99:.1f} ms",
    )
    show("sessions refused or broken by them", str(len(report.refused) + len(report.broken)))


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
