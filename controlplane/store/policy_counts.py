"""Counts of rates: takes in what each hook counted, tells every other one what is new.

Theory of operation. A count only grows, so of two tellings the higher one is right, whatever their
order. Each time one grows it gets the next number of `CHANGES`; a node says up to which number it
has seen and gets what has a higher one, but its own. Numbers are given under `RATES_LOCK`, so they
become visible in their order and none is skipped. A database that was restored gives lower numbers
than a node has seen: then that node gets everything anew. Which buckets are kept is told by the
database's clock; hooks whose clocks are ahead may be in the next one already, and nobody further.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from sqlalchemy import and_, delete, or_, select
from sqlmodel import Session, col

from controlplane.store.clock import read_clock_s
from controlplane.store.policy_revision import last_number, take_numbers
from controlplane.store.policy_tables import RateCountRow
from controlplane.store.upserts import upsert
from nodeagent.policy.document import RateWindow
from nodeagent.policy.engine.rates import bucket_of
from nodeagent.policy.sync_wire import MOST_COUNTS, RateCount, SourcedCount

CHANGES: Final = "rate-changes"
KEPT_AFTER_S: Final[Mapping[RateWindow, int]] = {
    RateWindow.MINUTE: 600,
    RateWindow.HOUR: 2 * 3600,
    RateWindow.DAY: 86_400,
}
"""How long after its end a bucket is kept: as long as its window looks back, at most a day."""
PRUNED_AT_ONCE: Final = 5_000

_Key = tuple[str, int, str]


def take_counts(session: Session, source: str, counts: Iterable[RateCount]) -> int:
    """Take in what grew, in a transaction under `RATES_LOCK`; return how many did."""
    wanted: dict[_Key, int] = {}
    kept = kept_buckets(read_clock_s(session))
    for one in counts:
        if one.bucket in kept[one.window]:
            key = (one.window.value, one.bucket, one.key)
            wanted[key] = max(wanted.get(key, 0), one.count)
    present = _read_own(session, source, wanted)
    grown = {key: count for key, count in wanted.items() if count > present.get(key, 0)}
    if not grown:
        return 0
    change = take_numbers(session, CHANGES, len(grown))
    rows = [
        {
            "source": source,
            "window": window,
            "bucket": bucket,
            "key": key,
            "count": count,
            "change": change + place,
        }
        for place, ((window, bucket, key), count) in enumerate(grown.items())
    ]
    upsert(session, RateCountRow, ("source", "window", "bucket", "key"), rows)
    return len(grown)


def counts_since(
    session: Session, source: str, seen: int
) -> tuple[tuple[SourcedCount, ...], int, bool]:
    """Return what others counted since `seen`, what has been seen then, and if there is more."""
    last = last_number(session, CHANGES)
    if seen == last:
        return (), last, False
    row = RateCountRow
    columns = (col(row.source), col(row.window), col(row.bucket), col(row.key), col(row.count))
    statement = (
        select(*columns, col(row.change))
        .where(col(row.change) > (seen if seen < last else 0), col(row.source) != source)
        .order_by(col(row.change))
        .limit(MOST_COUNTS + 1)
    )
    rows = session.execute(statement).all()
    counts = tuple(
        SourcedCount(source=one, window=RateWindow(window), bucket=bucket, key=key, count=count)
        for one, window, bucket, key, count, _ in rows[:MOST_COUNTS]
    )
    has_more = len(rows) > MOST_COUNTS
    return counts, rows[MOST_COUNTS - 1][-1] if has_more else last, has_more


def prune_rate_counts(session: Session) -> int:
    """Delete buckets that no window looks at, some at once; return how many counts."""
    row = RateCountRow
    bucket = col(row.bucket)
    is_outside = or_(
        *(
            and_(col(row.window) == window.value, is_beyond)
            for window, kept in kept_buckets(read_clock_s(session)).items()
            for is_beyond in (bucket < kept.start, bucket >= kept.stop)
        )
    )
    changes = list(
        session.execute(select(col(row.change)).where(is_outside).limit(PRUNED_AT_ONCE)).scalars()
    )
    statement = delete(row).where(col(row.change).in_(changes))
    return session.connection().execute(statement).rowcount if changes else 0


def kept_buckets(now_s: float) -> dict[RateWindow, range]:
    """Return which buckets of each window are kept: up to the one after the present."""
    return {
        window: range(bucket_of(window, now_s - kept_s), bucket_of(window, now_s) + 2)
        for window, kept_s in KEPT_AFTER_S.items()
    }


def _read_own(session: Session, source: str, wanted: Mapping[_Key, int]) -> dict[_Key, int]:
    row = RateCountRow
    statement = select(col(row.window), col(row.bucket), col(row.key), col(row.count)).where(
        col(row.source) == source,
        col(row.window).in_({window for window, _, _ in wanted}),
        col(row.bucket).in_({bucket for _, bucket, _ in wanted}),
        col(row.key).in_({key for _, _, key in wanted}),
    )
    found = session.execute(statement).all() if wanted else []
    return {(window, bucket, key): count for window, bucket, key, count in found}
