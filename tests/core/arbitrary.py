"""Hypothesis strategies of what a node can see, for laws that hold whatever it is.

Four nodes, seen by node-a. What rules tell apart is drawn, the values around each limit as well;
what lets a rule apply at all is drawn often, or most observations would show the same few rules.
"""

from __future__ import annotations

from hypothesis import strategies as st

from nodeagent.core.contract import ClusterView, LeaseView, PeerView, SwitchoverWish
from nodeagent.core.observation import (
    Adoption,
    AdoptionStep,
    ConfigState,
    MirrorView,
    Observation,
    Switchover,
    SwitchoverStep,
)
from tests.core.worlds import PENDING, TIMINGS, UNPROVEN, VIP, guard, lease

ME, *OTHERS = ("node-a", "node-b", "node-c", "node-d")
OTHER_VIP = "198.51.100.101"
NODES = st.sampled_from((ME, *OTHERS))
HELD = st.sampled_from(((), (VIP,), (OTHER_VIP,), (VIP, OTHER_VIP)))
REMAINS = st.sampled_from((-1.0, 0.0, 10.0))


def leases(queue: str, holders: st.SearchStrategy[str] = NODES) -> st.SearchStrategy[LeaseView]:
    """Return the leases that a queue can have."""
    return st.builds(
        LeaseView,
        queue=st.just(queue),
        holder=holders,
        generation=st.integers(3, 5),
        remaining_s=REMAINS,
        granted_to=st.none() | NODES,
        confirmed_dead=st.booleans(),
    )


def peers(name: str) -> st.SearchStrategy[PeerView]:
    """Return what can be told of a peer, heard around the limit of silence as well."""
    lasting = {"name": name, "address": f"{name}.test", "ssh_public_key": f"ssh-ed25519 {name}"}
    limit_s = TIMINGS.lease_duration_s
    heard = st.sampled_from((1.0, limit_s, limit_s + 0.1, 99.0))
    return st.one_of(
        st.just(PeerView(**lasting)),
        st.builds(
            lambda vips, age_s: PeerView(**lasting, holds_vips=vips, last_seen_s=age_s), HELD, heard
        ),
    )


def some_of(made: list[st.SearchStrategy]) -> st.SearchStrategy[tuple]:
    """Return tuples of one each, or of fewer, in their order."""
    each = [st.one_of(one, one, st.none()) for one in made]
    return st.tuples(*each).map(lambda drawn: tuple(one for one in drawn if one is not None))


def rarely(made: st.SearchStrategy) -> st.SearchStrategy:
    """Return None in most cases: what is under way keeps all later rules from being tried."""
    return st.one_of(st.none(), st.none(), st.none(), made)


OWN = st.one_of(leases(ME, st.just(ME)), leases(ME))
QUIET_OWN = st.just(lease(ME))
WISHES = st.builds(SwitchoverWish, id=st.just(2), source=NODES, destination=NODES)


def views(
    own: st.SearchStrategy[LeaseView], *, is_recovering: bool
) -> st.SearchStrategy[ClusterView]:
    """Return what node-a can be told, with this own lease or none."""
    return st.builds(
        ClusterView,
        instance_id=st.just("cp-1"),
        is_recovering=st.just(is_recovering),
        node=st.just(ME),
        vips=st.just((VIP, OTHER_VIP)),
        timings=st.just(TIMINGS),
        config_version=st.sampled_from((None, 3, 4)),
        leases=some_of([own, *map(leases, OTHERS)]),
        peers=some_of([*map(peers, OTHERS)]),
        switchover=rarely(WISHES),
        is_maintenance=st.booleans(),
    )


MIRRORS = [
    st.builds(
        MirrorView,
        queue=st.just(name),
        messages=st.sampled_from((7, 0)),
        promised_s=st.sampled_from((0.0, 0.0, 3.0)),
    )
    for name in OTHERS
]
ADOPTIONS = st.builds(Adoption, st.sampled_from(OTHERS), st.sampled_from(AdoptionStep), st.just(6))
SWITCHOVERS = st.builds(Switchover, st.just(2), st.just("node-b"), st.sampled_from(SwitchoverStep))
FRESH_S = st.just(0.2)
ANY_AGE_S = st.sampled_from((0.2, TIMINGS.lease_renew_deadline_s, 6.1, None))
ON_THE_HOST = {
    "holds_vips": st.none() | HELD,
    "mirrors": some_of(MIRRORS),
    "start_grace_s": st.sampled_from((0.0, 0.0, 3.0)),
    "push_age_s": st.sampled_from((None, 1.0, 99.0)),
    "is_fault_set": st.booleans(),
    "is_keepalived_running": st.sampled_from((True, False, None)),
    "config": st.builds(
        ConfigState,
        live_version=st.sampled_from((None, 3)),
        failed_version=st.sampled_from((None, 4)),
    ),
    "ssh_files_current": st.booleans(),
}
SETTLED = st.builds(
    Observation,
    node=st.just(ME),
    guard=st.just(guard()),
    view=views(QUIET_OWN, is_recovering=False),
    view_age_s=FRESH_S,
    adoption=rarely(ADOPTIONS),
    switchover=rarely(SWITCHOVERS),
    **ON_THE_HOST,
)
"""A node that is free to act on what it sees of others."""
OBSERVATIONS = st.one_of(
    SETTLED,
    st.builds(
        Observation,
        node=st.just(ME),
        guard=st.sampled_from((guard(), guard(remaining_s=0.5), PENDING, UNPROVEN, None)),
        view=st.one_of(views(OWN, is_recovering=False), views(OWN, is_recovering=True)),
        view_age_s=ANY_AGE_S,
        adoption=rarely(ADOPTIONS),
        switchover=rarely(SWITCHOVERS),
        is_job_running=st.sampled_from((False, False, True)),
        is_instance_known=st.booleans(),
        **ON_THE_HOST,
    ),
)
