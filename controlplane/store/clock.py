"""The database's clock as one SQL expression: the only clock that leases know.

`database_now()` is seconds since 1970 as a float, on both databases. On SQLite it stands still
within one statement (milliseconds); on PostgreSQL it is the wall clock even inside a transaction
that waited for a lock, which `now()` would not be.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Float, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import FunctionElement
from sqlmodel import Session

JULIAN_DAY_OF_1970 = 2440587.5
SECONDS_A_DAY = 86400.0


class database_now(FunctionElement[float]):  # noqa: N801 - reads as the SQL function it is
    """Seconds since 1970 by the database's own clock."""

    name = "database_now"
    type = Float()
    inherit_cache = True


@compiles(database_now, "sqlite")
def _now_sqlite(element: Any, compiler: Any, **options: Any) -> str:
    del element, compiler, options
    return f"((julianday('now') - {JULIAN_DAY_OF_1970}) * {SECONDS_A_DAY})"


@compiles(database_now, "postgresql")
def _now_postgresql(element: Any, compiler: Any, **options: Any) -> str:
    del element, compiler, options
    return "CAST(extract(epoch from clock_timestamp()) AS double precision)"


def read_clock_s(session: Session) -> float:
    """Return the database's time in seconds since 1970."""
    return float(session.execute(select(database_now())).scalar_one())
