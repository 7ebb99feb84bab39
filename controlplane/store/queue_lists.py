"""Takes in the nodes' lists of their queues, batch by batch, each in one short transaction.

Theory of operation. A node's list is kept as it last told it, also while the node is away. A new
session sends the whole list again; until it is through, the old one stays, and then what the new
session did not name is dropped. A message that two nodes list belongs to the one that the last
receipt names (section 4.3 of the design): the other one's line is dropped, and what an operator
wants done with the message goes to its new owner.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy import delete, insert, select
from sqlmodel import Session, col

from controlplane.store.clock import read_clock_s
from controlplane.store.queue_tables import QueueActionItemRow, QueueListRow, QueueMessageRow
from controlplane.store.receipts import owned_elsewhere, rows_of
from controlplane.store.reports import stored_text
from controlplane.store.upserts import upsert
from nodeagent.core.names import is_queue_id
from nodeagent.core.queue_contract import HOST_LENGTH, ItemState, QueuedMessage, QueueReport

_KEYS: Final = ("node", "queue_id")


def store_batch(session: Session, node: str, report: QueueReport) -> bool:
    """Take in one batch; return False when batches are missing and nothing was taken in.

    The same batch again changes nothing.
    """
    row = session.get(QueueListRow, node)
    if not _is_expected(row, report):
        return False
    now_s = read_clock_s(session)
    if row is None:
        row = QueueListRow(node=node, session=report.session, sequence=0, reported_at=now_s)
    if row.session != report.session:
        row.session, row.is_complete = report.session, False
    row.sequence, row.reported_at = report.sequence, now_s
    _store_messages(session, node, report)
    _remove(session, node, report.removals)
    if report.is_complete:
        if not row.is_complete:
            _drop_older_sessions(session, node, report.session)
        row.is_complete = True
        row.listed_at = now_s - report.scan_age_s
    session.add(row)
    session.flush()
    return True


def _is_expected(row: QueueListRow | None, report: QueueReport) -> bool:
    if row is None or row.session != report.session:
        return report.sequence == 1
    return report.sequence in {row.sequence, row.sequence + 1}


def _store_messages(session: Session, node: str, report: QueueReport) -> None:
    ids = [message.id for message in report.upserts]
    if not ids:
        return
    elsewhere = {one.id for one in owned_elsewhere(session, node, ids)}
    own = {one.id: one for one in report.upserts if one.id not in elsewhere}
    if not own:
        return
    _take_from_others(session, node, list(own))
    rows = [_values(node, report.session, one) for one in own.values()]
    upsert(session, QueueMessageRow, _KEYS, rows)


def _take_from_others(session: Session, node: str, ids: Sequence[str]) -> None:
    """Drop the lines that other nodes have for these messages, and bring what is to be done.

    Short ids, of mail from before the relay, are no names beyond their node.
    """
    ids = [one for one in ids if is_queue_id(one)]
    message_id, item_id = col(QueueMessageRow.queue_id), col(QueueActionItemRow.queue_id)
    session.execute(
        delete(QueueMessageRow)
        .where(message_id.in_(rows_of(session, ids)), col(QueueMessageRow.node) != node)
        .execution_options(synchronize_session=False)
    )
    moved = session.execute(
        delete(QueueActionItemRow)
        .where(
            item_id.in_(rows_of(session, ids)),
            col(QueueActionItemRow.node) != node,
            col(QueueActionItemRow.state) == ItemState.WAITING.value,
        )
        .returning(col(QueueActionItemRow.action), item_id)
        .execution_options(synchronize_session=False)
    ).all()
    known = _items(session, node, {queue_id for _action, queue_id in moved})
    fresh = [
        {"action": action, "node": node, "queue_id": one, "state": ItemState.WAITING.value}
        for action, one in set(map(tuple, moved)) - known
    ]
    if fresh:
        session.execute(insert(QueueActionItemRow), fresh)


def _items(session: Session, node: str, ids: Iterable[str]) -> set[tuple[Any, ...]]:
    statement = select(col(QueueActionItemRow.action), col(QueueActionItemRow.queue_id)).where(
        col(QueueActionItemRow.node) == node,
        col(QueueActionItemRow.queue_id).in_(rows_of(session, ids)),
    )
    return set(map(tuple, session.execute(statement).all()))


def _remove(session: Session, node: str, ids: Sequence[str]) -> None:
    if ids:
        session.execute(
            delete(QueueMessageRow)
            .where(
                col(QueueMessageRow.node) == node,
                col(QueueMessageRow.queue_id).in_(rows_of(session, ids)),
            )
            .execution_options(synchronize_session=False)
        )


def _drop_older_sessions(session: Session, node: str, current: str) -> None:
    session.execute(
        delete(QueueMessageRow)
        .where(col(QueueMessageRow.node) == node, col(QueueMessageRow.session) != current)
        .execution_options(synchronize_session=False)
    )


def forget_list(session: Session, node: str) -> None:
    """Drop the list of a node that is no part of the cluster any more."""
    session.execute(delete(QueueMessageRow).where(col(QueueMessageRow.node) == node))
    session.execute(delete(QueueListRow).where(col(QueueListRow.node) == node))


def _values(node: str, run: str, message: QueuedMessage) -> dict[str, Any]:
    recipients = [_line(one) for one in message.recipients]
    hop = message.next_hop
    domains = {one.rpartition("@")[2].lower() for one in recipients if "@" in one}
    return {
        "node": node,
        "queue_id": message.id,
        "session": run,
        "queue": message.queue.value,
        "arrived_at": message.arrived_at,
        "size_bytes": message.size_bytes,
        "sender": _line(message.sender),
        "recipients": "\n".join(recipients),
        "recipient_count": message.recipient_count,
        "domains": "".join(f"\n{one}\n" for one in sorted(domains)),
        "next_hop": None if hop is None else _line(hop).lower()[:HOST_LENGTH],
        "reason": _line(message.reason),
    }


def _line(text: str) -> str:
    """Return what a stranger wrote without what would end a line or a string in the database."""
    return " ".join(stored_text(text, len(text)).splitlines())
