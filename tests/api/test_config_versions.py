"""Preview, diff, apply and roll back: numbered, hashed, sealed, assigned, audited."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import text

from controlplane.errors import Conflict
from controlplane.store.audit import SYSTEM
from controlplane.store.cluster import ClusterStore
from controlplane.store.config_versions import apply, render_present
from controlplane.store.engine import Database
from controlplane.store.facts import StoredFacts
from nodeagent.core.config_plan import files_sha256
from nodeagent.core.contract import ConfigFile
from tests.api.conftest import NODE_B

API = "/api/v1"
CONFIG = f"{API}/config"
SECRET = "s3cret-word"


@pytest.fixture
def routed(pair: TestClient) -> TestClient:
    """Give a pair with a route that has credentials."""
    body = {"next_hop": "smtp.example.net", "port": 587, "username": "me", "password": SECRET}
    assert pair.put(f"{API}/routes/@example.org", json=body).status_code == 201
    return pair


def _apply(client: TestClient, **body: Any) -> Any:
    return client.post(f"{CONFIG}/apply", json=body)


def _changed_paths(client: TestClient, **versions: int) -> set[tuple[str, str]]:
    answer = client.get(f"{CONFIG}/diff", params=versions).json()
    return {(one["node"], one["path"]) for one in answer["files"]}


def test_a_preview_shows_every_node_and_makes_nothing(pair: TestClient) -> None:
    """Looking costs nothing: no version exists afterwards."""
    preview = pair.get(f"{CONFIG}/preview").json()
    assert preview["problems"] == {}
    assert [one["node"] for one in preview["nodes"]] == ["node-a", "node-b"]
    paths = {file["path"] for file in preview["nodes"][0]["files"]}
    assert {"/etc/postfix/main.cf", "/etc/keepalived/keepalived.conf"} <= paths
    assert pair.get(f"{CONFIG}/versions").json() == []


def test_applying_numbers_assigns_and_audits(pair: TestClient) -> None:
    """The first version is number 1, both nodes shall run it, and the log says who and why."""
    answer = _apply(pair, reason="first light")
    assert answer.status_code == 201
    version = answer.json()
    assert (version["number"], version["author"]) == (1, "admin")
    nodes = pair.get(f"{API}/nodes").json()
    assert {node["status"]["assigned_version"] for node in nodes} == {1}
    entry = pair.get(f"{API}/audit", params={"action": "config.apply"}).json()[0]
    assert entry["after"]["reason"] == "first light"
    assert entry["after"]["sha256"] == version["sha256"]


def test_a_category_in_a_domain_of_its_own_is_a_change_to_apply(pair: TestClient) -> None:
    """Postfix takes mail for it once that is applied; another category there changes no file."""
    assert pair.patch(f"{API}/cluster", json={"milters": {"policy": True}}).status_code == 200
    assert _apply(pair, reason="ask the hook").status_code == 201
    assert _changed_paths(pair) == set()
    for name in ("news", "talk"):
        category = {"address": f"{name}@lists.example.net"}
        assert pair.post(f"{API}/mail-security/categories", json=category).status_code == 201
        path = "/etc/postfix/relay/recipient_domains.map"
        assert _changed_paths(pair) == {(node, path) for node in ("node-a", "node-b")}
    assert _apply(pair, reason="take its mail").status_code == 201
    assert _changed_paths(pair) == set()


def test_the_agent_gets_exactly_what_was_applied(
    pair: TestClient, sqlite_database: Database, app: FastAPI
) -> None:
    """The bundle's files are those of the preview, and its hash is that of its files."""
    preview = {one["node"]: one for one in pair.get(f"{CONFIG}/preview").json()["nodes"]}
    _apply(pair)
    with sqlite_database.read() as session:
        bundle = StoredFacts(app.state.secret_box).bundle(session, "node-b")
    assert bundle.version == 1
    assert bundle.sha256 == files_sha256(bundle.files) == preview["node-b"]["sha256"]


