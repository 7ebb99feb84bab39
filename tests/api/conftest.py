"""Fixtures of the REST tests: an application over a fresh database and a client logged in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from fastapi import FastAPI
from fastapi.testclient import TestClient

from controlplane.api.agent_auth import RefusalLog
from controlplane.app import create_app
from controlplane.core.permissions import UserRole
from controlplane.gui.charts import ChartCache
from controlplane.settings import Settings
from controlplane.store.audit import Actor
from controlplane.store.cluster import ClusterStore
from controlplane.store.cluster_tables import NodeRow
from controlplane.store.crypto import SecretBox
from controlplane.store.engine import Database
from controlplane.store.heartbeats import gather_heartbeats
from controlplane.store.passwords import PasswordCost
from controlplane.store.user_sessions import LoginRules
from controlplane.store.users import FIRST_PASSWORD, change_password, ensure_first_admin
from tests.fakes.cluster_agents import enrol_agents
from tests.fakes.enrolled_agent import EnrolledAgent
from tests.fakes.people import add_user
from tests.fakes.ssh_peer import Peer

PASSWORD = "seven-Relays-42"
CHEAP = LoginRules(cost=PasswordCost(rounds=1, memory_kib=8, parallelism=1))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Give settings with a state directory of the test's own and cheap hashing."""
    return Settings(
        state_dir=tmp_path / "state",
        database_url="sqlite:///unused.db",
        argon2_rounds=1,
        argon2_memory_kib=8,
        argon2_parallelism=1,
    )


@pytest.fixture(scope="session")
def shared_app(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    """Give the application whose routes are built once; `app` puts each test's state into it."""
    home = tmp_path_factory.mktemp("shared")
    return create_app(Settings(state_dir=home), Database(f"sqlite:///{home / 'unused.db'}"))


@pytest.fixture
def app(shared_app: FastAPI, sqlite_database: Database, settings: Settings) -> FastAPI:
    """Give the application over a SQLite database, with its first admin and certificate."""
    settings.state_dir.mkdir()
    ensure_first_admin(sqlite_database, CHEAP)
    shared_app.state.settings = settings
    shared_app.state.database = sqlite_database
    shared_app.state.heartbeats = gather_heartbeats(sqlite_database)
    box = SecretBox(Fernet.generate_key())
    ClusterStore(sqlite_database, box).ensure_certificate()
    shared_app.state.secret_box = box
    shared_app.state.refusals = RefusalLog()
    shared_app.state.charts = ChartCache()
    return shared_app


@pytest.fixture
def anonymous(app: FastAPI) -> Iterator[TestClient]:
    """Give a client that has not logged in and keeps no cookies of others."""
    with TestClient(app, base_url="https://relay.test", raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def client(app: FastAPI, sqlite_database: Database) -> Iterator[TestClient]:
    """Give a client that is logged in by bearer token, its first password already changed."""
    actor = Actor("admin", "testclient")
    issued = change_password(
        sqlite_database, actor, current=FIRST_PASSWORD, new=PASSWORD, rules=CHEAP
    )
    with TestClient(app, base_url="https://relay.test", raise_server_exceptions=False) as client:
        client.headers["Authorization"] = f"Bearer {issued.token}"
        yield client


@pytest.fixture
def rules(app: FastAPI) -> LoginRules:
    """Give the rules of logging in as the application has them."""
    return replace(CHEAP, box=app.state.secret_box)


@pytest.fixture
def team(client: TestClient, sqlite_database: Database) -> TestClient:
    """Give the Admin's client, with an Operator olga and a ReadOnly rita beside."""
    add_user(sqlite_database, "olga", UserRole.OPERATOR, PASSWORD, CHEAP)
    add_user(sqlite_database, "rita", UserRole.READ_ONLY, PASSWORD, CHEAP)
    return client


NODE_A = {
    "address": "198.51.100.11",
    "vrrp_priority": 150,
    "cluster_mode": "master",
    "interface": "eth0",
}
NODE_B = {
    "address": "198.51.100.12",
    "vrrp_priority": 100,
    "cluster_mode": "slave",
    "interface": "eth0",
}


@pytest.fixture
def pair(client: TestClient) -> TestClient:
    """Give the client of a cluster of two nodes and one VIP."""
    for path, body in (
        ("nodes/node-a", NODE_A),
        ("nodes/node-b", NODE_B),
        ("vips/198.51.100.100", {"virtual_router_id": 51}),
    ):
        answer = client.put(f"/api/v1/{path}", json=body)
        assert answer.status_code == 201, answer.text
    return client


@pytest.fixture
def agents(pair: TestClient, sqlite_database: Database) -> dict[str, EnrolledAgent]:
    """Give both nodes, enrolled."""
    return enrol_agents(pair, sqlite_database, "node-a", "node-b")


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Peer]:
    """Run node-b's sshd."""
    made = Peer(tmp_path / "p")
    yield made
    made.sshd.stop()


@pytest.fixture
def loopback(
    agents: dict[str, EnrolledAgent], peer: Peer, sqlite_database: Database
) -> dict[str, EnrolledAgent]:
    """Put both nodes on the loopback, where that sshd is; the API takes no such address."""
    with sqlite_database.write() as session:
        for name, address in (("node-a", "127.0.0.1"), ("node-b", "127.0.0.2")):
            row = session.get_one(NodeRow, name)
            row.address, row.ssh_port = address, peer.sshd.port
            session.add(row)
    return agents
