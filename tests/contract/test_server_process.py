"""`relay-controlplane` as a process: serve, stop, tokens, backup, restore, several at once."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from controlplane.core.spec import TlsSpec
from controlplane.errors import SetupFailed
from controlplane.server import serving_lock
from controlplane.store.audit import SYSTEM, AuditFilter, list_entries
from controlplane.store.cluster import ClusterStore
from controlplane.store.crypto import SecretBox
from controlplane.store.engine import Database
from controlplane.store.instance import ensure_instance
from controlplane.store.user_tables import UserRow
from nodeagent.http_heads import MOST_HEADER_BYTES
from tests.fakes.certificates import make_pair
from tests.fakes.control_plane_process import ControlPlaneProcess
from tests.fakes.postgres import PostgresServer


@pytest.fixture
def process(tmp_path: Path) -> Iterator[ControlPlaneProcess]:
    """Give a process over an embedded database, stopped at the end."""
    made = ControlPlaneProcess(tmp_path / "state")
    yield made
    made.kill()


def instance_of(process: ControlPlaneProcess) -> tuple[str, bool]:
    """Return the database's instance id and whether it is recovering."""
    database = Database(process.environment["RELAY_DATABASE_URL"])
    with database.write() as session:
        row = ensure_instance(session)
        answer = row.instance_id, row.is_recovering
    database.close()
    return answer


def test_serving_from_an_empty_directory(process: ControlPlaneProcess) -> None:
    """The first start makes everything it needs, answers over TLS, and stops cleanly."""
    process.start()
    answer = process.get("/healthz")
    assert (answer.status_code, answer.json()["status"]) == (200, "ok")
    assert process.stop() == 0
    names = {path.name for path in process.state_dir.iterdir()}
    assert {"relay.db", "secret.key", "tls"} <= names
    modes = {path.stat().st_mode & 0o077 for path in process.state_dir.iterdir()}
    assert modes == {0}


def test_an_uploaded_certificate_is_shown_without_a_restart(process: ControlPlaneProcess) -> None:
    """What one instance stored is what every instance shows within seconds."""
    process.start()
    process.get("/healthz")
    before = process.shown_certificate()
    certificate, key = make_pair()
    database = Database(process.environment["RELAY_DATABASE_URL"])
    store = ClusterStore(database, SecretBox.load(process.state_dir))
    store.put_certificate(TlsSpec(cert_pem=certificate, key_pem=SecretStr(key)), SYSTEM, {})
    end_s = time.monotonic() + 60
    while process.shown_certificate() == before and time.monotonic() < end_s:
        time.sleep(0.2)
    assert process.shown_certificate().split() == certificate.encode().split()
    database.close()


def test_tokens_are_made_without_a_running_server(process: ControlPlaneProcess) -> None:
    """The lab and an operator at the console need no login for the first tokens."""
    done = process.run("token", "node-a", "node-b", "--json")
    assert done.returncode == 0, done.stderr
    tokens = json.loads(done.stdout)
    assert list(tokens) == ["node-a", "node-b"]
    assert all(len(text.partition(".")[2]) == 64 for text in tokens.values())


def test_the_admin_is_reset_at_the_console(process: ControlPlaneProcess) -> None:
    """Whoever has the host has the control plane: a new password must be set at the next login."""
    done = process.run("reset-admin")
    assert done.returncode == 0, done.stderr
    assert "first password again" in done.stdout
    database = Database(process.environment["RELAY_DATABASE_URL"])
    with database.read() as session:
        assert session.get_one(UserRow, "admin").must_change_password
        actions = [row.action for row in list_entries(session, AuditFilter())]
    database.close()
    assert actions == ["user.reset", "user.create"]


def test_a_wrong_node_name_is_one_sentence(process: ControlPlaneProcess) -> None:
    """Exit code 1, no traceback, nothing made."""
    done = process.run("token", "Node_A")
    assert done.returncode == 1
    assert "Node_A is not a node name" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unusable_setting_is_one_sentence(process: ControlPlaneProcess) -> None:
    """The variable at fault is named."""
    process.environment["RELAY_LISTEN"] = "0.0.0.0:70000"
    done = process.run("serve")
    assert done.returncode == 1
    assert "RELAY_LISTEN" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unreachable_database_is_one_sentence(process: ControlPlaneProcess) -> None:
    """The start is refused with the driver's reason in one line."""
    process.environment["RELAY_DATABASE_URL"] = "postgresql+psycopg://relay@127.0.0.1:1/none"
    done = process.run("serve")
    assert done.returncode == 1
    assert "database" in done.stderr
    assert "Traceback" not in done.stderr


def test_backup_while_serving_and_restore(process: ControlPlaneProcess, tmp_path: Path) -> None:
    """A backup is one private file; restored it is a new instance that waits for all nodes."""
    process.start()
    process.get("/healthz")
    before = instance_of(process)
    copy = tmp_path / "copy.db"
    assert process.run("backup", str(copy)).returncode == 0
    assert copy.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.glob("copy*")] == ["copy.db"]
    refused = process.run("restore", str(copy))
    assert refused.returncode == 1
    assert "stop the control plane first" in refused.stderr
    process.stop()
    restored = process.run("restore", str(copy))
    assert restored.returncode == 0, restored.stderr
    after = instance_of(process)
    assert before[1] is False
    assert after[1] is True
    assert after[0] != before[0]
    assert after[0] in restored.stdout
    assert list(process.state_dir.glob("relay.db.before-*"))
    assert not list(process.state_dir.glob("relay.db.restoring*"))


