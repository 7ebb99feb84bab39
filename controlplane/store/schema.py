"""Brings a database to the newest schema, safely when several instances start together.

On PostgreSQL one advisory lock, on SQLite an exclusive lock file beside the database, lets one
process migrate while the others wait; they then find nothing left to do.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from controlplane.errors import SetupFailed
from controlplane.store.engine import Database, sqlite_file

MIGRATIONS = Path(__file__).parent / "migrations"
MIGRATION_LOCK = 0x52454C4D49
LOCK_WAIT_S = 60.0
LOCK_POLL_S = 0.1


def migrate(database: Database) -> None:
    """Run all missing migrations; waits while another instance does so."""
    try:
        with _migration_lock(database), database.engine.connect() as connection:
            configuration = _configuration()
            configuration.attributes["connection"] = connection
            command.upgrade(configuration, "head")
            connection.commit()
    except DBAPIError as error:
        raise SetupFailed(f"The database cannot be used: {error.orig}") from error
    except CommandError as error:
        raise SetupFailed(
            f"The database was made by a newer version of this program ({error})."
        ) from error


def is_current(connection: Connection) -> bool:
    """Tell whether the database has the schema that this program was built for."""
    return MigrationContext.configure(connection).get_current_revision() == newest_migration()


@cache
def newest_migration() -> str:
    """Return the schema that this program was built for."""
    newest = ScriptDirectory.from_config(_configuration()).get_current_head()
    assert newest is not None  # noqa: S101 - the package has migrations
    return newest


def _configuration() -> Config:
    configuration = Config()
    configuration.set_main_option("script_location", str(MIGRATIONS))
    return configuration


@contextmanager
def _migration_lock(database: Database) -> Iterator[None]:
    file = sqlite_file(str(database.engine.url))
    if file is not None:
        with _locked_file(file.with_name(file.name + ".migrating")):
            yield
        return
    with database.engine.connect() as connection:
        _lock_postgresql(connection)
        yield


def _lock_postgresql(connection: Connection) -> None:
    statement = text("SELECT pg_try_advisory_xact_lock(:lock)")
    _wait_for(lambda: bool(connection.execute(statement, {"lock": MIGRATION_LOCK}).scalar_one()))


@contextmanager
def _locked_file(path: Path) -> Iterator[None]:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise SetupFailed(f"{path.parent} cannot be written: {error.strerror}.") from error
    try:
        _wait_for(lambda: _try_lock(descriptor))
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait_for(is_locked: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + LOCK_WAIT_S
    while not is_locked():
        if time.monotonic() > deadline_s:
            raise SetupFailed("Another instance has been migrating the database for too long.")
        time.sleep(LOCK_POLL_S)
