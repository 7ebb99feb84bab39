"""`up` and `down`: nothing is left behind, and what a killed run left does no harm."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import cluster, hosts, lifecycle, network, storage
from lab.command import run, succeeds
from lab.layout import CGROUP_NAME, HOSTS, STATE_DIR
from lab.lock import exclusive
from lab.settings import Settings, load
from tests.lab.conftest import relay_lab


@pytest.fixture(autouse=True)
def _clean(claimed_machine: None) -> Iterator[None]:
    del claimed_machine
    lifecycle.down()
    yield
    lifecycle.down()


def _boot_some() -> None:
    storage.prepare()
    Settings().save()
    network.create()
    hosts.boot(HOSTS["client"])
    hosts.boot(HOSTS["sink"])


def _traces() -> list[str]:
    """Everything of a lab that this machine still shows."""
    found = [line for line in run(["ip", "netns", "list"]).splitlines() if "relay-lab" in line]
    found += [line for line in run(["ip", "-br", "link"]).splitlines() if "relay-lab" in line]
    found += [str(path) for path in Path("/sys/fs/cgroup").glob(f"*/{CGROUP_NAME}")]
    found += [str(path) for path in Path("/sys/fs/cgroup").glob(CGROUP_NAME)]
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    found += [line for line in mounts if "relay-lab" in line]
    found += [str(path) for path in Path("/proc").glob("[0-9]*") if _is_init(path)]
    found += [str(STATE_DIR)] if STATE_DIR.exists() else []
    return found


def _is_init(process: Path) -> bool:
    """Tell whether it is PID 1 of a host of this lab; another lab may run beside it."""
    try:
        command, variables = (process / "cmdline").read_bytes(), (process / "environ").read_bytes()
    except OSError:
        return False
    match = re.search(rb"RELAY_LAB_STATE_DIR=([^\0]*)", variables)
    state_dir = match[1].decode() if match else "/var/lib/relay-lab"
    return b"lab.init" in command and state_dir == str(STATE_DIR)


def test_down_leaves_nothing_behind() -> None:
    """No namespace, link, control group, mount, process or file is left."""
    _boot_some()
    assert _traces()
    assert relay_lab("down").returncode == 0
    assert _traces() == []


def test_down_of_nothing_does_no_harm() -> None:
    """Twice down is as good as once."""
    assert relay_lab("down").returncode == 0
    assert relay_lab("down").returncode == 0


def test_down_takes_paused_hosts_and_strays_along() -> None:
    """A host that stands still, or whose PID file is gone, is removed as well."""
    _boot_some()
    hosts.pause(HOSTS["client"])
    HOSTS["sink"].pid_file.unlink()
    lifecycle.down()
    assert _traces() == []


def test_what_a_killed_run_left_is_cleared(tmp_path: Path) -> None:
    """Half a network, a stray mount and an old disk do not hinder the next start."""
    _boot_some()
    run(["mount", "-t", "tmpfs", "tmpfs", str(STATE_DIR / "hosts/client/root")])
    run(["ip", "netns", "add", "relay-lab-unheard-of"])
    lifecycle.down()
    assert _traces() == []
    _boot_some()
    assert hosts.run_inside(HOSTS["client"], ["hostname"]) == "client\n"
    del tmp_path


def test_a_host_whose_start_was_killed_can_be_booted() -> None:
    """A cable and a namespace that are there already are replaced."""
    _boot_some()
    network.plug(HOSTS["cp"])
    hosts.boot(HOSTS["cp"])
    assert hosts.pid_of(HOSTS["cp"]) is not None


def test_verbs_without_a_lab_say_so() -> None:
    """Every verb that needs a lab says in one sentence how to get one."""
    for words in (("status",), ("kill", "cp"), ("heal",), ("exec", "cp", "--", "true")):
        done = relay_lab(*words)
        assert done.returncode == 1
        assert done.stderr == "relay-lab: The lab is not up: start it with `relay-lab up`.\n"


def test_without_root_it_says_what_is_missing() -> None:
    """An ordinary user gets one sentence."""
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--clear-groups", "/usr/bin/python3", "-c", _AS_USER],
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    if "ModuleNotFoundError" in done.stderr or "PermissionError" in done.stderr:
        pytest.skip("the repository is not readable to others")
    assert done.stdout == "The lab makes namespaces and needs root: run it with sudo.\n"


_AS_USER = """
from lab import preflight
from lab.errors import LabError
try:
    preflight.require_root()
except LabError as error:
    print(error)
"""


def test_status_counts_queued_mail_without_the_mirror() -> None:
    """`queue` counts what the node itself still owns: live queues and what was set aside.

    A message that cleanup(8) had not finished when the power went is none.
    """
    _boot_some()
    spool = HOSTS["node-a"].spool
    for place in ("postfix/deferred/A", "relay/pending/1/incoming", "relay/mirror/node-b/mail"):
        (spool / place).mkdir(parents=True)
        (spool / place / "4XyzABCDEFz1").touch(mode=0o700)
    (spool / "postfix/deferred/A/4XyzABCDEFz2").touch(mode=0o600)
    assert [path.parent for path in cluster.queue_files(HOSTS["node-a"])] == [
        spool / "postfix/deferred/A",
        spool / "relay/pending/1/incoming",
    ]
    assert cluster.status()["hosts"]["node-a"]["queue"] == 2


def test_status_knows_hosts_that_are_off() -> None:
    """A host that was never booted has no PID, no role and no VIP."""
    _boot_some()
    found = cluster.status()
    assert found["vip"] == "198.51.100.100"
    assert found["control_plane_url"] == "https://198.51.100.10:8443"
    assert found["admin"] == {"user": "admin", "password": "Admin123"}
    node = found["hosts"]["node-b"]
    assert (node["pid"], node["role"], node["vip"], node["generation"]) == (None, None, False, None)
    assert found["hosts"]["client"]["pid"] == hosts.pid_of(HOSTS["client"])


def test_waiting_for_a_pair_that_is_not_there_gives_the_reason() -> None:
    """The sentence names what is missing, after the time that was given."""
    _boot_some()
    done = relay_lab("wait", "ready", "--timeout", "0.3")
    assert done.returncode == 1
    assert done.stderr == "relay-lab: Not so within 0.3 s: cp is off.\n"


def test_settings_survive_and_are_readable_to_root_only() -> None:
    """What `up` was asked for is kept in a file of mode 0600."""
    Settings(database="postgres", push_interval_s=0.5).with_password("secret").save()
    assert load() == Settings("postgres", 0.5, 0.1, admin_password="secret")
    assert (STATE_DIR / "lab.json").stat().st_mode & 0o777 == 0o600


def test_two_commands_wait_for_one_another() -> None:
    """A verb that changes the lab waits while another one is at it."""
    _boot_some()
    with exclusive():
        waiting = subprocess.Popen(
            [".venv/bin/relay-lab", "heal"], stderr=subprocess.PIPE, text=True
        )
        assert waiting.stderr is not None
        line = waiting.stderr.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(1.5)
    assert waiting.wait(60) == 0
    assert line == "  waiting for another relay-lab to finish\n"
    assert waiting.stderr.read() == ""


def test_a_missing_program_is_named() -> None:
    """A program that is not there is named, with the way to get it."""
    assert not succeeds(["false"])
    with pytest.raises(Exception, match="no-such-program is missing on this machine: run `make"):
        run(["no-such-program"])
