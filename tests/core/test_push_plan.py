"""What a push sends and removes, from what was touched and what is there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.core.push_plan import Changes, gone_keys, must_send, places_of
from nodeagent.core.queue_files import Facts, Key, Kind
from tests.fakes.postfix_queue import queue_id

MAIL = Key(Kind.MAIL, queue_id(1))
HOLD = Key(Kind.HOLD, queue_id(1))
DEFER = Key(Kind.DEFER, queue_id(1))
FACTS = Facts(100, 1_000)


def send(key=MAIL, facts=FACTS, *, known=None, written=(), trust=True) -> bool:
    """Tell whether a file is sent to a mirror that has `MAIL` with `FACTS`."""
    known = {MAIL: FACTS} if known is None else known
    return must_send(key, facts, known, set(written), trust_events=trust)


def test_what_the_mirror_has_is_not_sent():
    """A message that hopped is the same message."""
    assert not send()


def test_what_the_mirror_lacks_is_sent():
    """A new key is sent, also when its id is known under another kind."""
    assert send(known={})
    assert send(HOLD)


def test_what_was_written_is_sent():
    """A done mark changes the content and not the size."""
    assert send(written={MAIL})


def test_another_size_is_sent():
    """Even if the event was for something else."""
    assert send(facts=Facts(101, 1_000))


@pytest.mark.parametrize("trust", [True, False])
def test_another_time_counts_only_where_events_cannot_be_trusted(trust):
    """Each retry moves the time; that alone is no reason to send a file again."""
    assert send(facts=Facts(100, 2_000), trust=trust) == (not trust)


def test_the_same_size_and_time_is_the_same_file_without_events():
    """As with rsync(1): a reconciliation of 60,000 messages does not send them all."""
    assert not send(trust=False)


def test_messages_are_looked_for_under_both_kinds():
    """Mail that was put on hold is gone as mail and there as hold."""
    assert places_of([MAIL]) == {MAIL, HOLD}
    assert places_of([DEFER]) == {DEFER}


def test_a_held_message_moves_in_the_mirror():
    """After `postsuper -h` the old key is gone, the new one is there."""
    changes = Changes(touched={MAIL})
    assert gone_keys(changes, {HOLD: FACTS}, {MAIL: FACTS}) == {MAIL}


def test_a_message_that_hopped_is_not_gone():
    """From active to deferred and back: touched often, still there, still in the mirror."""
    changes = Changes(touched={MAIL, DEFER})
    there = {MAIL: FACTS, DEFER: FACTS}
    assert gone_keys(changes, there, there) == frozenset()
    assert gone_keys(changes, {MAIL: FACTS}, there) == {DEFER}


def test_what_the_mirror_never_had_is_not_gone():
    """A message that came and went between two pushes is nobody's business."""
    assert gone_keys(Changes(touched={MAIL}), {}, {}) == frozenset()


def test_what_was_not_touched_is_not_gone():
    """Changes say nothing about the rest of the queue."""
    assert gone_keys(Changes(touched={DEFER}), {}, {MAIL: FACTS}) == frozenset()


def test_changes_add_up():
    """Two stretches of time are complete only if both were."""
    changes = Changes()
    assert not changes
    changes.note(MAIL)
    later = Changes(is_complete=False)
    later.note(HOLD, is_written=True)
    changes.add(later)
    assert changes.touched == {MAIL, HOLD}
    assert changes.written == {HOLD}
    assert not changes.is_complete


def test_lost_events_are_a_change():
    """Not knowing is a reason to look, and so is one key that was touched."""
    assert Changes(is_complete=False)
    assert Changes(touched={MAIL})


@pytest.mark.parametrize("lost_first", [True, False])
def test_events_once_lost_stay_lost(lost_first):
    """A quiet stretch of time, before or after, does not bring them back."""
    changes = Changes(is_complete=not lost_first)
    changes.add(Changes(is_complete=lost_first))
    assert not changes.is_complete


KEYS = st.builds(Key, st.sampled_from(Kind), st.sampled_from([queue_id(1), queue_id(2)]))
TOUCHED = st.builds(
    Changes, touched=st.sets(KEYS), written=st.sets(KEYS), is_complete=st.booleans()
)


@given(TOUCHED, TOUCHED)
def test_the_order_of_two_stretches_of_time_does_not_matter(one, other):
    """What a push has to look at is the same whichever was taken in first."""
    forth, back = Changes(), Changes()
    for changes in (one, other):
        forth.add(changes)
    for changes in (other, one):
        back.add(changes)
    assert forth == back
    assert bool(forth) is (bool(one) or bool(other))


@given(st.sets(KEYS), st.sets(KEYS), st.sets(KEYS))
def test_a_push_leaves_the_mirror_as_the_queue_is(queue, mirror, missed):
    """Told of everything that differs, and of more: sending and removing makes both the same."""
    found = dict.fromkeys(queue, FACTS)
    known = dict.fromkeys(mirror, FACTS)
    changes = Changes(touched=(queue ^ mirror) | missed)
    looked_at = places_of(changes.touched) & queue
    sent = {key for key in looked_at if must_send(key, FACTS, known, (), trust_events=True)}
    gone = gone_keys(changes, found, known)
    assert (mirror | sent) - gone == queue
    assert not sent & gone


@given(st.sets(KEYS))
def test_looking_twice_finds_no_further_place(keys):
    """The places of a message are closed: its twin's twin is itself."""
    places = places_of(keys)
    assert keys <= places
    assert places_of(places) == places
