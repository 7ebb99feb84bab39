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


@pytest.mark.parametrize("kind", list(ProofKind))
def test_a_proof_that_ends_at_this_moment_proves_nothing(kind):
    """At its deadline the lease may be somebody else's; a moment before it is still ours."""
    assert judge_proof(PROVEN, offer(kind, deadline_s=NOW_S), NOW_S) == (
        PROVEN,
        "The proof has already run out.",
    )
    assert judge_proof(PROVEN, offer(kind, deadline_s=NOW_S + 0.001), NOW_S)[1] == ""


@pytest.mark.parametrize("kind", [ProofKind.RENEWED, ProofKind.PROMISED])
def test_a_renewal_of_another_generation_is_refused(kind):
    """A higher generation means that somebody else held it meanwhile: only acquiring tells whom."""
    state, refusal = judge_proof(PROVEN, offer(kind, generation=5), NOW_S)
    assert state == PROVEN
    assert refusal == "A renewal of generation 5 is not ours."


def test_a_proof_asked_for_at_the_moment_of_the_fence_counts():
    """The fence came first; what was asked for afterwards has seen it."""
    assert judge_proof(FENCED, offer(ProofKind.ACQUIRED, sent_s=990.0), NOW_S)[1] == ""


def test_the_answer_to_whose_mail_it_is_is_kept_as_it_was_given():
    """An empty answer permits taking back all; what the agent changes later changes nothing."""
    answer = {"a": 1}
    state, _refusal = judge_proof(FENCED, offer(ProofKind.ACQUIRED, retired=answer), NOW_S)
    answer.clear()
    assert state.retired == {"a": 1}
    nobody, _refusal = judge_proof(FENCED, offer(ProofKind.ACQUIRED), NOW_S)
    assert nobody.retired == {}
    assert nobody.may_take_back(NOW_S)


def test_nothing_is_taken_back_after_the_deadline():
    """The rename itself looks again: the answer may be known and the proof over."""
    assert PROVEN.may_take_back(1004.9)
    assert not PROVEN.may_take_back(1005.0)


def test_a_guard_that_never_had_a_proof_owes_no_fence():
    """At its first start the queue is set aside already."""
    assert not GuardState().is_fence_due(0.0)
    assert not GuardState().is_proven(0.0)
    assert GuardState(deadline_s=0.5).is_fence_due(0.5)


@pytest.mark.parametrize("kind", list(ProofKind))
def test_each_proof_says_how_long_a_drain_may_take(kind):
    """The margin may have been changed since the last one."""
    state, refusal = judge_proof(PROVEN, offer(kind, drain_s=2.5), NOW_S)
    assert refusal == ""
    assert state.drain_until_s == 1012.5


@given(
    st.lists(
        st.tuples(
            st.sampled_from(ProofKind),
            st.integers(1, 6),
            st.sampled_from([999.0, 1001.0, 1007.0, 1010.0]),
            st.sampled_from([890.0, 950.0, 999.0]),
        ),
        max_size=8,
    )
)
def test_no_sequence_of_proofs_lowers_a_generation_or_goes_back_before_the_fence(offers):
    """Whatever a confused control plane answers, in whatever order (section 4.9)."""
    state = PROVEN
    for kind, generation, deadline_s, sent_s in offers:
        proof = offer(kind, generation=generation, deadline_s=deadline_s, sent_s=sent_s)
        after, refusal = judge_proof(state, proof, NOW_S)
        assert after.generation >= state.generation
        assert after.aside_s == state.aside_s
        if refusal:
            assert after == state
        else:
            assert sent_s >= state.aside_s
            assert deadline_s > NOW_S
        state = after
