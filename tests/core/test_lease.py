"""Lease arithmetic and the rule of section 4.8."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.store.engine import BUSY_TIMEOUT_MS
from nodeagent.adapters.api_client import CONNECT_TIMEOUT_S, READ_TIMEOUT_S
from nodeagent.adapters.peer import COMPLAINT_LIMIT_S
from nodeagent.adapters.peers import FRESH_CONNECTION_LIMIT_S, OLD_CONNECTION_LIMIT_S
from nodeagent.core.contract import Timings
from nodeagent.core.lease import (
    check_timings,
    drain_limit_s,
    heartbeat_limit_s,
    is_failsafe_due,
    proof_from_promises,
    proof_from_renewal,
    retired_keep_s,
)
from nodeagent.settings import AgentSettings

SECONDS = st.floats(min_value=0.1, max_value=100, allow_nan=False)


def test_the_default_timings_fit():
    """A new cluster starts with timings that pass their own check."""
    assert check_timings(Timings()) == []


@given(SECONDS, SECONDS, SECONDS, SECONDS, SECONDS)
def test_timings_pass_exactly_when_the_rule_holds(duration, margin, renew, retry, promise):
    """Retry < renew deadline < duration - margin, and a promise outlasts what it must."""
    timings = Timings(
        lease_duration_s=duration,
        lease_margin_s=margin,
        lease_renew_deadline_s=renew,
        lease_retry_s=retry,
        promise_s=promise,
    )
    fits = retry < renew < duration - margin and promise > margin + retry
    fits = fits and promise > duration - renew
    assert (check_timings(timings) == []) is fits


@pytest.mark.parametrize(
    ("overrides", "field", "sentence"),
    [
        (
            {"lease_retry_s": 5.0},
            "lease_retry_s",
            "lease_retry_s (5) must be smaller than lease_renew_deadline_s (5).",
        ),
        (
            {"lease_renew_deadline_s": 12.0},
            "lease_renew_deadline_s",
            (
                "lease_renew_deadline_s (12) must be smaller than "
                "lease_duration_s - lease_margin_s (12)."
            ),
        ),
        (
            {"promise_s": 5.0, "lease_renew_deadline_s": 11.0},
            "promise_s",
            "promise_s (5) must be greater than lease_margin_s + lease_retry_s (5).",
        ),
        (
            {"promise_s": 10.0},
            "promise_s",
            "promise_s (10) must be greater than lease_duration_s - lease_renew_deadline_s (10).",
        ),
    ],
)
def test_each_violation_names_its_field_in_a_sentence(overrides, field, sentence):
    """The operator learns which field is wrong, against what, and both values."""
    assert check_timings(Timings(**overrides)) == [(field, sentence)]


def test_every_pair_that_does_not_fit_is_told_at_once():
    """Nobody mends four timings one refusal at a time."""
    worst = Timings(
        lease_duration_s=4, lease_margin_s=2, lease_renew_deadline_s=3, lease_retry_s=3, promise_s=1
    )
    fields = [field for field, _sentence in check_timings(worst)]
    assert fields == ["lease_retry_s", "lease_renew_deadline_s", "promise_s", "promise_s"]


def test_a_proof_counts_from_before_the_request():
    """Sent at 100 s: duration less margin later it ends, whenever the answer came."""
    proof = proof_from_renewal(100.0, 7, Timings())
    assert proof.deadline_s == 112.0
    assert proof.generation == 7


def test_a_promise_proves_its_length_less_the_margin():
    """The same arithmetic with the promise's length."""
    assert proof_from_promises(100.0, 7, Timings(promise_s=20)).deadline_s == 117.0


def test_failsafe_is_due_once_the_renew_deadline_is_used_up():
    """Twelve seconds proved, five of renewing: due at seven seconds left."""
    assert not is_failsafe_due(7.1, Timings())
    assert is_failsafe_due(7.0, Timings())


@given(SECONDS, SECONDS, SECONDS, SECONDS, SECONDS)
def test_a_fresh_promise_leaves_turns_for_pushes(duration, margin, renew, retry, promise):
    """Timings that fit never leave a failsafe due that has just succeeded."""
    timings = Timings(
        lease_duration_s=duration,
        lease_margin_s=margin,
        lease_renew_deadline_s=renew,
        lease_retry_s=retry,
        promise_s=promise,
    )
    if not check_timings(timings):
        assert not is_failsafe_due(proof_from_promises(0.0, 1, timings).deadline_s, timings)


def test_the_default_timings_leave_time_for_promises():
    """A heartbeat that hangs, then a promise whose kept connection is dead, then one more tick."""
    timings = Timings()
    hanging_s = CONNECT_TIMEOUT_S + heartbeat_limit_s(timings)
    asking_s = OLD_CONNECTION_LIMIT_S + COMPLAINT_LIMIT_S + FRESH_CONNECTION_LIMIT_S
    used_s = timings.lease_renew_deadline_s + hanging_s + asking_s + AgentSettings().tick_s
    assert used_s < timings.lease_duration_s - timings.lease_margin_s


def test_a_heartbeat_waits_as_long_as_the_next_attempt_is_away():
    """Never less than a second: a loaded database needs that."""
    assert heartbeat_limit_s(Timings(lease_retry_s=2)) == 2
    assert heartbeat_limit_s(Timings(lease_retry_s=0.2)) == 1


def test_the_control_plane_gives_up_on_its_database_before_an_agent_gives_up_on_it():
    """Else a heartbeat is carried out that nobody waits for, and its renewal helps nobody."""
    busy_s = BUSY_TIMEOUT_MS / 1000
    assert busy_s < heartbeat_limit_s(Timings())
    assert busy_s < READ_TIMEOUT_S


@pytest.mark.parametrize(("days", "seconds"), [(1, 86_400), (14, 1_209_600)])
def test_retired_mail_is_kept_for_whole_days(days, seconds):
    """The setting is in days, the clock in seconds."""
    assert retired_keep_s(Timings(retired_keep_days=days)) == seconds


def test_draining_takes_only_part_of_the_margin():
    """Killing and renaming must fit in as well."""
    assert drain_limit_s(Timings(lease_margin_s=3)) == 1.5