def test_a_restored_control_plane_serves(process: ControlPlaneProcess, tmp_path: Path) -> None:
    """Restoring leaves a database that the next start uses as it is."""
    process.run("token", "node-a")
    process.run("backup", str(tmp_path / "copy.db"))
    process.run("restore", str(tmp_path / "copy.db"))
    process.start()
    assert process.get("/healthz").status_code == 200
    assert instance_of(process)[1] is True


def test_a_backup_overwrites_nothing(process: ControlPlaneProcess, tmp_path: Path) -> None:
    """An existing file stays as it is."""
    process.run("token", "node-a")
    target = tmp_path / "precious"
    target.write_text("precious")
    assert process.run("backup", str(target)).returncode == 1
    assert target.read_text() == "precious"


@pytest.mark.parametrize("content", ["no database", "another database", "nothing"])
def test_what_is_no_backup_is_not_restored(
    process: ControlPlaneProcess, tmp_path: Path, content: str
) -> None:
    """The present database stays in place, and one sentence says why."""
    process.run("token", "node-a")
    before = instance_of(process)
    source = tmp_path / "source"
    if content == "no database":
        source.write_text("this is no database at all" * 100)
    elif content == "another database":
        with sqlite3.connect(source) as connection:
            connection.execute("CREATE TABLE other (id INTEGER)")
    done = process.run("restore", str(source))
    assert done.returncode == 1
    assert str(source) in done.stderr
    assert "Traceback" not in done.stderr
    assert instance_of(process) == before


def test_postgresql_is_backed_up_by_its_own_tools(tmp_path: Path, postgres: PostgresServer) -> None:
    """The command names pg_dump; a database restored by hand is marked with --adopt-database."""
    process = ControlPlaneProcess(tmp_path / "state", postgres.create_database())
    process.run("token", "node-a")
    refused = process.run("backup", str(tmp_path / "copy"))
    assert refused.returncode == 1
    assert "pg_dump" in refused.stderr
    before = instance_of(process)
    assert process.run("restore", "--adopt-database").returncode == 0
    after = instance_of(process)
    assert (after[1], after[0] != before[0]) == (True, True)


def test_restore_wants_exactly_one_source(process: ControlPlaneProcess, tmp_path: Path) -> None:
    """Neither nothing nor both."""
    for arguments in ((), (str(tmp_path / "x"), "--adopt-database")):
        done = process.run("restore", *arguments)
        assert done.returncode == 1
        assert "--adopt-database" in done.stderr


def test_two_instances_start_together_on_one_database(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    """Both migrate, make what a first start makes, and serve: one of each."""
    url = postgres.create_database()
    pair = [ControlPlaneProcess(tmp_path / "state", url) for _ in range(2)]
    for process in pair:
        process.start()
    try:
        assert [process.get("/healthz").status_code for process in pair] == [200, 200]
    finally:
        codes = [process.stop() for process in pair]
    assert codes == [0, 0]
    database = Database(url)
    store = ClusterStore(database, SecretBox.load(tmp_path / "state"))
    with database.read() as session:
        made = list_entries(session, AuditFilter(action="certificate.create"))
        tls = store.read_tls(session)
    database.close()
    assert len(made) == 1
    assert tls is not None


def test_the_serving_lock_is_shared_by_servers_only(tmp_path: Path) -> None:
    """Servers may run side by side; a restore needs the place for itself, and blocks them."""
    with serving_lock(tmp_path, is_shared=True), serving_lock(tmp_path, is_shared=True):
        assert "stop the control plane" in sentence(take_alone, tmp_path)
    with serving_lock(tmp_path, is_shared=False):
        assert "a restore is under way" in sentence(take_shared, tmp_path)


def sentence(take: Callable[[Path], None], path: Path) -> str:
    """Return why the place could not be taken."""
    with pytest.raises(SetupFailed) as refused:
        take(path)
    return refused.value.detail


def take_alone(path: Path) -> None:
    """Try for the whole place."""
    with serving_lock(path, is_shared=False):
        pass


def take_shared(path: Path) -> None:
    """Try to serve."""
    with serving_lock(path, is_shared=True):
        pass


def test_what_is_too_large_is_refused_before_it_was_sent(process: ControlPlaneProcess) -> None:
    """A declared length is answered at once, what has no end after the limit, not at its end."""
    process.start()
    process.get("/healthz")
    head = b"PUT /api/v1/vips/x HTTP/1.1\r\nHost: relay\r\n"
    assert process.raw(head + b"Content-Length: 1000000000\r\n\r\n").startswith(b"HTTP/1.1 413 ")
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    endless = head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 5
    answer = process.raw(endless)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"larger than 256 KiB" in answer
    ask = b"GET /healthz HTTP/1.1\r\nHost: relay\r\n"
    headers = b"X-More: " + b"x" * MOST_HEADER_BYTES
    assert process.raw(ask + headers).startswith(b"HTTP/1.1 431 ")
    assert process.raw(ask + headers + b"\r\n\r\n").startswith(b"HTTP/1.1 431 ")
    assert process.raw(ask + headers[:60_000] + b"\r\n\r\n").startswith(b"HTTP/1.1 200 ")
