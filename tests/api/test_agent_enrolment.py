"""Enrolment and the node's key: strangers, wrong tokens and other nodes' names stay out."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import select, text
from sqlmodel import col

from controlplane.store import agents
from controlplane.store.engine import Database
from controlplane.store.instance import ensure_instance, mark_restored
from controlplane.store.user_tables import AuditRow
from controlplane.tls import ca_fingerprint
from nodeagent.core import contract as wire
from nodeagent.core.agent_api import AGENT_API, TOKEN_AUDIENCE
from tests.fakes.enrolled_agent import SSH_KEY, EnrolledAgent

BEAT = {"report": {"role": "STANDBY"}}


@pytest.fixture
def agent(anonymous: TestClient) -> EnrolledAgent:
    """Give the agent of node-a before its enrolment."""
    return EnrolledAgent(anonymous, "node-a")


def issue(database: Database, node: str = "node-a", life_s: float = 3600.0) -> str:
    """Make a token as an operator does."""
    with database.write() as session:
        return agents.issue_token(session, node, "fingerprint", life_s).text


def refusals(database: Database) -> list[tuple[str, Any]]:
    """Return who was refused and why, oldest first."""
    statement = select(AuditRow).where(col(AuditRow.action) == "agent.refused")
    with database.read() as session:
        rows = session.execute(statement.order_by(col(AuditRow.id))).scalars().all()
        return [(row.target, (row.after or {})["reason"]) for row in rows]


def test_a_token_enrols_its_node(agent: EnrolledAgent, sqlite_database: Database) -> None:
    """The answer carries what the agent trusts from now on, and its signed requests count."""
    answer = agent.enrol(issue(sqlite_database))
    assert answer.status_code == 200, answer.text
    with sqlite_database.write() as session:
        assert answer.json()["instance_id"] == ensure_instance(session).instance_id
    assert "BEGIN CERTIFICATE" in answer.json()["ca_pem"]
    assert "PRIVATE" not in answer.json()["ca_pem"]
    assert agent.post("heartbeat", BEAT).status_code == 200


def test_an_enrolment_is_audited(agent: EnrolledAgent, sqlite_database: Database) -> None:
    """Who was enrolled, with which key, is in the log; the token is not."""
    token = issue(sqlite_database)
    agent.enrol(token)
    with sqlite_database.read() as session:
        rows = session.execute(text("SELECT actor, action, after FROM audit")).all()
    stored = str(rows)
    assert "node.enrol" in stored
    assert "agent:node-a" in stored
    assert token.partition(".")[0] not in stored


def test_the_ca_can_be_checked_against_a_token(anonymous: TestClient, app: FastAPI) -> None:
    """The certificate that anybody may fetch has the fingerprint that tokens carry."""
    pem = anonymous.get(AGENT_API["ca"]).text
    der = x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER)
    assert hashlib.sha256(der).hexdigest() == ca_fingerprint(app.state.settings.state_dir)
    assert "PRIVATE" not in pem


def test_a_token_works_once(agent: EnrolledAgent, sqlite_database: Database) -> None:
    """The second use is refused and audited, and the first key stays."""
    token = issue(sqlite_database)
    agent.enrol(token)
    thief = EnrolledAgent(agent.client, "node-a")
    answer = thief.enrol(token)
    assert answer.status_code == 403
    assert "used before" in answer.json()["detail"]
    assert agent.post("heartbeat", BEAT).status_code == 200
    assert refusals(sqlite_database)[0][0] == "node-a"


def test_a_token_is_bound_to_its_node(agent: EnrolledAgent, sqlite_database: Database) -> None:
    """node-a's token enrols nobody else, and still works for node-a."""
    token = issue(sqlite_database)
    answer = agent.enrol(token, node="node-b")
    assert answer.status_code == 403
    assert "node-b" in answer.json()["detail"]
    assert refusals(sqlite_database)[0][0] == "node-b"
    assert agent.enrol(token).status_code == 200


