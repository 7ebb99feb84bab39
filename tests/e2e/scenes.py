"""Situations that many end-to-end tests begin with."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lab.provision import ControlPlane
from tests.e2e.accounting import Load, Report, account
from tests.e2e.driver import Disturbed, Lab, until

SETTLE_S = 120.0
TRIES = 3


@dataclass
class Queued:
    """A load that waits in the active node's queue, with a copy of all of it on the standby."""

    load: Load
    active: str
    standby: str


def mirrored(lab: Lab, standby: str, active: str) -> int:
    """Count the messages of `active` that `standby` keeps a copy of."""
    return int(lab.agent_status(standby)["mirrors"].get(active, 0))


def fill(lab: Lab, count: int = 30) -> Queued:
    """Queue mail that the destination defers, and wait until the standby has all of it."""
    active, standby = lab.active(), lab.standby()
    lab.set_sink("defer")
    with Load(lab, rate=100, count=count) as load:
        load.wait_for_count()
    assert len(load.acknowledged) == count
    until(lambda: mirrored(lab, standby, active) == count, "the standby has a copy of all")
    return Queued(load, active, standby)


def deliver(lab: Lab, queued: Queued, *, settle_s: float = SETTLE_S) -> Report:
    """Let the destination take mail again and account for everything."""
    lab.set_sink("accept")
    return account(lab, queued.load, settle_s=settle_s)


def repeat_if_the_vip_moves(
    *, meant: int = 0
) -> Callable[[Callable[[Lab], None]], Callable[[Lab], None]]:
    """Repeat a test whose clients suffered from more takeovers than were meant, and tell of it.

    A machine that does not run keepalived for as long as three adverts moves the VIP, and with it
    goes every open session: that says nothing of what the test is about. Lost or doubled mail is
    no excuse, nor is a VIP that moves in every try.
    """

    def decorate(test: Callable[[Lab], None]) -> Callable[[Lab], None]:
        @functools.wraps(test)
        def repeated(lab: Lab) -> None:
            for _ in range(TRIES - 1):
                before = lab.takeovers()
                try:
                    test(lab)
                except Disturbed as disturbed:
                    if lab.takeovers() <= before + meant:
                        raise
                    warnings.warn(f"The VIP moved by itself: {disturbed}", stacklevel=1)
                    lab.repair()
                else:
                    return
            test(lab)

        return repeated

    return decorate


def is_fenced(lab: Lab, node: str) -> bool:
    """Tell whether a node's old mail is set aside."""
    return bool(lab.agent_status(node)["role"] == "FENCED")


def reported(api: ControlPlane, node: str) -> dict[str, Any]:
    """Return the node's last report as the REST API shows it."""
    answer: dict[str, Any] = api.call("GET", f"nodes/{node}")["status"]["report"]
    return answer
