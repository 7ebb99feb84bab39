"""A bare lab for its own tests: network and hosts, but no cluster on them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator

import pytest

from lab import hosts, lifecycle, network, storage
from lab.layout import COMMANDS, HOSTS
from lab.settings import Settings
from tests.e2e.driver import claim_machine


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs hosts that run, so that the fast tests can leave it out."""
    for item in items:
        if "claimed_machine" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.e2e)


def relay_lab(*words: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does."""
    return subprocess.run(
        [COMMANDS / "relay-lab", *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


@pytest.fixture(scope="session")
def claimed_machine() -> None:
    """Keep the labs of other test runs on this machine waiting."""
    if os.geteuid() != 0:
        pytest.skip("the lab needs root")
    claim_machine()


@pytest.fixture(scope="module")
def bare_lab(claimed_machine: None) -> Iterator[None]:
    """Give the network, with client, sink and node-a on it."""
    del claimed_machine
    lifecycle.down()
    storage.prepare()
    Settings().save()
    network.create()
    for name in ("client", "sink", "node-a"):
        hosts.boot(HOSTS[name])
    yield
    lifecycle.down()


@pytest.fixture
def run(bare_lab: None) -> Iterator[Callable[..., str]]:
    """Run a verb that must succeed; afterwards nothing is cut and all three hosts are on."""
    del bare_lab

    def must_run(*words: str) -> str:
        done = relay_lab(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    yield must_run
    network.heal()
    for name in ("client", "sink", "node-a"):
        if hosts.pid_of(HOSTS[name]) is None:
            hosts.boot(HOSTS[name])
