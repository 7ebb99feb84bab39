"""The rule table: each rule alone, and the promises over every combination of what can be seen."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from nodeagent.core import actions as act
from nodeagent.core.contract import Role, SwitchoverWish
from nodeagent.core.decision import HOUSEKEEPING, OWNERSHIP, decide
from nodeagent.core.observation import (
    Adoption,
    AdoptionStep,
    ConfigState,
    Observation,
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

DEAD_B = view(
    leases=(lease("node-a"), lease("node-b", remaining_s=-1)), peers=(peer(last_seen_s=60.0),)
)


def test_a_healthy_node_with_nothing_due_does_nothing():
    """Idle is the last rule, and it matches only when no other does."""
    assert decide(observation()).rule == "idle"
    assert decide(observation()).actions == ()


def test_without_a_guard_nothing_moves():
    """An agent that cannot reach its guard has no permission for anything."""
    plan = decide(observation(guard=None, push_age_s=99.0, view=DEAD_B))
    assert plan.rule == "guard-unknown"
    assert plan.actions == ()
    assert not plan.renew


def test_a_lease_taken_by_another_is_acted_on_at_once():
    """Told that its lease is lost, a node sets its mail aside before anything else."""
    taken = view(leases=(lease("node-a", holder="node-b", generation=5), lease("node-b")))
    plan = decide(observation(view=taken, push_age_s=99.0))
    assert plan.actions == (act.SetAside("the lease is held by node-b"),)


def test_a_stale_view_does_not_undo_a_lease_acquired_since():
    """A view that is older than the guard's generation says nothing about it."""
    taken = view(leases=(lease("node-a", holder="node-b", generation=5), lease("node-b")))
    plan = decide(observation(view=taken, guard=guard(generation=6)))
    assert plan.rule == "idle"


def test_failsafe_begins_when_the_renew_deadline_is_used_up():
    """Six of twelve proved seconds after the last renewal the peers are asked."""
    assert decide(observation(guard=guard(remaining_s=6.1))).rule == "idle"
    plan = decide(observation(guard=guard(remaining_s=6.0), view_age_s=7.0))
    assert plan.actions == (act.AskPromises(("node-b",)),)


def test_failsafe_goes_on_while_a_job_runs():
    """A push that hangs must not cost the node its mail."""
    plan = decide(observation(guard=guard(remaining_s=2.0), is_job_running=True))
    assert plan.rule == "failsafe"


def test_an_unproven_node_reconciles_once_it_may_hope_to_get_its_lease():
    """Own lease free or own: acquire and take back."""
    assert decide(observation(guard=UNPROVEN)).actions == (act.Reconcile(),)


def test_pending_mail_alone_calls_for_reconciling():
    """A guard that was restarted mid-way is proven but has forgotten whose the mail is."""
    assert decide(observation(guard=PENDING)).rule == "reconcile"


@pytest.mark.parametrize(
    "own",
    [
        lease("node-a", holder="node-b", remaining_s=5.0),
        lease("node-a", granted_to="node-b", remaining_s=5.0),
    ],
)
def test_a_node_waits_while_its_lease_is_elsewhere(own):
    """Held by a peer or granted to it: only its expiry brings the mail back."""
    plan = decide(observation(guard=UNPROVEN, view=view(leases=(own, lease("node-b")))))
    assert plan.rule == "unsettled"
    assert plan.actions == ()


def test_an_own_lease_that_ran_out_under_promises_is_acquired_again():
    """After a failsafe the control plane's row has expired though nothing was fenced."""
    expired = view(leases=(lease("node-a", remaining_s=-4), lease("node-b")))
    assert decide(observation(view=expired)).actions == (act.Reconcile(),)


def test_a_recovering_control_plane_is_told_what_we_remember_first():
    """Before all nodes have reported, no lease is asked for."""
    recovering = view(is_recovering=True)
    obs = observation(view=recovering, guard=UNPROVEN, is_instance_known=False)
    assert decide(obs).actions == (act.ReportRecovery(),)
    assert decide(observation(view=recovering, guard=UNPROVEN)).rule == "unsettled"


