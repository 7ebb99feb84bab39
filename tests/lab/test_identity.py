"""What makes a host itself, done inside one: names, resolver, keys, no history of the machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from controlplane.settings import Settings as ControlPlaneSettings
from lab import identity
from nodeagent.adapters.ssh_files import SSHD_SNIPPET
from nodeagent.settings import AgentSettings
from tests.lab.inner import STATE_DIR, inside

ESTABLISH = """
import socket
for name in identity._FOREIGN:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.write_text("of this machine")
identity.establish(host)
key = Path("/etc/ssh/ssh_host_ed25519_key.pub")
found["left"] = [name for name in identity._FOREIGN if Path(name).exists()]
found["name"] = [socket.gethostname(), Path("/etc/hostname").read_text()]
found["node-b"] = socket.gethostbyname("node-b")
try:
    socket.gethostbyname("example.com")
except OSError as error:
    found["example.com"] = "unknown"
found["keys"] = sorted(path.name for path in Path("/etc/ssh").glob("ssh_host_*"))
found["key"] = key.read_text()
Path("/var/lib/relay").mkdir()
identity.establish(host)
found["key after a boot"] = key.read_text()
found["state after a boot"] = Path("/var/lib/relay").is_dir()
"""


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    yield
    shutil.rmtree(STATE_DIR, ignore_errors=True)


def test_a_host_is_itself_from_its_first_boot_on() -> None:
    """Name, names of the others and no further ones, one key of its own, nothing of the machine."""
    found = inside(ESTABLISH)
    assert found["name"] == ["client", "client\n"]
    assert found["node-b"] == "198.51.100.12"
    assert found["example.com"] == "unknown"
    assert found["keys"] == ["ssh_host_ed25519_key", "ssh_host_ed25519_key.pub"]
    assert found["left"] == []
    machine = Path("/etc/ssh/ssh_host_ed25519_key.pub")
    assert not machine.exists() or machine.read_text() != found["key"]


def test_a_later_boot_changes_nothing() -> None:
    """The key stays, and so does what the host has written itself."""
    found = inside(ESTABLISH)
    assert found["key after a boot"] == found["key"]
    assert found["state after a boot"]


def test_all_that_a_relay_leaves_on_a_machine_is_forgotten() -> None:
    """A machine that is a relay node itself shows through the overlay otherwise."""
    agent = AgentSettings()
    left = {
        agent.state_directory,
        agent.ssh_config_directory,
        ControlPlaneSettings().state_dir,
        SSHD_SNIPPET,
        Path("/etc/keepalived/keepalived.conf"),
    }
    assert left <= {Path(name) for name in identity._FOREIGN}
