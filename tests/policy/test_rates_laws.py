"""Laws of the counts: merged in any order they agree, and each window is what a naive one says."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from nodeagent.policy.document import RateRule, RateSubject, RateWindow
from nodeagent.policy.engine.rates import WINDOW_S, RateBook, bucket_of
from nodeagent.policy.sync_wire import RateCount, SourcedCount

ME, OTHERS = "a" * 32, ("b" * 32, "c" * 32)
KEYS = ("1" * 32, "2" * 32)
DAY_START = 86_400.0 * 20_000
MINUTE = RateWindow.MINUTE


def rule(limit: int, window: RateWindow = MINUTE, number: int = 1) -> RateRule:
    """Give a limit on senders."""
    return RateRule(id=number, subject=RateSubject.SENDER, window=window, limit=limit)


def told(
    count: int, *, source: str = OTHERS[0], shift: int = 0, window: RateWindow = MINUTE
) -> SourcedCount:
    """Give a count of another source, `shift` buckets from the present."""
    bucket = bucket_of(window, DAY_START) + shift
    return SourcedCount(source=source, window=window, bucket=bucket, key=KEYS[0], count=count)


POOL = [
    SourcedCount(
        source=source,
        window=window,
        bucket=bucket_of(window, DAY_START) + shift,
        key=key,
        count=count,
    )
    for source, window, shift, key, count in product(
        (ME, *OTHERS), RateWindow, (-2, -1, 0, 1, 2), KEYS, (1, 2, 5)
    )
]
counts = st.sampled_from(POOL)
batches = st.lists(counts, max_size=8)
hits = st.lists(st.sampled_from(list(product(RateWindow, KEYS))), max_size=6)


def book_of(own: list[tuple[RateWindow, str]]) -> RateBook:
    """Give a book that has counted these by itself."""
    book = RateBook(ME)
    for window, key in own:
        book.hit([(rule(100, window), key)], DAY_START)
    return book


def seen(book: RateBook) -> dict[tuple[RateWindow, str, int], float]:
    """Return all that can be asked of a book, now and in the bucket behind."""
    return {
        (window, key, later): book.estimate(window, key, DAY_START + later * WINDOW_S[window])
        for window in RateWindow
        for key in KEYS
        for later in (0, 1, 2)
    }


@settings(max_examples=40)
@given(hits, batches, batches)
def test_it_does_not_matter_who_is_heard_first(
    own: list[tuple[RateWindow, str]], one: list[SourcedCount], other: list[SourcedCount]
) -> None:
    """Merging is commutative, and in parts or at once it is the same."""
    first, second, at_once = book_of(own), book_of(own), book_of(own)
    first.merge(one, DAY_START)
    first.merge(other, DAY_START)
    second.merge(other, DAY_START)
    second.merge(one, DAY_START)
    at_once.merge([*one, *other], DAY_START)
    assert seen(first) == seen(second) == seen(at_once)


@settings(max_examples=40)
@given(hits, batches)
def test_what_is_heard_twice_counts_once(
    own: list[tuple[RateWindow, str]], batch: list[SourcedCount]
) -> None:
    """Merging is idempotent, also backwards."""
    book = book_of(own)
    book.merge(batch, DAY_START)
    once = seen(book)
    book.merge(batch, DAY_START)
    book.merge(reversed(batch), DAY_START)
    assert seen(book) == once


@settings(max_examples=40)
@given(hits, batches, counts)
def test_hearing_more_never_lowers_a_count(
    own: list[tuple[RateWindow, str]], batch: list[SourcedCount], more: SourcedCount
) -> None:
    """So a late, small number of a source undoes nothing."""
    book = book_of(own)
    book.merge(batch, DAY_START)
    before = seen(book)
    book.merge([more], DAY_START)
    after = seen(book)
    assert all(after[place] >= before[place] for place in before)


@settings(max_examples=40)
@given(batches)
def test_a_count_is_the_sum_of_the_largest_of_each_source(batch: list[SourcedCount]) -> None:
    """As a counter that only grows is defined; one's own and those of other times are left out."""
    book = RateBook(ME)
    book.merge(batch, DAY_START)
    for window in RateWindow:
        present = bucket_of(window, DAY_START)
        for key in KEYS:
            largest: Counter[str] = Counter()
            for one in batch:
                if (one.window, one.key, one.bucket) == (window, key, present):
                    largest[one.source] = max(largest[one.source], one.count)
            del largest[ME]
            last: Counter[str] = Counter()
            for one in batch:
                if (one.window, one.key, one.bucket) == (window, key, present - 1):
                    last[one.source] = max(last[one.source], one.count)
            del last[ME]
            assert book.estimate(window, key, DAY_START) == largest.total() + last.total()


