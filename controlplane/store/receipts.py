"""Receipts: who adopted which messages, in one order for the whole cluster (section 4.3).

The last receipt that names a queue id, of whatever queue, says who owns that message. All callers
run inside `Database.write()`, so receipts are numbered in the order in which they are committed,
and a reconcile in the same transaction has seen every receipt that can bind it.

Nothing of a receipt is ever deleted: a host may come back after any time, with any disk
(docs/adr/0009-receipts-are-never-pruned.md).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from sqlalchemy import ARRAY, Integer, Select, Text, func, insert, literal, select
from sqlmodel import Session, col

from controlplane.errors import Conflict
from controlplane.store.clock import read_clock_s
from controlplane.store.leases import Claim, is_held
from controlplane.store.ownership_tables import LeaseRow, ReceiptIdRow, ReceiptRow
from nodeagent.core.contract import (
    OwnedElsewhere,
    ReceiptAnswer,
    ReceiptKey,
    ReceiptQuestion,
    ReceiptRequest,
    ReceiptState,
)

NUMBERS_PER_QUERY = 1000


def commit_receipt(session: Session, node: str, request: ReceiptRequest) -> ReceiptAnswer:
    """Pass ownership of `request.ids` to `node`, if it holds that lease now; idempotent.

    What an earlier receipt gave to another node than the queue's own is left out: a third node's
    mirror may still hold a copy. UNKNOWN with a reason is final: this receipt can never be
    committed any more.
    """
    known = find_receipt(session, node, request.queue, request.generation)
    if known is not None:
        named = ids_of(session, known.number)
        if not named <= set(request.ids):
            raise Conflict(
                f"Receipt {known.number} was committed for this generation with other messages."
            )
        return _answer(known, set(request.ids) - named)
    claim = Claim(request.queue, node, request.generation)
    if request.queue == node or not is_claim_true(session, claim):
        return ReceiptAnswer(state=ReceiptState.UNKNOWN, reason=not_held(claim))
    excluded = {owned.id for owned in owned_elsewhere(session, request.queue, request.ids)}
    ids = set(request.ids) - excluded
    row = ReceiptRow(
        number=_last_number(session) + 1,
        queue=request.queue,
        generation=request.generation,
        holder=node,
        messages=len(ids),
        committed_at=read_clock_s(session),
    )
    session.add(row)
    session.flush()
    add_ids(session, row.number, ids)
    return _answer(row, excluded)


def read_state(session: Session, node: str, question: ReceiptQuestion) -> ReceiptAnswer:
    """Say what became of the node's receipt; UNKNOWN is final only when it comes with a reason."""
    known = find_receipt(session, node, question.queue, question.generation)
    if known is not None:
        return _answer(known)
    claim = Claim(question.queue, node, question.generation)
    reason = "" if is_claim_true(session, claim) else not_held(claim)
    return ReceiptAnswer(state=ReceiptState.UNKNOWN, reason=reason)


def finish_receipt(session: Session, node: str, question: ReceiptQuestion) -> ReceiptAnswer:
    """Note that the node has put every file of its receipt into its live queue; idempotent."""
    known = find_receipt(session, node, question.queue, question.generation)
    if known is None:
        return read_state(session, node, question)
    if not known.is_done:
        known.is_done = True
        known.done_at = read_clock_s(session)
        session.add(known)
        session.flush()
    return _answer(known)


def removable(session: Session, keys: Sequence[ReceiptKey], keep_s: float) -> tuple[int, ...]:
    """Return the numbers of those of `keys` that have been done for at least `keep_s`."""
    limit_s = read_clock_s(session) - keep_s
    rows = ((key, session.get(ReceiptRow, key.number)) for key in keys)
    return tuple(
        key.number
        for key, row in rows
        if row is not None
        and (row.holder, row.queue, row.generation) == (key.holder, key.queue, key.generation)
        and row.is_done
        and row.done_at is not None
        and row.done_at <= limit_s
    )


def find_receipt(session: Session, node: str, queue: str, generation: int) -> ReceiptRow | None:
    """Return the node's receipt for that queue and generation."""
    statement = (
        select(ReceiptRow)
        .where(
            col(ReceiptRow.queue) == queue,
            col(ReceiptRow.generation) == generation,
            col(ReceiptRow.holder) == node,
        )
        .order_by(col(ReceiptRow.number).desc())
        .limit(1)
    )
    return session.execute(statement).scalar_one_or_none()


def is_claim_true(session: Session, claim: Claim) -> bool:
    """Tell whether the node holds that lease, at that generation, unexpired, at this moment."""
    held = select(col(LeaseRow.queue)).where(is_held(claim))
    return session.execute(held).first() is not None


def owned_elsewhere(session: Session, node: str, ids: Sequence[str]) -> tuple[OwnedElsewhere, ...]:
    """Return those of `ids` that the last receipt naming them gives to another node."""
    statement = (
        select(col(ReceiptIdRow.id), func.max(col(ReceiptIdRow.number)))
        .where(col(ReceiptIdRow.id).in_(rows_of(session, ids)))
        .group_by(col(ReceiptIdRow.id))
    )
    numbers = dict(session.execute(statement).all())
    rows = _rows_by_number(session, set(numbers.values()))
    return tuple(
        OwnedElsewhere(
            id=name,
            receipt=number,
            owner=row.holder,
            queue=row.queue,
            generation=row.generation,
        )
        for name, number in numbers.items()
        if (row := rows[number]).holder != node
    )


def add_ids(session: Session, number: int, ids: Iterable[str]) -> None:
    """Name `ids` in the receipt; none of them may be named there already."""
    rows = rows_of(session, ids).subquery()
    named = select(rows.c[0], literal(number, Integer))
    session.execute(insert(ReceiptIdRow).from_select(["id", "number"], named))


def ids_of(session: Session, number: int) -> set[str]:
    """Return every queue id that the receipt names."""
    named = select(col(ReceiptIdRow.id)).where(col(ReceiptIdRow.number) == number)
    return set(session.execute(named).scalars())


def rows_of(session: Session, ids: Iterable[str]) -> Select[tuple[str]]:
    """Return `ids` as a one-column SELECT with a single parameter, however many there are."""
    names = sorted(set(ids))
    if session.get_bind().dialect.name == "sqlite":
        each = func.json_each(json.dumps(names)).table_valued("value")
        return select(each.c.value)
    return select(func.unnest(literal(names, ARRAY(Text))).column_valued("value"))


def _rows_by_number(session: Session, numbers: set[int]) -> dict[int, ReceiptRow]:
    statement = select(ReceiptRow)
    if len(numbers) <= NUMBERS_PER_QUERY:
        statement = statement.where(col(ReceiptRow.number).in_(sorted(numbers)))
    return {row.number: row for row in session.execute(statement).scalars()}


def _last_number(session: Session) -> int:
    return session.execute(select(func.max(col(ReceiptRow.number)))).scalar_one() or 0


def _answer(row: ReceiptRow, excluded: Iterable[str] = ()) -> ReceiptAnswer:
    state = ReceiptState.DONE if row.is_done else ReceiptState.COMMITTED
    return ReceiptAnswer(state=state, number=row.number, excluded=tuple(sorted(excluded)))


def not_held(claim: Claim) -> str:
    """Say in one sentence that the claim is not true."""
    return (
        f"{claim.node} does not hold the lease of {claim.queue}'s queue "
        f"at generation {claim.generation}."
    )
