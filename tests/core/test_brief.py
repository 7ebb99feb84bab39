"""Brief answers: what is left out of them, and that a node adds what it knew."""

from __future__ import annotations

from typing import Any

import pytest

from nodeagent.core import contract as wire
from nodeagent.core.brief import KnownPeers, is_lease_of_interest, is_sign_of_interest

VIP = "198.51.100.100"
QUIET = wire.NodeReport(role=wire.Role.STANDBY)


def lease(queue: str, holder: str | None = None, granted_to: str | None = None) -> wire.LeaseView:
    """Return a lease, by default one that its own node holds."""
    return wire.LeaseView(
        queue=queue, holder=holder or queue, generation=1, remaining_s=9.0, granted_to=granted_to
    )


def mirror(queue: str) -> wire.MirrorReport:
    """Return the report of a mirror."""
    return wire.MirrorReport(queue=queue, generation=1, sequence=1, messages=1)


def peer(name: str, **content: Any) -> wire.PeerView:
    """Return a peer as the control plane tells of it."""
    return wire.PeerView(name=name, address=f"{name}.test", **content)


def answer(tag: str, *peers: wire.PeerView, is_brief: bool = False) -> wire.HeartbeatAnswer:
    """Return the answer to node-a."""
    view = wire.ClusterView(instance_id="1", node="node-a", peers=peers)
    return wire.HeartbeatAnswer(view=view, peers_tag=tag, is_brief=is_brief)


@pytest.mark.parametrize(
    ("shown", "is_told"),
    [
        (lease("node-a"), True),
        (lease("node-a", holder="node-b"), True),
        (lease("node-b", holder="node-a"), True),
        (lease("node-b", granted_to="node-a"), True),
        (lease("node-c"), True),
        (lease("node-b"), False),
        (lease("node-b", holder="node-d", granted_to="node-c"), False),
    ],
)
def test_a_node_is_told_of_leases_that_it_acts_on(shown: wire.LeaseView, is_told: bool) -> None:
    """Its own, those it has or may take, and those of the queues that it mirrors."""
    report = QUIET.model_copy(update={"mirrors": (mirror("node-c"),)})
    assert is_lease_of_interest("node-a", report, shown) is is_told


def test_whoevers_lease_is_shown_has_signs_of_life() -> None:
    """Without them a peer would seem to be silent, and its queue be adopted."""
    assert is_sign_of_interest(QUIET, [lease("node-b")], "node-b", ())
    assert not is_sign_of_interest(QUIET, [lease("node-b")], "node-c", (VIP,))


def test_the_holder_of_a_vip_is_told_who_else_holds_it() -> None:
    """Another VIP, or none of its own, is no reason."""
    active = QUIET.model_copy(update={"holds_vips": (VIP,)})
    assert is_sign_of_interest(active, [], "node-b", (VIP,))
    assert not is_sign_of_interest(active, [], "node-b", ("198.51.100.101",))
    assert not is_sign_of_interest(QUIET, [], "node-b", (VIP,))


def test_a_brief_answer_is_completed_from_memory() -> None:
    """Peers that are not named again keep their lasting facts; signs of life are of now only."""
    known = KnownPeers()
    b, c = peer("node-b", ssh_public_key="b", last_seen_s=1.0), peer("node-c", holds_vips=(VIP,))
    whole = known.complete(answer("1", b, c))
    assert whole.view.peers == (b, c)
    assert known.tag == "1"
    late = b.model_copy(update={"last_seen_s": 99.0})
    completed = known.complete(answer("1", late, is_brief=True))
    assert completed.view.peers == (late, peer("node-c"))
    again = known.complete(answer("1", is_brief=True))
    assert again.view.peers == (peer("node-b", ssh_public_key="b"), peer("node-c"))


def test_a_whole_answer_replaces_what_was_known() -> None:
    """A peer that was taken away does not come back."""
    known = KnownPeers()
    known.complete(answer("1", peer("node-b"), peer("node-c")))
    known.complete(answer("2", peer("node-c")))
    assert known.tag == "2"
    assert known.complete(answer("2", is_brief=True)).view.peers == (peer("node-c"),)


def test_an_older_control_plane_tells_everything_each_time() -> None:
    """It names no tag, so nothing is ever taken for known."""
    known = KnownPeers()
    known.complete(answer("", peer("node-b")))
    assert known.tag == ""
    assert known.complete(answer("", peer("node-c"))).view.peers == (peer("node-c"),)
