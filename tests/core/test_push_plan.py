"""What a push sends and removes, from what was touched and what is there."""

from __future__ import annotations

import pytest

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
    assert send(facts=Facts(100, 2_000), trust=trust) is not trust


def test_messages_are_looked_for_under_both_kinds():
    """Mail that was put on hold is gone as mail and there as hold."""
    assert places_of([MAIL]) == {MAIL, HOLD}
    assert places_of([DEFER]) == {DEFER}


def test_a_held_message_moves_in_the_mirror():
    """After `postsuper -h` the old key is gone, the new one is there."""
    changes = Changes(touched={MAIL})
    assert gone_keys(changes, {HOLD: FACTS}, {MAIL: FACTS}) == {MAIL}


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
    """Not knowing is a reason to look."""
    assert Changes(is_complete=False)
