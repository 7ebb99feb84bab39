"""What no plan may ever hold, over every combination of what an agent can see of two nodes."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache

from nodeagent.core import actions as act
from nodeagent.core.contract import ClusterView, LeaseView, SwitchoverWish
from nodeagent.core.decision import Plan, decide
from nodeagent.core.observation import (
    Adoption,
    AdoptionStep,
    Observation,
    Switchover,
    SwitchoverStep,
)
from tests.core.worlds import (
    PENDING,
    UNPROVEN,
    VIP,
    guard,
    lease,
    mirror,
    observation,
    peer,
    view,
)

GUARDS = (None, guard(), UNPROVEN, PENDING, guard(remaining_s=0.5))
OWN = (
    lease("node-a"),
    lease("node-a", remaining_s=0.0),
    lease("node-a", granted_to="node-b"),
    lease("node-a", holder="node-b", generation=5),
    lease("node-a", holder="node-b", generation=5, remaining_s=-1.0),
)
THEIRS = (
    lease("node-b"),
    lease("node-b", remaining_s=0.0),
    lease("node-b", remaining_s=-1.0, confirmed_dead=True),
    lease("node-b", granted_to="node-a"),
    lease("node-b", granted_to="node-a", remaining_s=-1.0),
    lease("node-b", holder="node-a", generation=6),
)
ADOPTIONS = (None, *(Adoption("node-b", step, 6) for step in AdoptionStep))
VIPS = ((VIP,), (), None)
MIRRORS = ((), (mirror(),), (mirror(messages=0),), (mirror(promised_s=3.0),))
WISH = SwitchoverWish(id=2, source="node-a", destination="node-b")
SWITCHOVERS = (None, Switchover(2, "node-b", SwitchoverStep.HANDED))

Check = Callable[[Observation, act.Action], bool]


@cache
def seen(own: LeaseView, theirs: LeaseView, silence_s: float, kind: str) -> ClusterView:
    """Return a view; `kind`: plain, with a wish, or of a restored control plane."""
    return view(
        leases=(own, theirs),
        peers=(peer(last_seen_s=silence_s),),
        switchover=WISH if kind == "wish" else None,
        is_recovering=kind == "recovering",
    )


def adopting_worlds() -> Iterator[Observation]:
    """Yield what matters to others' mail."""
    for own, theirs, silence_s, proof, adoption, age_s, mirrors in itertools.product(
        OWN, THEIRS, (1.0, 99.0), GUARDS, ADOPTIONS, (0.2, 99.0), MIRRORS
    ):
        yield observation(
            guard=proof,
            view=seen(own, theirs, silence_s, "plain"),
            view_age_s=age_s,
            mirrors=mirrors,
            adoption=adoption,
            push_age_s=99.0,
        )


def moving_worlds() -> Iterator[Observation]:
    """Yield what matters to the own mail and the VIP."""
    busy = (None, Adoption("node-b", AdoptionStep.LISTED, 6))
    for own, theirs, kind, proof, adoption, vips, age_s, is_job, switchover in itertools.product(
        OWN,
        (THEIRS[0], THEIRS[3]),
        ("plain", "wish", "recovering"),
        GUARDS,
        busy,
        VIPS,
        (0.2, 99.0),
        (False, True),
        SWITCHOVERS,
    ):
        yield observation(
            guard=proof,
            view=seen(own, theirs, 1.0, kind),
            view_age_s=age_s,
            holds_vips=vips,
            adoption=adoption,
            switchover=switchover,
            push_age_s=99.0,
            is_job_running=is_job,
        )


def _is_free(obs: Observation, action: act.DecideAdoption) -> bool:
    """Tell whether section 4.3 lets this node begin to adopt."""
    found = obs.lease_of(action.queue)
    is_mirrored = any(one.queue == action.queue for one in obs.mirrors)
    assert obs.view is not None
    if found is None or not is_mirrored or obs.view.is_recovering or obs.adoption is not None:
        return False
    has_expired = found.remaining_s <= 0
    if action.skip_waiting:
        is_granted = found.granted_to == obs.node and not has_expired
        return is_granted or (has_expired and found.confirmed_dead)
    (their,) = obs.view.peers
    is_silent = their.last_seen_s is None or their.last_seen_s > obs.timings.lease_duration_s
    is_promised = any(one.promised_s > 0 for one in obs.mirrors)
    has_mail = any(one.messages > 0 for one in obs.mirrors)
    return has_expired and is_silent and has_mail and not is_promised