def test_applying_the_same_again_makes_no_version(pair: TestClient) -> None:
    """A script that runs twice does no harm."""
    _apply(pair)
    again = _apply(pair)
    assert (again.status_code, again.json()["number"]) == (200, 1)
    assert len(pair.get(f"{CONFIG}/versions").json()) == 1


def test_a_change_of_one_node_changes_only_what_it_must(pair: TestClient) -> None:
    """The diff against the live version names the files that the change touches, and why."""
    _apply(pair)
    pair.put(f"{API}/recipient-domains/example.com", json={"next_hop": "mail.example.com"})
    changed = _changed_paths(pair)
    assert ("node-a", "/etc/postfix/relay/recipient_domains.map") in changed
    assert ("node-a", "/etc/keepalived/keepalived.conf") not in changed
    shown = pair.get(f"{CONFIG}/diff").json()
    assert (shown["from_version"], shown["to_version"]) == (1, None)
    assert "+example.com" in "".join(one["text"] for one in shown["files"])


def test_two_versions_can_be_compared(pair: TestClient) -> None:
    """What changed between two versions stays visible."""
    _apply(pair)
    pair.patch(f"{API}/cluster", json={"message_size_limit_bytes": 1_000_000})
    _apply(pair)
    changed = _changed_paths(pair, from_version=1, to_version=2)
    assert ("node-a", "/etc/postfix/main.cf") in changed
    assert _changed_paths(pair, from_version=2, to_version=2) == set()
    missing = pair.get(f"{CONFIG}/diff", params={"from_version": 1, "to_version": 9})
    assert missing.status_code == 404


def test_before_the_first_version_everything_is_added(pair: TestClient) -> None:
    """The first diff shows all files as added."""
    shown = pair.get(f"{CONFIG}/diff").json()
    assert shown["from_version"] is None
    assert {one["change"] for one in shown["files"]} == {"added"}


def test_rolling_back_brings_the_old_files_under_a_new_number(pair: TestClient) -> None:
    """Version 3 has the files of version 1; the settings stay, and the diff says so."""
    first = _apply(pair).json()
    pair.patch(f"{API}/cluster", json={"message_size_limit_bytes": 1_000_000})
    _apply(pair)
    back = pair.post(f"{CONFIG}/rollback/1", json={"reason": "too small"})
    assert back.status_code == 201
    assert (back.json()["number"], back.json()["restored_from"]) == (3, 1)
    assert back.json()["sha256"] == first["sha256"]
    assert pair.get(f"{API}/nodes/node-a").json()["status"]["assigned_version"] == 3
    assert ("node-a", "/etc/postfix/main.cf") in _changed_paths(pair)
    settings = pair.get(f"{API}/cluster").json()["settings"]
    assert settings["message_size_limit_bytes"] == 1_000_000


def test_rolling_back_needs_no_body_but_a_version(pair: TestClient) -> None:
    """An unknown version is refused in one sentence."""
    _apply(pair)
    assert pair.post(f"{CONFIG}/rollback/1").status_code == 201
    answer = pair.post(f"{CONFIG}/rollback/77")
    assert answer.status_code == 404
    assert answer.json()["detail"] == "There is no config version 77."


def test_a_node_unknown_to_the_old_version_keeps_what_it_has(client: TestClient) -> None:
    """A roll-back leaves a younger node alone."""
    body = {"address": "198.51.100.11", "cluster_mode": "master", "vrrp_priority": 150}
    client.put(f"{API}/nodes/node-a", json=body)
    _apply(client)
    client.put(f"{API}/nodes/node-b", json=NODE_B)
    _apply(client)
    client.post(f"{CONFIG}/rollback/1")
    nodes = client.get(f"{API}/nodes").json()
    assert [node["status"]["assigned_version"] for node in nodes] == [3, 2]


