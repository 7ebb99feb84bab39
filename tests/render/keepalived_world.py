"""Network namespaces with real keepalived processes that run what was rendered."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from controlplane.core.render import render
from controlplane.core.spec import ClusterSpec
from tests.render.specs import by_path

PATIENCE_S = 60


def ip(*arguments: str) -> str:
    """Run the program of iproute2 and return what it prints."""
    done = subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
    return done.stdout


@contextmanager
def namespaces(count: int) -> Iterator[list[str]]:
    """Give `count` namespaces, each with an eth0 on one bridge."""
    names = [f"rt{os.getpid()}{letter}" for letter in "abcdef"[:count]]
    switch = f"rt{os.getpid()}s"
    for name in (*names, switch):
        ip("netns", "add", name)
    try:
        ip("-n", switch, "link", "add", "br0", "type", "bridge")
        ip("-n", switch, "link", "set", "br0", "up")
        for number, name in enumerate(names):
            port = f"p{number}"
            ip("-n", switch, "link", "add", port, "type", "veth", "peer", "eth0", "netns", name)
            ip("-n", switch, "link", "set", port, "master", "br0", "up")
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "link", "set", "eth0", "up")
        yield names
    finally:
        for name in (*names, switch):
            ip("netns", "del", name)


@dataclass
class Host:
    """One node of a spec in its namespace; its files lie below a directory of its own."""

    namespace: str
    spec: ClusterSpec
    node: str
    root: Path
    events: list[str] = field(default_factory=list)
    _processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def write(self) -> Path:
        """Write the rendered files with their paths moved below `root`."""
        self.root.mkdir(exist_ok=True)
        files = by_path(render(self.spec, self.node))
        (self.root / "check_smtp").write_text(files["/etc/keepalived/check_smtp"].content)
        text = files["/etc/keepalived/keepalived.conf"].content
        text = text.replace("/run/relay/", f"{self.root}/")
        text = text.replace("/etc/keepalived/check_smtp", f"{self.root}/check_smtp")
        path = self.root / "keepalived.conf"
        path.write_text(text)
        return path

    def start(self) -> None:
        """Start everything."""
        self.prepare()
        self.start_keepalived()

    def prepare(self) -> None:
        """Set the node's address, write its files, start its mail server and read its fifo."""
        address = f"{self.spec.node(self.node).address}/24"
        ip("-n", self.namespace, "addr", "add", address, "dev", "eth0")
        self.write()
        fifo = self.root / "vrrp.fifo"
        os.mkfifo(fifo)
        threading.Thread(target=self._read, args=(fifo,), daemon=True).start()
        self.start_mail_server()

    def start_keepalived(self) -> None:
        """Start keepalived with the rendered file."""
        pid_files = ("-p", str(self.root / "pid"), "-r", str(self.root / "vrrp.pid"))
        options = ("--dont-fork", "--log-console", "--log-detail", "--vrrp")
        config = str(self.root / "keepalived.conf")
        self._spawn("keepalived", *options, "-f", config, *pid_files)

    def start_mail_server(self) -> None:
        """Start a server on port 25 of the namespace and wait until it listens."""
        script = Path(__file__).parent / "tiny_smtp.py"
        self._spawn("python3", str(script))
        wait_until(lambda: self.check() == 0, lambda: "the mail server did not start")

    def check(self) -> int:
        """Run the rendered check script once."""
        command = ["ip", "netns", "exec", self.namespace, "bash", str(self.root / "check_smtp")]
        return subprocess.run(command, capture_output=True, check=False).returncode

    def _spawn(self, *command: str) -> None:
        with (self.root / "log").open("ab") as log:
            self._processes.append(
                subprocess.Popen(
                    ["ip", "netns", "exec", self.namespace, *command], stdout=log, stderr=log
                )
            )

    def _read(self, fifo: Path) -> None:
        with os.fdopen(os.open(fifo, os.O_RDWR), "r") as lines:
            for line in lines:
                self.events.append(line.strip())

    @property
    def keepalived(self) -> subprocess.Popen[bytes]:
        """Return keepalived's own process (`ip netns exec` replaces itself)."""
        return next(one for one in self._processes if b"keepalived" in _command_line(one.pid))

    @property
    def mail_server(self) -> subprocess.Popen[bytes]:
        """Return the mail server that was started last."""
        found = [one for one in self._processes if b"tiny_smtp" in _command_line(one.pid)]
        return found[-1]

    def states(self) -> list[str]:
        """Return the states told by the fifo, in order."""
        return [event.split()[2] for event in self.events if event.startswith("INSTANCE")]

    def addresses(self) -> set[str]:
        """Return the addresses on eth0."""
        links = json.loads(ip("-j", "-n", self.namespace, "addr", "show", "dev", "eth0"))
        return {address["local"] for link in links for address in link["addr_info"]}

    def set_fault(self, value: int) -> None:
        """Write the track file as the agent does."""
        (self.root / "fault").write_text(f"{value}\n")

    def log(self) -> str:
        """Return what keepalived logged."""
        return (self.root / "log").read_text()

    def stop(self) -> None:
        """End every process that was started here."""
        for process in reversed(self._processes):
            process.terminate()
        for process in self._processes:
            process.wait(60)


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def wait_until(
    condition: Callable[[], bool], what: Callable[[], str], limit_s: float = PATIENCE_S
) -> None:
    """Wait for what a daemon does in its own time; fail with what `what` says."""
    until_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < until_s, what()
        time.sleep(0.02)


def stop_all(hosts: Sequence[Host]) -> None:
    """Stop several hosts."""
    for host in hosts:
        host.stop()
