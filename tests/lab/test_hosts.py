"""Hosts: what is their own, what survives a loss of power, and what `exec` passes through."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lab import hosts, network
from lab.cgroups import HostGroup
from lab.layout import CGROUP_NAME, COMMANDS, HOSTS
from tests.lab.conftest import relay_lab
from tests.lab.probe import can_reach, until

Run = Callable[..., str]
BEATS = "(while sleep 0.02; do date; done) >/var/spool/beats 2>&1 &"
SSH_KEY = "/etc/ssh/ssh_host_ed25519_key.pub"


def test_a_host_has_its_own_name_processes_and_address(run: Run) -> None:
    """The host's commands see its host name, its PID 1 and its one address."""
    assert run("exec", "client", "--", "hostname").strip() == "client"
    assert "lab.init" in run("exec", "client", "--", "cat", "/proc/1/cmdline")
    assert network.addresses(HOSTS["client"]) == ("198.51.100.30",)
    assert run("exec", "client", "--", "hostname", "-i").strip() == "198.51.100.30"


def test_a_host_writes_to_a_disk_of_its_own(run: Run) -> None:
    """What one host writes below /etc is seen neither by another nor by this machine."""
    run("exec", "client", "--", "touch", "/etc/written-in-client")
    assert not Path("/etc/written-in-client").exists()
    assert relay_lab("exec", "sink", "--", "test", "-e", "/etc/written-in-client").returncode == 1


def test_power_loss_keeps_the_disk_and_nothing_else(run: Run) -> None:
    """After kill and boot, /etc and /var/spool are there; /run, /tmp and processes are not."""
    for path in ("/etc/kept", "/var/spool/kept", "/run/gone", "/tmp/gone"):
        run("exec", "client", "--", "touch", path)
    before = hosts.pid_of(HOSTS["client"])
    run("kill", "client")
    assert hosts.pid_of(HOSTS["client"]) is None
    assert not Path(f"/proc/{before}").exists()
    run("boot", "client")
    for path, code in (
        ("/etc/kept", 0),
        ("/var/spool/kept", 0),
        ("/run/gone", 1),
        ("/tmp/gone", 1),
    ):
        assert relay_lab("exec", "client", "--", "test", "-e", path).returncode == code, path


def test_power_loss_takes_every_process_and_address_along(run: Run) -> None:
    """No process of the host is left, and its addresses answer no more."""
    until(lambda: can_reach("client", "198.51.100.11", 22), "sshd runs on node-a", 30)
    group = HostGroup("node-a")
    pids = group.pids()
    assert len(pids) > 2
    run("kill", "node-a")
    assert group.pids() == set()
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert network.addresses(HOSTS["node-a"]) == ()
    assert not can_reach("client", "198.51.100.11", 22)


def test_power_loss_takes_a_paused_host_too(run: Run) -> None:
    """A host that stands still can be killed and booted like any other."""
    run("pause", "client")
    run("kill", "client")
    run("boot", "client")
    assert run("exec", "client", "--", "echo", "back").strip() == "back"


