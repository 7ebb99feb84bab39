"""Limits that hold over the whole cluster, whatever is told how often and in which order."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.policy.document import RateRule, RateSubject, RateWindow
from nodeagent.policy.engine.rates import WINDOW_S, RateBook, bucket_of
from nodeagent.policy.sync_wire import RateCount, SourcedCount

A, B, C = "a" * 32, "b" * 32, "c" * 32
KEY, OTHER = "1" * 32, "2" * 32
DAY_START = 86_400.0 * 20_000


def rule(limit: int, window: RateWindow = RateWindow.MINUTE, number: int = 1) -> RateRule:
    """Give a limit on senders."""
    return RateRule(id=number, subject=RateSubject.SENDER, window=window, limit=limit)


def hit(book: RateBook, one: RateRule, now_s: float, key: str = KEY) -> bool:
    """Count once; tell whether it was too many."""
    return book.hit([(one, key)], now_s) == (one,)


def tell(speaker: RateBook, source: str, listener: RateBook, now_s: float) -> None:
    """Carry what one counted to another, as the control plane does."""
    counts = speaker.changed(1000)
    listener.merge([_of(source, count) for count in counts], now_s)
    speaker.confirm(counts)


def _of(source: str, count: RateCount) -> SourcedCount:
    return SourcedCount(source=source, **count.model_dump())


@pytest.mark.parametrize("window", list(RateWindow))
def test_the_limit_itself_is_still_allowed(window: RateWindow) -> None:
    """At most N: N pass, the next one does not."""
    book, one = RateBook(A), rule(5, window)
    assert [hit(book, one, DAY_START) for _ in range(7)] == [False] * 5 + [True] * 2


@pytest.mark.parametrize("window", list(RateWindow))
def test_a_whole_window_later_it_begins_anew(window: RateWindow) -> None:
    """Two windows later nothing is left of it at all."""
    book, one = RateBook(A), rule(5, window)
    for _ in range(50):
        hit(book, one, DAY_START)
    assert not hit(book, one, DAY_START + 2 * WINDOW_S[window])


def test_the_window_slides() -> None:
    """Half a minute into the next bucket, half of the last one still counts."""
    book, one = RateBook(A), rule(10)
    for _ in range(10):
        hit(book, one, DAY_START + 59)
    assert book.estimate(RateWindow.MINUTE, KEY, DAY_START + 90) == pytest.approx(5)
    taken = list(itertools.takewhile(bool, (not hit(book, one, DAY_START + 90) for _ in range(9))))
    assert len(taken) == 5


def test_there_is_no_burst_over_the_edge_of_two_buckets() -> None:
    """The weakness of fixed windows: twice the limit within seconds."""
    book, one = RateBook(A), rule(10)
    before = sum(not hit(book, one, DAY_START + 59.9) for _ in range(20))
    after = sum(not hit(book, one, DAY_START + 60.1) for _ in range(20))
    assert (before, after) == (10, 0)


def test_keys_are_counted_apart() -> None:
    """One sender's mails are no other's."""
    book, one = RateBook(A), rule(1)
    assert not hit(book, one, DAY_START)
    assert not hit(book, one, DAY_START, OTHER)
    assert hit(book, one, DAY_START)


def test_a_key_that_is_named_twice_counts_twice() -> None:
    """Two recipients of one domain in one question."""
    book, one = RateBook(A), rule(1)
    assert book.hit([(one, KEY), (one, KEY)], DAY_START) == (one,)


def test_rules_of_different_windows_are_exceeded_by_themselves() -> None:
    """The minute may be full while the day is not."""
    book = RateBook(A)
    minute, day = rule(1), rule(10, RateWindow.DAY, number=2)
    keys = [(minute, KEY), (day, OTHER)]
    assert book.hit(keys, DAY_START) == ()
    assert book.hit(keys, DAY_START) == (minute,)


def test_a_failover_resets_nothing() -> None:
    """The other node has what this one counted, and goes on from there."""
    active, standby, one = RateBook(A), RateBook(B), rule(5)
    for _ in range(4):
        hit(active, one, DAY_START)
    tell(active, A, standby, DAY_START)
    assert not hit(standby, one, DAY_START)
    assert hit(standby, one, DAY_START)


def test_a_hook_that_was_restarted_counts_on() -> None:
    """Its former self comes back to it as another source."""
    before, one = RateBook(A), rule(5)
    for _ in range(5):
        hit(before, one, DAY_START)
    after = RateBook(C)
    tell(before, A, after, DAY_START)
    assert hit(after, one, DAY_START)


@given(
    st.lists(st.sampled_from([A, B]), max_size=30),
    st.randoms(use_true_random=False),
    st.integers(1, 3),
)
def test_order_and_repetition_do_not_matter(sources: list[str], random, times: int) -> None:
    """However the counts are carried, two nodes count as one would have."""
    one, window = rule(1000), RateWindow.MINUTE
    books = {source: RateBook(source) for source in (A, B)}
    told: list[SourcedCount] = []
    for source in sources:
        hit(books[source], one, DAY_START)
        told += [_of(source, count) for count in books[source].changed(10)]
    told = told * times
    random.shuffle(told)
    watcher, alone = RateBook(C), RateBook(A)
    watcher.merge(told, DAY_START)
    for _ in sources:
        hit(alone, one, DAY_START)
    expected = alone.estimate(window, KEY, DAY_START)
    assert watcher.estimate(window, KEY, DAY_START) == expected
    for book in books.values():
        book.merge(told, DAY_START)
        assert book.estimate(window, KEY, DAY_START) == expected


def test_what_is_told_is_told_again_until_it_is_known() -> None:
    """A control plane that was away misses nothing; what grew meanwhile is told once more."""
    book, one = RateBook(A), rule(100)
    hit(book, one, DAY_START)
    lost = book.changed(10)
    assert book.changed(10) == lost
    hit(book, one, DAY_START)
    book.confirm(lost)
    (again,) = book.changed(10)
    assert again.count == 2
    book.confirm([again])
    assert book.changed(10) == ()


def test_only_so_many_are_told_at_once() -> None:
    """The rest comes with the next report, the oldest change first."""
    book, one = RateBook(A), rule(100)
    for number in range(5):
        hit(book, one, DAY_START, f"{number:032x}")
    first = book.changed(3)
    book.confirm(first)
    second = book.changed(3)
    assert [count.key[-1] for count in first + second] == ["0", "1", "2", "3", "4"]


def test_counts_of_windows_that_are_over_are_not_told() -> None:
    """A control plane that comes back after a day is not flooded."""
    book, one = RateBook(A), rule(100)
    hit(book, one, DAY_START)
    hit(book, one, DAY_START + 600, OTHER)
    assert [count.key for count in book.changed(10)] == [OTHER]


def test_a_control_plane_that_is_away_for_long_costs_no_memory() -> None:
    """Days are told before minutes, so what is over has to go by itself."""
    book, minutes, days = RateBook(A), rule(1), rule(1, RateWindow.DAY, 2)
    for number in range(50):
        hit(book, days, DAY_START, f"{number:032x}")
    for minute in range(100):
        hit(book, minutes, DAY_START + 60 * minute)
        assert len(book.changed(10)) == 10
    assert len(book._untold) <= 50 + 2
    told = book.changed(1000)
    assert sum(one.window is RateWindow.DAY for one in told) == 50
    assert [one.count for one in told if one.window is RateWindow.MINUTE] == [1, 1]


def test_what_was_forgotten_is_not_told() -> None:
    """Nor does it stay among what has to be."""
    book, one = RateBook(A, most_keys=3), rule(1)
    for number in range(100):
        hit(book, one, DAY_START, f"{number:032x}")
    assert [int(count.key, 16) for count in book.changed(1000)] == [97, 98, 99]


@pytest.mark.parametrize("shift", [-2, 2, 10_000])
def test_counts_of_other_times_are_not_kept(shift: int) -> None:
    """A node whose clock is wrong neither limits anybody nor fills the memory."""
    book = RateBook(A)
    bucket = bucket_of(RateWindow.MINUTE, DAY_START) + shift
    wrong = SourcedCount(source=B, window=RateWindow.MINUTE, bucket=bucket, key=KEY, count=99)
    book.merge([wrong], DAY_START)
    assert book.estimate(RateWindow.MINUTE, KEY, DAY_START + shift * 60) == 0


def test_ones_own_counts_are_not_taken_from_others() -> None:
    """They would be added twice."""
    book, one = RateBook(A), rule(100)
    hit(book, one, DAY_START)
    book.merge([_of(A, count) for count in book.changed(10)], DAY_START)
    assert book.estimate(RateWindow.MINUTE, KEY, DAY_START) == 1


def test_memory_has_an_end() -> None:
    """Those that came first are forgotten; the newest are counted rightly."""
    book, one = RateBook(A, most_keys=100), rule(1)
    for number in range(1000):
        hit(book, one, DAY_START, f"{number:032x}")
    counts = book._buckets[RateWindow.MINUTE]
    assert sum(map(len, counts.values())) == 100
    assert hit(book, one, DAY_START, f"{999:032x}")
    assert not hit(book, one, DAY_START, f"{0:032x}")


def test_old_buckets_leave_the_memory() -> None:
    """Two are enough for any window."""
    book, one = RateBook(A), rule(1)
    for minute in range(100):
        hit(book, one, DAY_START + 60 * minute)
    assert len(book._buckets[RateWindow.MINUTE]) <= 2
