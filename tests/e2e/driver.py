"""Drives a lab the way its users do, by `relay-lab`, with short cuts that only tests need."""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

from lab import cluster, hosts, network
from lab.cgroups import HostGroup
from lab.errors import LabError
from lab.layout import CGROUP_NAME, COMMANDS, HOSTS, NODES
from lab.lock import exclusive
from lab.provision import ControlPlane, open_session
from lab.settings import load

READY_S: Final = 90.0
UP_S: Final = 240.0
STEADY: Final = ("--advert-int", "0.3")
"""For a lab of functional tests: a machine that stands still for 0.3 s moves no VIP then."""
LAB_TEST_LIMIT_S: Final = 900
_OBSTACLES: Final = ("/run/relay-lab/disabled", "/run/relay/fault-point")
_MODE_FILE: Final = HOSTS["sink"].logs / "sink.mode"


class Failed(AssertionError):
    """A command of the lab failed; the message is what it said."""


class Disturbed(AssertionError):
    """Clients were refused or cut off."""


@cache
def claim_machine() -> None:
    """Keep other test runs' labs waiting until this process ends; the lock is held once."""
    claim = exclusive(limit_s=3600, name="\0relay-lab-tests")
    claim.__enter__()
    atexit.register(claim.__exit__, None, None, None)


def until(condition: Callable[[], bool], what: str, timeout_s: float = 60.0) -> None:
    """Wait until a condition holds, or fail saying what did not come true.

    A lab that cannot tell (a control plane that is busy, an agent that starts) is asked again.
    """
    deadline = time.monotonic() + timeout_s
    problem = ""
    while True:
        try:
            if condition():
                return
        except (LabError, Failed) as error:
            problem = f" ({error})"
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {what}{problem}")
        time.sleep(0.05)


