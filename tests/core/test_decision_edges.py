"""The rule table at its limits: where exactly a rule begins to apply, and what it needs to know."""

from __future__ import annotations

import re
from typing import Any

import pytest

from nodeagent.core import actions as act
from nodeagent.core.contract import LeaseView
from nodeagent.core.decision import HOUSEKEEPING, OWNERSHIP, Plan, decide, is_obtainable
from nodeagent.core.lease import retired_keep_s
from nodeagent.core.observation import (
    Adoption,
    AdoptionStep,
    ConfigState,
    RetiredView,
    Switchover,
    SwitchoverStep,
)
from tests.core.worlds import (
    PENDING,
    TIMINGS,
    UNPROVEN,
    VIP,
    guard,
    lease,
    mirror,
    observation,
    peer,
    view,
)

DEADLINE_S = TIMINGS.lease_renew_deadline_s
SILENT = (peer(last_seen_s=60.0),)
TAKEN = lease("node-a", holder="node-b", generation=5)


def told(*leases: LeaseView, **overrides: Any) -> Plan:
    """Return the plan of node-a, told of these leases."""
    shown = view(leases=leases, peers=SILENT)
    return decide(observation(**{"view": shown, **overrides}))


@pytest.mark.parametrize(
    ("age_s", "is_fresh"), [(0.0, True), (DEADLINE_S, True), (DEADLINE_S + 0.01, False)]
)
def test_a_view_is_fresh_as_long_as_renewing_alone_is_tried(age_s: float, is_fresh: bool) -> None:
    """Until then others' leases are acted on; afterwards the view only names peers and timings."""
    seen = observation(view_age_s=age_s)
    assert (seen.fresh_view is not None) is is_fresh
    assert (seen.lease_of("node-b") is not None) is is_fresh
    assert seen.timings == TIMINGS


def test_without_an_answer_nothing_is_known_of_others() -> None:
    """A view from the disk has no age; without any view there is no lease, and no peer."""
    assert observation(view_age_s=None).fresh_view is None
    nothing = observation(view=None, view_age_s=0.0)
    assert (nothing.fresh_view, nothing.lease_of("node-a")) == (None, None)
    plan = decide(observation(view=None, view_age_s=None, ssh_files_current=False))
    assert not any(isinstance(action, act.WriteSshFiles | act.Push) for action in plan.actions)


@pytest.mark.parametrize(
    ("proof", "is_proven", "is_settled"),
    [(None, False, False), (UNPROVEN, False, False), (PENDING, True, False), (guard(), True, True)],
)
def test_settled_is_proven_and_nothing_aside(proof: Any, is_proven: bool, is_settled: bool) -> None:
    """A guard that does not answer proves nothing."""
    seen = observation(guard=proof)
    assert (seen.is_proven, seen.is_settled) == (is_proven, is_settled)


@pytest.mark.parametrize(("early_s", "kept"), [(0.0, (7,)), (0.1, ()), (-0.1, (7,))])
def test_retired_mail_is_kept_for_days_to_the_second(early_s: float, kept: tuple[int, ...]) -> None:
    """By the own clock; a clock that has jumped back keeps it."""
    age_s = retired_keep_s(TIMINGS) - early_s
    seen = observation(guard=guard(retired=(RetiredView(7, age_s), RetiredView(8, -5.0))))
    assert seen.kept_receipts == kept


def test_mail_that_is_aside_already_is_not_set_aside_again() -> None:
    """A node without a proof has fenced itself; told that its lease is gone, it only waits."""
    assert told(TAKEN, guard=guard()).rule == "lease-lost"
    assert told(TAKEN, guard=UNPROVEN).rule == "unsettled"
    assert told(TAKEN, guard=guard(generation=5)).rule != "lease-lost"
    assert told(TAKEN, guard=guard(generation=6)).rule != "lease-lost"


@pytest.mark.parametrize(
    ("own", "may"),
    [
        (lease("node-a"), True),
        (lease("node-a", remaining_s=0.0), True),
        (lease("node-a", granted_to="node-b"), False),
        (lease("node-a", granted_to="node-b", remaining_s=0.0), True),
        (lease("node-a", granted_to="node-a"), True),
        (lease("node-a", holder="node-b"), False),
        (lease("node-a", holder="node-b", granted_to="node-a"), True),
        (lease("node-a", holder="node-b", remaining_s=0.1), False),
        (lease("node-a", holder="node-b", remaining_s=0.0), True),
    ],
)
def test_a_lease_is_hoped_for_when_nobody_else_has_it(own: LeaseView, may: bool) -> None:
    """Asking for another's would only be refused, every tick."""
    assert is_obtainable(own, "node-a") is may
    assert (told(own, guard=PENDING).rule == "reconcile") is may


@pytest.mark.parametrize(
    ("remaining_s", "rule"), [(-1.0, "reconcile"), (0.0, "reconcile"), (0.5, "idle")]
)
def test_a_settled_node_acquires_again_what_has_run_out(remaining_s: float, rule: str) -> None:
    """Not before: the heartbeat renews what is still its own."""
    own = lease("node-a", remaining_s=remaining_s)
    assert told(own, lease("node-b"), mirrors=(mirror(messages=0),)).rule == rule


@pytest.mark.parametrize(("remaining_s", "is_held"), [(-1.0, False), (0.0, False), (0.5, True)])
def test_only_a_lease_that_is_still_held_is_given_back(remaining_s: float, is_held: bool) -> None:
    """One that has run out is nobody's, and may be somebody's by now."""
    stray = lease("node-b", holder="node-a", generation=9, remaining_s=remaining_s)
    plan = told(lease("node-a"), stray, mirrors=())
    assert plan.actions == ((act.ReleaseLease("node-b", 9),) if is_held else ())


