"""Bulk actions on messages: a fixed selection, handed to the nodes in pieces, counted at the end.

Theory of operation. An action's messages are chosen once, when it is asked for, a few thousand a
transaction: no heartbeat waits behind a big one. What can lose mail (`delete`) then waits for a
confirmation that names the count; everything else runs at once. A node that reports gets some of
what waits for it, and says what became of each message; what it did not answer for is handed out
again. An item's state changes once, from `waiting`: a repeated result changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import and_, delete, exists, func, insert, select, tuple_, update
from sqlmodel import Session, col

from controlplane.errors import Conflict, NotFound
from controlplane.store.clock import read_clock_s
from controlplane.store.queue_search import QueueFilter, conditions
from controlplane.store.queue_tables import QueueActionItemRow, QueueActionRow, QueueMessageRow
from controlplane.store.receipts import rows_of
from controlplane.store.reports import stored_text
from nodeagent.core.queue_contract import (
    ERROR_LENGTH,
    MOST_COMMAND_IDS,
    CommandResult,
    ItemState,
    QueueCommand,
    QueueVerb,
)

SELECTED_AT_ONCE: Final = 5000
FLUSHED_AT_ONCE: Final = 50  # postqueue(1) takes one message at a time
CONFIRM_WITHIN_S: Final = 3600.0
NEEDS_CONFIRMATION: Final = frozenset({QueueVerb.DELETE})


class ActionState(StrEnum):
    """How far an action has come."""

    SELECTING = "selecting"
    UNCONFIRMED = "unconfirmed"
    RUNNING = "running"
    FINISHED = "finished"
    CANCELLED = "cancelled"


ENDED: Final = (ActionState.FINISHED.value, ActionState.CANCELLED.value)


def begin_action(
    session: Session, verb: QueueVerb, selection: dict[str, Any], requested_by: str
) -> int:
    """Note that an action is wanted, with nothing selected yet; return its number."""
    row = QueueActionRow(
        verb=verb.value,
        state=ActionState.SELECTING.value,
        requested_by=requested_by,
        requested_at=read_clock_s(session),
        selection=selection,
    )
    session.add(row)
    session.flush()
    assert row.id is not None  # noqa: S101 - a stored row has its id
    return row.id


def select_matching(
    session: Session, action: int, wanted: QueueFilter, after: tuple[str, str] | None
) -> tuple[str, str] | None:
    """Select the next few thousand messages that match; return where to go on, None at the end."""
    row = session.get_one(QueueActionRow, action)
    if row.state != ActionState.SELECTING.value:  # withdrawn meanwhile
        return None
    node, queue_id = col(QueueMessageRow.node), col(QueueMessageRow.queue_id)
    meets = conditions(wanted, row.requested_at)
    # What arrived since is not what the operator saw.
    meets.append(col(QueueMessageRow.arrived_at) <= row.requested_at)
    if after is not None:
        meets.append(tuple_(node, queue_id) > tuple_(*after))
    keys = select(node, queue_id).where(and_(*meets)).order_by(node, queue_id)
    found = session.execute(keys.limit(SELECTED_AT_ONCE)).all()
    _add_items(session, row, [(one[0], one[1]) for one in found])
    return (found[-1][0], found[-1][1]) if len(found) == SELECTED_AT_ONCE else None


def select_named(session: Session, action: int, named: Sequence[tuple[str, str]]) -> None:
    """Select these (node, queue id); what is in no list is left out."""
    row = session.get_one(QueueActionRow, action)
    if row.state != ActionState.SELECTING.value:
        return
    known = []
    for node in sorted({one[0] for one in named}):
        ids = [queue_id for of, queue_id in named if of == node]
        queue_id = col(QueueMessageRow.queue_id)
        rows = select(queue_id).where(
            col(QueueMessageRow.node) == node, queue_id.in_(rows_of(session, ids))
        )
        known += [(node, one) for one in session.execute(rows).scalars()]
    _add_items(session, row, known)


def _add_items(session: Session, row: QueueActionRow, keys: list[tuple[str, str]]) -> None:
    if keys:
        state = ItemState.WAITING.value
        items = [
            {"action": row.id, "node": node, "queue_id": queue_id, "state": state}
            for node, queue_id in keys
        ]
        session.execute(insert(QueueActionItemRow), items)
    row.total += len(keys)
    session.add(row)
    session.flush()


def end_selection(session: Session, action: int) -> QueueActionRow:
    """Let it run, or wait for the confirmation; an action on nothing is finished.

    What was withdrawn while it was selected stays withdrawn.
    """
    row = session.get_one(QueueActionRow, action)
    if row.state != ActionState.SELECTING.value:
        return row
    needs = QueueVerb(row.verb) in NEEDS_CONFIRMATION
    row.state = (ActionState.UNCONFIRMED if needs else ActionState.RUNNING).value
    if not _has_waiting(session, action):
        _end(session, row, ActionState.FINISHED)
    session.add(row)
    session.flush()
    return row


def confirm_action(session: Session, action: int, count: int) -> QueueActionRow:
    """Let an action run that waits for it; raises `NotFound` or `Conflict`."""
    row = read_action(session, action)
    if row.state != ActionState.UNCONFIRMED.value:
        raise Conflict(f"Action {action} is {row.state}; there is nothing to confirm.")
    if row.requested_at < read_clock_s(session) - CONFIRM_WITHIN_S:
        raise Conflict(f"Action {action} was selected over an hour ago; select again.")
    if row.total != count:
        raise Conflict(f"Action {action} has {row.total} messages selected, not {count}.")
    row.state = ActionState.RUNNING.value
    session.add(row)
    session.flush()
    return row


def cancel_action(session: Session, action: int, reason: str) -> QueueActionRow:
    """Withdraw what was not done yet; raises `NotFound` or `Conflict`."""
    row = read_action(session, action)
    if row.state in ENDED:
        raise Conflict(f"Action {action} is {row.state} already.")
    session.execute(
        update(QueueActionItemRow)
        .where(
            col(QueueActionItemRow.action) == action,
            col(QueueActionItemRow.state) == ItemState.WAITING.value,
        )
        .values(state=ItemState.WITHDRAWN.value)
        .execution_options(synchronize_session=False)
    )
    _end(session, row, ActionState.CANCELLED)
    row.error = stored_text(reason, ERROR_LENGTH)
    session.add(row)
    session.flush()
    return row


def read_action(session: Session, action: int) -> QueueActionRow:
    """Return one action; raises `NotFound`."""
    row = session.get(QueueActionRow, action)
    if row is None:
        raise NotFound(f"There is no queue action {action}.")
    return row


def list_actions(session: Session, limit: int) -> list[QueueActionRow]:
    """Return the last actions, newest first."""
    statement = select(QueueActionRow).order_by(col(QueueActionRow.id).desc()).limit(limit)
    return list(session.execute(statement).scalars())


def count_items(session: Session, row: QueueActionRow) -> dict[str, dict[str, int]]:
    """Return, by node and state, how many messages of an action there are."""
    if row.counts is not None or row.id is None:
        return dict(row.counts or {})
    return _count_items(session, row.id)


def _count_items(session: Session, action: int) -> dict[str, dict[str, int]]:
    item = QueueActionItemRow
    statement = (
        select(col(item.node), col(item.state), func.count())
        .where(col(item.action) == action)
        .group_by(col(item.node), col(item.state))
    )
    found: dict[str, dict[str, int]] = {}
    for node, state, count in session.execute(statement).all():
        found.setdefault(node, {})[state] = count
    return found


def take_results(session: Session, node: str, results: Sequence[CommandResult]) -> None:
    """Note what a node did; what it has no more to do with, or did before, changes nothing."""
    for result in results:
        row = session.get(QueueActionRow, result.action)
        if row is None or row.state != ActionState.RUNNING.value:
            continue
        for state in {one.state for one in result.items}:
            ids = [one.id for one in result.items if one.state is state]
            _settle(session, node, result.action, ids, state)
        _note_error(row, node, result.error)
        if not _has_waiting(session, result.action):
            _end(session, row, ActionState.FINISHED)
            row.error = ""
        session.add(row)
    session.flush()


def _note_error(row: QueueActionRow, node: str, error: str) -> None:
    """Keep the last node's trouble until the same node has none."""
    prefix = f"{node}: "
    if error:
        row.error = stored_text(prefix + error, ERROR_LENGTH)
    elif row.error.startswith(prefix):
        row.error = ""


