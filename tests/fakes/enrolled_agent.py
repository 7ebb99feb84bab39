"""A node agent reduced to its key: it enrols, signs its requests, and sends what it is told."""

from __future__ import annotations

import time
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi.testclient import TestClient
from pydantic import BaseModel

from nodeagent.core.agent_api import AGENT_API, TOKEN_AUDIENCE
from nodeagent.core.stream_wire import PACKED_MEDIA_TYPE, Batch, pack

SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAbcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHostHostHostHostHostHostHostHostHostHostHos"


class EnrolledAgent:
    """One node's side of the agent API over a test client."""

    def __init__(self, client: TestClient, node: str) -> None:
        self.client = client
        self.node = node
        self.key = Ed25519PrivateKey.generate()

    def public_key_pem(self) -> str:
        """Return the public half of the key."""
        return (
            self.key.public_key()
            .public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
            .decode()
        )

    def enrol(self, token: str, **overrides: Any) -> Any:
        """Send the token and the public keys; return the raw answer."""
        body = {
            "token": token,
            "node": self.node,
            "public_key_pem": self.public_key_pem(),
            "ssh_public_key": SSH_KEY,
            "ssh_host_keys": [HOST_KEY],
        }
        return self.client.post(AGENT_API["enrol"], json=body | overrides)

    def token(self, **overrides: Any) -> str:
        """Return a signed request token; overrides of None drop a claim."""
        now_s = int(time.time())
        claims: dict[str, Any] = {
            "iss": self.node,
            "aud": TOKEN_AUDIENCE,
            "iat": now_s,
            "exp": now_s + 60,
            "jti": "1",
        }
        claims |= overrides
        kept = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(kept, self.key, algorithm="EdDSA")

    def post(self, call: str, body: BaseModel | dict[str, Any], token: str | None = None) -> Any:
        """Make one call; return the raw answer."""
        content = body.model_dump(mode="json") if isinstance(body, BaseModel) else body
        headers = {"Authorization": f"Bearer {token or self.token()}"}
        return self.client.post(AGENT_API[call], json=content, headers=headers)

    def get(self, call: str) -> Any:
        """Read something; return the raw answer."""
        headers = {"Authorization": f"Bearer {self.token()}"}
        return self.client.get(AGENT_API[call], headers=headers)

    def bring(self, call: str, body: Batch[Any] | bytes) -> Any:
        """Bring a batch of a log, or what claims to be one, packed; return the raw answer."""
        content = body if isinstance(body, bytes) else pack(body)
        headers = {"Authorization": f"Bearer {self.token()}", "Content-Type": PACKED_MEDIA_TYPE}
        return self.client.post(AGENT_API[call], content=content, headers=headers)