def test_a_silent_peer_whose_lease_ran_out_is_adopted():
    """The unplanned case: expired, silent, nothing promised, mail in the mirror."""
    plan = decide(observation(view=DEAD_B))
    assert plan.actions == (act.DecideAdoption("node-b", skip_waiting=False),)


@pytest.mark.parametrize(
    "overrides",
    [
        {"mirrors": (mirror(promised_s=3.0),)},
        {"mirrors": (mirror(messages=0),)},
        {"mirrors": ()},
        {"start_grace_s": 4.0},
        {"view_age_s": 30.0},
        {"view_age_s": None},
        {"view": DEAD_B.model_copy(update={"peers": (peer(last_seen_s=1.0),)})},
        {"view": DEAD_B.model_copy(update={"is_recovering": True})},
    ],
)
def test_nothing_is_adopted_while_one_condition_is_missing(overrides):
    """A promise, an empty or absent mirror, the start's grace, stale news, a peer that speaks."""
    plan = decide(observation(**{"view": DEAD_B, **overrides}))
    assert not any(isinstance(action, act.DecideAdoption) for action in plan.actions)


def test_a_grant_is_taken_up_at_once():
    """A switchover does not wait for silence, grace or promises."""
    granted = view(leases=(lease("node-a"), lease("node-b", granted_to="node-a")))
    obs = observation(
        view=granted, start_grace_s=9.0, mirrors=(mirror(promised_s=9.0, messages=0),)
    )
    assert decide(obs).actions == (act.DecideAdoption("node-b", skip_waiting=True),)


def test_confirmed_dead_skips_the_waiting():
    """An operator's word stands in for silence and promises, not for the control plane."""
    dead = view(leases=(lease("node-a"), lease("node-b", remaining_s=0, confirmed_dead=True)))
    plan = decide(observation(view=dead, start_grace_s=9.0))
    assert plan.actions == (act.DecideAdoption("node-b", skip_waiting=True),)
    assert decide(observation(view=dead, view_age_s=99.0)).rule != "adopt"


@pytest.mark.parametrize(
    ("step", "action"),
    [
        (AdoptionStep.DECIDED, act.AcquireLease("node-b")),
        (AdoptionStep.LEASED, act.WriteReceipt("node-b", 5)),
        (AdoptionStep.LISTED, act.CommitReceipt("node-b", 5)),
        (AdoptionStep.COMMITTED, act.PlaceAdopted("node-b", 5)),
        (AdoptionStep.PLACED, act.FinishAdoption("node-b", 5)),
    ],
)
def test_an_adoption_takes_one_step_after_the_other(step, action):
    """Each persisted step has exactly one successor."""
    assert decide(observation(adoption=Adoption("node-b", step, 5))).actions == (action,)


@pytest.mark.parametrize("step", [AdoptionStep.DECIDED, AdoptionStep.LEASED])
def test_an_adoption_that_listed_nothing_is_dropped_when_it_is_blocked(step):
    """So that promises to the peer are possible again."""
    obs = observation(adoption=Adoption("node-b", step, 5), view_age_s=60.0)
    assert decide(obs).actions == (act.DropAdoption("node-b"),)


def test_committed_mail_is_placed_without_the_control_plane():
    """Ownership has passed; only our own proof is needed."""
    adoption = Adoption("node-b", AdoptionStep.COMMITTED, 5)
    assert decide(observation(adoption=adoption, view_age_s=60.0)).rule == "adoption-next"


def test_committed_mail_waits_for_our_own_proof():
    """Nothing enters a live queue that is not proved ours."""
    adoption = Adoption("node-b", AdoptionStep.COMMITTED, 5)
    plan = decide(observation(adoption=adoption, guard=UNPROVEN))
    assert plan.actions == (act.Reconcile(),)


def test_a_stray_lease_is_given_back():
    """A peer's lease without an adoption would only keep its owner waiting."""
    stray = view(leases=(lease("node-a"), lease("node-b", holder="node-a", generation=5)))
    assert decide(observation(view=stray)).actions == (act.ReleaseLease("node-b", 5),)