@pytest.mark.parametrize(
    ("shift", "asked_later_s", "expected"),
    [
        (-2, 0, 0),
        (-2, -60, 0),  # nor is it kept for a clock that goes back
        (-1, 0, 8),  # at the first moment of a bucket all of the last one lies within the window
        (-1, 15, 6),
        (-1, 59, 8 / 60),
        (-1, 60, 0),
        (0, 0, 8),
        (0, 59, 8),
        (0, 60, 8),
        (0, 90, 4),
        (0, 120, 0),
        (1, 0, 0),  # a clock that is a little ahead: not yet
        (1, 60, 8),
        (2, 120, 0),
    ],
)
def test_a_count_told_weighs_as_much_as_lies_in_the_window(
    shift: int, asked_later_s: int, expected: float
) -> None:
    """Buckets from the last to the next are taken, and fade as the window moves on."""
    book = RateBook(ME)
    book.merge([told(8, shift=shift)], DAY_START)
    found = book.estimate(MINUTE, KEYS[0], DAY_START + asked_later_s)
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("window", list(RateWindow))
@pytest.mark.parametrize(
    ("offset_s", "step"), [(0, 0), (-0.001, -1), (0.001, 0), (-1, -1), ("last", 0), ("next", 1)]
)
def test_a_bucket_begins_with_its_first_moment(
    window: RateWindow, offset_s: float | str, step: int
) -> None:
    """The first moment belongs to it, the one before does not."""
    length_s = WINDOW_S[window]
    offset = {"last": length_s - 0.001, "next": length_s}.get(str(offset_s), offset_s)
    start = bucket_of(window, DAY_START)
    assert bucket_of(window, DAY_START + float(offset)) - start == step
    assert start * length_s == DAY_START


times = st.lists(st.integers(0, 300), max_size=30).map(sorted)


