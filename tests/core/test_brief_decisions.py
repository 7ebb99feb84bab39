"""A node that is answered briefly decides as one that is told everything, whatever there is."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from nodeagent.core import actions as act
from nodeagent.core import contract as wire
from nodeagent.core.brief import KnownPeers
from nodeagent.core.decision import decide
from nodeagent.core.observation import Observation
from tests.core.arbitrary import HELD, OBSERVATIONS, OTHERS
from tests.fakes.lease_twin import told_briefly

TAG = "as they are now"


def report_of(obs: Observation) -> wire.NodeReport:
    """Return what a node that has seen this reports, as far as an answer depends on it."""
    return wire.NodeReport(
        role=obs.role,
        holds_vips=obs.holds_vips,
        mirrors=tuple(
            wire.MirrorReport(
                queue=mirror.queue, generation=1, sequence=1, messages=mirror.messages
            )
            for mirror in obs.mirrors
        ),
    )


def as_known(
    view: wire.ClusterView, report: wire.NodeReport, *, knows_peers: bool
) -> wire.ClusterView:
    """Return the view as a node has it that was told it briefly, after its report.

    Before, it was told of the same peers, with signs of life that are true no more.
    """
    known = KnownPeers()
    if knows_peers:
        then = tuple(
            peer.model_copy(update={"holds_vips": view.vips, "last_seen_s": 0.0})
            for peer in view.peers
        )
        before = view.model_copy(update={"peers": then})
        known.complete(wire.HeartbeatAnswer(view=before, peers_tag=TAG))
    request = wire.HeartbeatRequest(report=report, known_peers=known.tag)
    told = told_briefly(wire.HeartbeatAnswer(view=view, peers_tag=TAG), request)
    assert told.is_brief is knows_peers
    return known.complete(told).view


def briefly(obs: Observation, report: wire.NodeReport, *, knows_peers: bool = True) -> Observation:
    """Return what is seen if the view had been asked for with this report."""
    assert obs.view is not None
    return replace(obs, view=as_known(obs.view, report, knows_peers=knows_peers))


def vips_elsewhere(obs: Observation) -> set[str]:
    """Return the VIPs that peers hold."""
    assert obs.view is not None
    return {vip for peer in obs.view.peers for vip in peer.holds_vips}


@settings(max_examples=300)
@given(OBSERVATIONS, st.booleans())
def test_a_brief_answer_changes_no_plan(obs: Observation, knows_peers: bool) -> None:
    """What is left out is what no rule acts on."""
    brief = briefly(obs, report_of(obs), knows_peers=knows_peers)
    assert decide(brief) == decide(obs)
    assert decide(replace(brief, mirrors=())) == decide(replace(obs, mirrors=()))


@given(OBSERVATIONS, st.lists(st.sampled_from(OTHERS)), st.none() | HELD)
def test_what_was_found_since_the_report_begins_nothing_on_its_own(
    obs: Observation, reported: list[str], held: tuple[str, ...] | None
) -> None:
    """What the control plane was not told of makes no node adopt, or drop a VIP, wrongly."""
    before = replace(
        obs,
        mirrors=tuple(one for one in obs.mirrors if one.queue in reported),
        holds_vips=held,
    )
    for action in decide(briefly(obs, report_of(before))).actions:
        if isinstance(action, act.DecideAdoption):
            alone = tuple(one for one in obs.mirrors if one.queue == action.queue)
            assert action in decide(replace(obs, mirrors=alone)).actions
        if isinstance(action, act.DropVip):
            assert vips_elsewhere(obs).issuperset(action.vips)


@given(OBSERVATIONS)
def test_what_is_told_briefly_is_true(obs: Observation) -> None:
    """All peers in their order, with their keys; a sign of life is of now or is missing."""
    assert obs.view is not None
    known = as_known(obs.view, report_of(obs), knows_peers=True)
    assert set(known.leases) <= set(obs.view.leases)
    for told, real in zip(known.peers, obs.view.peers, strict=True):
        silent = real.model_copy(update={"holds_vips": (), "last_seen_s": None})
        assert told in {real, silent}
    leased = {lease.queue for lease in known.leases}
    assert all(
        told.last_seen_s == real.last_seen_s
        for told, real in zip(known.peers, obs.view.peers, strict=True)
        if real.name in leased
    )
