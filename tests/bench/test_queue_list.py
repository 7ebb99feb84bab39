"""What 100,000 listed messages cost: taking them in, a page, a filter, an action on all of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from controlplane.api.queue_actions import ActionBody, start_action
from controlplane.store.audit import Actor
from controlplane.store.engine import Database
from controlplane.store.queue_lists import store_batch
from controlplane.store.queue_search import QueueFilter, find_messages
from nodeagent.core.queue_contract import (
    MOST_UPSERTS,
    QueuedMessage,
    QueueName,
    QueueReport,
    QueueVerb,
)

pytestmark = [pytest.mark.bench, pytest.mark.timeout(900)]

MESSAGES = 100_000
TIMES = 5
FILTERS: dict[str, dict[str, Any]] = {
    "no filter": {},
    "node": {"node": "node-a"},
    "domain": {"domain": "domain77.test"},
    "part of the sender": {"sender": "user99999"},
    "part of the recipient": {"recipient": "@domain12"},
    "part of the reason": {"reason": "greylisted"},
    "queue and age": {"queue": "deferred", "older_than_s": 60},
}


def message(number: int) -> QueuedMessage:
    """Return one of many messages."""
    domain = f"domain{number % 500}.test"
    return QueuedMessage(
        id=f"4jWm{number:06d}",
        queue=QueueName.HOLD if number % 50 == 0 else QueueName.DEFERRED,
        arrived_at=1_700_000_000 + number,
        size_bytes=1000 + number,
        sender=f"user{number}@from.test",
        recipients=(f"to{number}@{domain}",),
        recipient_count=1,
        next_hop=f"mx.{domain}",
        reason=f"host mx.{domain} said: 451 greylisted" if number % 9 else "Connection timed out",
    )


def took_s(action: Callable[[], object]) -> float:
    """Return the seconds that one call takes."""
    began_s = time.perf_counter()
    action()
    return time.perf_counter() - began_s


def test_a_list_of_a_hundred_thousand_messages(database: Database) -> None:
    """Printed: slowest batch, median of five first pages a filter, one hold of everything."""
    kind = "SQLite" if database.is_sqlite else "PostgreSQL"
    batches = []
    for sequence, first in enumerate(range(0, MESSAGES, MOST_UPSERTS), 1):
        messages = tuple(message(number) for number in range(first, first + MOST_UPSERTS))
        report = QueueReport(
            session="one",
            sequence=sequence,
            upserts=messages,
            is_complete=first + MOST_UPSERTS == MESSAGES,
            scan_age_s=0,
        )
        batches.append(took_s(partial(_store, database, report)))
    print(f"\n{kind}: {MESSAGES} taken in: {sum(batches):.1f} s, worst batch {max(batches):.3f} s")
    for name, wanted in FILTERS.items():
        find = partial(_find, database, wanted)
        times = sorted(took_s(find) for _ in range(TIMES))
        print(f"{kind}: {name}: {find()} found, {1000 * times[TIMES // 2]:.0f} ms")
    body = ActionBody(verb=QueueVerb.HOLD, filter=QueueFilter())
    held_s = took_s(lambda: start_action(database, Actor("bench"), body))
    print(f"{kind}: all selected for an action: {held_s:.1f} s")


def _store(database: Database, report: QueueReport) -> None:
    with database.write() as session:
        assert store_batch(session, "node-a", report)


def _find(database: Database, wanted: dict[str, Any]) -> int:
    with database.read() as session:
        page = find_messages(
            session, QueueFilter(**wanted), after=None, limit=50, is_oldest_first=False
        )
        return page.total
