"""A cluster that has a bit of everything: what a call can show, change or refuse is there."""

from __future__ import annotations

from typing import Any, Final

from fastapi.testclient import TestClient

from controlplane.core.permissions import UserRole
from controlplane.store.engine import Database
from controlplane.store.samples import take_samples
from controlplane.store.user_sessions import LoginRules
from nodeagent.core import contract as wire
from nodeagent.core.queue_contract import QueuedMessage, QueueName, QueueReport
from tests.fakes import policy_logs
from tests.fakes.cluster_agents import enrol_agents
from tests.fakes.enrolled_agent import EnrolledAgent
from tests.fakes.people import add_user, open_session
from tests.fakes.postfix_queue import queue_id
from tests.fakes.traces import accepted, batch, tried

API: Final = "/api/v1"
PASSWORD: Final = "seven-Relays-42"
QUEUE_ID: Final = queue_id(1)
HELD_ID: Final = queue_id(2)
NODE: Final = {"address": "198.51.100.13", "vrrp_priority": 90, "interface": "eth0"}
ROUTE: Final = {"next_hop": "mx.a.test", "tls_mode": "none"}
TRY: Final = {"sender": "@a.test", "recipient": "b@y.test"}
HOLD: Final = {"verb": "hold", "filter": {}}
POLICY: Final = "mail-security"
SET: Final[tuple[tuple[str, str, dict[str, Any] | None, int], ...]] = (
    ("POST", f"{POLICY}/blocklist", {"value": "*.spam.test"}, 201),
    ("POST", f"{POLICY}/badwords", {"pattern": "casino"}, 201),
    ("POST", f"{POLICY}/rates", {"subject": "sender", "window": "hour", "limit": 9}, 201),
    ("POST", f"{POLICY}/categories", {"address": "news@example.com"}, 201),
    ("PUT", f"{POLICY}/categories/news@example.com/subscriptions/r@example.net", None, 201),
    ("POST", f"{POLICY}/settings/http-credentials", {"kind": "bearer"}, 201),
    ("PUT", "recipient-domains/b.test", {}, 201),
    ("PUT", "sender-policies/x.test", {"action": "blocked"}, 201),
    ("PUT", "routes/@a.test", ROUTE, 201),
    ("PUT", "trusted-networks/192.0.2.0%2F24", {}, 201),
    ("POST", "config/apply", {"reason": "first"}, 201),
    ("POST", "route-tests", TRY, 201),
    ("POST", "queue/actions", HOLD, 202),
    ("POST", f"queue/messages/node-a/{QUEUE_ID}/headers", None, 202),
    ("POST", f"{POLICY}/quarantine/messages/node-a/{HELD_ID}/preview", None, 202),
)
GOOD: Final[dict[tuple[str, str], dict[str, Any]]] = {
    ("put", f"{API}/nodes/{{name}}"): NODE,
    ("put", f"{API}/nodes/{{name}}/maintenance"): {"is_maintenance": True},
    ("put", f"{API}/vips/{{address}}"): {"virtual_router_id": 52},
    ("put", f"{API}/recipient-domains/{{name}}"): {},
    ("put", f"{API}/sender-policies/{{domain}}"): {"action": "allowed"},
    ("put", f"{API}/routes/{{sender}}"): ROUTE,
    ("put", f"{API}/trusted-networks/{{network}}"): {"comment": "ours"},
    ("post", f"{API}/config/apply"): {"reason": "again"},
    ("post", f"{API}/route-tests"): TRY,
    ("post", f"{API}/queue/actions"): HOLD | {"verb": "delete"},
    ("post", f"{API}/queue/actions/{{number}}/confirm"): {"count": 2},
    ("post", f"{API}/{POLICY}/quarantine/actions"): {"verb": "release", "filter": {}},
    ("post", f"{API}/{POLICY}/blocklist"): {"value": "a.test"},
    ("put", f"{API}/{POLICY}/blocklist"): {"value": "a.test"},
    ("put", f"{API}/{POLICY}/blocklist/{{number}}"): {"value": "c.test"},
    ("post", f"{API}/{POLICY}/badwords"): {"pattern": "lottery"},
    ("put", f"{API}/{POLICY}/badwords/{{number}}"): {"pattern": "(a+)+$", "is_regex": True},
    ("post", f"{API}/{POLICY}/try"): {"recipients": ["b@y.test"], "raw": "Subject: casino\n\nx"},
    ("post", f"{API}/{POLICY}/categories"): {"address": "jobs@example.com"},
    ("put", f"{API}/{POLICY}/categories/{{number}}"): {"address": "news@example.com"},
    ("post", f"{API}/{POLICY}/subscriptions"): {
        "category": "news@example.com",
        "address": "s@example.net",
    },
    ("patch", f"{API}/{POLICY}/settings"): {"is_active": True},
    ("post", f"{API}/switchover"): {"source": "node-a", "destination": "node-b"},
    ("post", f"{API}/session"): {"user": "olga", "password": PASSWORD},
    ("post", f"{API}/users"): {"name": "otto", "role": "Operator"},
    ("post", f"{API}/profile/tokens"): {"name": "one", "scope": "read", "current_password": ""},
    ("post", f"{API}/profile/second-factor"): {"current_password": ""},
}
"""Bodies that are taken as they are, by method and path."""
KNOWN: Final[dict[str, list[Any]]] = {
    "name": ["node-a", "node-b", "olga", "rita", "recipient-domains", "sender-policies", "b.test"],
    "node": ["node-a", "node-b"],
    "queue": ["node-a", "node-b"],
    "to": ["node-a", "node-b"],
    "source": ["node-a", "node-b"],
    "destination": ["node-a", "node-b"],
    "address": ["198.51.100.100", "198.51.100.13", "news@example.com"],
    "subscriber": ["r@example.net"],
    "rule": ["sql-union", "sql-drop"],
    "domain": ["x.test"],
    "sender": ["@a.test", "a@x.test"],
    "recipient": ["b@y.test"],
    "network": ["192.0.2.0%2F24", "192.0.2.0/24"],
    "queue_id": [QUEUE_ID, HELD_ID],
    "ids": [[QUEUE_ID]],
    "number": [1, 2],
    "version": [1, 2],
    "generation": [1, 2],
}
"""Values that mean something in such a cluster, by the name of the parameter or field."""


