"""Which proofs the guard takes: the part of the protocol that stands between two deliverers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.core.guard_state import (
    GuardState,
    ProofKind,
    ProofOffer,
    after_aside,
    judge_proof,
)

NOW_S = 1000.0
PROVEN = GuardState(generation=4, deadline_s=1005.0, aside_s=900.0, retired={})
FENCED = GuardState(generation=4, deadline_s=0.0, aside_s=990.0)


def offer(kind=ProofKind.RENEWED, **overrides):
    """Return a proof sent a moment ago for the known generation."""
    fields = {"generation": 4, "deadline_s": 1010.0, "sent_s": 999.0}
    return ProofOffer(kind=kind, **{**fields, **overrides})


def test_a_renewal_extends_what_is_proven():
    """The deadline moves, nothing else."""
    state, refusal = judge_proof(PROVEN, offer(), NOW_S)
    assert refusal == ""
    assert state.deadline_s == 1010.0
    assert state.retired == {}


def test_a_late_answer_never_shortens_a_deadline():
    """Two renewals may be answered out of order."""
    state, _refusal = judge_proof(PROVEN, offer(deadline_s=1001.0), NOW_S)
    assert state.deadline_s == 1005.0


@pytest.mark.parametrize("kind", [ProofKind.RENEWED, ProofKind.PROMISED])
def test_only_an_acquired_lease_ends_a_fence(kind):
    """Whatever was fenced in between may have been adopted by somebody."""
    state, refusal = judge_proof(FENCED, offer(kind), NOW_S)
    assert state == FENCED
    assert refusal


def test_an_acquired_lease_carries_whose_the_mail_is():
    """Take-back is possible with that answer and never before."""
    assert not FENCED.may_take_back(NOW_S)
    state, refusal = judge_proof(FENCED, offer(ProofKind.ACQUIRED, retired={"a": 1}), NOW_S)
    assert refusal == ""
    assert state.may_take_back(NOW_S)
    assert state.retired == {"a": 1}


@pytest.mark.parametrize("kind", list(ProofKind))
def test_a_request_sent_before_the_fence_proves_nothing(kind):
    """Its answer may be older than somebody else's adoption (trace 14)."""
    state, refusal = judge_proof(FENCED, offer(kind, sent_s=989.0), NOW_S)
    assert state == FENCED
    assert "before the last fence" in refusal


@pytest.mark.parametrize("kind", list(ProofKind))
def test_a_generation_below_the_known_one_is_refused(kind):
    """A restored or confused control plane cannot turn the guard back (section 4.9)."""
    state, refusal = judge_proof(PROVEN, offer(kind, generation=3), NOW_S)
    assert state == PROVEN
    assert "below" in refusal


def test_a_proof_that_has_run_out_is_refused():
    """It came too late to be worth anything."""
    assert judge_proof(PROVEN, offer(deadline_s=999.5), NOW_S)[1]


def test_setting_aside_forgets_proof_and_answer():
    """Whatever was known before the fence is worth nothing after it."""
    state = after_aside(PROVEN, NOW_S)
    assert not state.is_proven(NOW_S)
    assert not state.may_take_back(NOW_S)
    assert state.generation == 4
    assert not state.is_fence_due(NOW_S + 99)


def test_a_fence_is_due_exactly_once_the_deadline_has_passed():
    """At the deadline itself the proof has ended."""
    assert not PROVEN.is_fence_due(1004.9)
    assert PROVEN.is_fence_due(1005.0)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(ProofKind),
            st.integers(1, 5),
            st.floats(990, 1020, allow_nan=False),
            st.floats(980, 1000, allow_nan=False),
        )
    )
)
def test_no_sequence_of_renewals_ends_a_fence(offers):
    """Only ACQUIRED does, whatever comes in which order."""
    state = FENCED
    for kind, generation, deadline_s, sent_s in offers:
        if kind is ProofKind.ACQUIRED:
            continue
        state, _refusal = judge_proof(
            state, offer(kind, generation=generation, deadline_s=deadline_s, sent_s=sent_s), NOW_S
        )
    assert state == FENCED


def test_the_drain_counts_from_the_deadline():
    """A guard that looks late, because its host stood still, leaves deliveries no further time."""
    assert GuardState(generation=1, deadline_s=100.0, drain_s=1.5).drain_until_s == 101.5