def _end(session: Session, row: QueueActionRow, state: ActionState) -> None:
    """Note how it ended, with the counts: nothing of them changes any more."""
    assert row.id is not None  # noqa: S101 - a stored row has its id
    row.state, row.finished_at = state.value, read_clock_s(session)
    row.counts = _count_items(session, row.id)


def _settle(session: Session, node: str, action: int, ids: list[str], state: ItemState) -> None:
    item = QueueActionItemRow
    session.execute(
        update(item)
        .where(
            col(item.action) == action,
            col(item.node) == node,
            col(item.state) == ItemState.WAITING.value,
            col(item.queue_id).in_(rows_of(session, ids)),
        )
        .values(state=state.value)
        .execution_options(synchronize_session=False)
    )


def _has_waiting(session: Session, action: int) -> bool:
    item = QueueActionItemRow
    waiting = (col(item.action) == action) & (col(item.state) == ItemState.WAITING.value)
    return bool(session.execute(select(exists().where(waiting))).scalar_one())


def commands_for(session: Session, node: str) -> tuple[QueueCommand, ...]:
    """Return the next piece of work for a node: some messages of its oldest running action."""
    item = QueueActionItemRow
    waits = (
        col(item.node) == node,
        col(item.state) == ItemState.WAITING.value,
    )
    oldest = session.execute(
        select(QueueActionRow)
        .where(
            col(QueueActionRow.state) == ActionState.RUNNING.value,
            exists().where(col(item.action) == col(QueueActionRow.id), *waits),
        )
        .order_by(col(QueueActionRow.id))
        .limit(1)
    ).scalar_one_or_none()
    if oldest is None or oldest.id is None:
        return ()
    verb = QueueVerb(oldest.verb)
    limit = FLUSHED_AT_ONCE if verb is QueueVerb.FLUSH else MOST_COMMAND_IDS
    ids = session.execute(
        select(col(item.queue_id))
        .where(col(item.action) == oldest.id, *waits)
        .order_by(col(item.queue_id))
        .limit(limit)
    ).scalars()
    return (QueueCommand(action=oldest.id, verb=verb, ids=tuple(ids)),)


