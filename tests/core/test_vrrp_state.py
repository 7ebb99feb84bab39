"""keepalived's state where its fifo has said nothing: inferred, or honestly unknown."""

from __future__ import annotations

import itertools

import pytest

from nodeagent.core.contract import VrrpState
from nodeagent.core.observation import vrrp_state
from tests.core.worlds import VIP

MASTER, BACKUP, FAULT, UNKNOWN = (
    VrrpState.MASTER,
    VrrpState.BACKUP,
    VrrpState.FAULT,
    VrrpState.UNKNOWN,
)


@pytest.mark.parametrize(
    ("vips", "is_running", "is_fault_set", "state"),
    [
        ((VIP,), True, False, MASTER),
        ((VIP,), True, True, MASTER),
        ((), True, False, BACKUP),
        ((), True, True, UNKNOWN),
        (None, True, False, UNKNOWN),
        ((VIP,), None, False, UNKNOWN),
        ((), None, False, UNKNOWN),
    ],
)
def test_a_restarted_agent_infers_the_state(vips, is_running, is_fault_set, state):
    """MASTER with the VIP, BACKUP without it and without a reason for FAULT."""
    found = vrrp_state(UNKNOWN, vips, is_running=is_running, is_fault_set=is_fault_set)
    assert found is state


@pytest.mark.parametrize("told", [MASTER, BACKUP, FAULT])
def test_what_the_fifo_told_goes_first(told):
    """The addresses lag behind a change, and FAULT cannot be seen from them."""
    for vips, is_fault_set in itertools.product([(VIP,), (), None], [False, True]):
        assert vrrp_state(told, vips, is_running=True, is_fault_set=is_fault_set) is told
        assert vrrp_state(told, vips, is_running=None, is_fault_set=is_fault_set) is told


def test_a_dead_keepalived_has_no_state():
    """It said MASTER before it was killed, and the VIP it left behind says nothing."""
    for told, vips in itertools.product(VrrpState, [(VIP,), (), None]):
        assert vrrp_state(told, vips, is_running=False, is_fault_set=False) is UNKNOWN
