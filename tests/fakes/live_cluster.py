"""A control plane as a process with two enrolled agents: real heartbeats in, live pages out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from controlplane.api.user_auth import COOKIE
from controlplane.core.spec import ClusterMode, NodeSpec, VipSpec
from controlplane.store.agents import issue_token
from controlplane.store.audit import Actor
from controlplane.store.cluster import ClusterStore
from controlplane.store.crypto import SecretBox
from controlplane.store.engine import Database
from controlplane.store.nouns import NODES, VIPS
from controlplane.store.passwords import PasswordCost
from controlplane.store.user_sessions import LoginRules
from controlplane.store.users import FIRST_PASSWORD, change_password
from nodeagent.core.contract import (
    HeartbeatRequest,
    NodeReport,
    QueueCounts,
    Role,
    VrrpState,
)
from tests.fakes.control_plane_process import ControlPlaneProcess
from tests.fakes.enrolled_agent import EnrolledAgent

ADMIN = Actor("admin", "127.0.0.1")
CHEAP = LoginRules(cost=PasswordCost(rounds=1, memory_kib=8, parallelism=1))
VIP = "198.51.100.100"
COUNTS = QueueCounts(incoming=0, active=1, deferred=41, hold=0, pending=0)


class LiveCluster:
    """The process, its database, a session, and an agent for each of two nodes."""

    def __init__(self, state_dir: Path) -> None:
        self.process = ControlPlaneProcess(state_dir)
        self.process.start()
        self.process.get("/healthz")
        self.database = Database(self.process.environment["RELAY_DATABASE_URL"])
        self.token = change_password(
            self.database, ADMIN, current=FIRST_PASSWORD, new="seven-Relays-42", rules=CHEAP
        ).token
        self._client = self.client()
        self._agents = {name: EnrolledAgent(self._client, name) for name in ("node-a", "node-b")}
        self._add_pair(ClusterStore(self.database, SecretBox.load(state_dir)))

    def _add_pair(self, store: ClusterStore) -> None:
        modes = (ClusterMode.MASTER, ClusterMode.SLAVE)
        for last, (name, mode) in enumerate(zip(self._agents, modes, strict=True), 11):
            node = NodeSpec(
                name=name,
                address=f"198.51.100.{last}",
                vrrp_priority=200 - last,
                cluster_mode=mode,
            )
            store.put_item(NODES, node, ADMIN)
            with self.database.write() as session:
                token = issue_token(session, name, "fingerprint").text
            answer = self._agents[name].enrol(token)
            assert answer.status_code == 200, answer.text
        store.put_item(VIPS, VipSpec(address=VIP, virtual_router_id=51), ADMIN)

    def client(self) -> Any:
        """Return a client of a browser that is signed in; TLS itself is tested elsewhere."""
        return httpx2.Client(
            base_url=self.process.origin,
            verify=False,
            trust_env=False,
            cookies={COOKIE: self.token},
            timeout=30,
        )

    def heartbeat(self, node: str, role: Role, **values: Any) -> None:
        """Send what an agent sends at each tick."""
        vrrp = VrrpState.MASTER if role is Role.ACTIVE else VrrpState.BACKUP
        holds = (VIP,) if role is Role.ACTIVE else ()
        said = {"queue": COUNTS, "vrrp": vrrp, "holds_vips": holds, "is_proven": True} | values
        request = HeartbeatRequest(report=NodeReport(role=role, **said))
        answer = self._agents[node].post("heartbeat", request)
        assert answer.status_code == 200, answer.text

    @contextmanager
    def follow(self, client: Any) -> Iterator[Callable[[], str]]:
        """Open the overview's live part; what is given waits for the next whole event."""
        with client.stream("GET", "/overview/live") as answer:
            assert answer.status_code == 200
            lines = answer.iter_lines()

            def next_event() -> str:
                found: list[str] = []
                for line in lines:
                    if line.startswith("data:"):
                        found.append(line)
                    elif not line and found:
                        return "\n".join(found)
                raise AssertionError("the stream has ended")

            yield next_event

    def close(self) -> None:
        """End the process."""
        self._client.close()
        self.process.kill()
        self.database.close()
