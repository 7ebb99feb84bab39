"""What an operator does to a node: tokens, revocation, striking off, declaring it dead."""

from __future__ import annotations

import shlex

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import text

from controlplane.store.agents import issue_token
from controlplane.store.engine import Database
from controlplane.store.leases import acquire, ensure_lease, read_lease
from controlplane.store.ownership_tables import AgentRow
from controlplane.tls import ca_fingerprint
from tests.fakes.enrolled_agent import EnrolledAgent

NODES = "/api/v1/nodes"


@pytest.fixture
def enrolled(pair: TestClient, sqlite_database: Database) -> TestClient:
    """Give a pair whose nodes have keys and hold their own leases."""
    with sqlite_database.write() as session:
        for node in ("node-a", "node-b"):
            session.add(AgentRow(name=node, public_key_pem="k", ssh_host_keys=[], enrolled_at=1.0))
            ensure_lease(session, node)
            acquire(session, node, node, 15.0)
    return pair


def test_a_token_names_the_ca_and_is_stored_hashed(
    pair: TestClient, sqlite_database: Database, app: FastAPI
) -> None:
    """Its second part is the fingerprint that the agent checks; its first part is nowhere."""
    answer = pair.post(f"{NODES}/node-a/enrolment-token")
    assert answer.status_code == 201
    secret, _, fingerprint = answer.json()["token"].partition(".")
    assert fingerprint == ca_fingerprint(app.state.settings.state_dir)
    with sqlite_database.read() as session:
        stored = str(session.execute(text("SELECT * FROM enrol_tokens")).all())
        stored += str(session.execute(text("SELECT * FROM audit")).all())
    assert secret not in stored
    assert "node.enrolment-token" in stored


@pytest.mark.parametrize(
    ("wanted", "url"),
    [
        (None, "https://relay.test"),
        ("https://relay.example.com:8443/", "https://relay.example.com:8443"),
        ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443"),
    ],
)
def test_a_token_comes_with_the_command_that_uses_it(
    pair: TestClient, wanted: str | None, url: str
) -> None:
    """At the URL that was set, else at the one of whoever asks; each word is one of the shell."""
    pair.patch("/api/v1/cluster", json={"agent_url": wanted})
    issued = pair.post(f"{NODES}/node-a/enrolment-token").json()
    assert issued["url"] == url
    enrol, and_then, start = issued["command"].partition(" && ")
    words = shlex.split(enrol)
    assert words[2:] == ["--url", url, "--token", issued["token"], "--node", "node-a"]
    assert (and_then, start) == (" && ", "systemctl enable --now relay-agent")


def test_a_hostile_host_header_stays_one_word(pair: TestClient) -> None:
    """Whatever a request says of its host, the shell runs nothing of it."""
    headers = {"Host": "relay.test;reboot"}
    issued = pair.post(f"{NODES}/node-a/enrolment-token", headers=headers).json()
    assert shlex.split(issued["command"])[3] == issued["url"]


def test_a_token_is_waited_for_until_it_is_used(pair: TestClient) -> None:
    """The node shows until when, and after its enrolment since when it has its key."""
    before = pair.get(f"{NODES}/node-a").json()["status"]
    assert (before["token_expires_at"], before["enrolled_at"]) == (None, None)
    issued = pair.post(f"{NODES}/node-a/enrolment-token").json()
    waiting = pair.get(f"{NODES}/node-a").json()["status"]
    assert waiting["token_expires_at"] == issued["expires_at"]
    agent = EnrolledAgent(pair, "node-a")
    assert agent.enrol(issued["token"]).status_code == 200
    after = pair.get(f"{NODES}/node-a").json()["status"]
    assert (after["token_expires_at"], after["is_enrolled"]) == (None, True)
    assert after["enrolled_at"] is not None


def test_a_token_that_has_ended_is_not_waited_for(
    pair: TestClient, sqlite_database: Database
) -> None:
    """It enrols nobody any more."""
    with sqlite_database.write() as session:
        issue_token(session, "node-a", "fingerprint", -1.0)
    assert pair.get(f"{NODES}/node-a").json()["status"]["token_expires_at"] is None


@pytest.mark.parametrize("action", ["enrolment-token", "revoke-key", "strike", "confirm-dead"])
def test_an_unknown_node_is_refused(pair: TestClient, action: str) -> None:
    """404 in one sentence for each action."""
    answer = pair.post(f"{NODES}/node-z/{action}")
    assert answer.status_code == 404
    assert "node-z" in answer.json()["detail"]


def test_a_revoked_key_shows_and_is_audited(enrolled: TestClient) -> None:
    """The node is known, but its key is refused."""
    assert enrolled.post(f"{NODES}/node-b/revoke-key").status_code == 204
    status = enrolled.get(f"{NODES}/node-b").json()["status"]
    assert (status["is_enrolled"], status["is_revoked"]) == (False, True)
    assert enrolled.get("/api/v1/audit").json()[0]["action"] == "node.revoke-key"


def test_a_struck_off_node_shows_as_such(enrolled: TestClient) -> None:
    """Nobody waits for it any more."""
    assert enrolled.post(f"{NODES}/node-b/strike").status_code == 204
    assert enrolled.get(f"{NODES}/node-b").json()["status"]["is_struck_off"] is True


def test_removing_a_node_revokes_its_key(enrolled: TestClient, sqlite_database: Database) -> None:
    """An agent of a removed node is nobody; the lease and its generation stay."""
    refused = enrolled.delete(f"{NODES}/node-b")
    assert (refused.status_code, refused.json()["reason"]) == (409, "mail-left-behind")
    gone = enrolled.delete(f"{NODES}/node-b", params={"abandon_queue": True})
    assert gone.status_code == 204
    with sqlite_database.read() as session:
        row = session.get(AgentRow, "node-b")
        assert row is not None
        assert row.revoked_at is not None
        assert read_lease(session, "node-b") is not None


def test_declaring_a_node_dead_frees_its_lease(enrolled: TestClient) -> None:
    """The lease has run out at once; log, event and audit say who vouched."""
    answer = enrolled.post(f"{NODES}/node-a/confirm-dead")
    assert answer.status_code == 200
    assert answer.json()["confirmed_dead"] is True
    assert answer.json()["remaining_s"] <= 0
    event = enrolled.get("/api/v1/events", params={"kind": "confirmed-dead"}).json()[0]
    assert event["text"].startswith("admin confirmed that node-a is off")
    entry = enrolled.get("/api/v1/audit", params={"action": "node.confirm-dead"}).json()[0]
    assert entry["before"]["confirmed_dead"] is False
    assert entry["after"]["confirmed_dead"] is True


def test_a_queue_that_is_adopted_already_cannot_be_freed_again(
    enrolled: TestClient, sqlite_database: Database
) -> None:
    """The holder's adoption is not disturbed."""
    enrolled.post(f"{NODES}/node-a/confirm-dead")
    with sqlite_database.write() as session:
        assert acquire(session, "node-a", "node-b", 15.0) is not None
    answer = enrolled.post(f"{NODES}/node-a/confirm-dead")
    assert answer.status_code == 409
    assert answer.json()["detail"] == "node-b already holds the lease of node-a's queue."


def test_a_node_that_never_enrolled_has_no_queue(pair: TestClient) -> None:
    """There is nothing to adopt."""
    answer = pair.post(f"{NODES}/node-a/confirm-dead")
    assert answer.status_code == 409
    assert "never enrolled" in answer.json()["detail"]
