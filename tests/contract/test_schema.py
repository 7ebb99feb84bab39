"""Migrations: complete, repeatable, and safe when several instances start at once."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text
from sqlmodel import SQLModel, select

from controlplane.errors import SetupFailed
from controlplane.store import (
    cluster_tables,
    ownership_tables,
    policy_log_tables,
    policy_tables,
    queue_tables,
    sample_tables,
    trace_tables,
    user_tables,
)
from controlplane.store.audit import Actor
from controlplane.store.engine import Database
from controlplane.store.passwords import PasswordCost, hash_password
from controlplane.store.policy_partitions import PARTITION_NAME
from controlplane.store.sample_tables import SampleRow
from controlplane.store.schema import _configuration, is_current, migrate
from controlplane.store.user_sessions import LoginRules, find_user, list_sessions, token_hash
from controlplane.store.user_tables import AuditRow
from controlplane.store.users import log_in

TABLES = (
    cluster_tables,
    ownership_tables,
    policy_tables,
    policy_log_tables,
    queue_tables,
    sample_tables,
    trace_tables,
    user_tables,
)

MIGRATE = """
import sys
from controlplane.store.engine import Database
from controlplane.store.schema import migrate
migrate(Database(sys.argv[1]))
"""


def is_no_partition(name: str | None, kind: str, _parents: object) -> bool:
    """Leave the days' partitions out, which are made as days come."""
    return kind != "table" or PARTITION_NAME.fullmatch(name or "") is None


def test_migrations_make_what_the_models_describe(database: Database) -> None:
    """A migrated database differs from the SQLModel tables in nothing that alembic can see."""
    with database.engine.connect() as connection:
        options = {"compare_type": True, "include_name": is_no_partition}
        context = MigrationContext.configure(connection, opts=options)
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


BEFORE_ROLES = "0004"
BEFORE_REJECTED = "0013"
CHEAP = PasswordCost(rounds=1, memory_kib=8, parallelism=1)
OLD_ROWS = (
    "INSERT INTO users VALUES ('admin', :hash, :no, :now, :now)",
    "INSERT INTO users VALUES ('olga', :hash, :yes, :now, NULL)",
    "INSERT INTO user_sessions VALUES (:token, 'admin', '198.51.100.30', :now, :later)",
    "INSERT INTO audit (at, actor, address, action, target) VALUES (:now, 'admin', '', 'a', 'b')",
)


def test_a_database_of_before_roles_keeps_its_admin(database_url: str) -> None:
    """Whoever could log in is an Admin, with the same password and the session that was open."""
    database = Database(database_url)
    configuration = _configuration()
    with database.engine.connect() as connection:
        configuration.attributes["connection"] = connection
        command.upgrade(configuration, BEFORE_ROLES)
        values = {
            "hash": hash_password("seven-Relays-42", CHEAP),
            "token": token_hash("open-before"),
            "no": False,
            "yes": True,
            "now": datetime.now(UTC),
            "later": datetime.now(UTC) + timedelta(hours=1),
        }
        for statement in OLD_ROWS:
            connection.execute(text(statement), values)
        connection.commit()
    migrate(database)
    with database.read() as session:
        known = find_user(session, "open-before")
        assert [one.id for one in list_sessions(session)] == [token_hash("open-before")[:16]]
        assert [row.token_prefix for row in session.exec(select(AuditRow))] == [None]
    assert known is not None
    assert (known.name, known.role.value, known.language) == ("admin", "Admin", "auto")
    for name, must_change in (("admin", False), ("olga", True)):
        issued = log_in(database, Actor(name), "seven-Relays-42", LoginRules(cost=CHEAP))
        assert (issued.role.value, issued.must_change_password) == ("Admin", must_change)


def test_of_old_samples_rejected_mail_is_unknown(database_url: str) -> None:
    """None was counted then; 0 would say that all mail was let in."""
    database = Database(database_url)
    configuration = _configuration()
    with database.engine.connect() as connection:
        configuration.attributes["connection"] = connection
        command.upgrade(configuration, BEFORE_REJECTED)
        insert = "INSERT INTO samples (node, step_s, at, bounced) VALUES ('node-a', 10, 60, 4)"
        connection.execute(text(insert))
        connection.commit()
    migrate(database)
    with database.read() as session:
        (row,) = session.exec(select(SampleRow))
        assert (row.bounced, row.rejected) == (4, None)