def test_power_loss_ends_processes_that_something_in_the_host_froze(run: Run) -> None:
    """Postfix frozen by the agent at the moment of the power loss dies as well."""
    until(lambda: can_reach("node-a", "127.0.0.1", 25), "Postfix runs on node-a", 30)
    for root in (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified")):
        freezer = root / CGROUP_NAME / "node-a/postfix/cgroup.freeze"
        if freezer.exists():
            freezer.write_text("1")
    run("kill", "node-a")
    assert HostGroup("node-a").pids() == set()
    run("boot", "node-a")
    until(lambda: can_reach("node-a", "127.0.0.1", 25), "Postfix runs again", 30)


def test_every_boot_has_its_own_boot_id(run: Run) -> None:
    """The kernel's boot id differs between hosts and between two boots of one."""
    read = ("cat", "/proc/sys/kernel/random/boot_id")
    first, other = run("exec", "client", "--", *read), run("exec", "sink", "--", *read)
    run("kill", "client")
    run("boot", "client")
    assert len({first, other, run("exec", "client", "--", *read)}) == 3


def test_the_spool_renames_and_links_as_a_plain_filesystem(run: Run) -> None:
    """Directories of /var/spool can be renamed and files hard-linked, as adoption needs it."""
    script = "cd /var/spool && mkdir -p a && touch a/f && ln a/f g && mv a b && stat -c %h b/f"
    assert run("exec", "client", "--", "sh", "-ec", script).strip() == "2"


def test_hosts_have_ssh_keys_of_their_own(run: Run) -> None:
    """No two hosts share a host key, and none has this machine's."""
    keys = {run("exec", name, "--", "cat", SSH_KEY) for name in ("client", "sink", "node-a")}
    assert len(keys) == 3
    machine = Path(SSH_KEY)
    assert not machine.exists() or machine.read_text() not in keys


def test_a_standing_host_goes_on_where_it_stood(run: Run) -> None:
    """A process of a paused host makes no progress; after resume it goes on."""
    run("exec", "client", "--", "sh", "-c", BEATS)
    beats = HOSTS["client"].spool / "beats"
    until(beats.exists, "the process began")
    run("pause", "client")
    size = beats.stat().st_size
    time.sleep(0.3)
    assert beats.stat().st_size == size
    assert relay_lab("exec", "client", "--", "true").returncode == 1
    run("resume", "client")
    until(lambda: beats.stat().st_size > size, "the process went on")


def test_pause_and_resume_say_what_shall_be(run: Run) -> None:
    """A host that stands still may be told again, and one that runs may be resumed."""
    for verb in ("resume", "pause", "pause", "resume", "resume"):
        run(verb, "client")
    assert run("exec", "client", "--", "echo", "on").strip() == "on"


def test_a_paused_host_breaks_no_connection(run: Run) -> None:
    """The kernel of a paused host still takes connections, as that of a stopped process does."""
    run("pause", "sink")
    try:
        until(lambda: can_reach("client", "198.51.100.20", 25), "the sink's kernel answers", 30)
    finally:
        run("resume", "sink")


@pytest.mark.parametrize("code", [0, 1, 37, 255])
def test_exec_passes_the_exit_code_through(run: Run, code: int) -> None:
    """The command's exit code is relay-lab's own."""
    del run
    assert relay_lab("exec", "client", "--", "sh", "-c", f"exit {code}").returncode == code


def test_exec_passes_a_deadly_signal_through(run: Run) -> None:
    """A command that dies by a signal makes relay-lab die by the same."""
    del run
    assert relay_lab("exec", "client", "--", "sh", "-c", "kill -TERM $$").returncode == -15
    assert relay_lab("exec", "client", "--", "sh", "-c", "kill -KILL $$").returncode == -9


def test_exec_passes_output_and_options_through(run: Run) -> None:
    """Standard output and error arrive apart, and options after -- belong to the command."""
    del run
    done = relay_lab("exec", "client", "--", "sh", "-c", "echo out; echo err >&2", "--help")
    assert (done.stdout, done.stderr) == ("out\n", "err\n")
    assert relay_lab("exec", "client", "--", "echo", "--", "-x").stdout == "-- -x\n"


def test_exec_passes_its_input_through(run: Run) -> None:
    """A message can be piped into a host."""
    del run
    done = subprocess.run(
        [COMMANDS / "relay-lab", "exec", "client", "--", "cat"],
        input="a line\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "a line\n")


def test_exec_without_dashes_works_too(run: Run) -> None:
    """`relay-lab exec HOST COMMAND -option` is understood."""
    assert run("exec", "client", "echo", "-n", "a") == "a"


def test_exec_of_nothing_known_is_code_127(run: Run) -> None:
    """A command that does not exist ends as in a shell."""
    del run
    assert relay_lab("exec", "client", "--", "no-such-command").returncode == 127


def test_exec_that_is_killed_takes_its_command_along(run: Run) -> None:
    """SIGKILL to `relay-lab exec` leaves nothing running in the host."""
    marker = "86399.5"
    script = f"echo $$ > /run/sleeper; exec sleep {marker}"
    pid = os.spawnvp(
        os.P_NOWAIT,
        ".venv/bin/relay-lab",
        ["relay-lab", "exec", "client", "--", "sh", "-c", script],
    )
    until(lambda: marker in _command_lines("client"), "the command runs")
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    until(lambda: marker not in _command_lines("client"), "the command is gone")
    run("exec", "client", "--", "true")


def _command_lines(host: str) -> str:
    found = []
    for pid in HostGroup(host).pids():
        path = Path(f"/proc/{pid}/cmdline")
        if path.exists():
            found.append(path.read_bytes().replace(b"\0", b" ").decode())
    return "\n".join(found)


def test_a_clean_reboot_stops_services_before_it_boots(run: Run) -> None:
    """Postfix is stopped by its own command, not killed, and runs again afterwards."""
    until(lambda: can_reach("node-a", "127.0.0.1", 25), "Postfix runs on node-a", 30)
    before = hosts.pid_of(HOSTS["node-a"])
    run("reboot", "node-a")
    assert hosts.pid_of(HOSTS["node-a"]) not in {None, before}
    log = (HOSTS["node-a"].logs / "mail.log").read_text()
    assert re.search(r"stopping the Postfix mail system.*\n.*terminating on signal 15", log)
    until(lambda: can_reach("node-a", "127.0.0.1", 25), "Postfix runs again", 30)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("boot", "client"), "client is on already."),
        (("kill", "cp"), "cp is off; `relay-lab boot cp` starts it."),
        (("exec", "cp", "--", "true"), "cp is off; `relay-lab boot cp` starts it."),
        (("kill", "node-c"), "There is no host 'node-c'; there are cp, node-a"),
        (("cut", "client", "moon"), "There is no host 'moon'"),
        (("wait", "never"), "Cannot wait for 'never': say ready"),
        (("wait", "active=sink"), "Cannot wait for 'active=sink'"),
    ],
)
def test_a_wrong_request_is_one_sentence(run: Run, words: tuple[str, ...], sentence: str) -> None:
    """Whatever cannot be done ends with code 1 and one sentence, without a traceback."""
    del run
    done = relay_lab(*words)
    assert done.returncode == 1
    assert done.stderr.startswith(f"relay-lab: {sentence}")
    assert len(done.stderr.splitlines()) == 1
