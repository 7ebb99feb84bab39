"""A private, real Postfix instance below a temporary directory, on a loopback port of its own.

It runs in a control group of its own where the kernel has a freezer, so that the agent's freezers
meet what they meet on a relay. Its mail goes to a loopback port that the test chooses; nobody
listens there by default, so it is deferred.
"""

from __future__ import annotations

import os
import random
import shutil
import smtplib
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

MAIN_CF = """\
compatibility_level = 3.6
queue_directory = {queue}
data_directory = {data}
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
myhostname = test.invalid
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
enable_long_queue_ids = yes
service_throttle_time = 1s
relayhost = [127.0.0.1]:{next_hop}
minimal_backoff_time = 300s
maillog_file = {log}
maillog_file_prefixes = {root}
smtp_tls_security_level =
"""
MASTER_CF = """\
127.0.0.1:{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
flush unix n - n 1000? 0 flush
showq unix n - n - - showq
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
postlog unix-dgram n - n - 1 postlogd
"""


SUN_PATH_BYTES: Final = 108
"""With the NUL at its end; unix(7)."""
UNASSIGNED: Final = range(10_000, 32_000)
"""Ports below `ip_local_port_range`, from which the kernel takes those of clients."""
WORKER: Final = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
WORKERS: Final = os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")
OURS: Final = UNASSIGNED[int(WORKER) :: int(WORKERS)]
"""The share of this worker of pytest-xdist: the others do not know what it has given."""
_given: set[int] = set()


def free_port() -> int:
    """Return a loopback port that nobody has, and that nobody gets who asks for any port."""
    while True:
        port = random.choice(OURS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in _given:
            _given.add(port)
            return port


def freezer_cgroup(name: str) -> Path | None:
    """Make a control group with a freezer, v2 if the hierarchy has one, else v1."""
    for root in (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified")):
        if (root / "cgroup.controllers").exists():
            group = root / name
            group.mkdir(exist_ok=True)
            return group
    root = Path("/sys/fs/cgroup/freezer")
    if root.is_dir():
        (root / name).mkdir(exist_ok=True)
        return root / name
    return None


@dataclass
class PostfixInstance:
    """Start it, send to it, stop it; `next_hop` is where its mail goes."""

    root: Path
    port: int = field(default_factory=free_port)
    next_hop: int = field(default_factory=free_port)
    cgroup: Path | None = None

    @property
    def queue(self) -> Path:
        """Return the queue_directory."""
        return self.root / "spool/postfix"

    @property
    def config(self) -> Path:
        """Return the config_directory."""
        return self.root / "etc/postfix"

    def let_postfix_in(self) -> None:
        """Let Postfix's user pass through the directories above; each pytest run locks its own."""
        self.root.chmod(0o755)
        for parent in self.root.parents:
            if parent.stat().st_uid == os.getuid() and parent.name:
                parent.chmod(parent.stat().st_mode | 0o055)

    def write_config(self) -> None:
        """Write main.cf and master.cf and the directories they need.

        Whoever logs asks for postlogd(8) by its whole path: too long a one ends all without a word.
        """
        longest = self.queue / "public/postlog"
        assert len(bytes(longest)) < SUN_PATH_BYTES, f"{longest} is too long for a UNIX socket"
        self.let_postfix_in()
        for directory in (self.config, self.queue, self.root / "data"):
            directory.mkdir(parents=True, exist_ok=True)
        shutil.chown(self.root / "data", "postfix", "postfix")
        (self.config / "main.cf").write_text(
            MAIN_CF.format(
                queue=self.queue,
                data=self.root / "data",
                next_hop=self.next_hop,
                log=self.root / "mail.log",
                root=self.root,
            )
        )
        (self.config / "master.cf").write_text(MASTER_CF.format(port=self.port))

    def start(self) -> None:
        """Start it in its control group and wait for its banner."""
        self.write_config()
        self.cgroup = freezer_cgroup(f"relay-test-{os.getpid()}-{self.port}")

        def join() -> None:
            if self.cgroup is not None:
                (self.cgroup / "cgroup.procs").write_text(str(os.getpid()))

        done = subprocess.run(
            ["postfix", "-c", str(self.config), "start"],
            check=False,
            capture_output=True,
            preexec_fn=join,
        )
        assert done.returncode == 0, f"{done.stdout}{done.stderr}{self.last_log}"
        until_s = time.monotonic() + 60
        while time.monotonic() < until_s:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1) as probe:
                    if probe.recv(100).startswith(b"220"):
                        return
            except OSError:
                time.sleep(0.05)
        raise AssertionError(self.last_log)

    @property
    def last_log(self) -> str:
        """Return the end of what it logged."""
        log = self.root / "mail.log"
        return log.read_text(errors="replace")[-2000:] if log.exists() else ""

    def stop(self) -> None:
        """Stop it and remove its control group."""
        if self.cgroup is not None:
            for name, text in (("cgroup.freeze", "0"), ("freezer.state", "THAWED")):
                if (self.cgroup / name).exists():
                    (self.cgroup / name).write_text(text)
        command = ["postfix", "-c", str(self.config), "abort"]
        subprocess.run(command, check=False, capture_output=True)
        until_s = time.monotonic() + 10
        while self.cgroup is not None and time.monotonic() < until_s:
            try:
                self.cgroup.rmdir()
            except OSError:
                time.sleep(0.05)
            else:
                return

    def send(self, count: int = 1, sender: str = "a@test.invalid") -> None:
        """Have it accept `count` messages in one session."""
        with smtplib.SMTP("127.0.0.1", self.port, timeout=30) as client:
            for number in range(count):
                text = f"Subject: test {number}\r\n\r\nbody {number}\r\n"
                client.sendmail(sender, ["b@deliver.test"], text)

    def ids(self, *queues: str) -> set[str]:
        """Return the ids of messages in these queues (all that hold mail by default).

        Unlike rglob, a walk goes on when Postfix or the guard take a directory away beneath it.
        """
        return {
            name
            for queue in queues or ("incoming", "active", "deferred", "hold")
            for _, _, names in os.walk(self.queue / queue)
            for name in names
        }

    def empty(self) -> None:
        """Take away all mail and logs, while it runs, and what the guard set aside."""
        shutil.rmtree(self.queue.parent / "relay", ignore_errors=True)
        for queue in ("incoming", "active", "deferred", "hold", "defer", "bounce"):
            for root, _, names in os.walk(self.queue / queue):
                for name in names:
                    Path(root, name).unlink(missing_ok=True)

    def wait_until_deferred(self, count: int, limit_s: float = 30) -> None:
        """Wait until exactly `count` messages are in deferred and none elsewhere."""
        until_s = time.monotonic() + limit_s
        while len(self.ids("deferred")) != count or self.ids("incoming", "active"):
            assert time.monotonic() < until_s, (self.ids("deferred"), self.ids())
            time.sleep(0.05)
