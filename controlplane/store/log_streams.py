"""How far each spool of a node's log has been taken in, for every kind of log that nodes ship.

A node numbers the entries of a spool and sends what is not acknowledged, however often it takes.
What is new of a batch is told by its numbers, in the transaction that stores it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy import BigInteger, Float
from sqlmodel import Field, Session, SQLModel

from controlplane.store.clock import read_clock_s
from controlplane.store.engine import Database
from controlplane.store.reports import add_event
from nodeagent.core.stream_wire import GAP, Batch, EntryT, StreamAnswer


class StreamColumns(SQLModel):
    """What is kept of one stream; written with what it brought."""

    node: str = Field(primary_key=True, max_length=63)
    stream: str = Field(primary_key=True, max_length=32)
    acknowledged: int = Field(sa_type=BigInteger)
    received_at: float = Field(sa_type=Float)


def take_new(
    session: Session, table: type[StreamColumns], node: str, batch: Batch[EntryT]
) -> tuple[list[EntryT], StreamAnswer]:
    """Return the entries that are new, and up to where the stream is acknowledged with them."""
    row = session.get(table, (node, batch.stream))
    if row is None:
        row = table(node=node, stream=batch.stream, acknowledged=0, received_at=0.0)
    new = [one.entry for one in batch.entries if one.number > row.acknowledged]
    row.acknowledged = max(row.acknowledged, *(one.number for one in batch.entries))
    row.received_at = read_clock_s(session)
    session.add(row)
    return new, StreamAnswer(acknowledged=row.acknowledged)


def note_gaps(session: Session, node: str, kind: str, entries: Sequence[EntryT]) -> list[EntryT]:
    """Return the entries but the gaps, each of which becomes an event of this kind."""
    for entry in entries:
        if entry.kind == GAP:
            data = {"lost": entry.lost, "at": entry.at}
            add_event(session, kind, f"{node}: {entry.text}", node=node, data=data)
    return [entry for entry in entries if entry.kind != GAP]


def in_parts(
    database: Database,
    lock: int,
    batch: Batch[EntryT],
    at_once: int,
    take: Callable[[Session, Batch[EntryT]], StreamAnswer],
) -> StreamAnswer:
    """Have `take` store a batch in transactions so short that heartbeats fit between them.

    Returns what `take` returned last.
    """
    answer = StreamAnswer(acknowledged=0)
    for start in range(0, len(batch.entries), at_once):
        part = batch.model_copy(update={"entries": batch.entries[start : start + at_once]})
        with database.write(lock, is_urgent=False) as session:
            answer = take(session, part)
    return answer
