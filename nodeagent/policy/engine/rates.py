"""Counts of the whole cluster, in memory: what this hook counted, and what others told.

Theory of operation. Each running hook is a source, and its count of a key in a bucket of time only
grows (a grow-only counter): the cluster's count is the sum over all sources, however often and in
which order they are told. A window of a minute ending now is the present bucket, and of the one
before it the share that still lies within: "at most N in any minute" is kept to within how evenly
the mails of that one came. See docs/adr/0019.

Only the present and the last bucket of each window are kept. Beyond `MOST_KEYS` in a bucket, those
that came first are forgotten: filling it takes as many mails with as many different senders, and
whoever is forgotten starts again at none, so no honest sender is ever limited by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from nodeagent.policy.document import RateRule, RateWindow
from nodeagent.policy.sync_wire import RateCount, SourcedCount

WINDOW_S: Final = {RateWindow.MINUTE: 60, RateWindow.HOUR: 3600, RateWindow.DAY: 86_400}
MOST_KEYS: Final = 100_000
Place = tuple[RateWindow, int, str]
"""Window, bucket and key."""


@dataclass(slots=True)
class _Count:
    """One key in one bucket."""

    own: int = 0
    others: dict[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Return the cluster's count."""
        return self.own + sum(self.others.values())


class RateBook:
    """The counts of one hook; for one thread."""

    def __init__(self, source: str, most_keys: int = MOST_KEYS) -> None:
        self._source = source
        self._most_keys = most_keys
        self._buckets: dict[RateWindow, dict[int, dict[str, _Count]]] = {}
        self._untold: dict[Place, None] = {}

    def hit(self, keys: Iterable[tuple[RateRule, str]], now_s: float) -> tuple[RateRule, ...]:
        """Count each rule's key once, and return the rules whose limit that exceeds."""
        exceeded = {}
        for rule, key in keys:
            bucket = bucket_of(rule.window, now_s)
            count = self._at((rule.window, bucket, key), now_s)
            count.own += 1
            self._untold[rule.window, bucket, key] = None
            if self.estimate(rule.window, key, now_s) > rule.limit:
                exceeded[rule.id] = rule
        return tuple(exceeded.values())

    def estimate(self, window: RateWindow, key: str, now_s: float) -> float:
        """Return how many the cluster counted in the window that ends now."""
        length_s = WINDOW_S[window]
        bucket = bucket_of(window, now_s)
        share = 1 - (now_s - bucket * length_s) / length_s
        buckets = self._buckets.get(window, {})
        present, last = buckets.get(bucket, {}).get(key), buckets.get(bucket - 1, {}).get(key)
        return (present.total if present else 0) + (last.total * share if last else 0)

    def merge(self, counts: Iterable[SourcedCount], now_s: float) -> None:
        """Take in what others counted; again, late or in any order, it is the same."""
        for told in counts:
            present = bucket_of(told.window, now_s)
            if told.source == self._source or not present - 1 <= told.bucket <= present + 1:
                continue
            count = self._at((told.window, told.bucket, told.key), now_s)
            count.others[told.source] = max(count.others.get(told.source, 0), told.count)

    def changed(self, most: int) -> tuple[RateCount, ...]:
        """Return what has grown since it was `confirm`ed, the oldest change first."""
        return tuple(self._told_of(most))

    def _told_of(self, most: int) -> Iterator[RateCount]:
        for window, bucket, key in islice(self._untold, most):
            count = self._buckets[window][bucket][key]
            yield RateCount(window=window, bucket=bucket, key=key, count=count.own)

    def confirm(self, counts: Iterable[RateCount]) -> None:
        """Take note that the control plane knows these; what has grown meanwhile is told again."""
        for told in counts:
            place = (told.window, told.bucket, told.key)
            count = self._buckets.get(told.window, {}).get(told.bucket, {}).get(told.key)
            if count is None or count.own <= told.count:
                self._untold.pop(place, None)

    def _at(self, place: Place, now_s: float) -> _Count:
        """Return the count of a place, made if it is not there; old buckets go."""
        window, number, key = place
        buckets = self._buckets.setdefault(window, {})
        if number not in buckets:
            oldest = bucket_of(window, now_s) - 1
            for old in [one for one in buckets if one < oldest]:
                for over in buckets.pop(old):
                    self._untold.pop((window, old, over), None)
            buckets[number] = {}
        counts = buckets[number]
        found = counts.get(key)
        if found is None:
            if len(counts) >= self._most_keys:
                first = next(iter(counts))
                del counts[first]
                self._untold.pop((window, number, first), None)
            found = counts[key] = _Count()
        return found


def bucket_of(window: RateWindow, now_s: float) -> int:
    """Return the number of the bucket in which this moment lies."""
    return int(now_s // WINDOW_S[window])
