"""Transactions: one writer at a time, snapshots to read from, errors translated once."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from controlplane.errors import Conflict, SetupFailed, Unavailable
from controlplane.settings import Settings
from controlplane.store.clock import read_clock_s
from controlplane.store.engine import BUSY_TIMEOUT_MS, Database
from controlplane.store.leases import ensure_lease
from controlplane.store.ownership_tables import LeaseRow


def generation(database: Database) -> int:
    """Read node-a's generation in a transaction of its own."""
    with database.read() as session:
        row = session.get(LeaseRow, "node-a")
        return row.generation if row is not None else -1


def test_writers_stand_in_line(database: Database) -> None:
    """Twenty threads that read, wait and write lose no update."""
    with database.write() as session:
        start = ensure_lease(session, "node-a").generation

    def add_one() -> None:
        with database.write() as session:
            row = session.get_one(LeaseRow, "node-a")
            seen = row.generation
            time.sleep(0.005)
            row.generation = seen + 1
            session.add(row)

    threads = [threading.Thread(target=add_one) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert generation(database) == start + 20


def test_a_reader_keeps_its_snapshot(database: Database) -> None:
    """What was read once in a transaction does not change under it."""
    with database.write() as session:
        start = ensure_lease(session, "node-a").generation
    count = text("SELECT generation FROM leases WHERE queue = 'node-a'")
    with database.read() as reader:
        before = reader.execute(count).scalar_one()
        with database.write() as session:
            session.get_one(LeaseRow, "node-a").generation = start + 5
        assert reader.execute(count).scalar_one() == before == start
    assert generation(database) == start + 5


def test_readers_do_not_wait_for_a_writer(database: Database) -> None:
    """A long write holds up no read."""
    with database.write() as session:
        ensure_lease(session, "node-a")
        session.flush()
        assert generation(database) == -1


def test_an_exception_rolls_back(database: Database) -> None:
    """Nothing of a refused change stays."""

    def change_and_refuse() -> None:
        with database.write() as session:
            ensure_lease(session, "node-a")
            raise Conflict

    with pytest.raises(Conflict):
        change_and_refuse()
    assert generation(database) == -1


def test_a_constraint_stays_the_callers_to_judge(database: Database) -> None:
    """A duplicate row is an IntegrityError, not an unavailable database."""
    insert = text("INSERT INTO receipt_ids (id, number) VALUES ('x', 1)")
    with database.write() as session:
        session.execute(insert)
    with pytest.raises(IntegrityError), database.write() as session:
        session.execute(insert)


def test_a_broken_statement_is_unavailable_in_one_line(database: Database) -> None:
    """Driver errors leave as one sentence of ours."""
    with pytest.raises(Unavailable) as refused, database.read() as session:
        session.execute(text("SELECT * FROM nowhere"))
    assert "\n" not in refused.value.detail


@pytest.mark.parametrize("busy_timeout_ms", [BUSY_TIMEOUT_MS])
def test_a_held_write_lock_is_not_waited_for_long(database: Database) -> None:
    """An agent is told within seconds that the database is busy."""
    begun_s = time.monotonic()
    with database.write() as session:
        ensure_lease(session, "node-a")
        with pytest.raises(Unavailable), database.write():
            pass
    assert 1.0 < time.monotonic() - begun_s < 8.0


def test_the_database_clock_is_the_time(database: Database) -> None:
    """Both databases count seconds since 1970, to the millisecond."""
    before_s = time.time()
    with database.read() as session:
        read_s = read_clock_s(session)
    assert before_s - 0.1 < read_s < time.time() + 0.1


def test_the_database_clock_moves_inside_a_transaction(database: Database) -> None:
    """A transaction that waited for a lock does not see the time at which it began."""
    with database.read() as session:
        first_s = read_clock_s(session)
        time.sleep(0.05)
        assert read_clock_s(session) >= first_s + 0.04


@pytest.mark.parametrize("url", ["nonsense", "mysql://root@localhost/x", "sqlite://", "sqlite:///"])
def test_an_unusable_url_is_one_sentence(url: str) -> None:
    """Only the two supported databases are accepted."""
    with pytest.raises(SetupFailed, match="RELAY_DATABASE_URL"):
        Database(url)


def test_a_plain_postgresql_url_means_psycopg() -> None:
    """An operator need not know the driver's name."""
    database = Database("postgresql://relay@127.0.0.1:1/none")
    assert database.engine.dialect.driver == "psycopg"


def test_an_unreachable_server_is_unavailable_soon() -> None:
    """A database that is gone costs an agent no more than seconds."""
    begun_s = time.monotonic()
    database = Database("postgresql+psycopg://relay@127.0.0.1:1/none")
    with pytest.raises(Unavailable), database.read() as session:
        session.execute(text("SELECT 1"))
    assert time.monotonic() - begun_s < 5.0


def test_the_default_database_is_a_file_in_the_state_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No service has to be started for the embedded default."""
    monkeypatch.delenv("RELAY_DATABASE_URL", raising=False)
    settings = Settings(state_dir=tmp_path)
    assert settings.database_url == f"sqlite:///{tmp_path}/relay.db"


@pytest.mark.parametrize(
    ("listen", "host", "port"),
    [("0.0.0.0:8443", "0.0.0.0", 8443), ("[::1]:443", "::1", 443), ("localhost:1", "localhost", 1)],
)
def test_listen_addresses(listen: str, host: str, port: int) -> None:
    """IPv4, IPv6 in brackets and names are understood."""
    settings = Settings(listen=listen)
    assert (settings.host, settings.port) == (host, port)


@pytest.mark.parametrize("listen", ["8443", "0.0.0.0:70000", "0.0.0.0:0", "::1:443", "a b"])
def test_unusable_listen_addresses_are_refused(listen: str) -> None:
    """A wrong port is found before anything starts."""
    with pytest.raises(ValueError, match="listen"):
        Settings(listen=listen)
