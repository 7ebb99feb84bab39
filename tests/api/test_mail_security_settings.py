"""The settings of the mail policy over REST: changed in parts, secrets shown once, all audited."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from fastapi.testclient import TestClient

from controlplane.core.permissions import Scope
from controlplane.store.audit import AuditFilter, list_entries
from controlplane.store.engine import Database
from controlplane.store.policy_publication import read_manifest
from controlplane.store.policy_settings import ensure_policy, read_policy_settings
from nodeagent.policy.document import PolicySettings, Privacy
from tests.fakes.people import bearer, make_token

SETTINGS = "/api/v1/mail-security/settings"
CREDENTIALS = f"{SETTINGS}/http-credentials"


def shown(client: TestClient) -> dict[str, Any]:
    """Return the settings as people see them."""
    return dict(client.get(SETTINGS).json()["settings"])


def for_nodes(client: TestClient, database: Database) -> PolicySettings:
    """Return the settings as nodes get them."""
    with database.read() as session:
        return read_manifest(session, client.app.state.secret_box).settings  # type: ignore[attr-defined]


def test_nothing_is_active_before_somebody_says_so(
    client: TestClient, sqlite_database: Database
) -> None:
    """And nothing personal leaves a node."""
    found = shown(client)
    assert (found["is_active"], found["privacy"]) == (False, "redacted")
    assert not for_nodes(client, sqlite_database).is_active


def test_a_change_is_merged_and_reaches_the_nodes(
    client: TestClient, sqlite_database: Database
) -> None:
    """Of a section only what is named changes; the audit log has what was different."""
    revision = client.get(SETTINGS).json()["revision"]
    change = {"is_active": True, "privacy": "full", "checks": {"most_recipients": 7}}
    assert client.patch(SETTINGS, json=change).status_code == 200
    client.patch(
        SETTINGS, json={"checks": {"helo_is_qualified": True}, "spf": {"is_enabled": True}}
    )
    found = for_nodes(client, sqlite_database)
    assert (found.is_active, found.privacy) == (True, Privacy.FULL)
    assert (found.checks.most_recipients, found.checks.helo_is_qualified) == (7, True)
    assert found.spf.is_enabled
    assert client.get(SETTINGS).json()["revision"] > revision
    with sqlite_database.read() as session:
        last, first = list_entries(session, AuditFilter(action="policy-settings.*"))
    assert (first.before or {})["is_active"] is False
    assert set(first.after or {}) == {"is_active", "privacy", "checks"}
    assert set(last.after or {}) == {"checks", "spf"}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"privacy": "most"}, "privacy"),
        ({"trusted_networks": ["192.0.2.0/24"]}, "trusted_networks"),
        ({"pseudonym_key": "0" * 64}, "pseudonym_key"),
        ({"http": {"password_sha256": "0" * 64}}, "http.password_sha256"),
        ({"http": {"is_enabled": True}}, "http.is_enabled"),
        ({"http": {"address": "relay.test"}}, "http.address"),
        ({"http": {"port": 0}}, "http.port"),
        ({"checks": {"most_recipients": 0}}, "checks.most_recipients"),
        ({"threat_quarantine_score": 11}, "threat_quarantine_score"),
        ({"blocked_extensions": [".exe"]}, "blocked_extensions"),
        ({"blocked_extensions": ["exe"] * 201}, "blocked_extensions"),
        ({"rate_exempt": ["Example.com"]}, "rate_exempt"),
        ({"rate_exempt": ["not a value"]}, "rate_exempt"),
        ({"unsubscribe_url": "http://a.test/"}, "unsubscribe_url"),
        ({"inspected_bytes": None}, "inspected_bytes"),
    ],
)
def test_what_cannot_be_used_changes_nothing(
    client: TestClient, sqlite_database: Database, change: dict[str, Any], field: str
) -> None:
    """One sentence beside the field at fault."""
    before = client.get(SETTINGS).json()
    answer = client.patch(SETTINGS, json={"is_active": True, **change})
    assert answer.status_code == 422, answer.text
    assert [name for name in answer.json()["fields"] if name.startswith(field)]
    assert client.get(SETTINGS).json() == before
    with sqlite_database.read() as session:
        assert list_entries(session, AuditFilter(action="policy-settings.*")) == []


def test_secrets_of_the_http_door_are_shown_once_and_kept_as_digests(
    client: TestClient, sqlite_database: Database
) -> None:
    """No answer, no audit row and no table has them; what has been made anew counts."""
    made = client.post(CREDENTIALS, json={"kind": "basic", "name": "stalwart"}).json()
    token = client.post(CREDENTIALS, json={"kind": "bearer"}).json()
    header = client.post(CREDENTIALS, json={"kind": "header", "name": "X-Hook-Key"}).json()
    again = client.post(CREDENTIALS, json={"kind": "basic"}).json()
    assert again["name"] == "stalwart"
    assert len({made["secret"], token["secret"], header["secret"], again["secret"]}) == 4
    door = for_nodes(client, sqlite_database).http
    assert (door.username, door.header_name) == ("stalwart", "X-Hook-Key")
    assert door.password_sha256 == hashlib.sha256(again["secret"].encode()).hexdigest()
    assert door.token_sha256 == hashlib.sha256(token["secret"].encode()).hexdigest()
    text = client.get(SETTINGS).text + client.get("/api/v1/audit").text
    assert str(door.token_sha256) not in text
    assert token["secret"] not in text
    assert {name: shown(client)["http"][name] for name in ("has_password", "has_token")} == {
        "has_password": True,
        "has_token": True,
    }


def test_the_open_door_keeps_one_credential(client: TestClient, sqlite_database: Database) -> None:
    """Without any nobody could get in, or, worse, everybody."""
    client.post(CREDENTIALS, json={"kind": "bearer"})
    client.post(CREDENTIALS, json={"kind": "basic", "name": "stalwart"})
    assert client.patch(SETTINGS, json={"http": {"is_enabled": True}}).status_code == 200
    assert client.delete(f"{CREDENTIALS}/basic").status_code == 204
    assert for_nodes(client, sqlite_database).http.username is None
    assert client.delete(f"{CREDENTIALS}/bearer").status_code == 409
    client.patch(SETTINGS, json={"http": {"is_enabled": False}})
    assert client.delete(f"{CREDENTIALS}/bearer").status_code == 204


def test_a_user_name_or_header_is_needed_the_first_time(client: TestClient) -> None:
    """Later the one there is will do."""
    for kind in ("basic", "header"):
        answer = client.post(CREDENTIALS, json={"kind": kind})
        assert (answer.status_code, list(answer.json()["fields"])) == (422, ["name"])


def test_settings_are_the_admins(team: TestClient, sqlite_database: Database) -> None:
    """An Operator blocks addresses, and switches nothing off."""
    token = make_token(sqlite_database, "olga", Scope.OPERATE)
    answer = team.patch(SETTINGS, json={"is_active": False}, headers=bearer(token))
    assert answer.status_code == 403
    blocked = team.post(
        "/api/v1/mail-security/blocklist", json={"value": "a.test"}, headers=bearer(token)
    )
    assert (blocked.status_code, blocked.json()["origin"]) == (201, "olga")


def test_the_key_of_pseudonyms_is_made_once_and_sealed(
    client: TestClient, sqlite_database: Database
) -> None:
    """A new one would give everybody another pseudonym."""
    box = client.app.state.secret_box  # type: ignore[attr-defined]
    ensure_policy(sqlite_database, box)
    key = for_nodes(client, sqlite_database).pseudonym_key
    ensure_policy(sqlite_database, box)
    client.patch(SETTINGS, json={"is_active": True})
    assert for_nodes(client, sqlite_database).pseudonym_key == key
    with sqlite_database.read() as session:
        assert read_policy_settings(session).pseudonym_key is None
    assert str(key) not in client.get(SETTINGS).text


def test_categories_and_the_stage_data_need_each_other(client: TestClient) -> None:
    """Whoever comes second is refused, by a sentence that says what to do first."""
    categories, news = "/api/v1/mail-security/categories", {"address": "news@lists.example"}
    assert client.patch(SETTINGS, json={"stages": ["mail"]}).status_code == 200
    refused = client.post(categories, json=news)
    assert refused.status_code == 409
    assert "a stage that the settings leave out; add it there first." in refused.text
    assert client.get(categories).json()["total"] == 0
    assert client.patch(SETTINGS, json={"stages": ["mail", "data"]}).status_code == 200
    assert client.post(categories, json=news).status_code == 201
    refused = client.patch(SETTINGS, json={"stages": []})
    assert refused.status_code == 422
    assert list(refused.json()["fields"]) == ["stages"]
    assert "while there are categories, do not leave it out." in refused.text
    assert shown(client)["stages"] == ["mail", "data"]
