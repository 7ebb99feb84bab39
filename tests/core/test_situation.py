"""What is known of a cluster: who holds a VIP, what waits, and which two moments are the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from controlplane.core.situation import WAITING_PLACES, KnownFlow
from tests.core.situations import (
    COUNTS,
    NOW_S,
    VIP,
    active_report,
    healthy,
    known_node,
    known_push,
    known_report,
    with_node,
    with_report,
)

PAIR = healthy()
NOTHING = COUNTS.model_copy(update=dict.fromkeys(WAITING_PLACES, 0))


def test_what_waits_is_in_five_places() -> None:
    """Held and pending mail waits too; what is retired or in the quarantine is not ours to send."""
    counts = COUNTS.model_copy(
        update={
            "incoming": 1,
            "active": 20,
            "deferred": 300,
            "hold": 4_000,
            "pending": 50_000,
            "retired": 600_000,
            "quarantined": 7_000_000,
        }
    )
    assert known_report(queue=counts).waiting == 54_321


@pytest.mark.parametrize("place", WAITING_PLACES)
def test_a_place_that_could_not_be_counted_makes_the_sum_unknown(place: str) -> None:
    """Part of a queue is no number of messages; an empty place is one."""
    assert known_report(queue=NOTHING).waiting == 0
    assert known_report(queue=NOTHING.model_copy(update={place: None})).waiting is None


def test_what_does_not_wait_may_be_unknown() -> None:
    """A quarantine that cannot be read does not hide the length of the queue."""
    unread = NOTHING.model_copy(update={"retired": None, "quarantined": None, "deferred": 3})
    assert known_report(queue=unread).waiting == 3


@pytest.mark.parametrize(
    ("late", "holders"),
    [
        ((), ("node-a", "node-b")),
        (("node-a",), ("node-b",)),
        (("node-b",), ("node-a",)),
        (("node-a", "node-b"), ("node-a", "node-b")),
    ],
)
def test_of_two_holders_the_one_that_still_speaks_counts(
    late: tuple[str, ...], holders: tuple[str, ...]
) -> None:
    """A host that lost its power said that it holds the VIP earlier than who took it over."""
    situation = with_report(PAIR, "node-b", holds_vips=(VIP,))
    for name in late:
        situation = with_node(situation, name, is_late=True)
    assert situation.holders_of(VIP) == holders


@pytest.mark.parametrize("change", [{"is_fresh": False}, {"report": None}])
def test_who_is_silent_holds_nothing(change: dict[str, Any]) -> None:
    """What it said last is not the present."""
    assert with_node(PAIR, "node-a", **change).holders_of(VIP) == ()


def test_a_vip_is_held_by_its_own_address() -> None:
    """Two VIPs may have two holders, and one that cannot be read has none."""
    second = "198.51.100.101"
    situation = with_report(healthy(vips=(VIP, second)), "node-b", holds_vips=(second,))
    assert situation.holders_of(VIP) == ("node-a",)
    assert situation.holders_of(second) == ("node-b",)
    unread = with_report(situation, "node-b", holds_vips=None)
    assert unread.holders_of(second) == ()


def test_each_queue_has_the_lease_of_its_own_name() -> None:
    """Also when another node holds it; of a queue that is not there nothing is known."""
    first, second = PAIR.leases
    adopted = replace(PAIR, leases=(first, replace(second, holder="node-a")))
    found = adopted.lease_of("node-b")
    assert found is not None
    assert (found.queue, found.holder) == ("node-b", "node-a")
    assert adopted.lease_of("node-a") == first
    assert adopted.lease_of("node-c") is None


FLOW = KnownFlow(accepted=9, delivered=8, deferrals=0, bounced=0, rejected=1)


@pytest.mark.parametrize(
    "passing",
    [
        replace(PAIR, now_s=NOW_S + 60),
        with_node(PAIR, "node-b", seen_at_s=NOW_S + 1),
        with_report(PAIR, "node-b", rule="push"),
        with_report(PAIR, "node-b", flow=FLOW),
        with_report(PAIR, "node-a", pushes=(known_push(at_s=NOW_S),)),
        replace(PAIR, leases=tuple(replace(one, expires_at_s=NOW_S + 15) for one in PAIR.leases)),
        replace(PAIR, waited_before=(("node-a", 5),), traced=(("node-a", NOW_S),)),
    ],
    ids=["clock", "heard", "rule", "flow", "snapshot", "renewal", "samples"],
)
def test_time_that_passes_is_no_event(passing: Any) -> None:
    """Nobody who watches is told, and no page is drawn again, because a moment went by."""
    assert passing == PAIR


@pytest.mark.parametrize(
    "event",
    [
        with_node(PAIR, "node-b", is_late=True),
        with_node(PAIR, "node-b", is_fresh=False),
        with_node(PAIR, "node-b", is_maintenance=True),
        with_node(PAIR, "node-b", assigned_version=8),
        with_report(PAIR, "node-b", is_proven=False),
        with_report(PAIR, "node-b", queue=NOTHING),
        with_report(PAIR, "node-b", postfix_running=None),
        with_report(PAIR, "node-a", pushes=(known_push(sequence=10),)),
        with_report(PAIR, "node-a", holds_vips=()),
        replace(PAIR, leases=tuple(replace(one, generation=4) for one in PAIR.leases)),
        replace(PAIR, leases=tuple(replace(one, is_held=False) for one in PAIR.leases)),
        replace(PAIR, has_first_password=True),
        healthy(nodes=(known_node("node-a", active_report()),)),
    ],
)
def test_what_happened_makes_another_situation(event: Any) -> None:
    """Whatever a person would want to see at once."""
    assert event != PAIR
