"""Brief answers to heartbeats: what a node knows already, or does not act on, is not sent again.

Theory of operation. In a large cluster nearly all of a view is the same each time: addresses and
keys of the peers. A node that sends `known_peers`, the `peers_tag` that came with the peers it
knows, or "" when it knows none, is answered briefly. The view's leases are those that it acts on.
Its peers are all, when the tag has changed; else only those whose signs of life (`holds_vips`,
`last_seen_s`) it acts on, and the node adds the others from memory, without such signs. Whoever's
lease is shown is shown with signs, so a peer is never silent for want of them. A mirror or a VIP
that the node has only found since it reported is judged with the next answer: no rule acts on a
lease that is missing. A node that sends no `known_peers` is told everything.
"""

from __future__ import annotations

from collections.abc import Iterable

from nodeagent.core.contract import HeartbeatAnswer, LeaseView, NodeReport, PeerView


def is_lease_of_interest(node: str, report: NodeReport, lease: LeaseView) -> bool:
    """Tell whether `node` acts on this lease: its own, a mirror's, or one it has or may take."""
    has_part = node in {lease.queue, lease.holder, lease.granted_to}
    return has_part or any(mirror.queue == lease.queue for mirror in report.mirrors)


def is_sign_of_interest(
    report: NodeReport, leases: Iterable[LeaseView], name: str, holds_vips: Iterable[str]
) -> bool:
    """Tell whether a reporting node that is shown `leases` acts on a peer's signs of life.

    They say whether the node of a lease is silent, and whether the own VIP is elsewhere too.
    """
    is_leased = any(lease.queue == name for lease in leases)
    return is_leased or not set(holds_vips).isdisjoint(report.holds_vips or ())


class KnownPeers:
    """The peers as a node was last told of them."""

    def __init__(self) -> None:
        self.tag = ""
        self._lasting: tuple[PeerView, ...] = ()

    def complete(self, answer: HeartbeatAnswer) -> HeartbeatAnswer:
        """Return the answer with all peers in its view, and remember them."""
        if not answer.is_brief:
            self.tag = answer.peers_tag
            self._lasting = tuple(map(without_signs, answer.view.peers))
            return answer
        told = {peer.name: peer for peer in answer.view.peers}
        peers = tuple(told.get(peer.name, peer) for peer in self._lasting)
        return answer.model_copy(
            update={
                "is_brief": False,
                "view": answer.view.model_copy(update={"peers": peers}),
            }
        )


def without_signs(peer: PeerView) -> PeerView:
    """Return the peer's lasting facts only."""
    return peer.model_copy(update={"holds_vips": (), "last_seen_s": None})
