"""Fixtures that several tiers share: both databases, empty or migrated.

Migrating takes longer than most tests: SQLite files are copied from one migrated file, PostgreSQL
tests share one migrated database that is emptied before each of them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy import inspect, text

from controlplane.store.engine import Database
from controlplane.store.policy_partitions import PARTITION_NAME
from controlplane.store.schema import migrate
from tests.fakes.postgres import PostgresServer

settings.register_profile(
    "any machine",
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],  # it measures the machine
)
settings.load_profile("any machine")
os.environ.setdefault("AIOSMTPD_CONTROLLER_TIMEOUT", "60")  # s; its own 5 are few


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """Give one real PostgreSQL server for the whole run."""
    server = PostgresServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Give the URL of a fresh, empty database: each test runs on both."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'empty.db'}"
    return str(request.getfixturevalue("postgres").create_database())


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a migrated SQLite file to copy from."""
    path = tmp_path_factory.mktemp("migrated") / "relay.db"
    opened = Database(f"sqlite:///{path}")
    migrate(opened)
    opened.close()
    return path


@pytest.fixture(scope="session")
def migrated_postgres(postgres: PostgresServer) -> str:
    """Give the URL of the migrated PostgreSQL database that tests share."""
    url = postgres.create_database()
    opened = Database(url)
    migrate(opened)
    opened.close()
    return url


@pytest.fixture
def sqlite_database(migrated_file: Path, tmp_path: Path) -> Iterator[Database]:
    """Give a migrated SQLite database of the test's own."""
    path = tmp_path / "relay.db"
    shutil.copyfile(migrated_file, path)
    opened = Database(f"sqlite:///{path}")
    yield opened
    opened.close()


@pytest.fixture
def postgres_database(migrated_postgres: str) -> Iterator[Database]:
    """Give the migrated PostgreSQL database, emptied."""
    opened = Database(migrated_postgres)
    names = set(inspect(opened.engine).get_table_names()) - {"alembic_version"}
    partitions = {name for name in names if PARTITION_NAME.fullmatch(name)}
    with opened.engine.begin() as connection:
        for name in partitions:  # another test's days
            connection.execute(text(f"DROP TABLE {name}"))
        tables = ", ".join(sorted(names - partitions))
        connection.execute(text(f"TRUNCATE {tables} RESTART IDENTITY"))
    yield opened
    opened.close()


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest) -> Database:
    """Give a migrated database of either kind: each test runs on both."""
    opened = request.getfixturevalue(f"{request.param}_database")
    assert isinstance(opened, Database)
    return opened


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the browser's tests last: Playwright keeps an event loop running in the main thread."""
    items.sort(key=lambda item: "browser" in item.path.parts)