class Lab:
    """One running lab."""

    def __init__(self, *options: str) -> None:
        self._options = options

    def run(self, *words: str, timeout_s: float = READY_S) -> str:
        """Run a verb of relay-lab and give its output."""
        done = subprocess.run(
            [COMMANDS / "relay-lab", *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s + 30,
            check=False,
        )
        if done.returncode != 0:
            said = f"{done.stderr.strip()}\n{done.stdout.strip()}"
            raise Failed(f"relay-lab {' '.join(words)}: {said}")
        return done.stdout

    def up(self) -> None:
        """Start afresh."""
        self.run("up", *self._options, timeout_s=UP_S)

    def down(self) -> None:
        """Remove the lab."""
        self.run("down")

    def kill(self, host: str) -> None:
        """Cut a host's power."""
        self.run("kill", host)

    def boot(self, host: str) -> None:
        """Start a host from its disk."""
        self.run("boot", host)

    def reboot(self, host: str) -> None:
        """Shut a host down cleanly and start it again."""
        self.run("reboot", host)

    def pause(self, host: str) -> None:
        """Make a host stand still."""
        self.run("pause", host)

    def resume(self, host: str) -> None:
        """Let a host go on."""
        self.run("resume", host)

    def cut(self, *hosts: str) -> None:
        """Drop the packets of a host or between two."""
        self.run("cut", *hosts)

    def heal(self) -> None:
        """Undo every cut."""
        self.run("heal")

    def wait(self, condition: str, timeout_s: float = READY_S) -> None:
        """Wait for `ready` or `active=HOST`."""
        self.run("wait", condition, "--timeout", f"{timeout_s:g}", timeout_s=timeout_s)

    def status(self) -> dict[str, Any]:
        """Give what `relay-lab status --json` says."""
        answer: dict[str, Any] = json.loads(self.run("status", "--json"))
        return answer

    def host(self, name: str) -> dict[str, Any]:
        """Give what the status says of one host."""
        answer: dict[str, Any] = self.status()["hosts"][name]
        return answer

    def is_on(self, host: str) -> bool:
        """Tell whether a host has power, paused or not."""
        return hosts.pid_of(HOSTS[host]) is not None

    def is_running(self, host: str) -> bool:
        """Tell whether a host has power and does not stand still."""
        return self.is_on(host) and not HostGroup(host).is_frozen

    def active(self) -> str:
        """Name the node that has the VIP; while it moves, that is waited for."""
        until(lambda: len(network.vip_holders()) == 1, "one node has the VIP")
        return network.vip_holders()[0]

    def standby(self) -> str:
        """Name the other node."""
        active = self.active()
        return str(next(name for name in NODES if name != active))

    def execute(self, host: str, *command: str, timeout_s: float = 30.0) -> str:
        """Run a command inside a host and give its output; it must end well."""
        return self.run("exec", host, "--", *command, timeout_s=timeout_s)

    def agent_status(self, node: str) -> dict[str, Any]:
        """Give what `relay-agent status --json` says there."""
        answer: dict[str, Any] = json.loads(self.execute(node, "relay-agent", "status", "--json"))
        return answer

    def api(self) -> ControlPlane:
        """Log in to the control plane's REST API."""
        return open_session(load())

    def log(self, host: str, service: str) -> str:
        """Give a service's log, `mail` and `syslog` among them."""
        path = HOSTS[host].logs / f"{service}.log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def set_sink(self, mode: str) -> None:
        """Have the sink `accept`, `defer`, `refuse` or be `slow`."""
        replacement = _MODE_FILE.with_suffix(".new")
        replacement.write_text(mode, encoding="ascii")
        replacement.rename(_MODE_FILE)

    def disable(self, host: str, service: str) -> None:
        """Have a service not started again once it ends."""
        self.execute(host, "install", "-D", "/dev/null", f"/run/relay-lab/disabled/{service}")

    def enable(self, host: str, service: str) -> None:
        """Have a service started again."""
        self.execute(host, "rm", "-f", f"/run/relay-lab/disabled/{service}")

    def signal(self, host: str, service: str, number: signal.Signals) -> None:
        """Send a signal to every process of a service, postfix among them."""
        for pid in self.pids(host, service):
            os.kill(pid, number)

    def pids(self, host: str, service: str) -> list[int]:
        """Give the processes of a service as this machine numbers them."""
        for root in (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified")):
            group = root / CGROUP_NAME / host / service / "cgroup.procs"
            if group.exists():
                return [int(word) for word in group.read_text(encoding="ascii").split()]
        return []

    def end_for_good(self, host: str, service: str) -> None:
        """Kill a service and keep it from being started again."""
        self.disable(host, service)
        self.signal(host, service, signal.SIGKILL)
        until(lambda: not self.pids(host, service), f"{service} on {host} is gone")

    def die_at(self, host: str, point: str) -> None:
        """Have the agent or guard die by SIGKILL when it next reaches a fault point."""
        self.execute(host, "install", "-d", "/run/relay")
        self.execute(host, "sh", "-c", f"echo {point} > /run/relay/fault-point.new")
        self.execute(host, "mv", "/run/relay/fault-point.new", "/run/relay/fault-point")

    def has_died_at(self, host: str) -> bool:
        """Tell whether the fault point was reached: the file that names it is gone."""
        done = subprocess.run(
            [COMMANDS / "relay-lab", "exec", host, "--", "test", "-e", "/run/relay/fault-point"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        return done.returncode == 1

    def takeovers(self) -> int:
        """Count how often a node has taken the VIP since the lab came up."""
        return sum(self.log(node, "keepalived").count("Entering MASTER STATE") for node in NODES)

    def queue_sizes(self) -> dict[str, int]:
        """Count each node's own mail, pending included."""
        return {name: len(cluster.queue_files(HOSTS[name])) for name in NODES}

    @contextmanager
    def sink_set(self, mode: str) -> Iterator[None]:
        """Have the sink answer so for a while."""
        self.set_sink(mode)
        try:
            yield
        finally:
            self.set_sink("accept")

    def repair(self) -> None:
        """Bring a lab that a test left in any state back to ready, with empty queues."""
        self.heal()
        for host in HOSTS.values():
            if hosts.pid_of(host) is None:
                hosts.boot(host)
            if HostGroup(host.name).is_frozen:
                hosts.resume(host)
        self.set_sink("accept")
        for node in NODES:
            hosts.run_inside(HOSTS[node], ("rm", "-rf", *_OBSTACLES))
            for service in ("agent", "guard", "keepalived", "policy"):
                self.signal(node, service, signal.SIGCONT)
        cluster.wait_for("ready", READY_S)
        for node in NODES:
            hosts.run_inside(HOSTS[node], ("postsuper", "-d", "ALL", "hold"))
            hosts.run_inside(HOSTS[node], ("postqueue", "-f"))
        try:
            until(lambda: not any(self.queue_sizes().values()), "the queues are empty", READY_S)
        except AssertionError as error:
            left = [str(path) for node in NODES for path in cluster.queue_files(HOSTS[node])]
            raise AssertionError(f"{error}, but {left[:20]}") from None
