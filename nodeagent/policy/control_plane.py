"""The courier's calls of the control plane, over the agent's own client."""

from __future__ import annotations

from typing import Final

from pydantic import ValidationError

from nodeagent.adapters.api_client import LONG_TIMEOUT_S, ControlPlaneClient
from nodeagent.core.stream_wire import StreamAnswer, pack
from nodeagent.errors import Unreachable
from nodeagent.policy.document import Manifest
from nodeagent.policy.log_wire import LogBatch
from nodeagent.policy.sync_wire import PolicyAnswer, PolicySync, SectionQuestion

UNREADABLE: Final = "The control plane's answer cannot be read."


class PolicyControlPlane:
    """What `Courier` asks; raises `Unreachable` and `Refused`."""

    def __init__(self, client: ControlPlaneClient) -> None:
        self._client = client

    def sync(self, sync: PolicySync) -> PolicyAnswer:
        """Tell what the node has and counted, and read what the others counted."""
        return self._client.ask("policy", sync, PolicyAnswer)

    def manifest(self) -> Manifest:
        """Fetch the policy in force."""
        response = self._client.send("GET", "policy_manifest", None, LONG_TIMEOUT_S)
        try:
            return Manifest.model_validate_json(response.content)
        except ValidationError as error:
            raise Unreachable(UNREADABLE) from error

    def section(self, sha256: str) -> bytes:
        """Fetch one section's body, packed."""
        question = SectionQuestion(sha256=sha256)
        response = self._client.send("POST", "policy_section", question, LONG_TIMEOUT_S)
        return bytes(response.content)

    def log(self, batch: LogBatch) -> StreamAnswer:
        """Bring lines of the policy log; repeated, they are stored once."""
        return self._client.ask("policy_log", pack(batch), StreamAnswer, LONG_TIMEOUT_S)
