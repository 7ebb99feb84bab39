"""The lease guard as a process of its own over a private Postfix."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from nodeagent.adapters.clock import boot_time_s
from nodeagent.adapters.guard_client import GuardClient
from nodeagent.core.guard_state import ProofKind, ProofOffer
from nodeagent.errors import Unreachable
from tests.fakes.postfix_instance import PostfixInstance


class GuardProcess:
    """A guard on a private Postfix; `kill` and `start` as its unit would."""

    def __init__(self, postfix: PostfixInstance, root: Path) -> None:
        self.postfix = postfix
        self.run = root / "run"
        self.relay = postfix.queue.parent / "relay"
        self.client = GuardClient(self.run / "guard.sock")
        self._environment = {
            **os.environ,
            "RELAY_AGENT_QUEUE_DIRECTORY": str(postfix.queue),
            "RELAY_AGENT_RELAY_DIRECTORY": str(self.relay),
            "RELAY_AGENT_STATE_DIRECTORY": str(root / "state"),
            "RELAY_AGENT_RUN_DIRECTORY": str(self.run),
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait for its socket."""
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from nodeagent.guard import main; main()"],
            env=self._environment,
        )
        until_s = time.monotonic() + 60
        while time.monotonic() < until_s:
            try:
                self.client.status()
            except Unreachable:
                time.sleep(0.02)
            else:
                return
        raise AssertionError("the guard did not start")

    def kill(self) -> None:
        """Kill it as the kernel would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def prove(self, seconds: float = 60.0, kind=ProofKind.ACQUIRED, **fields) -> None:
        """Bring it a proof for `seconds` from now."""
        now_s = boot_time_s()
        self.client.offer_proof(
            ProofOffer(kind=kind, generation=1, deadline_s=now_s + seconds, sent_s=now_s, **fields)
        )

    def take_back(self) -> None:
        """Have it take back everything."""
        while not self.client.take_back_some():
            pass