def populate(client: TestClient, database: Database, rules: LoginRules) -> EnrolledAgent:
    """Fill a cluster of node-a and node-b through an Admin's client; return node-a's agent."""
    add_user(database, "olga", UserRole.OPERATOR, PASSWORD, rules)
    add_user(database, "rita", UserRole.READ_ONLY, PASSWORD, rules)
    open_session(database, "rita", rules)
    agent = enrol_agents(client, database, "node-a", "node-b")["node-a"]
    report(agent)
    for method, path, body, status in SET:
        answer = client.request(method, f"{API}/{path}", json=body)
        assert answer.status_code == status, (path, answer.text)
    with database.write() as session:
        take_samples(session)
    return agent


def report(agent: EnrolledAgent) -> None:
    """Send everything that an agent sends of itself."""
    push = wire.PushReport(
        peer="node-b", generation=1, sequence=4, age_s=3.0, messages=12, sent=1, freeze_ms=3.0
    )
    said = wire.NodeReport(
        role=wire.Role.ACTIVE,
        vrrp=wire.VrrpState.MASTER,
        holds_vips=("198.51.100.100",),
        queue=wire.QueueCounts(deferred=1),
        flow=wire.MailFlow(accepted=1),
        pushes=(push,),
    )
    listed = tuple(
        QueuedMessage(
            id=one,
            queue=place,
            arrived_at=1_795_000_000,
            size_bytes=300,
            sender="a@x.test",
            recipients=("b@y.test",),
            recipient_count=1,
        )
        for one, place in ((QUEUE_ID, QueueName.DEFERRED), (HELD_ID, QueueName.HOLD))
    )
    queue = QueueReport(session="one", sequence=1, upserts=listed, is_complete=True, scan_age_s=0.5)
    for call, body in (
        ("heartbeat", wire.HeartbeatRequest(report=said)),
        ("reconcile", wire.ReconcileRequest()),
        ("queue", queue),
    ):
        answer = agent.post(call, body)
        assert answer.status_code == 200, answer.text
    lines = [*accepted(QUEUE_ID), tried(QUEUE_ID, 1, "deferred")]
    decided = policy_logs.batch([policy_logs.connection(), policy_logs.quarantined(HELD_ID)])
    for call, body in (("trace", batch(lines)), ("policy_log", decided)):
        answer = agent.bring(call, body)
        assert answer.status_code == 200, answer.text
