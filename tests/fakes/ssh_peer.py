"""Two nodes: one that replaces its SSH key, and a peer whose real sshd lets it in."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from nodeagent.adapters import ssh_files
from nodeagent.adapters.peer import PeerAddress, PeerLink, SshFiles
from nodeagent.adapters.ssh_key import SshKey
from nodeagent.core.contract import HeartbeatAnswer, HeartbeatRequest, NodeReport, Role
from nodeagent.core.ssh_wire import GivenKey, GivenKeyQuestion
from nodeagent.errors import Refused
from nodeagent.key_rotation import KeyRotation
from tests.fakes.enrolled_agent import EnrolledAgent
from tests.fakes.loopback_sshd import REPOSITORY, LoopbackSshd

SSH = "/api/v1/ssh"
LIMIT_S = 120.0


def beat(agent: EnrolledAgent, **changes: Any) -> HeartbeatAnswer:
    """Send a heartbeat."""
    request = HeartbeatRequest(report=NodeReport(role=Role.STANDBY), **changes)
    answer = agent.post("heartbeat", request)
    assert answer.status_code == 200, answer.text
    return HeartbeatAnswer.model_validate_json(answer.content)


def shown(client: TestClient, node: str = "node-a") -> dict[str, Any]:
    """Return what the API says of a node's keys."""
    views: list[dict[str, Any]] = client.get(SSH).json()
    return next(view for view in views if view["node"] == node)


class Peer:
    """node-b on a real sshd, which lets in what its view of the cluster says."""

    def __init__(self, root: Path) -> None:
        self.sshd = LoopbackSshd(root)
        config = root / "sshd_config"
        config.write_text(f"{config.read_text()}ListenAddress 127.0.0.2\n")
        self.host_key = " ".join((root / "host_key.pub").read_text().split()[:2])
        (root / "known_hosts").write_text(f"[127.0.0.2]:{self.sshd.port} {self.host_key}\n")
        program = f"env PYTHONPATH={REPOSITORY} {sys.executable} -m nodeagent.receive"
        self.receiver = f"{program} --relay {self.sshd.relay} --state {self.sshd.state}"
        self.sshd.start()

    def follow(self, agent: EnrolledAgent) -> None:
        """Take one heartbeat and write authorized_keys as the agent does."""
        view = beat(agent, ssh_host_keys=(self.host_key,)).view
        text = ssh_files._authorized_keys(view.peers, self.receiver)
        (self.sshd.root / "authorized_keys").write_text(text)

    def files(self, identity: Path) -> SshFiles:
        """Return what a node reaches it with."""
        known_hosts = self.sshd.root / "known_hosts"
        return SshFiles(identity, known_hosts, self.sshd.run, connect_timeout_s=60)

    def ping(self, identity: Path) -> None:
        """Reach the receiver over a fresh connection with this key; raises `Unreachable`."""
        address = PeerAddress("node-b", "127.0.0.2", "root", self.sshd.port)
        link = PeerLink(address, self.files(identity))
        try:
            link.ask({"op": "ping"})
        finally:
            link.close()


class Rotating:
    """node-a with a key on its disk, which it replaces when the control plane asks for it."""

    def __init__(self, agent: EnrolledAgent, peer: Peer, directory: Path) -> None:
        self.agent = agent
        self.peer = peer
        self.key = SshKey(directory)
        self.key.make()
        self.notes: list[tuple[str, str]] = []
        self.rotation = KeyRotation(
            self.key,
            peer.files(self.key.file),
            self.fetch,
            lambda *note: self.notes.append(note),
            lambda: None,
        )
        beat(agent, ssh_public_key=self.key.public_key())

    def fetch(self, public_key: str) -> str:
        """Fetch the private half of a key that was brought along, as `ControlPlaneClient` does."""
        answer = self.agent.post("ssh_key", GivenKeyQuestion(public_key=public_key))
        if answer.status_code != 200:
            raise Refused(answer.json()["detail"])
        return GivenKey.model_validate_json(answer.content).private_key.get_secret_value()

    def step(self) -> HeartbeatAnswer:
        """Show both keys and follow the answer."""
        public, following = self.key.shown()
        answer = beat(self.agent, ssh_public_key=public, ssh_next_public_key=following)
        self.rotation.follow(answer.ssh_replace, answer.ssh_replace_by, answer.view.peers)
        return answer

    def rotate(self, client: TestClient, other: EnrolledAgent) -> None:
        """Go on until the rotation is over; at each moment the key in use must be let in."""
        until_s = time.monotonic() + LIMIT_S
        while shown(client)["is_rotating"]:
            assert time.monotonic() < until_s, self.notes
            self.step()
            self.peer.ping(self.key.file)
            self.peer.follow(other)
            self.peer.ping(self.key.file)
        self.rotation.stop()
