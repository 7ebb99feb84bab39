"""The difference between what was seen and what was sent, whatever the queue does meanwhile."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nodeagent.core.queue_changes import QueueChanges, Stamp
from nodeagent.core.queue_contract import MOST_UPSERTS, QueueName


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
