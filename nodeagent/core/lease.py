"""Lease arithmetic: how long a proof lasts, and which timings fit together.

Theory of operation. A node's old mail may be touched only while the node has *proved* that it holds
its queue's lease. A proof is a deadline on the node's own `CLOCK_BOOTTIME`. It is counted from the
moment *before* the request was sent, so that a slow answer can only shorten it, and it ends
`lease_margin_s` before the database lets anybody else acquire the lease; the margin covers stopping
the deliveries that are under way and the drift of two clocks over one lease.

A promise of a peer ("I will not adopt your queue before T", section 4.7) is arithmetically the same
as a renewal of `promise_s`.

The loop does one thing after the other, so three waits come after one another between the last
renewal and the deadline: `lease_renew_deadline_s`, a heartbeat that was sent just before it passed
and is not answered, and one round of asking for promises in which the connection of old is dead.
The defaults leave room for all three and a tick; `lease_retry_s` is what a heartbeat may wait.
"""

from __future__ import annotations

from dataclasses import dataclass

from nodeagent.core.contract import Timings

SECONDS_A_DAY = 86400.0
MIN_HEARTBEAT_LIMIT_S = 1.0
DRAIN_SHARE = 0.5
"""The share of the margin in which running deliveries may end before they are killed."""


@dataclass(frozen=True)
class Proof:
    """The node's queue is its own at `generation` until `deadline_s` of `CLOCK_BOOTTIME`."""

    generation: int
    deadline_s: float


def proof_from_renewal(sent_s: float, generation: int, timings: Timings) -> Proof:
    """Return what a renewal sent at `sent_s` (boot time, before sending) proves."""
    return Proof(generation, sent_s + timings.lease_duration_s - timings.lease_margin_s)


def proof_from_promises(sent_s: float, generation: int, timings: Timings) -> Proof:
    """Return what the promises of all mirror holders, asked for at `sent_s`, prove together."""
    return Proof(generation, sent_s + timings.promise_s - timings.lease_margin_s)


def drain_limit_s(timings: Timings) -> float:
    """How long a fence at the deadline may wait for running deliveries to end by themselves."""
    return timings.lease_margin_s * DRAIN_SHARE


def retired_keep_s(timings: Timings) -> float:
    """How long retired mail is kept, counted from its retirement and from its receipt's end."""
    return timings.retired_keep_days * SECONDS_A_DAY


def heartbeat_limit_s(timings: Timings) -> float:
    """How long one heartbeat waits for its answer: then it is time for the next attempt."""
    return max(MIN_HEARTBEAT_LIMIT_S, timings.lease_retry_s)


def is_failsafe_due(remaining_s: float, timings: Timings) -> bool:
    """Tell whether a node that cannot renew must ask its peers for promises now.

    `remaining_s` is what is left of its proof; the last renewal is then
    `lease_duration_s - lease_margin_s - remaining_s` old, and `lease_renew_deadline_s` is how long
    renewing alone is tried.
    """
    proof_length_s = timings.lease_duration_s - timings.lease_margin_s
    return proof_length_s - remaining_s >= timings.lease_renew_deadline_s


def check_timings(timings: Timings) -> list[tuple[str, str]]:
    """Return (field, sentence) for every pair of timings that does not fit together.

    The rule of section 4.8: retry < renew deadline < duration - margin. A promise must outlast its
    own margin and one retry, or a failsafe would flap; and it must take a node back to where no
    failsafe is due, or asking for promises would leave no turn for a push.
    """
    proof_s = timings.lease_duration_s - timings.lease_margin_s
    renewing_s = timings.lease_renew_deadline_s
    shortest_s = timings.lease_margin_s + timings.lease_retry_s
    restful_s = timings.lease_duration_s - renewing_s
    rules = (
        (
            timings.lease_retry_s < renewing_s,
            "lease_retry_s",
            f"must be smaller than lease_renew_deadline_s ({renewing_s:g})",
        ),
        (
            renewing_s < proof_s,
            "lease_renew_deadline_s",
            f"must be smaller than lease_duration_s - lease_margin_s ({proof_s:g})",
        ),
        (
            timings.promise_s > shortest_s,
            "promise_s",
            f"must be greater than lease_margin_s + lease_retry_s ({shortest_s:g})",
        ),
        (
            timings.promise_s > restful_s,
            "promise_s",
            f"must be greater than lease_duration_s - lease_renew_deadline_s ({restful_s:g})",
        ),
    )
    return [
        (field, f"{field} ({getattr(timings, field):g}) {sentence}.")
        for fits, field, sentence in rules
        if not fits
    ]
