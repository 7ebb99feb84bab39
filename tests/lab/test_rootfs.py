"""The disk of a host, built in a mount namespace of its own and looked at from inside."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.layout import REPOSITORY
from tests.lab.inner import STATE_DIR, inside

LOOK = """
import stat
found["fresh"] = [sorted(os.listdir(path)) for path in ("/tmp", "/run")]
found["boot_id"] = Path("/proc/sys/kernel/random/boot_id").read_text()
found["state"] = os.listdir(os.environ["RELAY_LAB_STATE_DIR"])
found["is_repository_there"] = Path(rootfs.__file__).exists()
found["processes"] = [name for name in os.listdir("/proc") if name.isdigit()]
Path("/dev/null").write_text("x")
found["null"] = stat.S_ISCHR(os.stat("/dev/null").st_mode) and Path("/dev/null").read_text()
Path("/etc/written-in-unit-test").write_text("x")
Path("/var/log/mail.log").open("a").write("by Postfix")
found["log"] = Path("/var/log/relay-lab/mail.log").read_text()
"""
SPOOL = """
queue = Path("/var/spool/postfix/deferred")
queue.mkdir()
(queue / "message").touch()
os.link(queue / "message", "/var/spool/snapshot")
queue.rename("/var/spool/aside")
found["links"] = os.stat("/var/spool/aside/message").st_nlink
"""
READ_ONLY = """
try:
    Path(os.environ["RELAY_LAB_STATE_DIR"], "x").touch()
except OSError as error:
    found["error"] = error.strerror
"""
KEPT = """
found["etc"] = Path("/etc/written-in-unit-test").exists()
found["log"] = Path("/var/log/mail.log").read_text()
"""


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    yield
    shutil.rmtree(STATE_DIR, ignore_errors=True)


def test_a_host_sees_a_machine_of_its_own() -> None:
    """Fresh /run and /tmp, its own boot, no other process, no other host's disk."""
    found = inside(LOOK)
    programs = [REPOSITORY.parts[2]] if REPOSITORY.is_relative_to("/tmp") else []
    assert found["fresh"] == [programs, ["boot_id"]]
    assert found["boot_id"] != Path("/proc/sys/kernel/random/boot_id").read_text()
    assert found["processes"] == ["1"]
    assert found["state"] == []
    assert found["is_repository_there"]
    assert found["null"] == ""
    assert not Path("/etc/written-in-unit-test").exists()


def test_postfixs_own_log_lies_among_the_others() -> None:
    """Its configuration names /var/log/mail.log; whoever looks for logs looks in one place."""
    assert inside(LOOK)["log"].endswith("by Postfix")


def test_the_spool_is_a_plain_filesystem() -> None:
    """Directories are renamed and files linked there, as adoption and snapshot need it."""
    assert inside(SPOOL)["links"] == 2


def test_the_disks_of_all_hosts_are_out_of_reach() -> None:
    """A command run wild inside a host harms that host."""
    assert inside(READ_ONLY)["error"] == "Read-only file system"


def test_what_a_host_wrote_is_there_at_its_next_boot() -> None:
    """/etc and the logs, on whatever carries the disks."""
    inside(LOOK)
    if not list(STATE_DIR.glob("hosts/client/upper/etc")):
        pytest.skip("the disks are kept in memory here, so they end with the namespace")
    found = inside(KEPT)
    assert found["etc"]
    assert "by Postfix" in found["log"]
