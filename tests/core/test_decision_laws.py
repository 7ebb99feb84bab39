"""Laws of the rule table: what changes a plan and what does not, for whatever a node can see."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from nodeagent.core import actions as act
from nodeagent.core.decision import Plan, decide
from nodeagent.core.observation import Observation
from tests.core.arbitrary import OBSERVATIONS, WISHES
from tests.core.worlds import TIMINGS, lease, peer

TOO_OLD_S = st.sampled_from((None, TIMINGS.lease_renew_deadline_s + 0.1, 99.0))


def with_view(obs: Observation, **changes: Any) -> Observation:
    """Return the observation with something else in its view."""
    assert obs.view is not None
    return replace(obs, view=obs.view.model_copy(update=changes))


def adopted(plan: Plan) -> set[str]:
    """Return the queues whose adoption the plan begins."""
    return {action.queue for action in plan.actions if isinstance(action, act.DecideAdoption)}


@given(OBSERVATIONS, TOO_OLD_S, st.none() | WISHES)
def test_what_an_old_view_says_of_others_is_not_acted_on(
    obs: Observation, age_s: float | None, wish: Any
) -> None:
    """Leases, signs of life, wishes and versions may all have changed since."""
    old = replace(obs, view_age_s=age_s)
    assert old.view is not None
    silent = tuple(peer(one.name, address=one.address) for one in old.view.peers)
    changed = with_view(
        old,
        leases=(lease("node-b", holder="node-a", remaining_s=-1.0, confirmed_dead=True),),
        peers=silent,
        switchover=wish,
        config_version=99,
        is_recovering=not old.view.is_recovering,
    )
    assert decide(changed) == decide(old)


@given(OBSERVATIONS)
def test_a_promise_only_keeps_a_node_from_adopting(obs: Observation) -> None:
    """Where it adopts in spite of promises and of having just started, it does so without."""
    free = replace(
        obs,
        mirrors=tuple(replace(mirror, promised_s=0.0) for mirror in obs.mirrors),
        start_grace_s=0.0,
    )
    assert bool(adopted(decide(free))) >= bool(adopted(decide(obs)))


def _by_silence(obs: Observation) -> set[str]:
    """Return the queues that are adopted because their node is silent."""
    return {
        action.queue
        for action in decide(obs).actions
        if isinstance(action, act.DecideAdoption) and not action.skip_waiting
    }


@given(OBSERVATIONS)
def test_who_has_just_started_or_promised_adopts_nobody_for_silence(obs: Observation) -> None:
    """A grant or an operator's word is needed."""
    promised = tuple(replace(mirror, promised_s=0.1) for mirror in obs.mirrors)
    assert not _by_silence(replace(obs, mirrors=promised))
    assert not _by_silence(replace(obs, start_grace_s=0.1))


@given(OBSERVATIONS)
def test_the_order_of_peers_and_leases_decides_nothing(obs: Observation) -> None:
    """The rule is the same; where it names several, it names the same ones."""
    assert obs.view is not None
    turned = with_view(obs, leases=obs.view.leases[::-1], peers=obs.view.peers[::-1])
    one, other = decide(obs), decide(turned)
    assert (one.rule, one.renew) == (other.rule, other.renew)
    if one.rule != "stray-lease":
        assert [_unordered(action) for action in one.actions] == [
            _unordered(action) for action in other.actions
        ]


def _unordered(action: act.Action) -> Any:
    is_to_all = isinstance(action, act.Push | act.AskPromises)
    return (type(action), frozenset(action.peers)) if is_to_all else action


@given(OBSERVATIONS)
def test_one_job_at_a_time_and_no_job_beside_another(obs: Observation) -> None:
    """The agent has one worker; gates and files are small enough not to wait for it."""
    jobs = [action for action in decide(obs).actions if action.is_job]
    assert len(jobs) <= (0 if obs.is_job_running else 1)


@given(OBSERVATIONS)
def test_a_plan_is_for_peers_and_queues_that_are_in_sight(obs: Observation) -> None:
    """Nobody is asked, pushed to or adopted who is not in the view, the mirrors or the ledger."""
    assert obs.view is not None
    names = {one.name for one in obs.view.peers}
    queues = {one.queue for one in obs.mirrors} | {one.queue for one in obs.view.leases}
    if obs.adoption is not None:
        queues.add(obs.adoption.queue)
    for action in decide(obs).actions:
        assert set(getattr(action, "peers", ())) <= names
        assert getattr(action, "queue", obs.node) in queues | {obs.node}


@given(OBSERVATIONS)
def test_without_a_guard_only_files_are_looked_after(obs: Observation) -> None:
    """No mail moves, no lease is asked for, none renewed."""
    plan = decide(replace(obs, guard=None))
    house = act.SetFault | act.DropVip | act.WriteSshFiles | act.ApplyConfig
    assert (plan.rule, plan.renew) == ("guard-unknown", False)
    assert all(isinstance(action, house) for action in plan.actions)


@given(OBSERVATIONS)
def test_a_fault_that_was_set_or_lifted_stays_so(obs: Observation) -> None:
    """The VIP does not flap: in the next tick there is nothing to change."""
    for action in decide(obs).actions:
        if isinstance(action, act.SetFault):
            after = decide(replace(obs, is_fault_set=action.is_fault))
            assert not any(isinstance(one, act.SetFault) for one in after.actions)
