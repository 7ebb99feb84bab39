"""Control groups of hosts, with real processes in real groups of a name of their own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import cgroups
from lab.cgroups import HostGroup

NAME = f"relay-lab-unit-{os.getpid()}"


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> Iterator[HostGroup]:
    """Give the group of a host that nobody else uses, and remove everything afterwards."""
    if os.geteuid() != 0:
        pytest.skip("control groups need root")
    monkeypatch.setattr(cgroups, "CGROUP_NAME", NAME)
    made = HostGroup("node-a")
    made.create()
    yield made
    cgroups.remove_all()


def sleeper(group: HostGroup, service: str = "sleeper") -> subprocess.Popen[bytes]:
    """Start a process in one of the host's services."""
    return subprocess.Popen(["sleep", "600"], preexec_fn=lambda: group.join(service))  # noqa: PLW1509 - no threads here


def freezer_of(service: str) -> tuple[Path, str]:
    """Give the file by which the node agent freezes a service, and what it writes there."""
    for root in (cgroups.unified_root(), cgroups.v1_freezer_root()):
        if root is not None:
            path = root / NAME / "node-a" / service
            is_v1 = (path / "freezer.state").exists()
            return (path / "freezer.state", "FROZEN") if is_v1 else (path / "cgroup.freeze", "1")
    raise AssertionError("there is no freezer")


def test_a_second_pause_and_a_second_resume_do_no_harm(group: HostGroup) -> None:
    """Both verbs say what shall be, not what shall change."""
    process = sleeper(group)
    assert not group.is_frozen
    for _ in range(2):
        group.freeze()
        assert group.is_frozen
    for _ in range(2):
        group.thaw()
        assert not group.is_frozen
    assert process.poll() is None


def test_a_paused_host_dies_like_any_other(group: HostGroup) -> None:
    """SIGKILL alone would wait for the thaw."""
    process = sleeper(group)
    group.freeze()
    group.kill()
    assert process.wait(10) == -9
    assert group.pids() == set()
    assert not group.is_frozen


def test_a_freeze_of_the_agents_own_outlives_a_pause_of_its_host(group: HostGroup) -> None:
    """A host that stands still and goes on finds Postfix as its agent had left it."""
    sleeper(group, "postfix")
    path, frozen = freezer_of("postfix")
    path.write_text(frozen)
    group.freeze()
    group.thaw()
    assert path.read_text().strip() == frozen


def test_a_service_that_the_agent_froze_dies_too(group: HostGroup) -> None:
    """Power loss in the middle of a freeze leaves no process behind."""
    process = sleeper(group, "postfix")
    path, frozen = freezer_of("postfix")
    path.write_text(frozen)
    group.kill()
    assert process.wait(10) == -9


def test_a_host_holds_its_own_processes_only(group: HostGroup) -> None:
    """A PID that another program has by now is no host, nor is that of a longer name."""
    process, longer = sleeper(group), HostGroup("node-ab")
    longer.create()
    other = sleeper(longer)
    assert group.holds(process.pid)
    assert not group.holds(other.pid)
    assert not group.holds(os.getpid())
    process.kill()
    process.wait(10)
    assert not group.holds(process.pid)


def test_a_host_without_a_group_is_off(group: HostGroup) -> None:
    """No question about it is an error."""
    nobody = HostGroup("nobody")
    assert (nobody.pids(), nobody.is_frozen) == (set(), False)
    nobody.kill()
    nobody.remove()
    assert group.pids() == set()


def test_everything_goes_with_what_this_version_does_not_know(group: HostGroup) -> None:
    """`down` after another version's `up`, with a process that still runs and one that stands."""
    unknown = HostGroup("node-of-old")
    unknown.create()
    processes = [sleeper(group), sleeper(unknown)]
    unknown.freeze()
    cgroups.remove_all()
    assert [process.wait(10) for process in processes] == [-9, -9]
    assert list(Path("/sys/fs/cgroup").glob(f"**/{NAME}")) == []


def test_a_freeze_of_nothing_that_is_there_says_where(group: HostGroup) -> None:
    """One sentence with the path, no traceback."""
    with pytest.raises(cgroups.LabError, match=r"Cannot write .* to /sys/fs/cgroup/.*nobody"):
        HostGroup("nobody").freeze()
    assert group.pids() == set()
