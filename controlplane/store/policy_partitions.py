"""Partitions of the policy log on PostgreSQL: one a day and table, made ahead, dropped when old.

SQLite has none: there old entries are deleted from the beginning of the tables, where the numbers
begin. All of it runs under `POLICY_LOG_LOCK`, so instances never make or drop the same at once.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import delete, select, text
from sqlmodel import Session, col

from controlplane.store.clock import SECONDS_A_DAY, read_clock_s
from controlplane.store.policy_log_tables import (
    PolicyConnectionRow,
    PolicyMessageRow,
    PolicyThreatRow,
)

DAYS_AHEAD: Final = 3
ROWS_AT_ONCE: Final = 1000
PARTITIONED: Final = (PolicyMessageRow, PolicyThreatRow, PolicyConnectionRow)
PARTITION_NAME: Final = re.compile(
    r"(policy_log_messages|policy_log_threats|policy_log_connections)_([0-9]{8})"
)


def today(session: Session) -> int:
    """Return the day that it is by the database's clock, in days since 1970."""
    return int(read_clock_s(session) // SECONDS_A_DAY)


def ensure_partitions(session: Session, first: int, days: int = 1) -> None:
    """Make the partitions of some days where they are missing."""
    if not _is_partitioned(session):
        return
    for day in range(first, first + days):
        for table in PARTITIONED:
            name = partition_name(table.__tablename__, day)
            known = text("SELECT to_regclass(:name)")
            if session.execute(known, {"name": name}).scalar_one() is None:
                made = f"CREATE TABLE IF NOT EXISTS {name} PARTITION OF {table.__tablename__}"
                session.execute(text(f"{made} FOR VALUES FROM ({day}) TO ({day + 1})"))


def partition_name(table: str, day: int) -> str:
    """Return the name of a table's partition: `policy_log_messages_20260131`."""
    return f"{table}_{datetime.fromtimestamp(day * SECONDS_A_DAY, UTC):%Y%m%d}"


def drop_days_before(session: Session, table: Any, first_kept: int) -> int:
    """Delete what arrived before that day, a piece at once; return how many pieces or rows."""
    if _is_partitioned(session):
        return _drop_oldest_partition(session, table.__tablename__, first_kept)
    oldest = select(col(table.number), col(table.day)).order_by(col(table.number))
    piece = oldest.limit(ROWS_AT_ONCE).subquery()
    old = select(piece.c.number).where(piece.c.day < first_kept)
    done = delete(table).where(col(table.number).in_(old))
    return session.connection().execute(done).rowcount


def _drop_oldest_partition(session: Session, table: str, first_kept: int) -> int:
    children = text(
        "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
        " WHERE i.inhparent = to_regclass(:name) ORDER BY c.relname"
    )
    kept = partition_name(table, first_kept)
    for name in session.execute(children, {"name": table}).scalars():
        if PARTITION_NAME.fullmatch(name) and name < kept:
            session.execute(text(f"DROP TABLE IF EXISTS {name}"))
            return 1
    return 0


def _is_partitioned(session: Session) -> bool:
    return session.get_bind().dialect.name == "postgresql"
