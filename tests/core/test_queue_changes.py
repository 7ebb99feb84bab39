"""The difference between what was seen and what was sent, whatever the queue does meanwhile."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nodeagent.core.queue_changes import QueueChanges, Stamp
from nodeagent.core.queue_contract import MOST_REMOVALS, MOST_UPSERTS, QueueName


def stamp(version: int) -> Stamp:
    """Return what a message looked like at one time."""
    return Stamp(QueueName.DEFERRED, "deferred/x", version, 1)


LOOKS = st.lists(st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 2)), max_size=8)


@given(LOOKS, st.data())
def test_whoever_applies_all_batches_knows_the_last_look(
    looks: list[dict[str, int]], data: st.DataObject
) -> None:
    """However looks, batches and fresh starts interleave, the far end catches up."""
    changes, far = QueueChanges(), dict[str, Stamp]()
    for look in looks:
        changes.note({name: stamp(version) for name, version in look.items()})
        if data.draw(st.booleans()):
            batch = changes.take()
            far = {**far, **batch.changed}
            far = {name: one for name, one in far.items() if name not in batch.gone}
        if data.draw(st.booleans()):
            far.clear()
            changes.forget()
    batch = changes.take()
    far = {name: one for name, one in {**far, **batch.changed}.items() if name not in batch.gone}
    last = looks[-1] if looks else {}
    assert far == {name: stamp(version) for name, version in last.items()}
    assert batch.is_last
    assert changes.is_empty()


def test_a_batch_is_bounded_and_only_the_last_says_so() -> None:
    """A long list goes in pieces."""
    changes = QueueChanges()
    changes.note({f"id{number:06d}": stamp(1) for number in range(2 * MOST_UPSERTS + 1)})
    batches = [changes.take() for _ in range(3)]
    assert [len(one.changed) for one in batches] == [MOST_UPSERTS, MOST_UPSERTS, 1]
    assert [one.is_last for one in batches] == [False, False, True]


def test_a_queue_that_stands_still_sends_nothing() -> None:
    """The second look of the same queue is no news."""
    changes = QueueChanges()
    changes.note({"a": stamp(1)})
    changes.take()
    changes.note({"a": stamp(1)})
    assert changes.is_empty()


def test_mail_that_has_gone_is_news_too() -> None:
    """An emptied queue has nothing to list and much to take back."""
    changes = QueueChanges()
    changes.note({"a": stamp(1), "b": stamp(1)})
    assert not changes.is_empty()
    changes.take()
    assert changes.is_empty()
    changes.note({"b": stamp(1)})
    assert not changes.is_empty()
    assert changes.take() == ({}, ("a",), True)
    assert changes.is_empty()


def test_removals_go_in_pieces_as_well() -> None:
    """A batch that names no message may still not be the last."""
    changes = QueueChanges()
    listed = {f"id{number:06d}": stamp(1) for number in range(MOST_REMOVALS + 1)}
    changes.note(listed)
    while not changes.take().is_last:
        pass
    changes.note({})
    batches = [changes.take(), changes.take()]
    assert [len(one.gone) for one in batches] == [MOST_REMOVALS, 1]
    assert [one.is_last for one in batches] == [False, True]
    assert {name for one in batches for name in one.gone} == set(listed)


def test_a_deferral_is_a_change_of_a_known_message() -> None:
    """Each try sets a new time; the last stamp is what is sent, once."""
    changes = QueueChanges()
    for version in (1, 2, 3):
        changes.note({"a": stamp(version), "b": stamp(1)})
    assert changes.take().changed == {"a": stamp(3), "b": stamp(1)}
    changes.note({"a": stamp(4), "b": stamp(1)})
    assert changes.take() == ({"a": stamp(4)}, (), True)


def test_a_message_that_came_back_is_not_gone() -> None:
    """It was adopted and taken back, or moved while the queue was looked at."""
    changes = QueueChanges()
    changes.note({"a": stamp(1)})
    changes.take()
    changes.note({})
    changes.note({"a": stamp(1)})
    assert changes.take() == ({"a": stamp(1)}, (), True)


def test_whoever_begins_anew_is_told_of_nothing_that_was() -> None:
    """A control plane that asks for everything has no message that could have gone."""
    changes = QueueChanges()
    changes.note({"a": stamp(1), "b": stamp(1)})
    changes.take()
    changes.note({"b": stamp(1)})
    changes.forget()
    assert changes.take() == ({"b": stamp(1)}, (), True)
