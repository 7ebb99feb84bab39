"""Fixtures of the contract tests: a real Postfix for a module, a real sshd for a test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.loopback_sshd import LoopbackSshd
from tests.fakes.postfix_instance import PostfixInstance


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
