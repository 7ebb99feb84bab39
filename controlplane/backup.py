"""Backup and restore of the embedded database; a restored one waits for all nodes (section 4.9).

The keys beside the database are no part of a backup: `secret.key` opens what the database holds
sealed, `tls/ca.pem` is what the agents trust. Both never change, so one copy of them in a safe
place does for all backups.
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from controlplane.errors import Conflict, SetupFailed
from controlplane.settings import Settings
from controlplane.store.engine import Database, sqlite_file
from controlplane.store.instance import mark_restored
from controlplane.store.schema import migrate

SIDE_FILES = ("-wal", "-shm")
LOCK_SUFFIX = ".migrating"


def back_up(settings: Settings, target: Path) -> None:
    """Write a consistent copy of the running SQLite database to `target`, which must be new."""
    source = _embedded_file(
        settings, "Back up PostgreSQL with its own tool: pg_dump --format=custom."
    )
    if not source.exists():
        raise SetupFailed(f"There is no database at {source}.")
    try:
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except OSError as error:
        raise SetupFailed(f"{target} cannot be made: {error.strerror}.") from error
    try:
        _copy(source, target)
    except sqlite3.Error as error:
        target.unlink()
        raise SetupFailed(f"The backup failed: {error}.") from error


def restore(settings: Settings, source: Path) -> str:
    """Put a backup in place of the database, which stays beside it; return the new instance id."""
    target = _embedded_file(
        settings, "Restore PostgreSQL with pg_restore, then run `restore --adopt-database`."
    )
    _check(source)
    fresh = target.with_name(f"{target.name}.restoring")
    try:
        _remove(fresh)
        os.close(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        _copy(source, fresh)
        instance_id = _mark(f"sqlite:///{fresh}")
        _set_aside(target)
        fresh.rename(target)
        _remove(fresh)
    except (OSError, sqlite3.Error) as error:
        raise SetupFailed(f"The restore failed, the database is as it was: {error}.") from error
    return instance_id


def adopt_database(settings: Settings) -> str:
    """Mark a database that was restored by other means; return its new instance id."""
    return _mark(settings.database_url)


def _mark(url: str) -> str:
    database = Database(url)
    try:
        migrate(database)
        with database.write() as session:
            return mark_restored(session).instance_id
    finally:
        database.close()


def _embedded_file(settings: Settings, otherwise: str) -> Path:
    path = sqlite_file(settings.database_url)
    if path is None:
        raise Conflict(f"The database is not the embedded one. {otherwise}")
    return path


def _check(source: Path) -> None:
    if not source.is_file():
        raise SetupFailed(f"There is no backup at {source}.")
    try:
        with closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as connection:
            verdict = connection.execute("PRAGMA quick_check").fetchone()[0]
            connection.execute("SELECT instance_id FROM instance").fetchone()
    except sqlite3.Error as error:
        raise SetupFailed(f"{source} is not a backup of a control plane: {error}.") from error
    if verdict != "ok":
        raise SetupFailed(f"{source} is damaged: {verdict}.")


def _copy(source: Path, target: Path) -> None:
    with (
        closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as reading,
        closing(sqlite3.connect(target)) as writing,
    ):
        reading.backup(writing)
        writing.execute("PRAGMA journal_mode=DELETE")


def _set_aside(path: Path) -> None:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    for suffix in ("", *SIDE_FILES):
        file = path.with_name(path.name + suffix)
        if file.exists():
            file.rename(path.with_name(f"{path.name}.before-{stamp}{suffix}"))


def _remove(path: Path) -> None:
    for suffix in ("", *SIDE_FILES, LOCK_SUFFIX):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
