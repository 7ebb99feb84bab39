"""What has become of a message follows from what was said of it, in any order and number."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.core.trace import STATUS_TEXTS, Ending, TraceStatus, message_status, stronger

STATUSES = ("sent", "deferred", "bounced", "rejected")
COUNTS = st.dictionaries(st.sampled_from(STATUSES), st.integers(0, 5))
ENDINGS = st.none() | st.sampled_from([one.value for one in Ending])
RECIPIENTS = st.none() | st.integers(0, 10)


@given(ending=ENDINGS, recipients=RECIPIENTS, counts=COUNTS)
def test_delivered_is_said_of_nothing_that_is_not(
    ending: str | None, recipients: int | None, counts: dict[str, int]
) -> None:
    """No bounce, no deferral, and either Postfix is done with it or every recipient has it."""
    if message_status(ending, recipients, counts) is TraceStatus.DELIVERED:
        assert not counts.get("bounced")
        assert not counts.get("deferred")
        assert ending == Ending.REMOVED or counts.get("sent", 0) >= (recipients or 1)


@given(recipients=RECIPIENTS, counts=COUNTS)
def test_what_an_operator_deleted_or_time_ended_stays_so(
    recipients: int | None, counts: dict[str, int]
) -> None:
    """Whatever single recipients got: somebody will ask about the message."""
    for ending in (Ending.DELETED, Ending.EXPIRED):
        assert message_status(ending, recipients, counts) == ending.value


@given(ending=ENDINGS, recipients=RECIPIENTS, counts=COUNTS)
def test_a_recipient_more_that_got_it_makes_no_message_worse(
    ending: str | None, recipients: int | None, counts: dict[str, int]
) -> None:
    """A delivery never turns what was delivered into something else."""
    more = {**counts, "sent": counts.get("sent", 0) + 1}
    if message_status(ending, recipients, counts) is TraceStatus.DELIVERED:
        assert message_status(ending, recipients, more) is TraceStatus.DELIVERED


@pytest.mark.parametrize(
    ("ending", "recipients", "counts", "expected"),
    [
        (None, None, {}, TraceStatus.OPEN),
        (None, None, {"sent": 1}, TraceStatus.QUEUED),
        (None, 0, {}, TraceStatus.QUEUED),
        (None, 2, {"sent": 1}, TraceStatus.QUEUED),
        (None, 2, {"sent": 2}, TraceStatus.DELIVERED),
        (None, 2, {"sent": 1, "deferred": 1}, TraceStatus.DEFERRED),
        ("removed", 2, {"sent": 1}, TraceStatus.DELIVERED),
        ("removed", 2, {"sent": 1, "bounced": 1}, TraceStatus.BOUNCED),
        ("rejected", None, {}, TraceStatus.REJECTED),
        (None, None, {"rejected": 1}, TraceStatus.REJECTED),
        ("rejected", 1, {"sent": 1}, TraceStatus.DELIVERED),
        (None, 1, {"sent": 1, "rejected": 1}, TraceStatus.DELIVERED),
    ],
)
def test_the_worst_end_of_a_recipient_is_the_messages(
    ending: str | None, recipients: int | None, counts: dict[str, int], expected: TraceStatus
) -> None:
    """One recipient in trouble is the one that somebody asks about."""
    assert message_status(ending, recipients, counts) is expected


def test_the_stronger_of_two_endings_is_the_same_in_any_order() -> None:
    """Postfix also removes what has expired, and the lines may come the other way round."""
    for order in itertools.permutations(Ending):
        known: str | None = None
        for said in order:
            known = stronger(known, said)
        assert known == Ending.EXPIRED.value
    assert stronger(Ending.DELETED.value, Ending.REMOVED) == Ending.DELETED.value


def test_every_status_has_a_sentence() -> None:
    """The GUI and the reference show it."""
    assert set(STATUS_TEXTS) == set(TraceStatus)
    assert all(text.endswith(".") for text in STATUS_TEXTS.values())
