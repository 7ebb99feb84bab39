"""Networks that are cut and hosts that stand still."""

from __future__ import annotations

import pytest

from lab.network import vip_holders
from tests.e2e.accounting import Load, account
from tests.e2e.driver import Lab, until
from tests.e2e.scenes import deliver, fill, is_fenced

pytestmark = pytest.mark.e2e


def test_a_cut_between_the_two_nodes(lab: Lab):
    """Both have the VIP; each owns what it took, and nothing is adopted from a living node."""
    with Load(lab, rate=40) as load:
        load.go_on_for(1)
        lab.cut("node-a", "node-b")
        until(lambda: len(vip_holders()) == 2, "both nodes hold the VIP", 10)
        load.go_on_for(10)
        lab.heal()
        until(lambda: len(vip_holders()) == 1, "one gives the VIP up")
        load.go_on_for(1)
    lab.wait("ready")
    report = account(lab, load)
    report.assert_all_delivered()
    report.assert_doubled_at_most(0)


def test_a_node_cut_off_from_the_control_plane_goes_on_by_promises(lab: Lab):
    """P5 with the control plane alive: the standby sees an expired lease and keeps its word."""
    queued = fill(lab)
    lab.cut(queued.active, "cp")
    with Load(lab, rate=20) as load:
        load.go_on_for(15)
        assert not is_fenced(lab, queued.active)
    lab.heal()
    lab.wait("ready")
    report = deliver(lab, queued)
    report.assert_all_delivered()
    report.assert_doubled_at_most(0)
    account(lab, load).assert_all_delivered()


def test_a_node_cut_off_from_everything_is_fenced_and_adopted(lab: Lab):
    """It fences itself before the peer may adopt; healed, it retires what it no longer owns."""
    queued = fill(lab)
    lab.cut(queued.active)
    lab.wait(f"active={queued.standby}")
    until(lambda: is_fenced(lab, queued.active), "the isolated node is fenced")
    report = deliver(lab, queued)
    report.assert_all_delivered()
    lab.heal()
    lab.wait("ready")
    report = account(lab, queued.load)
    report.assert_doubled_at_most(0)


def test_a_host_that_stands_still_and_goes_on(lab: Lab):
    """Its guard looks at the clock first thing; the peer has adopted by then."""
    queued = fill(lab)
    lab.pause(queued.active)
    lab.wait(f"active={queued.standby}")
    report = deliver(lab, queued)
    report.assert_all_delivered()
    lab.resume(queued.active)
    lab.wait("ready")
    report = account(lab, queued.load)
    report.assert_all_delivered()
    report.assert_doubled_at_most(0)