def test_a_switchover_is_carried_out_by_its_source_alone():
    """The wish names node-a as source."""
    wish = SwitchoverWish(id=2, source="node-a", destination="node-b")
    plan = decide(observation(view=view(switchover=wish)))
    assert plan.actions == (act.HandOver(2, "node-b", 4),)
    other = SwitchoverWish(id=2, source="node-b", destination="node-a")
    assert decide(observation(view=view(switchover=other))).rule == "idle"


def test_a_handed_over_node_gives_up_the_vip_and_does_not_renew():
    """FAULT is set until the VIP has left, and the grant must be able to run out."""
    handed = Switchover(2, "node-b", SwitchoverStep.HANDED)
    plan = decide(observation(switchover=handed, guard=UNPROVEN))
    assert act.SetFault(is_fault=True) in plan.actions
    assert not plan.renew
    gone = observation(switchover=handed, holds_vips=(), is_fault_set=True)
    assert decide(gone).actions == (act.EndSwitchover(2),)


def test_fault_is_lifted_after_a_switchover():
    """The former active stands by again."""
    assert decide(observation(is_fault_set=True)).actions == (act.SetFault(is_fault=False),)


def test_maintenance_keeps_a_node_off_the_vip():
    """The operator's wish reaches keepalived by the track file."""
    plan = decide(observation(view=view(is_maintenance=True)))
    assert plan.actions == (act.SetFault(is_fault=True),)


def test_a_due_push_goes_to_every_peer():
    """Peers come from the view, the generation from the guard."""
    peers = (peer(), peer("node-c"))
    plan = decide(observation(view=view(peers=peers), push_age_s=5.0))
    assert plan.actions == (act.Push(("node-b", "node-c"), 4),)
    assert decide(observation(push_age_s=None)).rule == "push"


def test_pushing_goes_on_without_the_control_plane():
    """Promises of the peers prove the lease as well (P5)."""
    assert decide(observation(push_age_s=9.0, view_age_s=300.0)).rule == "push"


def test_a_standby_never_pushes():
    """P4: only the owner of a VIP pushes; an unreadable address list counts as none."""
    assert decide(observation(holds_vips=(), push_age_s=99.0)).rule == "idle"
    assert decide(observation(holds_vips=None, push_age_s=99.0)).rule == "idle"


def test_an_orphaned_vip_is_dropped_only_if_a_peer_has_it():
    """With a peer on the VIP ours is a hazard, without it our best."""
    both = view(peers=(peer(holds_vips=(VIP,)),))
    obs = observation(view=both, is_keepalived_running=False)
    assert decide(obs).actions == (act.DropVip((VIP,)),)
    assert decide(observation(is_keepalived_running=False)).actions == ()


def test_a_config_is_applied_once_and_not_again_after_it_failed():
    """A version that was refused here stays off until another one is assigned."""
    assert decide(observation(config=ConfigState(2))).actions == (act.ApplyConfig(3),)
    assert decide(observation(config=ConfigState(2, failed_version=3))).actions == ()


def test_keys_of_peers_are_written_when_they_change():
    """Nobody copies a key by hand."""
    assert decide(observation(ssh_files_current=False)).actions == (act.WriteSshFiles(),)


OLD = guard(retired=(RetiredView(7, 15 * 86400.0), RetiredView(9, 13 * 86400.0)))


def test_retired_mail_is_removed_when_both_clocks_say_so():
    """Seven is old here and done for long there; nine is too young here."""
    obs = observation(guard=OLD, removable_receipts=(7, 9))
    assert obs.kept_receipts == (7,)
    assert decide(obs).actions == (act.RemoveRetired((7,)),)