def test_an_expired_token_is_refused(agent: EnrolledAgent, sqlite_database: Database) -> None:
    """After its time a token enrols nobody."""
    answer = agent.enrol(issue(sqlite_database, life_s=-1.0))
    assert answer.status_code == 403
    assert "expired" in answer.json()["detail"]


def test_an_invented_token_is_refused(agent: EnrolledAgent, sqlite_database: Database) -> None:
    """401 with one sentence, and an audit row."""
    answer = agent.enrol("invented.fingerprint")
    assert answer.status_code == 401
    assert answer.json()["detail"].count(".") == 1
    assert refusals(sqlite_database) == [("node-a", "This enrolment token is not known.")]


def test_a_new_token_replaces_the_old_one(agent: EnrolledAgent, sqlite_database: Database) -> None:
    """Only the newest token of a node works."""
    old, new = issue(sqlite_database), issue(sqlite_database)
    assert agent.enrol(old).status_code == 401
    assert agent.enrol(new).status_code == 200


@pytest.mark.parametrize(
    "wrong",
    [
        {"public_key_pem": "no key"},
        {"ssh_public_key": "no key"},
        {"ssh_public_key": f'command="sh" {SSH_KEY}'},
        {"ssh_public_key": f"{SSH_KEY}\n{SSH_KEY}"},
        {"ssh_public_key": f"{SSH_KEY}\x00"},
        {"ssh_host_keys": [f"{SSH_KEY}\x1b[2J"]},
        {"ssh_host_keys": ["no key"]},
        {"node": "Node A"},
    ],
)
def test_unusable_keys_and_names_are_refused(
    agent: EnrolledAgent, sqlite_database: Database, wrong: dict[str, Any]
) -> None:
    """422 in one sentence; the token is not used up."""
    token = issue(sqlite_database)
    answer = agent.enrol(token, **wrong)
    assert answer.status_code == 422, answer.text
    assert answer.json()["detail"]
    assert agent.enrol(token).status_code == 200


def test_a_key_of_another_kind_is_refused(agent: EnrolledAgent, sqlite_database: Database) -> None:
    """Only Ed25519 keys sign requests."""
    other = generate_private_key(SECP256R1()).public_key()
    pem = other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    answer = agent.enrol(issue(sqlite_database), public_key_pem=pem)
    assert answer.status_code == 422
    assert "Ed25519" in answer.json()["detail"]


def test_a_node_that_never_enrolled_is_refused(
    agent: EnrolledAgent, sqlite_database: Database
) -> None:
    """A well-signed token of an unknown node proves nothing."""
    answer = agent.post("heartbeat", BEAT)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert refusals(sqlite_database) == [("node-a", "node-a is not enrolled.")]


def test_another_nodes_name_is_refused(agent: EnrolledAgent, sqlite_database: Database) -> None:
    """node-a's key cannot speak for node-b, and the attempt is in the audit log."""
    agent.enrol(issue(sqlite_database))
    other = EnrolledAgent(agent.client, "node-b")
    other.enrol(issue(sqlite_database, "node-b"))
    answer = agent.post("heartbeat", BEAT, token=agent.token(iss="node-b"))
    assert answer.status_code == 401
    assert refusals(sqlite_database) == [
        ("node-b", "The token was not signed with the key of node-b.")
    ]


def test_a_revoked_key_is_refused_until_enrolled_anew(
    agent: EnrolledAgent, sqlite_database: Database
) -> None:
    """Revocation counts from the next request on; a new token lifts it."""
    agent.enrol(issue(sqlite_database))
    with sqlite_database.write() as session:
        agents.revoke(session, "node-a")
    answer = agent.post("heartbeat", BEAT)
    assert answer.status_code == 403
    assert "revoked" in answer.json()["detail"]
    assert refusals(sqlite_database)[0][0] == "node-a"
    agent.enrol(issue(sqlite_database))
    assert agent.post("heartbeat", BEAT).status_code == 200


