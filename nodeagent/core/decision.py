"""The rule table: from one observation to one plan, pure, first match wins, safety gates first.

Theory of operation. There are two tables. `OWNERSHIP` decides about mail: whose it is, where it
goes, what may be touched. `HOUSEKEEPING` keeps the node's files as the control plane wants them. In
each, the first rule whose `plan` is not None decides; the rule's name and comment are what the log,
`relay-agent explain` and the docs show. No rule waits; what is not yet possible is looked at again
in the next tick. The order of `OWNERSHIP` is part of the protocol (DESIGN section 4):

1. gates: without the guard nothing moves; a lost lease is acted on before anything else;
2. staying the owner without the control plane (promises);
3. becoming the owner of one's own mail again (reconcile) before touching anybody else's;
4. finishing what was begun (adoption, switchover);
5. beginning something new (adopt, hand over, push).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from nodeagent.core import actions as act
from nodeagent.core.contract import LeaseView
from nodeagent.core.lease import is_failsafe_due
from nodeagent.core.observation import AdoptionStep, Observation, SwitchoverStep

Actions = tuple[act.Action, ...]


@dataclass(frozen=True)
class Rule:
    """One row: `plan` returns None where the rule does not apply."""

    name: str
    comment: str
    plan: Callable[[Observation], Actions | None]


@dataclass(frozen=True)
class Plan:
    """What one tick does, and which rules said so; `renew`: the heartbeat asks for a renewal."""

    rule: str
    comment: str
    actions: Actions
    renew: bool


def _guard_unknown(obs: Observation) -> Actions | None:
    return () if obs.guard is None else None


def _lease_lost(obs: Observation) -> Actions | None:
    lease = obs.lease_of(obs.node)
    if lease is None or obs.guard is None or not obs.guard.is_proven:
        return None
    if lease.holder != obs.node and lease.generation > obs.guard.generation:
        return (act.SetAside(f"the lease is held by {lease.holder}"),)
    return None


def _failsafe(obs: Observation) -> Actions | None:
    if obs.view is None or obs.guard is None or not obs.guard.is_proven:
        return None
    if not is_failsafe_due(obs.guard.remaining_s, obs.timings):
        return None
    return (act.AskPromises(tuple(peer.name for peer in obs.view.peers)),)


def _recovery(obs: Observation) -> Actions | None:
    view = obs.fresh_view
    if view is None or obs.is_instance_known or obs.is_job_running:
        return None
    return (act.ReportRecovery(),) if view.is_recovering else None


def _job_running(obs: Observation) -> Actions | None:
    return () if obs.is_job_running else None


def is_obtainable(lease: LeaseView, node: str) -> bool:
    """Tell whether `node` may hope to acquire this lease: its own, expired, or granted to it."""
    if lease.remaining_s <= 0 or lease.granted_to == node:
        return True
    return lease.holder == node and lease.granted_to is None


def _reconcile(obs: Observation) -> Actions | None:
    lease = obs.lease_of(obs.node)
    view = obs.fresh_view
    if lease is None or view is None or view.is_recovering or not is_obtainable(lease, obs.node):
        return None
    has_run_out = lease.remaining_s <= 0
    return (act.Reconcile(),) if not obs.is_settled or has_run_out else None


def _adoption_placed(obs: Observation) -> Actions | None:
    adoption = obs.adoption
    if adoption is None or adoption.step is not AdoptionStep.PLACED:
        return None
    if obs.fresh_view is None:
        return None
    return (act.FinishAdoption(adoption.queue, adoption.generation),)


def _adoption_blocked(obs: Observation) -> Actions | None:
    adoption = obs.adoption
    if adoption is None or adoption.step not in {AdoptionStep.DECIDED, AdoptionStep.LEASED}:
        return None
    if obs.is_settled and obs.fresh_view is not None:
        return None
    return (act.DropAdoption(adoption.queue),)


def _adoption_next(obs: Observation) -> Actions | None:
    adoption = obs.adoption
    if adoption is None or not obs.is_settled:
        return None
    queue, generation = adoption.queue, adoption.generation
    if adoption.step is AdoptionStep.DECIDED:
        return (act.AcquireLease(queue),)
    if adoption.step is AdoptionStep.LEASED:
        return (act.WriteReceipt(queue, generation),)
    if adoption.step is AdoptionStep.LISTED and obs.fresh_view is not None:
        return (act.CommitReceipt(queue, generation),)
    if adoption.step is AdoptionStep.COMMITTED:
        return (act.PlaceAdopted(queue, generation),)
    return None


def _switchover_end(obs: Observation) -> Actions | None:
    if obs.switchover is None or obs.switchover.step is not SwitchoverStep.HANDED:
        return None
    if obs.holds_vips is None or obs.holds_vips:
        return None
    return (act.EndSwitchover(obs.switchover.id),)


def _unsettled(obs: Observation) -> Actions | None:
    return None if obs.is_settled else ()


def _stray_lease(obs: Observation) -> Actions | None:
    view = obs.fresh_view
    if view is None or obs.adoption is not None:
        return None
    for lease in view.leases:
        if lease.queue != obs.node and lease.holder == obs.node and lease.remaining_s > 0:
            return (act.ReleaseLease(lease.queue, lease.generation),)
    return None


def _adopt(obs: Observation) -> Actions | None:
    view = obs.fresh_view
    if view is None or view.is_recovering or obs.adoption is not None:
        return None
    silent = {
        peer.name
        for peer in view.peers
        if peer.last_seen_s is None or peer.last_seen_s > obs.timings.lease_duration_s
    }
    for mirror in obs.mirrors:
        lease = obs.lease_of(mirror.queue)
        if lease is None or lease.queue == obs.node:
            continue
        if lease.granted_to == obs.node and lease.remaining_s > 0:
            return (act.DecideAdoption(mirror.queue, skip_waiting=True),)
        if lease.remaining_s > 0 or mirror.messages == 0:
            continue
        if lease.confirmed_dead:
            return (act.DecideAdoption(mirror.queue, skip_waiting=True),)
        if mirror.queue in silent and mirror.promised_s <= 0 and obs.start_grace_s <= 0:
            return (act.DecideAdoption(mirror.queue, skip_waiting=False),)
    return None


def _hand_over(obs: Observation) -> Actions | None:
    view = obs.fresh_view
    if view is None or view.switchover is None or obs.guard is None:
        return None
    wish = view.switchover
    if wish.source != obs.node or obs.switchover is not None:
        return None
    return (act.HandOver(wish.id, wish.destination, obs.guard.generation),)


def _push(obs: Observation) -> Actions | None:
    if not obs.holds_vips or obs.view is None or obs.guard is None or not obs.view.peers:
        return None
    if obs.push_age_s is not None and obs.push_age_s < obs.timings.push_interval_s:
        return None
    peers = tuple(peer.name for peer in obs.view.peers)
    return (act.Push(peers, obs.guard.generation),)


def _idle(_obs: Observation) -> Actions | None:
    return ()


OWNERSHIP: Final[tuple[Rule, ...]] = (
    Rule("guard-unknown", "The lease guard does not answer: nothing may move.", _guard_unknown),
    Rule("lease-lost", "Somebody else holds our lease: set the old mail aside.", _lease_lost),
    Rule(
        "failsafe",
        "The lease cannot be renewed: ask every peer not to adopt our queue.",
        _failsafe,
    ),
    Rule(
        "recovery",
        "The control plane was restored: report what we remember.",
        _recovery,
    ),
    Rule("job-running", "A job is under way: only the gates above act meanwhile.", _job_running),
    Rule(
        "reconcile",
        "Our old mail is not proved ours: acquire the lease, then take it back.",
        _reconcile,
    ),
    Rule("adoption-placed", "All adopted mail is in the live queue: close it.", _adoption_placed),
    Rule(
        "adoption-blocked",
        "An adoption that listed nothing yet cannot go on: drop it.",
        _adoption_blocked,
    ),
    Rule("adoption-next", "An adoption is under way: take its next step.", _adoption_next),
    Rule("switchover-end", "The VIP has left after a switchover: close it.", _switchover_end),
    Rule("unsettled", "Own mail is fenced or pending: touch nobody else's.", _unsettled),
    Rule("stray-lease", "We hold a peer's lease without adopting: release it.", _stray_lease),
    Rule("adopt", "A peer's queue is free and its node silent, or granted: adopt it.", _adopt),
    Rule("hand-over", "An operator wants a switchover away from here.", _hand_over),
    Rule("push", "We own a VIP and our lease, and a push is due.", _push),
    Rule("idle", "Nothing to do.", _idle),
)


def _fault(obs: Observation) -> Actions | None:
    is_wanted = obs.switchover is not None and obs.switchover.step is SwitchoverStep.HANDED
    if obs.view is not None:
        is_wanted = is_wanted or obs.view.is_maintenance
    return (act.SetFault(is_wanted),) if is_wanted is not obs.is_fault_set else None


def _orphaned_vip(obs: Observation) -> Actions | None:
    view = obs.fresh_view
    if view is None or obs.is_keepalived_running is not False or not obs.holds_vips:
        return None
    elsewhere = {vip for peer in view.peers for vip in peer.holds_vips}
    orphans = tuple(vip for vip in obs.holds_vips if vip in elsewhere)
    return (act.DropVip(orphans),) if orphans else None


def _ssh_files(obs: Observation) -> Actions | None:
    return None if obs.view is None or obs.ssh_files_current else (act.WriteSshFiles(),)


def _config(obs: Observation) -> Actions | None:
    view = obs.fresh_view
    if view is None or view.config_version is None or obs.is_job_running:
        return None
    if view.config_version in {obs.config.live_version, obs.config.failed_version}:
        return None
    return (act.ApplyConfig(view.config_version),)


def _retired(obs: Observation) -> Actions | None:
    if obs.fresh_view is None or obs.is_job_running:
        return None
    due = tuple(number for number in obs.kept_receipts if number in obs.removable_receipts)
    return (act.RemoveRetired(due),) if due else None


HOUSEKEEPING: Final[tuple[Rule, ...]] = (
    Rule("fault", "keepalived's track file must say whether this node may hold a VIP.", _fault),
    Rule(
        "orphaned-vip",
        "keepalived is dead here and a peer holds the VIP too: drop ours.",
        _orphaned_vip,
    ),
    Rule("ssh-files", "The peers' SSH keys have changed: write them.", _ssh_files),
    Rule("config", "Another config version is assigned to this node: apply it.", _config),
    Rule(
        "retired",
        "Retired mail was kept for long, and its receipt is done for as long: remove it.",
        _retired,
    ),
)


def may_renew(obs: Observation) -> bool:
    """Tell whether the heartbeat may extend the own lease: only what is still proved is renewed."""
    if not obs.is_proven:
        return False
    lease = obs.lease_of(obs.node)
    return obs.switchover is None and (lease is None or lease.granted_to is None)


def first_match(obs: Observation, rules: tuple[Rule, ...]) -> tuple[Rule, Actions] | None:
    """Return the first rule that applies and its actions."""
    for rule in rules:
        actions = rule.plan(obs)
        if actions is not None:
            return rule, actions
    return None


def decide(
    obs: Observation,
    ownership: tuple[Rule, ...] = OWNERSHIP,
    housekeeping: tuple[Rule, ...] = HOUSEKEEPING,
) -> Plan:
    """Return the plan for this observation; the tables are parameters so that tests can thin them.

    At most one job starts per tick: when the ownership rule starts one, a housekeeping job waits.
    """
    matched = first_match(obs, ownership)
    if matched is None:
        return Plan("none", "No rule applies.", (), renew=False)
    rule, actions = matched
    house = first_match(obs, housekeeping)
    house_actions: Actions = house[1] if house is not None else ()
    if any(action.is_job for action in actions):
        house_actions = tuple(action for action in house_actions if not action.is_job)
    return Plan(rule.name, rule.comment, actions + house_actions, may_renew(obs))
