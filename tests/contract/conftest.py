"""Fixtures of the contract tests: a real Postfix for a module, a real sshd for a test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from controlplane.store import engine
from tests.fakes.loopback_sshd import LoopbackSshd
from tests.fakes.postfix_instance import PostfixInstance

PATIENT_MS = 60_000


@pytest.fixture
def busy_timeout_ms() -> int:
    """How long writers wait for each other: so long that it is their order which is tested."""
    return PATIENT_MS


@pytest.fixture(autouse=True)
def _patient_databases(monkeypatch: pytest.MonkeyPatch, busy_timeout_ms: int) -> None:
    """Have databases that are opened from now on wait; PostgreSQL's lock is a statement, too."""
    statement_ms = max(busy_timeout_ms, engine.STATEMENT_TIMEOUT_MS)
    monkeypatch.setattr(engine, "BUSY_TIMEOUT_MS", busy_timeout_ms)
    monkeypatch.setattr(engine, "STATEMENT_TIMEOUT_MS", statement_ms)


@pytest.fixture(scope="module")
def postfix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostfixInstance]:
    """Run one Postfix for all tests of a module."""
    instance = PostfixInstance(tmp_path_factory.mktemp("postfix"))
    try:
        instance.start()
        yield instance
    finally:
        instance.stop()


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[LoopbackSshd]:
    """Run an sshd for one test."""
    server = LoopbackSshd(tmp_path / "peer")
    server.start()
    yield server
    server.stop()