def give_up_node(session: Session, node: str) -> None:
    """Take what still waits for a node that was struck off as not found."""
    item = QueueActionItemRow
    waits = (col(item.node) == node) & (col(item.state) == ItemState.WAITING.value)
    actions = list(session.execute(select(col(item.action)).where(waits).distinct()).scalars())
    session.execute(
        update(item)
        .where(waits)
        .values(state=ItemState.NOT_FOUND.value)
        .execution_options(synchronize_session=False)
    )
    for action in actions:
        row = session.get_one(QueueActionRow, action)
        is_selected = row.state not in {*ENDED, ActionState.SELECTING.value}
        if is_selected and not _has_waiting(session, action):
            _end(session, row, ActionState.FINISHED)
            session.add(row)
    session.flush()


def cancel_all(session: Session, reason: str) -> None:
    """Withdraw every action that has not ended."""
    row = QueueActionRow
    running = select(col(row.id)).where(col(row.state).not_in(ENDED))
    for action in list(session.execute(running).scalars()):
        cancel_action(session, action or 0, reason)


def prune_actions(session: Session, keep_days: int) -> int:
    """Delete an action that ended over `keep_days` ago, or that nobody confirmed; return how many.

    One at once: it may have 100,000 items.
    """
    now_s = read_clock_s(session)
    row = QueueActionRow
    abandoned = col(row.state).in_([ActionState.SELECTING.value, ActionState.UNCONFIRMED.value])
    old = session.execute(
        select(col(row.id))
        .where(
            (col(row.finished_at) < now_s - keep_days * 86400)
            | (abandoned & (col(row.requested_at) < now_s - CONFIRM_WITHIN_S))
        )
        .limit(1)
    ).scalar_one_or_none()
    if old is None:
        return 0
    session.execute(delete(QueueActionItemRow).where(col(QueueActionItemRow.action) == old))
    session.execute(delete(row).where(col(row.id) == old))
    return 1
