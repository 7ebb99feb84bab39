"""Fixtures of the policy hook's tests."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes.policy_postfix import PolicyPostfix


@pytest.fixture(scope="module")
def policy_postfix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PolicyPostfix]:
    """Give a running Postfix with the hook's ports; a test leaves it without mail."""
    root: Path = tmp_path_factory.mktemp("pp")
    instance = PolicyPostfix(root)
    instance.start()
    yield instance
    instance.stop()


@pytest.fixture
def silent_port() -> Iterator[Callable[[], int]]:
    """Give what opens a port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield lambda: int(listener.getsockname()[1])
