"""Migrations: complete, repeatable, and safe when several instances start at once."""

from __future__ import annotations

import subprocess
import sys

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text
from sqlmodel import SQLModel

from controlplane.errors import SetupFailed
from controlplane.store import cluster_tables, ownership_tables, user_tables
from controlplane.store.engine import Database
from controlplane.store.schema import is_current, migrate

TABLES = (cluster_tables, ownership_tables, user_tables)

MIGRATE = """
import sys
from controlplane.store.engine import Database
from controlplane.store.schema import migrate
migrate(Database(sys.argv[1]))
"""


def test_migrations_make_what_the_models_describe(database: Database) -> None:
    """A migrated database differs from the SQLModel tables in nothing that alembic can see."""
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, SQLModel.metadata) == []
        assert is_current(connection)


def test_migrating_twice_changes_nothing(database: Database) -> None:
    """A second start finds nothing to do."""
    before = set(inspect(database.engine).get_table_names())
    migrate(database)
    assert set(inspect(database.engine).get_table_names()) == before


def test_an_empty_database_is_not_current(database_url: str) -> None:
    """Before the first start the schema is known to be missing."""
    with Database(database_url).engine.connect() as connection:
        assert not is_current(connection)


def test_several_processes_starting_together_all_succeed(database_url: str) -> None:
    """Four processes migrate one empty database at the same time; each ends well."""
    command = [sys.executable, "-c", MIGRATE, database_url]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    errors = [process.communicate(timeout=120)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0, 0, 0], errors
    with Database(database_url).engine.connect() as connection:
        assert is_current(connection)


def test_a_database_from_a_newer_program_is_refused(database_url: str) -> None:
    """An unknown revision stops the start with one sentence."""
    database = Database(database_url)
    migrate(database)
    with database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SetupFailed, match="newer version"):
        migrate(database)


def test_an_unreachable_database_is_one_sentence() -> None:
    """A server that does not answer is a setup error, not a traceback."""
    database = Database("postgresql+psycopg://relay@127.0.0.1:1/none")
    with pytest.raises(SetupFailed, match="cannot be used"):
        migrate(database)
