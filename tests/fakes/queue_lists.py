"""The nodes' lists and the actions on them as a node and an operator see them."""

from __future__ import annotations

from typing import Any

from controlplane.store import queue_actions as actions
from controlplane.store.engine import Database
from controlplane.store.queue_lists import store_batch
from controlplane.store.queue_search import QueueFilter, find_messages
from nodeagent.core.queue_contract import (
    CommandResult,
    ItemResult,
    ItemState,
    QueuedMessage,
    QueueName,
    QueueReport,
    QueueVerb,
)

NOW_S = 1_795_000_000.0


def queue_id(number: int) -> str:
    """Return a long queue id."""
    digits = "0123456789BCDFGHJKLMNPQRSTVWXYZ"
    tail = "".join(digits[number // 31**place % 31] for place in range(4))
    return f"4jWm8M3632z{tail}"


def message(number: int, **content: Any) -> QueuedMessage:
    """Return a deferred message."""
    values = {
        "id": queue_id(number),
        "queue": QueueName.DEFERRED,
        "arrived_at": NOW_S + number,
        "size_bytes": 300,
        "sender": "a@from.test",
        "recipients": ("b@to.test",),
        "recipient_count": 1,
    }
    return QueuedMessage(**(values | content))


def batch(*messages: QueuedMessage, **content: Any) -> QueueReport:
    """Return a node's only batch."""
    values = {"session": "one", "sequence": 1, "is_complete": True, "scan_age_s": 1.0}
    return QueueReport(**(values | {"upserts": messages} | content))


def store(database: Database, node: str, report: QueueReport) -> bool:
    """Take in a batch."""
    with database.write() as session:
        return store_batch(session, node, report)


def ids(database: Database, **wanted: Any) -> list[str]:
    """Return what a filter finds, oldest first, as node/id."""
    with database.read() as session:
        page = find_messages(
            session, QueueFilter(**wanted), after=None, limit=100, is_oldest_first=True
        )
    assert page.total == len(page.rows)
    return [f"{row.node}/{row.queue_id}" for row in page.rows]


def lines(*numbers: int, node: str = "node-a") -> list[str]:
    """Return how `ids` shows messages."""
    return [f"{node}/{queue_id(number)}" for number in numbers]


def start(database: Database, verb: QueueVerb, **wanted: Any) -> int:
    """Select all that match and let it run or wait for its confirmation."""
    with database.write() as session:
        action = actions.begin_action(session, verb, {"filter": wanted}, "olga")
        assert actions.select_matching(session, action, QueueFilter(**wanted), None) is None
        actions.end_selection(session, action)
    return action


def work(database: Database, node: str) -> list[tuple[int, str, tuple[str, ...]]]:
    """Return what a node is asked to do."""
    with database.write() as session:
        return [
            (one.action, one.verb.value, one.ids) for one in actions.commands_for(session, node)
        ]


def finish(
    database: Database, node: str, action: int, state: ItemState, *numbers: int, error: str = ""
) -> None:
    """Say what a node did."""
    items = tuple(ItemResult(id=queue_id(number), state=state) for number in numbers)
    with database.write() as session:
        result = CommandResult(action=action, items=items, error=error)
        actions.take_results(session, node, [result])


def outcome(database: Database, action: int) -> tuple[str, dict[str, dict[str, int]]]:
    """Return an action's state and its counts."""
    with database.read() as session:
        row = actions.read_action(session, action)
        return row.state, actions.count_items(session, row)
