"""Fixtures of the policy hook's tests."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.fakes.policy_postfix import PolicyPostfix
from tests.policy.policies import NOW_S


@pytest.fixture(scope="module")
def policy_postfix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PolicyPostfix]:
    """Give a running Postfix with the hook's ports; a test leaves it without mail."""
    root: Path = tmp_path_factory.mktemp("pp")
    instance = PolicyPostfix(root)
    instance.start()
    yield instance
    instance.stop()


@pytest.fixture
def standing_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the desk's clock stand still: what is counted by the day begins anew at midnight."""
    clock = SimpleNamespace(time=lambda: NOW_S, perf_counter=lambda: NOW_S)
    monkeypatch.setattr("nodeagent.policy.desk.time", clock)


@pytest.fixture
def silent_port() -> Iterator[Callable[[], int]]:
    """Give what opens a port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield lambda: int(listener.getsockname()[1])
