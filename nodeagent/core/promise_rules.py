"""When a node may promise not to adopt a queue, and when it may decide to (pure, section 4.7).

Theory of operation. A holder that cannot reach the control plane goes on while every node with a
mirror of its queue promises to leave it alone until some time. Deciding to adopt and promising
exclude each other: while a promise is open no decision is made; from the decision on no promise is
given, until the adoption is finished or dropped. All times are `CLOCK_BOOTTIME` of one boot. After
each start nothing is adopted for one whole promise length, so that a promise made before, whatever
became of its record, still holds: it is the longest length under which one may still be open, for
the length may have been cut since. A decision already on file stays: no promise was given since.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class PromiseState:
    """Promises and decisions of one boot; `promise_s` 0: the agent has never started here."""

    boot_id: str = ""
    promise_s: float = 0.0
    quiet_until_s: float = 0.0
    until_s: Mapping[str, float] = field(default_factory=dict)
    adopting: frozenset[str] = frozenset()
    longest_s: float = 0.0  # of the promises that may be open, of earlier boots too


@dataclass(frozen=True)
class Promise:
    """A promise given: from the moment of the answer for `for_s` seconds; or why it was not."""

    for_s: float = 0.0
    until_s: float = 0.0
    refusal: str = ""


def on_start(state: PromiseState, boot_id: str, now_s: float, promise_s: float) -> PromiseState:
    """Return the state of an agent that has just started: one whole promise length of waiting."""
    longest_s = _longest_open_s(state, boot_id, now_s)
    wait_s = max(promise_s, state.promise_s, longest_s)
    kept = state.until_s if state.boot_id == boot_id else {}
    return PromiseState(boot_id, promise_s, now_s + wait_s, kept, state.adopting, longest_s)


def _longest_open_s(state: PromiseState, boot_id: str, now_s: float) -> float:
    """Return the length of the longest promise that may be open; a whole waiting ends them all."""
    is_over = state.boot_id == boot_id and now_s >= state.quiet_until_s
    is_open = any(until_s > now_s for until_s in state.until_s.values())
    return 0.0 if is_over and not is_open else state.longest_s


def on_length(state: PromiseState, promise_s: float) -> PromiseState:
    """Return the state under a new promise length; promises already given keep theirs."""
    return replace(state, promise_s=promise_s)


def promise(
    state: PromiseState, boot_id: str, now_s: float, queue: str, asked_s: float
) -> tuple[PromiseState, Promise]:
    """Give the promise not to adopt `queue`, for at most the promise length, or refuse it."""
    if queue in state.adopting:
        return state, Promise(refusal=f"This node has decided to adopt {queue}.")
    if state.promise_s <= 0 or state.boot_id != boot_id:
        return state, Promise(refusal="The agent of this node has not started since its boot.")
    for_s = min(asked_s, state.promise_s)
    if not for_s > 0:  # zero, below, or no number at all
        return state, Promise(refusal="A promise has a length above zero.")
    until_s = max(now_s + for_s, state.until_s.get(queue, 0.0))
    longest_s = max(for_s, _longest_open_s(state, boot_id, now_s))
    given = replace(state, until_s={**state.until_s, queue: until_s}, longest_s=longest_s)
    return given, Promise(for_s=for_s, until_s=until_s)


def promised_s(state: PromiseState, boot_id: str, now_s: float, queue: str) -> float:
    """Return how long the promise for `queue` still binds this node; 0: not at all."""
    if state.boot_id != boot_id:
        return 0.0
    return max(0.0, state.until_s.get(queue, 0.0) - now_s)


def grace_s(state: PromiseState, boot_id: str, now_s: float) -> float:
    """Return what is left of the waiting after a start; unknown is the whole length."""
    if state.promise_s <= 0 or state.boot_id != boot_id:
        return state.promise_s
    return max(0.0, state.quiet_until_s - now_s)


def decide(
    state: PromiseState, boot_id: str, now_s: float, queue: str, *, skip_waiting: bool = False
) -> tuple[PromiseState, str]:
    """Decide to adopt `queue`, or return the sentence that says why not.

    `skip_waiting`: the queue was granted to this node, or an operator vouched that its node is
    off, so nothing is waited for after a start. An open promise binds all the same: what was seen
    may be old by now, and its node may be back and rely on the promise.
    """
    if queue in state.adopting:
        return state, ""
    if not skip_waiting:
        if state.promise_s <= 0 or state.boot_id != boot_id:
            return state, "The agent of this node has not started since its boot."
        left_s = grace_s(state, boot_id, now_s)
        if left_s > 0:
            return state, f"Nothing is adopted for another {left_s:.1f} s after the start."
    left_s = promised_s(state, boot_id, now_s, queue)
    if left_s > 0:
        return state, f"{queue} was promised another {left_s:.1f} s."
    return replace(state, adopting=state.adopting | {queue}), ""


def end_others(state: PromiseState, queue: str | None) -> PromiseState:
    """Return the state in which at most `queue` is being adopted."""
    return replace(state, adopting=state.adopting & {queue})


def end(state: PromiseState, queue: str) -> PromiseState:
    """Return the state once the adoption of `queue` is finished or dropped."""
    return replace(state, adopting=state.adopting - {queue})
