"""A real control plane over HTTPS on a loopback port, and `relayctl` as an operator runs it."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI

from controlplane.relayctl.cli import run
from controlplane.relayctl.profile import Profile, save_profile
from controlplane.relayctl.trust import fetch_certificate, fingerprint_of
from controlplane.store.audit import Actor
from controlplane.store.engine import Database
from controlplane.store.users import FIRST_PASSWORD, change_password, log_in
from controlplane.tls import ServerTls
from tests.api.conftest import CHEAP, PASSWORD, app, settings, shared_app

__all__ = ["app", "settings", "shared_app"]


@dataclass(frozen=True)
class Served:
    """Where the server listens, and how its certificate is recognised."""

    url: str
    fingerprint: str
    state_dir: Path


@dataclass(frozen=True)
class Outcome:
    """What one command line led to."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """The answer of a command that ran with --json."""
        return json.loads(self.out)


class Operator:
    """Runs `relayctl` with an environment of its own, and reads what it printed."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        config: Path,
    ) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        self.config = config
        for name in ("URL", "TOKEN", "CA", "FINGERPRINT", "SERVER_NAME", "PASSWORD", "CODE"):
            monkeypatch.delenv(f"RELAYCTL_{name}", raising=False)
        self.set(RELAYCTL_CONFIG=str(config))

    def set(self, **variables: str) -> None:
        """Set environment variables for the commands that follow."""
        for name, value in variables.items():
            self._monkeypatch.setenv(name, value)

    def __call__(self, *arguments: str) -> Outcome:
        """Run one command line."""
        self._capsys.readouterr()
        code = run(arguments)
        printed = self._capsys.readouterr()
        return Outcome(code, printed.out, printed.err)

    def json(self, *arguments: str) -> Any:
        """Run a command that must succeed, with --json; return its answer."""
        outcome = self(*arguments, "--json")
        assert outcome.code == 0, outcome.err
        return outcome.data


@pytest.fixture(scope="session")
def served(shared_app: FastAPI, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serve the application once for all tests."""
    state_dir = tmp_path_factory.mktemp("served")
    tls = ServerTls(state_dir)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        config = uvicorn.Config(
            shared_app,
            ssl_context_factory=lambda _config, _default: tls.context,
            log_level="error",
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        url = f"https://127.0.0.1:{port}"
        yield Served(url, fingerprint_of(fetch_certificate(url)), state_dir)
        server.should_exit = True
        thread.join(timeout=10)


@pytest.fixture
def stranger(
    served: Served,
    app: FastAPI,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Operator:
    """Give an operator who has not logged in; the first admin's password is still the first."""
    del served, app
    return Operator(monkeypatch, capsys, tmp_path / "home" / "profile.json")


@pytest.fixture
def relayctl(stranger: Operator, served: Served, sqlite_database: Database) -> Operator:
    """Give an operator who is logged in with a password of their own."""
    first = log_in(sqlite_database, Actor("admin", "127.0.0.1"), FIRST_PASSWORD, CHEAP)
    assert first.must_change_password
    issued = change_password(
        sqlite_database,
        Actor("admin", "127.0.0.1"),
        current=FIRST_PASSWORD,
        new=PASSWORD,
        rules=CHEAP,
    )
    profile = Profile(url=served.url, token=issued.token, fingerprint=served.fingerprint)
    save_profile({"RELAYCTL_CONFIG": str(stranger.config)}, profile)
    stranger.set(RELAYCTL_PASSWORD=PASSWORD)
    return stranger


@pytest.fixture
def paired(relayctl: Operator) -> Operator:
    """Give an operator of a cluster of two nodes and one VIP."""
    for name, address, mode, priority in (
        ("node-a", "198.51.100.11", "master", "150"),
        ("node-b", "198.51.100.12", "slave", "100"),
    ):
        added = relayctl(
            "nodes", "add", name, "--address", address, "--mode", mode, "--priority", priority
        )
        assert added.code == 0, added.err
    assert relayctl("vips", "add", "198.51.100.100", "--router-id", "51").code == 0
    return relayctl
