"""Connections: one engine a process, short transactions, one writer at a time.

Theory of operation. All that changes state happens in `Database.write()`: on SQLite it is a
`BEGIN IMMEDIATE`, on PostgreSQL a transaction that first takes one advisory lock, so both databases
put all changes in one order and what a transaction has read stays true until it commits. `read()`
is one snapshot. Nothing slow (hashing passwords, rendering, network) belongs inside a `write()`:
every node's heartbeat waits behind it. Timeouts are short, because an agent would rather ask its
peers than wait for us (section 4.7 of the design).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, Request
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlmodel import Session

from controlplane.errors import SetupFailed, Unavailable
from controlplane.store.writer_turns import WriterTurns

BUSY_TIMEOUT_MS = 1500
"""How long a transaction waits for the one that writes.

Shorter than an agent waits for us: a heartbeat that is answered late was carried out for nobody. An
agent that hears "busy" asks again, or asks its peers, while its lease still holds.
"""
STATEMENT_TIMEOUT_MS = 8000
CONNECT_TIMEOUT_S = 3
POOL_TIMEOUT_S = 3
POOL_SIZE = 10
WRITE_LOCK = 0x52454C4159
"""The advisory lock of PostgreSQL that stands for SQLite's single writer."""

TRACE_LOCK = 0x5245545243
"""The same for the message trace: on PostgreSQL no heartbeat waits behind a batch of log lines."""

POLICY_LOCK = 0x52504F4C43
RATES_LOCK = 0x5252415445
"""The same for the mail policy, and for the counts of its rates."""
POLICY_LOG_LOCK = 0x52454C4F47
"""The same for the policy log."""


class Database:
    """One database: `read()` and `write()` hand out sessions, each in a transaction of its own."""

    def __init__(self, url: str) -> None:
        self.engine = make_engine(url)
        self._turns = WriterTurns(BUSY_TIMEOUT_MS / 1000) if self.is_sqlite else None

    @property
    def is_sqlite(self) -> bool:
        """Whether the embedded database is in use."""
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Give one consistent snapshot; nothing is committed."""
        with translated(), Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(
        self, lock: int = WRITE_LOCK, *more: int, is_urgent: bool = True
    ) -> Iterator[Session]:
        """Give the one writing transaction: committed at the end, rolled back by any exception.

        Transactions of another `lock` wait for their like only, and change no row of these; on
        SQLite all are the one writer, and those that are not urgent let the others go first. What
        changes rows of two takes WRITE_LOCK last: no heartbeat waits while it waits for the other.
        """
        writer = self.engine.execution_options(relay_writes=(lock, *more))
        turn = self._turns.turn(is_urgent=is_urgent) if self._turns else nullcontext()
        with turn, translated(), Session(writer, expire_on_commit=False) as session:
            session.connection()
            yield session
            session.commit()

    def close(self) -> None:
        """Close all idle connections."""
        self.engine.dispose()


def make_engine(url: str) -> Engine:
    """Return an engine for `sqlite:///FILE` or `postgresql+psycopg://...`."""
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise SetupFailed("RELAY_DATABASE_URL is not a database URL.") from error
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername == "postgresql+psycopg":
        return _make_postgresql(parsed)
    if parsed.drivername == "sqlite" and parsed.database and parsed.database != ":memory:":
        return _make_sqlite(parsed)
    raise SetupFailed(
        "RELAY_DATABASE_URL must begin with sqlite:/// and a file, or postgresql+psycopg://."
    )


def _make_sqlite(url: Any) -> Engine:
    engine = create_engine(
        url,
        pool_size=POOL_SIZE,
        pool_timeout=POOL_TIMEOUT_S,
        connect_args={"timeout": BUSY_TIMEOUT_MS / 1000, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, record: Any) -> None:
        del record
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("relay_writes") is not None
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _make_postgresql(url: Any) -> Engine:
    engine = create_engine(
        url,
        pool_size=POOL_SIZE,
        pool_timeout=POOL_TIMEOUT_S,
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT_S,
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 2,
            "tcp_user_timeout": STATEMENT_TIMEOUT_MS,
            "options": f"-c statement_timeout={STATEMENT_TIMEOUT_MS}"
            f" -c lock_timeout={BUSY_TIMEOUT_MS} -c idle_in_transaction_session_timeout=30000",
        },
    )

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        locks = connection.get_execution_options().get("relay_writes", ())
        for lock in locks:
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": lock})
        if not locks:
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")

    return engine


@contextmanager
def translated() -> Iterator[None]:
    """Turn driver errors into ours once; what violates a constraint stays the caller's to judge."""
    try:
        yield
    except IntegrityError:
        raise
    except DBAPIError as error:
        raise Unavailable(f"The database refused: {_first_line(error)}.") from error
    except SQLAlchemyError as error:
        raise Unavailable("The database did not answer in time; try again.") from error


def _first_line(error: DBAPIError) -> str:
    lines = str(error.orig).splitlines() or ["no reason given"]
    return lines[0].rstrip(".")


def sqlite_file(url: str) -> Path | None:
    """Return the file behind a SQLite URL, None for another database."""
    parsed = make_url(url)
    if parsed.drivername == "sqlite" and parsed.database:
        return Path(parsed.database)
    return None


def get_database(request: Request) -> Database:
    """Give an endpoint the application's database."""
    database = request.app.state.database
    if not isinstance(database, Database):
        raise SetupFailed("The application was started without a database.")
    return database


async def _database(request: Request) -> Database:
    """Do the same without a change of thread, which costs more than the look."""
    return get_database(request)


DatabaseDep = Annotated[Database, Depends(_database)]


def _read_session(database: DatabaseDep) -> Iterator[Session]:
    with database.read() as session:
        yield session


ReadSession = Annotated[Session, Depends(_read_session, scope="function")]
"""An endpoint's session on one snapshot."""


def _write_session(database: DatabaseDep) -> Iterator[Session]:
    with database.write() as session:
        yield session


WriteSession = Annotated[Session, Depends(_write_session, scope="function")]
"""An endpoint's writing session; it is committed before the answer is sent."""
