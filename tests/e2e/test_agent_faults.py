"""Agents, guards and keepalived that die or hang, at the worst moments."""

from __future__ import annotations

import signal

import pytest

from lab.cluster import answers_smtp
from lab.layout import HOSTS, VIP
from lab.network import vip_holders
from tests.e2e.accounting import Load, account, deliveries
from tests.e2e.driver import Lab, until
from tests.e2e.scenes import deliver, fill, is_fenced, repeat_if_the_vip_moves

pytestmark = pytest.mark.e2e

ADOPTION_POINTS = (
    "adoption-decided",
    "lease-acquired",
    "adoption-leased",
    "receipt-written",
    "adoption-listed",
    "receipt-committed",
    "adoption-committed",
    "placed",
    "adoption-placed",
    "receipt-done",
    "receipt-closed",
    "adoption-ended",
)
THAWED = "its connection ended"  # the reason that the guard logs
TAKE_BACK_POINTS = ("reconciled", "proof-brought")


@repeat_if_the_vip_moves()
def test_an_agent_killed_mid_freeze_leaves_postfix_running(lab: Lab):
    """P3: the guard thaws at once; clients wait for a moment and none is refused."""
    active = lab.active()
    thaws_before = lab.log(active, "guard").count(THAWED)
    with Load(lab, rate=50) as load:
        load.go_on_for(1)
        lab.die_at(active, "frozen")
        until(lambda: lab.has_died_at(active), "the agent died in a freeze")
        until(lambda: answers_smtp(HOSTS[active].address), "Postfix answers")
        until(
            lambda: lab.log(active, "guard").count(THAWED) > thaws_before,
            "the guard ended the freeze, not the next agent",
        )
        load.go_on_for(2)
    lab.wait("ready")
    report = account(lab, load)
    report.assert_all_delivered()
    report.assert_doubled_at_most(0)
    report.assert_no_session_suffered()


@pytest.mark.parametrize("way", ["killed", "hung"])
def test_an_agent_gone_for_good_is_fenced_and_its_mail_adopted(lab: Lab, way: str):
    """The guard fences while Postfix runs on; the peer adopts, each message once."""
    queued = fill(lab)
    if way == "killed":
        lab.end_for_good(queued.active, "agent")
    else:
        lab.signal(queued.active, "agent", signal.SIGSTOP)
    report = deliver(lab, queued)
    report.assert_all_delivered()
    report.assert_doubled_at_most(0)
    until(lambda: answers_smtp(VIP), "new mail is taken all the while")
    lab.enable(queued.active, "agent")
    lab.signal(queued.active, "agent", signal.SIGCONT)
    lab.wait("ready")
    report = account(lab, queued.load)
    report.assert_all_delivered()
    report.assert_doubled_at_most(0)


@pytest.mark.parametrize("point", ADOPTION_POINTS)
def test_an_agent_killed_between_two_steps_of_an_adoption(lab: Lab, point: str):
    """It finishes or drops the same adoption after its restart."""
    queued = fill(lab, 12)
    lab.die_at(queued.standby, point)
    lab.kill(queued.active)
    report = deliver(lab, queued)
    assert lab.has_died_at(queued.standby), f"the agent passed {point}"
    report.assert_nothing_lost()
    assert set(deliveries()) >= set(queued.load.acknowledged)
    lab.boot(queued.active)
    lab.wait("ready")
    report = account(lab, queued.load)
    report.assert_all_delivered()
    report.assert_doubled_at_most(0)


@pytest.mark.parametrize("point", TAKE_BACK_POINTS)
def test_an_agent_killed_while_taking_back(lab: Lab, point: str):
    """The guard alone cannot go on; the next agent asks again and all mail comes back."""
    queued = fill(lab, 12)
    lab.execute(queued.active, "sh", "-c", "true")
    lab.die_at(queued.active, point)
    lab.end_for_good(queued.active, "guard")
    lab.execute(queued.active, "rm", "-f", "/run/relay/guard.json")
    lab.enable(queued.active, "guard")
    until(lambda: lab.has_died_at(queued.active), f"the agent passed {point}")
    report = deliver(lab, queued)
    report.assert_all_delivered()
    report.assert_doubled_at_most(0)


@repeat_if_the_vip_moves()
def test_a_killed_guard_comes_back_and_fences_nothing(lab: Lab):
    """Its proof of this boot is on file; its unit restarts it."""
    active = lab.active()
    with Load(lab, rate=50) as load:
        load.go_on_for(1)
        lab.signal(active, "guard", signal.SIGKILL)
        load.go_on_for(4)
    assert not is_fenced(lab, active)
    report = account(lab, load)
    report.assert_all_delivered()
    report.assert_doubled_at_most(0)
    report.assert_no_session_suffered()


def test_a_killed_keepalived_leaves_the_vip_on_both_hosts(lab: Lab):
    """Both take mail, nobody pushes the wrong way, and everything is delivered once."""
    active, standby = lab.active(), lab.standby()
    with Load(lab, rate=40) as load:
        load.go_on_for(1)
        lab.disable(active, "keepalived")
        lab.signal(active, "keepalived", signal.SIGKILL)
        until(lambda: standby in vip_holders(), "the standby has taken the VIP", 10)
        load.go_on_for(4)
    lab.enable(active, "keepalived")
    lab.wait("ready")
    report = account(lab, load)
    report.assert_all_delivered()
    report.assert_doubled_at_most(0)
