"""Rows that are stored whether or not they were there before: one statement on both databases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import JSON, Connection, Table, insert
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, SQLModel


def upsert(
    session: Session,
    table: type[SQLModel],
    keys: Sequence[str],
    rows: Sequence[dict[str, Any]],
    *,
    owner: str | None = None,
) -> None:
    """Insert `rows`, all of the same columns; where `keys` are taken, the other columns change.

    With `owner`, a column, a row that is there changes only where the new one has the same owner.
    """
    if not rows:
        return
    statement = _insert(session, table)
    news = {name: statement.excluded[name] for name in rows[0] if name not in keys}
    is_own = None if owner is None else getattr(table, owner) == statement.excluded[owner]
    done = statement.on_conflict_do_update(index_elements=keys, set_=news, where=is_own)
    session.execute(done, rows)


def add_up(
    session: Session,
    table: type[SQLModel],
    keys: Sequence[str],
    rows: Sequence[dict[str, Any]],
) -> None:
    """Insert `rows`, all of the same columns; where `keys` are taken, the others are added."""
    if not rows:
        return
    statement = _insert(session, table)
    sums = {
        name: getattr(table, name) + statement.excluded[name]
        for name in rows[0]
        if name not in keys
    }
    session.execute(statement.on_conflict_do_update(index_elements=keys, set_=sums), rows)


def insert_rows(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows of the same columns as the driver takes them, which is twice as fast.

    For columns of plain texts, numbers and truth values: nothing is converted.
    """
    columns = [column for column in table.columns if column.name in rows[0]]
    if any(isinstance(column.type, JSON) for column in columns):
        connection.execute(insert(table), list(rows))
        return
    compiled = insert(table).compile(
        dialect=connection.dialect, column_keys=[column.name for column in columns]
    )
    names = compiled.positiontup
    values = [tuple(row[name] for name in names) for row in rows] if names else list(rows)
    connection.exec_driver_sql(str(compiled), values)


def _insert(session: Session, table: type[SQLModel]) -> Any:
    is_postgresql = session.get_bind().dialect.name == "postgresql"
    return (postgresql.insert if is_postgresql else sqlite.insert)(table)
