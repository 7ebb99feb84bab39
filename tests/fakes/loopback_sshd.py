"""A real sshd(8) on a loopback port, with keys and configuration of its own below a directory."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from nodeagent.adapters.peer import PeerAddress, PeerLink, SshFiles
from tests.fakes.postfix_instance import free_port

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIG = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {root}/host_key
AuthorizedKeysFile {root}/authorized_keys
PidFile {root}/sshd.pid
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
MaxStartups 100
"""


class LoopbackSshd:
    """Lets one key in, as `peer`, to the receiver and to nothing else."""

    def __init__(self, root: Path, peer: str = "node-a") -> None:
        self.root = root
        self.peer = peer
        self.port = free_port()
        self.relay = root / "relay"
        self.state = root / "state"
        self.run = Path(tempfile.mkdtemp(prefix="relay-")) / "run"  # ssh(1) wants short paths
        root.mkdir(parents=True, exist_ok=True)
        for name in ("host_key", "id"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(root / name)]
            subprocess.run(command, check=True)
        self.allow()
        self.trust((root / "host_key.pub").read_text())
        (root / "sshd_config").write_text(CONFIG.format(port=self.port, root=root))
        self._process: subprocess.Popen[bytes] | None = None

    def allow(self) -> None:
        """Write authorized_keys: a forced command and no other right."""
        receiver = f"env PYTHONPATH={REPOSITORY} {sys.executable} -m nodeagent.receive"
        receiver += f" --relay {self.relay} --state {self.state} {self.peer}"
        key = (self.root / "id.pub").read_text()
        (self.root / "authorized_keys").write_text(f'command="{receiver}",restrict {key}')

    def trust(self, host_key: str) -> None:
        """Write known_hosts."""
        (self.root / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {host_key}")

    def start(self) -> None:
        """Start it and wait until it answers."""
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        command = ["/usr/sbin/sshd", "-D", "-e", "-f", str(self.root / "sshd_config")]
        with (self.root / "sshd.log").open("ab") as log:
            self._process = subprocess.Popen(command, stderr=log)
        until_s = time.monotonic() + 60
        while time.monotonic() < until_s:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                    return
            except OSError:
                time.sleep(0.02)
        raise AssertionError((self.root / "sshd.log").read_text())

    def stop(self) -> None:
        """Stop listening, end every connection and remove their sockets."""
        if self._process is not None:
            children = f"/proc/{self._process.pid}/task/{self._process.pid}/children"
            for pid in Path(children).read_text().split():
                subprocess.run(["kill", pid], check=False)
            self._process.terminate()
            self._process.wait(10)
            self._process = None
        shutil.rmtree(self.run.parent, ignore_errors=True)

    def link(self) -> PeerLink:
        """Return a connection to it."""
        files = SshFiles(
            self.root / "id", self.root / "known_hosts", self.run, connect_timeout_s=60
        )
        return PeerLink(PeerAddress("node-b", "127.0.0.1", "root", self.port), files)

    def ssh(self, command: str) -> subprocess.CompletedProcess[str]:
        """Ask for any command with the peer's key."""
        words = ["ssh", "-F", "/dev/null", "-T", "-p", str(self.port), "-i", str(self.root / "id")]
        words += ["-o", f"UserKnownHostsFile={self.root / 'known_hosts'}", "-o", "BatchMode=yes"]
        words += ["root@127.0.0.1", command]
        return subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