@pytest.mark.parametrize(
    ("remaining_s", "messages", "is_adopted"),
    [(0.5, 7, False), (0.0, 7, True), (-1.0, 7, True), (0.0, 0, False), (0.5, 0, False)],
)
def test_a_silent_peer_keeps_its_queue_while_its_lease_runs(
    remaining_s: float, messages: int, is_adopted: bool
) -> None:
    """And an empty mirror is not worth a lease."""
    theirs = lease("node-b", remaining_s=remaining_s)
    plan = told(lease("node-a"), theirs, mirrors=(mirror(messages=messages),))
    assert (plan.rule == "adopt") is is_adopted


@pytest.mark.parametrize(
    ("last_seen_s", "is_silent"), [(None, True), (14.9, False), (15.0, False), (15.1, True)]
)
def test_silence_begins_after_a_lease_duration(last_seen_s: float | None, is_silent: bool) -> None:
    """A peer that was never heard is silent."""
    shown = view(
        leases=(lease("node-a"), lease("node-b", remaining_s=-1.0)),
        peers=(peer(last_seen_s=last_seen_s),),
    )
    assert (decide(observation(view=shown)).rule == "adopt") is is_silent


def test_a_peer_that_is_no_peer_any_more_is_not_taken_for_silent() -> None:
    """A node that was removed says nothing either; its mail waits for an operator."""
    shown = view(leases=(lease("node-a"), lease("node-b", remaining_s=-1.0)), peers=())
    assert decide(observation(view=shown)).rule == "idle"


@pytest.mark.parametrize(
    ("held", "is_running", "dropped"),
    [
        ((VIP,), False, (act.DropVip((VIP,)),)),
        ((), False, ()),
        (None, False, ()),
        ((VIP,), None, ()),
        ((VIP,), True, ()),
    ],
)
def test_a_vip_is_dropped_only_where_all_is_known(
    held: tuple[str, ...] | None, is_running: bool | None, dropped: tuple[act.Action, ...]
) -> None:
    """Addresses or a keepalived that cannot be read are no permission."""
    shown = view(peers=(peer(holds_vips=(VIP, "198.51.100.101")),))
    plan = decide(observation(view=shown, holds_vips=held, is_keepalived_running=is_running))
    assert plan.actions == dropped


def test_only_the_vips_that_a_peer_has_too_are_dropped() -> None:
    """The other one is still the way to this node's mail."""
    shown = view(peers=(peer(holds_vips=(VIP,)),))
    held = ("198.51.100.101", VIP)
    plan = decide(observation(view=shown, holds_vips=held, is_keepalived_running=False))
    assert plan.actions == (act.DropVip((VIP,)),)


@pytest.mark.parametrize(
    ("wanted", "live", "failed", "is_busy", "is_applied"),
    [
        (3, None, None, False, True),
        (3, 2, None, False, True),
        (2, 3, None, False, True),
        (3, 2, 2, False, True),
        (3, 3, None, False, False),
        (3, 2, 3, False, False),
        (None, 3, None, False, False),
        (None, 3, 2, False, False),
        (None, None, None, False, False),
        (3, 2, None, True, False),
    ],
)
def test_a_config_is_applied_when_it_is_another_and_nothing_runs(
    wanted: int | None, live: int | None, failed: int | None, is_busy: bool, is_applied: bool
) -> None:
    """A rollback is another version too; one that was refused is not tried again."""
    seen = observation(
        view=view(config_version=wanted),
        config=ConfigState(live_version=live, failed_version=failed),
        is_job_running=is_busy,
    )
    assert decide(seen).actions == ((act.ApplyConfig(3 if wanted == 3 else 2),) * is_applied)


def test_a_node_renews_before_it_is_told_of_any_lease() -> None:
    """An old view must not cost the lease: what is proved is renewed, as long as it is its own."""
    handed = Switchover(2, "node-b", SwitchoverStep.HANDED)
    assert decide(observation(view=None, view_age_s=None)).renew
    assert told(lease("node-b")).renew
    assert told(lease("node-a")).renew
    assert not told(lease("node-a", granted_to="node-b")).renew
    assert not told(lease("node-a"), switchover=handed).renew
    assert not told(lease("node-b"), switchover=handed).renew
    assert not told(lease("node-a"), guard=UNPROVEN).renew
    assert not decide(observation(guard=None)).renew


@pytest.mark.parametrize("step", AdoptionStep)
def test_an_adoption_keeps_all_of_its_steps_to_its_own_queue(step: AdoptionStep) -> None:
    """Whatever else is free meanwhile, one adoption is finished or dropped before another."""
    adopting = Adoption("node-c", step, 6)
    plan = told(
        lease("node-a"), lease("node-b", remaining_s=-1.0, confirmed_dead=True), adoption=adopting
    )
    assert [getattr(action, "queue", None) for action in plan.actions] == ["node-c"]


def test_no_table_no_plan() -> None:
    """Thinned tables of tests may leave nothing: then nothing is done, and nothing renewed."""
    assert decide(observation(), ownership=()) == Plan("none", "No rule applies.", (), renew=False)
    assert decide(observation(push_age_s=99.0), housekeeping=()).rule == "push"


def test_rules_are_named_for_people() -> None:
    """The name is a word of the log, `explain` and the docs; the comment is a sentence."""
    for rule in (*OWNERSHIP, *HOUSEKEEPING):
        assert re.fullmatch(r"[a-z]+(?:-[a-z]+)*", rule.name), rule
        assert re.fullmatch(r"[A-Zk].{8,}\.", rule.comment), rule