def _is_ours_to_ask_for(obs: Observation, _action: act.Reconcile) -> bool:
    """Tell whether the own lease may be hoped for, and whether there is a reason to."""
    own = obs.lease_of("node-a")
    if own is None or obs.view is None or obs.view.is_recovering:
        return False
    is_elsewhere = own.holder != "node-a" or own.granted_to is not None
    return own.remaining_s <= 0 or (not is_elsewhere and not obs.is_settled)


def _is_step(obs: Observation, step: AdoptionStep) -> bool:
    return obs.adoption is not None and obs.adoption.step is step


MAY: dict[type[act.Action], Check] = {
    act.SetAside: lambda obs, _: (
        obs.is_proven and (own := obs.lease_of("node-a")) is not None and own.holder == "node-b"
    ),
    act.Reconcile: _is_ours_to_ask_for,
    act.AskPromises: lambda obs, _: obs.is_proven,
    act.DecideAdoption: lambda obs, action: obs.is_settled and _is_free(obs, action),
    act.AcquireLease: lambda obs, _: (
        obs.is_settled and obs.fresh_view is not None and _is_step(obs, AdoptionStep.DECIDED)
    ),
    act.WriteReceipt: lambda obs, _: obs.is_settled and _is_step(obs, AdoptionStep.LEASED),
    act.CommitReceipt: lambda obs, _: (
        obs.is_settled and obs.fresh_view is not None and _is_step(obs, AdoptionStep.LISTED)
    ),
    act.PlaceAdopted: lambda obs, _: obs.is_settled and _is_step(obs, AdoptionStep.COMMITTED),
    act.FinishAdoption: lambda obs, _: _is_step(obs, AdoptionStep.PLACED),
    act.DropAdoption: lambda obs, _: (
        _is_step(obs, AdoptionStep.DECIDED) or _is_step(obs, AdoptionStep.LEASED)
    ),
    act.ReleaseLease: lambda obs, action: (
        obs.adoption is None and action.queue != "node-a" and obs.fresh_view is not None
    ),
    act.Push: lambda obs, action: (
        obs.is_settled and bool(obs.holds_vips) and action.generation == obs.guard.generation
    ),
    act.HandOver: lambda obs, _: obs.is_settled and obs.adoption is None and obs.switchover is None,
    act.EndSwitchover: lambda obs, _: obs.switchover is not None and obs.holds_vips == (),
    act.SetFault: lambda obs, action: action.is_fault is (obs.switchover is not None),
}


def _check_plan(obs: Observation, plan: Plan) -> None:
    jobs = [action for action in plan.actions if action.is_job]
    assert plan.rule != "none", obs
    assert len(jobs) <= 1, (obs, plan)
    assert not (jobs and obs.is_job_running), (obs, plan)
    for action in plan.actions:
        assert MAY[type(action)](obs, action), (obs, plan)
    if plan.renew:
        own = obs.lease_of("node-a")
        assert obs.is_proven, (obs, plan)
        assert obs.switchover is None, (obs, plan)
        assert own is None or own.granted_to is None, (obs, plan)


def test_no_plan_holds_what_its_clause_forbids():
    """Each action against the clause of section 4 that permits it; each is seen permitted too."""
    planned: Counter[type[act.Action]] = Counter()
    count = 0
    for obs in itertools.chain(adopting_worlds(), moving_worlds()):
        plan = decide(obs)
        _check_plan(obs, plan)
        planned.update(type(action) for action in plan.actions)
        count += 1
    assert count == 5 * 6 * 2 * 5 * 6 * 2 * 4 + 5 * 2 * 3 * 5 * 2 * 3 * 2 * 2 * 2
    assert set(planned) == set(MAY)
