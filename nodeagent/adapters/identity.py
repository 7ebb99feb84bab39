"""The node's keys: made here, never leaving this host; only their public halves are sent."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from pathlib import Path

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from nodeagent.adapters.durable import write_durably
from nodeagent.adapters.ssh_key import SshKey
from nodeagent.core.agent_api import TOKEN_AUDIENCE
from nodeagent.errors import BrokenState

TOKEN_LIFE_S = 60


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only root may read, making the directories above it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_durably(path, data)


class Identity:
    """The node's name, its signing key and its SSH key, below the state directory."""

    def __init__(self, state_directory: Path, clock: Callable[[], float] = time.time) -> None:
        self._directory = state_directory
        self._clock = clock
        self._key: Ed25519PrivateKey | None = None
        self._token, self._signed_at_s = "", -TOKEN_LIFE_S
        self.ssh_key = SshKey(state_directory / "ssh")

    @property
    def ca_file(self) -> Path:
        """The control plane's CA, trusted since enrolment."""
        return self._directory / "ca.pem"

    def is_enrolled(self) -> bool:
        """Tell whether this node has been enrolled."""
        return (self._directory / "node").exists() and self.ca_file.exists()

    def ca_pem(self) -> str:
        """Return the control plane's CA; raises `BrokenState` before enrolment."""
        return self._read("ca.pem")

    def node(self) -> str:
        """Return the node's name; raises `BrokenState` before enrolment."""
        return self._read("node").strip()

    def url(self) -> str:
        """Return the control plane's URL as given at enrolment."""
        return self._read("url").strip()

    def _read(self, name: str) -> str:
        try:
            return (self._directory / name).read_text()
        except OSError as error:
            raise BrokenState("This node is not enrolled: run `relay-agent enrol`.") from error

    def save_enrolment(self, node: str, url: str, ca_pem: str) -> None:
        """Note the answer to an enrolment; the node's name comes last and completes it."""
        write_private(self.ca_file, ca_pem.encode())
        write_private(self._directory / "url", url.encode())
        write_private(self._directory / "node", node.encode())

    def make_keys(self) -> None:
        """Make what is missing; an existing key is kept."""
        path = self._directory / "agent.key"
        if not path.exists():
            write_private(
                path,
                Ed25519PrivateKey.generate().private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                ),
            )
        self.ssh_key.make()

    def _signing_key(self) -> Ed25519PrivateKey:
        if self._key is None:
            data = self._read("agent.key").encode()
            key = serialization.load_pem_private_key(data, password=None)
            if not isinstance(key, Ed25519PrivateKey):
                raise BrokenState("The node's key is not an Ed25519 key.")
            self._key = key
        return self._key

    def public_key_pem(self) -> str:
        """Return the public half of the signing key."""
        public = self._signing_key().public_key()
        return public.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ).decode()

    def token(self) -> str:
        """Return a short-lived signed token (RFC 7519, EdDSA).

        The same one is returned for half its life: the control plane checks each signature once.
        """
        now_s = int(self._clock())
        if not 0 <= now_s - self._signed_at_s < TOKEN_LIFE_S // 2:
            claims = {
                "iss": self.node(),
                "aud": TOKEN_AUDIENCE,
                "iat": now_s,
                "exp": now_s + TOKEN_LIFE_S,
                "jti": uuid.uuid4().hex,
            }
            self._token = jwt.encode(claims, self._signing_key(), algorithm="EdDSA")
            self._signed_at_s = now_s
        return self._token


def ssh_host_keys(directory: Path = Path("/etc/ssh")) -> tuple[str, ...]:
    """Return this host's public SSH host keys as "type base64", sorted, Ed25519 first."""
    found = []
    for path in directory.glob("ssh_host_*_key.pub"):
        words = path.read_text().split()
        if len(words) >= 2:  # noqa: PLR2004 - type and key
            found.append(" ".join(words[:2]))
    return tuple(sorted(found, key=lambda key: (not key.startswith("ssh-ed25519"), key)))
