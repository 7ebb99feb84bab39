"""Builders of observations for the core tests: one sound default, everything else by name."""

from __future__ import annotations

from typing import Any

from nodeagent.core.contract import ClusterView, LeaseView, PeerView, Timings
from nodeagent.core.observation import ConfigState, GuardView, MirrorView, Observation

TIMINGS = Timings(
    lease_duration_s=15,
    lease_margin_s=3,
    lease_renew_deadline_s=6,
    lease_retry_s=2,
    push_interval_s=5,
    promise_s=15,
)
VIP = "198.51.100.100"


def lease(queue: str, **overrides: Any) -> LeaseView:
    """Return a lease held by the queue's own node, with ten seconds left."""
    fields: dict[str, Any] = {"holder": queue, "generation": 4, "remaining_s": 10.0}
    return LeaseView(queue=queue, **{**fields, **overrides})


def peer(name: str = "node-b", **overrides: Any) -> PeerView:
    """Return a peer that was heard a second ago."""
    return PeerView(name=name, **{"address": "198.51.100.12", "last_seen_s": 1.0, **overrides})


def view(**overrides: Any) -> ClusterView:
    """Return a healthy cluster of two as node-a sees it."""
    fields: dict[str, Any] = {
        "instance_id": "cp-1",
        "node": "node-a",
        "vips": (VIP,),
        "timings": TIMINGS,
        "leases": (lease("node-a"), lease("node-b")),
        "peers": (peer(),),
        "config_version": 3,
    }
    return ClusterView(**{**fields, **overrides})


def guard(**overrides: Any) -> GuardView:
    """Return a guard with a fresh proof and nothing pending."""
    fields: dict[str, Any] = {
        "is_proven": True,
        "remaining_s": 11.0,
        "generation": 4,
        "has_pending": False,
    }
    return GuardView(**{**fields, **overrides})


UNPROVEN = guard(is_proven=False, remaining_s=0.0)
PENDING = guard(has_pending=True)


def mirror(queue: str = "node-b", **overrides: Any) -> MirrorView:
    """Return a mirror with mail in it and no promise given for it."""
    return MirrorView(queue=queue, **{"messages": 7, "promised_s": 0.0, **overrides})


def observation(**overrides: Any) -> Observation:
    """Return node-a, ACTIVE, settled, with nothing to do."""
    fields: dict[str, Any] = {
        "node": "node-a",
        "guard": guard(),
        "view": view(),
        "view_age_s": 0.2,
        "holds_vips": (VIP,),
        "mirrors": (mirror(),),
        "push_age_s": 1.0,
        "is_keepalived_running": True,
        "config": ConfigState(live_version=3),
    }
    return Observation(**{**fields, **overrides})
