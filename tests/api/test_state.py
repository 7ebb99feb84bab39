"""The whole state as one file: it comes back as it went out, all of it or nothing, no secret."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import SecretStr

from controlplane.store.cluster import ClusterStore
from controlplane.store.engine import Database
from controlplane.store.nouns import ROUTES
from controlplane.store.ownership_tables import AgentRow

STATE = "/api/v1/state"
SECRET = "hunter22-and-more"


def _fill(pair: TestClient) -> dict[str, Any]:
    """Set something of everything; return the export."""
    for path, body in (
        ("recipient-domains/a.tld", {"next_hop": "mx.a.tld"}),
        ("sender-policies/b.tld", {"action": "blocked", "reply_text": "no"}),
        ("routes/@c.tld", {"next_hop": "mx.c.tld", "username": "u", "password": SECRET}),
        ("trusted-networks/203.0.113.0%2F24", {}),
    ):
        assert pair.put(f"/api/v1/{path}", json=body).status_code == 201
    pair.patch("/api/v1/cluster", json={"message_size_limit_bytes": 1_000_000})
    exported = pair.get(STATE)
    assert SECRET not in exported.text
    assert "password" not in exported.text
    state: dict[str, Any] = exported.json()
    assert (state["format"], state["version"]) == ("mail-relay-ha-state", 1)
    return state


def test_a_file_brings_back_what_was_changed_since(
    pair: TestClient, sqlite_database: Database, app: FastAPI
) -> None:
    """Settings and every list; the route's password is the stored one."""
    state = _fill(pair)
    pair.patch("/api/v1/cluster", json={"message_size_limit_bytes": 2_000_000})
    pair.delete("/api/v1/recipient-domains/a.tld")
    pair.put("/api/v1/recipient-domains/z.tld", json={})
    pair.put("/api/v1/routes/@c.tld", json={"next_hop": "other.tld", "username": "u"})
    shown = pair.post(f"{STATE}/preview", json=state).json()
    assert shown["settings"] == [
        {"name": "message_size_limit_bytes", "before": 2_000_000, "after": 1_000_000}
    ]
    assert shown["lists"]["recipient_domains"]["added"] == ["a.tld"]
    assert shown["lists"]["recipient_domains"]["removed"] == ["z.tld"]
    assert shown["lists"]["routes"]["changed"] == ["@c.tld"]
    assert set(shown["lists"]) == {"recipient_domains", "routes"}
    assert ("node-a", "/etc/postfix/main.cf") in {
        (one["node"], one["path"]) for one in shown["files"]
    }
    body = {"state": state, "expected_revision": shown["revision"]}
    answer = pair.post(STATE, json=body)
    assert answer.status_code == 200, answer.text
    after = pair.get(STATE).json()
    assert {**after, "exported_at": ""} == {**state, "exported_at": ""}
    route = ClusterStore(sqlite_database, app.state.secret_box).item(ROUTES, "@c.tld")
    assert route.password == SecretStr(SECRET)
    assert SECRET not in answer.text


def test_the_same_file_again_changes_nothing(pair: TestClient) -> None:
    """No revision, no audit row."""
    state = _fill(pair)
    revision = pair.get("/api/v1/cluster").json()["revision"]
    assert pair.post(STATE, json={"state": state}).status_code == 200
    assert pair.get("/api/v1/cluster").json()["revision"] == revision
    assert pair.get("/api/v1/audit", params={"action": "cluster.import"}).json() == []


def test_a_file_with_a_problem_changes_nothing(pair: TestClient) -> None:
    """Each problem has its sentence, also in the preview."""
    state = _fill(pair)
    state["lists"]["routes"].append({"sender": "nobody", "next_hop": "mx.tld"})
    state["lists"]["routes"].append({"sender": "@n.tld", "next_hop": "mx.tld", "username": "n"})
    state["lists"]["recipient_domains"] = []
    shown = pair.post(f"{STATE}/preview", json=state).json()
    assert shown["problems"]["routes.@n.tld.password"] == "A username needs a password."
    assert "has no @" in shown["problems"]["routes.nobody.sender"]
    assert shown["files"] == []
    refused = pair.post(STATE, json={"state": state})
    assert (refused.status_code, refused.json()["fields"]) == (422, shown["problems"])
    assert pair.get("/api/v1/recipient-domains").json()["total"] == 1


def test_a_password_may_be_written_into_the_file(pair: TestClient) -> None:
    """It goes in and does not come back."""
    state = _fill(pair)
    new = {"sender": "@n.tld", "next_hop": "mx.tld", "username": "n", "password": "typed-by-hand"}
    state["lists"]["routes"].append(new)
    answer = pair.post(STATE, json={"state": state})
    assert answer.status_code == 200, answer.text
    assert pair.get("/api/v1/routes/@n.tld").json()["has_password"] is True
    audited = pair.get("/api/v1/audit", params={"action": "cluster.import"}).text
    assert "typed-by-hand" not in answer.text + audited + pair.get(STATE).text


def test_a_file_of_another_kind_is_refused(pair: TestClient) -> None:
    """A newer version, another format, an unknown field: one sentence each."""
    state = _fill(pair)
    for wrong in ({"version": 2}, {"format": "other"}, {"more": 1}):
        answer = pair.post(f"{STATE}/preview", json={**state, **wrong})
        assert answer.status_code == 422
        assert list(answer.json()["fields"]) == list(wrong)


def test_a_file_does_not_remove_an_enrolled_node(
    pair: TestClient, sqlite_database: Database
) -> None:
    """Its key and its mail are not in the file; a node that never enrolled may go."""
    state = _fill(pair)
    with sqlite_database.write() as session:
        session.add(AgentRow(name="node-a", public_key_pem="k", ssh_host_keys=[], enrolled_at=1.0))
    state["lists"]["nodes"] = []
    state["lists"]["vips"] = []
    refused = pair.post(STATE, json={"state": state})
    assert refused.json()["fields"] == {
        "nodes.node-a": "node-a is enrolled but not in the file; remove the node first."
    }
    assert len(pair.get("/api/v1/nodes").json()) == 2


def test_a_file_that_was_looked_at_too_long_ago_is_refused(pair: TestClient) -> None:
    """What nobody has seen is not done."""
    state = _fill(pair)
    revision = pair.post(f"{STATE}/preview", json=state).json()["revision"]
    pair.put("/api/v1/recipient-domains/z.tld", json={})
    answer = pair.post(STATE, json={"state": state, "expected_revision": revision})
    assert answer.status_code == 409
    assert pair.get("/api/v1/recipient-domains").json()["total"] == 2


def test_a_changed_node_keeps_its_version(pair: TestClient) -> None:
    """What the control plane knows of a node beside its settings stays."""
    state = _fill(pair)
    assert pair.post("/api/v1/config/apply", json={}).status_code == 201
    state["lists"]["nodes"][0]["ssh_port"] = 2222
    assert pair.post(STATE, json={"state": state}).status_code == 200
    node = pair.get("/api/v1/nodes/node-a").json()
    assert (node["node"]["ssh_port"], node["status"]["assigned_version"]) == (2222, 1)
