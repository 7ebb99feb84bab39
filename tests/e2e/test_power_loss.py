"""Hosts that lose their power and come back: nothing lost, each message once."""

from __future__ import annotations

import pytest

from tests.e2e.accounting import Load, account, deliveries
from tests.e2e.driver import Lab, until
from tests.e2e.scenes import deliver, fill, is_fenced, mirrored, repeat_if_the_vip_moves

pytestmark = pytest.mark.e2e


def test_power_loss_of_the_active_host(lab: Lab):
    """The standby adopts and delivers while the host is still off; it comes back and doubles none.

    The returning host finds a queue that was adopted.
    """
    queued = fill(lab)
    lab.kill(queued.active)
    lab.wait(f"active={queued.standby}")
    report = deliver(lab, queued)
    report.assert_nothing_lost()
    assert set(deliveries()) >= set(queued.load.acknowledged), "delivered without the dead host"
    lab.boot(queued.active)
    lab.wait("ready")
    report = account(lab, queued.load)
    report.assert_all_delivered()
    report.assert_doubled_at_most(0)


def test_power_loss_of_the_active_host_under_load(lab: Lab):
    """What came after the last push waits on the dead host's disk and is delivered from there."""
    active, standby = lab.active(), lab.standby()
    with Load(lab, rate=60) as load:
        load.go_on_for(4)
        lab.kill(active)
        lab.wait(f"active={standby}")
        load.go_on_for(3)
    lab.boot(active)
    lab.wait("ready")
    report = account(lab, load)
    report.assert_all_delivered()
    delivered_since_a_push = 2 * 60
    report.assert_doubled_at_most(delivered_since_a_push)
    assert lab.active() == standby, "a host that comes back takes nothing away"


@repeat_if_the_vip_moves()
def test_power_loss_of_the_standby(lab: Lab):
    """Clients notice nothing, and the standby is brought up to date when it is back."""
    active, standby = lab.active(), lab.standby()
    with Load(lab, rate=50) as load:
        load.go_on_for(2)
        lab.kill(standby)
        load.go_on_for(8)
        assert not is_fenced(lab, active), "the control plane alone proves the lease"
        lab.boot(standby)
        load.go_on_for(2)
    lab.wait("ready")
    report = account(lab, load)
    report.assert_all_delivered()
    report.assert_doubled_at_most(0)
    report.assert_no_session_suffered()


@repeat_if_the_vip_moves()
def test_power_loss_of_the_control_plane(lab: Lab):
    """P5: mail flows and pushes go on for longer than a lease, on the peer's promises."""
    active, standby = lab.active(), lab.standby()
    lab.kill("cp")
    with Load(lab, rate=50) as load:
        load.go_on_for(10)
        assert lab.agent_status(active)["role"] == "ACTIVE"
        assert lab.agent_status(active)["is_proven"]
    lab.set_sink("defer")
    with Load(lab, rate=50, count=20) as late:
        late.wait_for_count()
    until(lambda: mirrored(lab, standby, active) == 20, "pushes go on")
    lab.set_sink("accept")
    lab.boot("cp")
    lab.wait("ready")
    for sent in (load, late):
        report = account(lab, sent)
        report.assert_all_delivered()
        report.assert_doubled_at_most(0)
        report.assert_no_session_suffered()


def test_with_control_plane_and_peer_gone_new_mail_still_flows(lab: Lab):
    """Old mail, of which the peer holds a copy, waits; nothing is delivered twice or lost."""
    queued = fill(lab)
    lab.kill("cp")
    lab.kill(queued.standby)
    until(lambda: is_fenced(lab, queued.active), "the active host is fenced")
    lab.set_sink("accept")
    with Load(lab, rate=50, count=30) as new:
        new.wait_for_count()
    report = account(lab, new)
    report.assert_all_delivered()
    assert not set(deliveries()) & set(queued.load.acknowledged), "old mail waits"
    lab.boot("cp")
    lab.boot(queued.standby)
    lab.wait("ready")
    report = account(lab, queued.load)
    report.assert_all_delivered()
    report.assert_doubled_at_most(0)


def test_a_host_whose_queue_nobody_adopted_takes_it_back(lab: Lab):
    """Both lose power, one returns alone: its own mail is its own again."""
    queued = fill(lab)
    lab.kill(queued.standby)
    lab.kill(queued.active)
    lab.boot(queued.active)
    lab.wait(f"active={queued.active}")
    report = deliver(lab, queued)
    report.assert_all_delivered()
    report.assert_doubled_at_most(0)
    lab.boot(queued.standby)
    lab.wait("ready")
    account(lab, queued.load).assert_doubled_at_most(0)


def test_a_clean_reboot_of_the_active_host(lab: Lab):
    """Every start sets the old queue aside until its lease is proved; then each message once."""
    queued = fill(lab)
    lab.reboot(queued.active)
    lab.wait(f"active={queued.standby}")
    lab.wait("ready")
    report = deliver(lab, queued)
    report.assert_all_delivered()
    report.assert_doubled_at_most(0)


def test_failover_there_and_back_under_load(lab: Lab):
    """Two power losses, one after the other, with all mail accounted for."""
    first = lab.active()
    second = lab.standby()
    with Load(lab, rate=40) as load:
        load.go_on_for(2)
        lab.kill(first)
        lab.wait(f"active={second}")
        load.go_on_for(2)
        lab.boot(first)
        lab.wait("ready")
        load.go_on_for(2)
        lab.kill(second)
        lab.wait(f"active={first}")
        load.go_on_for(2)
        lab.boot(second)
        lab.wait("ready")
    report = account(lab, load)
    report.assert_all_delivered()
    delivered_since_a_push = 2 * 2 * 40
    report.assert_doubled_at_most(delivered_since_a_push)