@pytest.mark.parametrize(
    "overrides",
    [
        {"removable_receipts": ()},
        {"removable_receipts": (8,)},
        {"view_age_s": 99.0},
        {"view_age_s": None},
        {"guard": None},
        {"guard": guard(retired=(RetiredView(7, -15 * 86400.0),))},
        {"is_job_running": True},
    ],
)
def test_retired_mail_stays_when_anything_is_unknown(overrides):
    """No answer, another receipt's, an old one, no guard, a clock that jumped, a job under way."""
    world = {"guard": OLD, "removable_receipts": (7,), **overrides}
    assert decide(observation(**world)).actions == ()


def test_two_jobs_never_start_in_one_tick():
    """A push and a config change take turns."""
    plan = decide(observation(push_age_s=9.0, config=ConfigState(2)))
    assert [type(action) for action in plan.actions] == [act.Push]


def test_roles_follow_proof_and_vip():
    """ACTIVE owns a VIP, FENCED has mail that is not proved its own."""
    assert observation().role is Role.ACTIVE
    assert observation(holds_vips=()).role is Role.STANDBY
    assert observation(guard=UNPROVEN).role is Role.FENCED


def every_world() -> Iterator[Observation]:
    """Yield each combination of what matters to ownership."""
    guards = [None, guard(), UNPROVEN, PENDING, guard(remaining_s=3.0)]
    own = [lease("node-a"), lease("node-a", remaining_s=-1)]
    own += [lease("node-a", granted_to="node-b"), lease("node-a", holder="node-b", generation=5)]
    theirs = [lease("node-b"), lease("node-b", remaining_s=-1)]
    theirs += [lease("node-b", granted_to="node-a"), lease("node-b", holder="node-a")]
    adoptions = [None, *(Adoption("node-b", step, 5) for step in AdoptionStep)]
    for seen, mine, peers_lease, adoption, vips, age_s, is_job, silent in itertools.product(
        guards, own, theirs, adoptions, [(VIP,), ()], [0.2, 99.0, None], [False, True], [1.0, 99.0]
    ):
        yield observation(
            guard=seen,
            view=view(leases=(mine, peers_lease), peers=(peer(last_seen_s=silent),)),
            view_age_s=age_s,
            holds_vips=vips,
            adoption=adoption,
            push_age_s=99.0,
            is_job_running=is_job,
        )


def test_the_safety_gates_hold_in_every_world():
    """Nothing moves without proof, nor others' mail before our own is settled."""
    needs_settled = (act.Push, act.HandOver, act.DecideAdoption, act.AcquireLease)
    needs_settled += (act.WriteReceipt, act.CommitReceipt, act.PlaceAdopted)
    needs_news = (act.Reconcile, act.DecideAdoption, act.AcquireLease, act.CommitReceipt)
    count = 0
    for obs in every_world():
        count += 1
        plan = decide(obs)
        for action in plan.actions:
            if isinstance(action, needs_settled):
                assert obs.is_settled, (obs, plan)
            if isinstance(action, needs_news):
                assert obs.fresh_view is not None, (obs, plan)
            if isinstance(action, act.Push):
                assert obs.holds_vips
            if action.is_job:
                assert not obs.is_job_running, (obs, plan)
        assert not plan.renew or obs.is_proven
    assert count == 5 * 4 * 4 * 6 * 2 * 3 * 2 * 2


def test_every_ownership_rule_is_reachable():
    """A rule that no world reaches would be a rule nobody tests."""
    reached = {decide(obs).rule for obs in every_world()}
    wish = SwitchoverWish(id=2, source="node-a", destination="node-b")
    handed = Switchover(2, "node-b", SwitchoverStep.HANDED)
    for obs in (
        observation(view=view(is_recovering=True), is_instance_known=False),
        observation(view=view(switchover=wish)),
        observation(switchover=handed, holds_vips=()),
        observation(),
    ):
        reached.add(decide(obs).rule)
    assert reached == {rule.name for rule in OWNERSHIP}


def test_rules_have_unique_names_and_a_comment():
    """The comment is what the log and the docs show."""
    rules = OWNERSHIP + HOUSEKEEPING
    assert len({rule.name for rule in rules}) == len(rules)
    assert all(rule.comment.endswith(".") for rule in rules)
    assert TIMINGS.lease_renew_deadline_s == 6