def test_an_old_key_stops_working_after_a_new_enrolment(
    agent: EnrolledAgent, sqlite_database: Database
) -> None:
    """A reinstalled host enrols again; what its old disk holds proves nothing any more."""
    agent.enrol(issue(sqlite_database))
    EnrolledAgent(agent.client, "node-a").enrol(issue(sqlite_database))
    assert agent.post("heartbeat", BEAT).status_code == 401


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("exp", lambda now_s: now_s - 4000),
        ("iat", lambda now_s: now_s + 4000),
        ("aud", lambda _: "somebody-else"),
        ("exp", lambda _: None),
        ("iat", lambda _: None),
        ("aud", lambda _: None),
    ],
)
def test_a_token_out_of_shape_or_time_is_refused(
    agent: EnrolledAgent, sqlite_database: Database, name: str, value: Callable[[int], Any]
) -> None:
    """Old, future, foreign or endless tokens are refused with one sentence."""
    agent.enrol(issue(sqlite_database))
    answer = agent.post("heartbeat", BEAT, token=agent.token(**{name: value(int(time.time()))}))
    assert answer.status_code == 401
    assert "node-a" in answer.json()["detail"]


def test_a_clock_a_few_minutes_off_is_forgiven(
    agent: EnrolledAgent, sqlite_database: Database
) -> None:
    """Leases never depend on a node's wall clock, and neither does its right to speak."""
    agent.enrol(issue(sqlite_database))
    now_s = int(time.time())
    for shift_s in (-240, 240):
        token = agent.token(iat=now_s + shift_s, exp=now_s + shift_s + 60)
        assert agent.post("heartbeat", BEAT, token=token).status_code == 200


@pytest.mark.parametrize("algorithm", ["none", "HS256"])
def test_tokens_of_weaker_algorithms_are_refused(
    agent: EnrolledAgent, sqlite_database: Database, algorithm: str
) -> None:
    """Neither an unsigned token nor one keyed with public text passes."""
    agent.enrol(issue(sqlite_database))
    now_s = int(time.time())
    claims = {"iss": "node-a", "aud": TOKEN_AUDIENCE, "iat": now_s, "exp": now_s + 60}
    key = "" if algorithm == "none" else "x" * 40
    answer = agent.post("heartbeat", BEAT, token=jwt.encode(claims, key, algorithm=algorithm))
    assert answer.status_code == 401


@pytest.mark.parametrize("call", [name for name in AGENT_API if name not in {"ca", "enrol"}])
def test_every_call_needs_the_nodes_key(anonymous: TestClient, call: str) -> None:
    """No call but `ca` and `enrol` answers a stranger."""
    method = "GET" if call in {"config", "policy_manifest"} else "POST"
    for headers in ({}, {"Authorization": "Bearer nonsense"}):
        answer = anonymous.request(method, AGENT_API[call], json={}, headers=headers)
        assert answer.status_code == 401, (call, answer.text)
        assert set(answer.json()) == {"detail", "fields"}


def test_a_users_session_is_no_agents_key(client: TestClient) -> None:
    """An administrator's token does not speak for a node."""
    assert client.post(AGENT_API["heartbeat"], json=BEAT).status_code == 401


def test_repeated_refusals_are_recorded_once_a_minute(
    agent: EnrolledAgent, sqlite_database: Database
) -> None:
    """A stranger who keeps trying fills no audit log."""
    for _ in range(5):
        agent.post("heartbeat", BEAT)
    assert len(refusals(sqlite_database)) == 1


def test_a_node_enrolled_during_a_recovery_is_made_to_report(
    agent: EnrolledAgent, sqlite_database: Database
) -> None:
    """It is not told the instance id, so it takes the one in its view for unknown."""
    with sqlite_database.write() as session:
        instance_id = mark_restored(session).instance_id
    assert agent.enrol(issue(sqlite_database)).json()["instance_id"] == ""
    view = agent.post("heartbeat", BEAT).json()["view"]
    assert (view["instance_id"], view["is_recovering"]) == (instance_id, True)
    memory = wire.RecoveryRequest(instance_id=instance_id, generations={})
    assert agent.post("recovery", memory).status_code == 204
    assert not agent.post("heartbeat", BEAT).json()["view"]["is_recovering"]
