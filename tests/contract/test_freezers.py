"""The freezers over a real Postfix in real control groups: one contract, each kind of group."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from nodeagent.adapters.freezers import CgroupV1Freezer, CommandFreezer, DockerFreezer, find_freezer
from nodeagent.adapters.postfix import Postfix
from nodeagent.errors import ToolFailed
from tests.fakes.postfix_instance import PostfixInstance

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="Postfix and its freezer need root")
V1_ROOT = Path("/sys/fs/cgroup/freezer")


def says_220(port: int, within_s: float) -> bool:
    """Tell whether the banner comes within this time; a refused connection is an error."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as probe:
        probe.settimeout(within_s)
        try:
            return probe.recv(100).startswith(b"220")
        except TimeoutError:
            return False


def master_of(postfix: PostfixInstance) -> int:
    """Return the master's pid."""
    pid = Postfix(postfix.queue).master_pid()
    assert pid is not None
    return pid


def check_contract(freezer, port: int) -> None:
    """Frozen: connections complete, nothing is said; thawed: everything goes on; idempotent."""
    try:
        freezer.freeze()
        freezer.freeze()
        assert not says_220(port, 0.2)
    finally:
        freezer.thaw()
        freezer.thaw()
    assert says_220(port, 30)


def test_the_control_group_of_a_running_postfix_is_found_and_freezes_it(postfix):
    """The gentlest freezer of this host is chosen from the master's own control group."""
    freezer = find_freezer(master_of(postfix), os.getpid())
    assert freezer.name in {"cgroup-v2", "cgroup-v1"}
    check_contract(freezer, postfix.port)


@pytest.mark.skipif(not V1_ROOT.is_dir(), reason="this kernel has no v1 freezer hierarchy")
def test_the_v1_freezer_does_the_same(postfix):
    """Hosts with the old hierarchy keep their millisecond freeze."""
    group = V1_ROOT / f"relay-test-v1-{os.getpid()}"
    group.mkdir()
    master = master_of(postfix)
    pids = [master, *(pid for pid, _name in Postfix(postfix.queue)._children())]
    try:
        for pid in pids:
            (group / "cgroup.procs").write_text(str(pid))
        check_contract(CgroupV1Freezer(group), postfix.port)
    finally:
        for pid in (group / "cgroup.procs").read_text().split():
            (V1_ROOT / "cgroup.procs").write_text(pid)
        group.rmdir()


def test_a_group_that_holds_ourselves_is_never_frozen(postfix, tmp_path):
    """A guard in Postfix's own control group would freeze itself for good."""
    master = master_of(postfix)
    freezer = find_freezer(master, master, root=tmp_path)
    assert freezer.name not in {"cgroup-v2", "cgroup-v1"}


def test_the_last_resort_stops_and_starts(tmp_path):
    """Without any freezer the two commands do it, and their failure is one sentence."""
    marker = tmp_path / "stopped"
    freezer = CommandFreezer("stop-start", ("touch", str(marker)), ("rm", str(marker)))
    freezer.freeze()
    assert marker.exists()
    freezer.thaw()
    assert not marker.exists()
    with pytest.raises(ToolFailed, match="rm"):
        freezer.thaw()


def test_postfix_stop_and_start_are_a_freezer_too(tmp_path_factory):
    """Slow, and every session breaks, but the queue stands still."""
    instance = PostfixInstance(tmp_path_factory.mktemp("postfix"))
    config = ("postfix", "-c", str(instance.config))
    try:
        instance.start()
        freezer = CommandFreezer("stop-start", (*config, "stop"), (*config, "start"))
        freezer.freeze()
        assert Postfix(instance.queue).master_pid() is None
        freezer.thaw()
        assert says_220(instance.port, 30)
    finally:
        instance.stop()


def has_docker() -> bool:
    """Tell whether a Docker engine answers here."""
    return Path("/var/run/docker.sock").exists() and (
        subprocess.run(["docker", "version"], capture_output=True, check=False).returncode == 0
    )


@pytest.mark.skipif(has_docker(), reason="a Docker engine answers: the refusal cannot be seen")
def test_a_missing_docker_engine_is_one_sentence():
    """The guard reports it and thaws; nothing hangs."""
    with pytest.raises(ToolFailed, match="Docker refuses to pause 0123456789ab"):
        DockerFreezer("0123456789ab" + "0" * 52).freeze()