@settings(max_examples=40)
@given(times, st.integers(1, 6), st.integers(0, 400))
def test_a_window_is_what_a_naive_one_says(moments: list[int], limit: int, later_s: int) -> None:
    """All hits of the present bucket, and of the last one the share within the window."""
    book, one = RateBook(ME), rule(limit)
    kept: list[int] = []

    def naive(now: int) -> float:
        bucket = now // 60
        present = sum(at // 60 == bucket for at in kept)
        last = sum(at // 60 == bucket - 1 for at in kept)
        return present + last * (60 - now % 60) / 60

    for at in moments:
        exceeded = book.hit([(one, KEYS[0])], DAY_START + at)
        kept.append(at)
        assert book.estimate(MINUTE, KEYS[0], DAY_START + at) == pytest.approx(naive(at))
        # equal numbers from two ways of adding may differ in their last bit
        if abs(naive(at) - limit) > 1e-6:
            assert bool(exceeded) is (naive(at) > limit)
    end = max([*moments, 0]) + later_s
    assert book.estimate(MINUTE, KEYS[0], DAY_START + end) == pytest.approx(naive(end))


@settings(max_examples=40)
@given(times, st.integers(1, 5), st.integers(1, 5))
def test_a_higher_limit_refuses_no_more(moments: list[int], limit: int, more: int) -> None:
    """Of two rules for one key the stricter is exceeded whenever the milder is."""
    book = RateBook(ME)
    strict, mild = rule(limit), rule(limit + more, number=2)
    for at in moments:
        (*_, last) = ((), book.hit([(strict, KEYS[0]), (mild, KEYS[1])], DAY_START + at))
        assert mild not in last or strict in last


@settings(max_examples=40)
@given(times)
def test_a_window_in_which_nothing_happens_only_fades(moments: list[int]) -> None:
    """It never falls below nothing, and is empty two buckets later."""
    book = RateBook(ME)
    for at in moments:
        book.hit([(rule(9), KEYS[0])], DAY_START + at)
    end = DAY_START + max([*moments, 0])
    found = [book.estimate(MINUTE, KEYS[0], end + step) for step in range(0, 121, 5)]
    assert found == sorted(found, reverse=True)
    assert found[0] <= len(moments)
    assert found[-1] == 0


@dataclass
class Link:
    """A way to the other node on which reports and their confirmations may get lost."""

    speaker: RateBook = field(default_factory=lambda: RateBook(ME))
    listener: RateBook = field(default_factory=lambda: RateBook(OTHERS[0]))

    def report(self, most: int, *, arrives: bool, is_confirmed: bool) -> int:
        """Tell what has changed; return how many were told."""
        news = self.speaker.changed(most)
        if arrives:
            self.listener.merge(
                [SourcedCount(source=ME, **one.model_dump()) for one in news], DAY_START
            )
        if arrives and is_confirmed:
            self.speaker.confirm(news)
        return len(news)


steps = st.lists(
    st.sampled_from(KEYS) | st.tuples(st.integers(0, 3), st.booleans(), st.booleans()), max_size=20
)


@settings(max_examples=40)
@given(steps)
def test_whatever_gets_lost_both_know_the_same_in_the_end(
    done: list[str | tuple[int, bool, bool]],
) -> None:
    """Hits between reports, reports in parts, reports and confirmations that never arrive."""
    link, hit_count = Link(), Counter[str]()
    for step in done:
        if isinstance(step, str):
            link.speaker.hit([(rule(1000), step)], DAY_START)
            hit_count[step] += 1
        else:
            most, arrives, is_confirmed = step
            assert link.report(most, arrives=arrives, is_confirmed=is_confirmed) <= most
    for _ in KEYS:
        link.report(1, arrives=True, is_confirmed=True)
    assert link.speaker.changed(10) == ()
    for key in KEYS:
        assert link.listener.estimate(MINUTE, key, DAY_START) == hit_count[key]
        assert link.speaker.estimate(MINUTE, key, DAY_START) == hit_count[key]


def test_what_was_heard_is_not_told_on() -> None:
    """Only one's own counts are: else two nodes would tell each other for ever."""
    book = RateBook(ME)
    book.merge([told(7)], DAY_START)
    assert book.changed(10) == ()
    book.hit([(rule(9), KEYS[0])], DAY_START)
    assert [(one.key, one.count) for one in book.changed(10)] == [(KEYS[0], 1)]


def test_a_limit_counts_what_the_others_had() -> None:
    """Seven elsewhere and three here are ten: the fourth is one too many."""
    book, one = RateBook(ME), rule(10)
    book.merge([told(3), told(4, source=OTHERS[1])], DAY_START)
    assert [bool(book.hit([(one, KEYS[0])], DAY_START)) for _ in range(4)] == [
        *(False, False, False),
        True,
    ]


def test_a_rule_that_is_exceeded_by_several_keys_is_named_once() -> None:
    """In the order of the keys."""
    book, one, other = RateBook(ME), rule(1), rule(1, number=2)
    keys = [(one, KEYS[0]), (other, KEYS[1])]
    assert book.hit(keys, DAY_START) == ()
    assert book.hit([*keys, *keys], DAY_START) == (one, other)


def test_a_book_for_one_key_forgets_the_one_before() -> None:
    """And says nothing of it any more."""
    book, one = RateBook(ME, most_keys=1), rule(1)
    for key in (*KEYS, *KEYS):
        assert book.hit([(one, key)], DAY_START) == ()
    assert [count.key for count in book.changed(10)] == [KEYS[1]]


def test_a_confirmation_of_what_nobody_counted_does_no_harm() -> None:
    """The control plane may know more than this process, which was restarted."""
    book = RateBook(ME)
    book.hit([(rule(9), KEYS[0])], DAY_START)
    here = book.changed(1)[0]
    strange = here.model_copy(update={"key": KEYS[1], "count": 99})
    book.confirm([strange, here.model_copy(update={"bucket": here.bucket - 5})])
    assert book.changed(9) == (here,)
    book.confirm([here.model_copy(update={"count": 99})])
    assert book.changed(9) == ()


@pytest.mark.parametrize("most", [0, 1, 2, 3, 100])
def test_no_more_is_told_than_is_asked_for(most: int) -> None:
    """Not even by those that are over meanwhile."""
    book = RateBook(ME)
    for key in ("1", "2", "3"):
        book.hit([(rule(9), key * 32)], DAY_START)
    assert len(book.changed(most)) == min(most, 3)


@pytest.mark.parametrize(
    "wrong",
    [
        {"count": 0},
        {"count": -1},
        {"count": 2**40},
        {"bucket": -1},
        {"bucket": 2**40},
        {"key": "1" * 31},
        {"key": "1" * 33},
        {"key": "G" * 32},
        {"key": "A" * 32},
        {"window": "week"},
        {"source": ""},
        {"source": "a" * 33},
    ],
    ids=str,
)
def test_a_count_that_cannot_be_is_not_read(wrong: dict[str, object]) -> None:
    """It never reaches a book: negative ones, or keys that are no hash."""
    right = told(1).model_dump()
    assert SourcedCount.model_validate(right) == told(1)
    with pytest.raises(ValidationError):
        SourcedCount.model_validate(right | wrong)
    if "source" not in wrong:
        del right["source"]
        with pytest.raises(ValidationError):
            RateCount.model_validate(right | wrong)
