"""Fixtures that several tiers share: both databases, empty or migrated."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from controlplane.store.engine import Database
from controlplane.store.schema import migrate
from tests.fakes.postgres import PostgresServer


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
        return f"sqlite:///{tmp_path / 'relay.db'}"
    return str(request.getfixturevalue("postgres").create_database())


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """Give a migrated database of either kind."""
    opened = Database(database_url)
    migrate(opened)
    yield opened
    opened.close()


@pytest.fixture
def sqlite_database(tmp_path: Path) -> Iterator[Database]:
    """Give a migrated SQLite database, for tests where the kind does not matter."""
    opened = Database(f"sqlite:///{tmp_path / 'relay.db'}")
    migrate(opened)
    yield opened
    opened.close()