def test_settings_with_problems_are_not_applied(
    pair: TestClient, sqlite_database: Database
) -> None:
    """The preview names the problem, apply refuses it, and no node gets anything."""
    with sqlite_database.write() as session:
        session.execute(text("UPDATE vips SET virtual_router_id = 0"))
    preview = pair.get(f"{CONFIG}/preview").json()
    field = "vips.198.51.100.100.virtual_router_id"
    assert "between 1 and 255" in preview["problems"][field]
    assert preview["nodes"] == []
    refused = _apply(pair)
    assert refused.status_code == 422
    assert field in refused.json()["fields"]
    assert pair.get(f"{CONFIG}/diff").json()["problems"] == preview["problems"]
    assert pair.get(f"{CONFIG}/versions").json() == []


def test_without_nodes_there_is_nothing_to_apply(client: TestClient) -> None:
    """An empty cluster is refused in one sentence."""
    assert _apply(client).status_code == 409


def test_nothing_unseen_is_applied(pair: TestClient) -> None:
    """With the revision of the preview, a change in between is refused."""
    seen = pair.get(f"{CONFIG}/preview").json()["revision"]
    pair.put(f"{API}/trusted-networks/198.51.100.0/24")
    answer = _apply(pair, expected_revision=seen)
    assert answer.status_code == 409
    assert "changed since you looked" in answer.json()["detail"]
    assert _apply(pair, expected_revision=seen + 1).status_code == 201


def test_a_change_while_rendering_is_not_overwritten(
    pair: TestClient, sqlite_database: Database, app: FastAPI
) -> None:
    """What was rendered before somebody's change is never stored after it."""
    store = ClusterStore(sqlite_database, app.state.secret_box)
    stale = render_present(store)
    pair.put(f"{API}/trusted-networks/198.51.100.0/24")
    with pytest.raises(Conflict, match="meanwhile"):
        apply(store, stale, SYSTEM, "")


def test_credentials_show_nowhere(routed: TestClient, sqlite_database: Database) -> None:
    """No answer and no table row holds the password, yet the agent's bundle does."""
    _apply(routed)
    routed.put(
        f"{API}/routes/@example.org",
        json={"next_hop": "h.tld", "username": "me", "password": f"{SECRET}-2"},
    )
    paths = ("preview", "diff", "versions", "versions/1")
    answers = "".join(routed.get(f"{CONFIG}/{path}").text for path in paths)
    assert "sender_credentials.map" in answers
    assert SECRET not in answers
    with sqlite_database.read() as session:
        stored = str(session.execute(text("SELECT * FROM config_files")).all())
    assert SECRET not in stored


def test_the_agent_does_get_the_credentials(
    routed: TestClient, sqlite_database: Database, app: FastAPI
) -> None:
    """Sealed at rest, open in the bundle."""
    _apply(routed)
    with sqlite_database.read() as session:
        bundle = StoredFacts(app.state.secret_box).bundle(session, "node-a")
    assert SECRET in "".join(file.content for file in bundle.files)


def test_a_version_shows_its_files(pair: TestClient) -> None:
    """An old version can be read, file by file."""
    _apply(pair, reason="look at me")
    shown = pair.get(f"{CONFIG}/versions/1").json()
    assert shown["reason"] == "look at me"
    main = next(f for f in shown["nodes"][0]["files"] if f["path"] == "/etc/postfix/main.cf")
    assert "enable_long_queue_ids" in main["content"]
    assert pair.get(f"{CONFIG}/versions/2").status_code == 404


def test_a_reason_is_one_line(pair: TestClient) -> None:
    """A line break in the reason is refused."""
    assert _apply(pair, reason="a\nb").status_code == 422


@pytest.mark.parametrize("field", ["path", "content", "mode", "owner"])
def test_the_hash_covers_everything_of_a_file(field: str) -> None:
    """Another path, content, mode or owner is another hash; the order of files is not."""
    one = ConfigFile(path="/a", content="x")
    two = ConfigFile(path="/b", content="y")
    other = one.model_copy(update={field: "0600"})
    assert files_sha256([one, two]) == files_sha256([two, one])
    assert files_sha256([one, two]) != files_sha256([other, two])
