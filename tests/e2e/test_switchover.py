"""Planned switchovers: nothing lost, nothing doubled, a stall of less than a second."""

from __future__ import annotations

import pytest

from tests.e2e.accounting import Load, account
from tests.e2e.driver import Lab, until
from tests.e2e.scenes import deliver, fill, repeat_if_the_vip_moves

pytestmark = pytest.mark.e2e


def switch(lab: Lab, destination: str) -> None:
    """Ask for a switchover over the REST API and wait until the VIP has moved."""
    lab.api().call("POST", "switchover", {"destination": destination})
    lab.wait(f"active={destination}")


@repeat_if_the_vip_moves(meant=1)
def test_a_switchover_under_load(lab: Lab):
    """Zero lost, zero doubled, only sessions open at the handover cut; and back again."""
    first, second = lab.active(), lab.standby()
    with Load(lab, rate=50) as load:
        load.go_on_for(2)
        switch(lab, second)
        load.go_on_for(3)
    lab.wait("ready")
    report = account(lab, load)
    report.assert_all_delivered()
    report.assert_doubled_at_most(0)
    report.assert_only_open_sessions_were_cut()
    switch(lab, first)
    lab.wait("ready")


def test_a_queue_that_cannot_be_delivered_moves_with_the_switchover(lab: Lab):
    """The new active host owns and delivers it, the old one retires its copy."""
    queued = fill(lab)
    switch(lab, queued.standby)
    lab.wait("ready")
    sizes = {queued.standby: len(queued.load.acknowledged), queued.active: 0}
    until(lambda: lab.queue_sizes() == sizes, "all of it is at the destination")
    report = deliver(lab, queued)
    report.assert_all_delivered()
    report.assert_doubled_at_most(0)


def test_a_switchover_to_a_peer_that_is_unreachable_hands_nothing_over(lab: Lab):
    """The node takes its mail back and goes on."""
    queued = fill(lab)
    lab.execute(queued.standby, "sh", "-c", "pkill -STOP -x sshd")
    try:
        api = lab.api()
        api.call("POST", "switchover", {"destination": queued.standby})
        until(lambda: not api.call("GET", "switchover")["current"], "the switchover has ended", 90)
        assert api.call("GET", "switchover")["history"][0]["is_ok"] is False
    finally:
        lab.execute(queued.standby, "sh", "-c", "pkill -CONT -x sshd")
    assert lab.active() == queued.active
    lab.wait("ready")
    report = deliver(lab, queued)
    report.assert_all_delivered()
    report.assert_doubled_at_most(0)


@pytest.mark.parametrize("point", ["switchover-pushed", "switchover-granted"])
def test_an_agent_killed_in_the_middle_of_a_switchover(lab: Lab, point: str):
    """Trace 5: no thaw ends the fence; whoever holds the lease afterwards delivers, once."""
    queued = fill(lab, 12)
    lab.die_at(queued.active, point)
    lab.api().call("POST", "switchover", {"destination": queued.standby})
    until(lambda: lab.has_died_at(queued.active), f"the agent passed {point}")
    lab.wait("ready", 90)
    report = deliver(lab, queued)
    report.assert_all_delivered()
    report.assert_doubled_at_most(0)
