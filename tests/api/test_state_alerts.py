"""The alerts in the state file over REST: who sees what of them, what is refused, what is left."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from controlplane.core.permissions import UserRole
from controlplane.store.audit import AuditFilter, list_entries
from controlplane.store.engine import Database
from tests.api.conftest import CHEAP, PASSWORD
from tests.fakes.people import add_user, bearer, open_session

STATE = "/api/v1/state"
ALERTS = "/api/v1/alerts"
URL = "jsons://user:hunter2@hooks.example.com/hunter3"


@pytest.fixture
def state(pair: TestClient) -> dict[str, Any]:
    """Set something of the alerts; give the export."""
    for path, body in (
        ("channels/on-call", {"url": URL}),
        ("rules/threats", {"threshold": 12.5, "is_enabled": False}),
        ("settings", {"cool_down_minutes": 5, "tells_end": False}),
    ):
        answer = pair.put(f"{ALERTS}/{path}", json=body)
        assert answer.status_code in {200, 201}, answer.text
    exported: dict[str, Any] = pair.get(STATE).json()
    return exported


def preview(pair: TestClient, state: dict[str, Any], **alerts: Any) -> dict[str, Any]:
    """Return what a file with other alerts would change."""
    sent = {**state, "alerts": {**state["alerts"], **alerts}}
    answer = pair.post(f"{STATE}/preview", json=sent)
    assert answer.status_code == 200, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


def test_the_file_has_what_was_set(state: dict[str, Any]) -> None:
    """And of a channel its name and whether it is on."""
    assert state["alerts"] == {
        "settings": {"cool_down_minutes": 5, "tells_end": False},
        "rules": [{"rule": "threats", "is_enabled": False, "threshold": 12.5}],
        "channels": [{"name": "on-call", "is_enabled": True}],
    }


def test_who_may_not_see_channels_exports_no_more_than_names(
    pair: TestClient, state: dict[str, Any], sqlite_database: Database
) -> None:
    """Where a channel leads is an Admin's; the state is everybody's."""
    add_user(sqlite_database, "rita", UserRole.READ_ONLY, PASSWORD, CHEAP)
    pair.headers.update(bearer(open_session(sqlite_database, "rita", CHEAP)))
    assert pair.get(f"{ALERTS}/channels").status_code == 403
    exported = pair.get(STATE)
    assert exported.json()["alerts"] == state["alerts"]
    for secret in ("hunter", "hooks.example.com", "JSON"):
        assert secret not in exported.text
    assert pair.post(f"{STATE}/preview", json=state).status_code == 403


def test_a_preview_names_what_changes_and_what_is_left(
    pair: TestClient, state: dict[str, Any]
) -> None:
    """Nothing of it for the same file; a note for each channel without its URL."""
    same = preview(pair, state)
    assert (same["settings"], same["lists"], same["notes"]) == ([], {}, [])
    two = [{"name": "new", "is_enabled": True}, {"name": "on-call", "is_enabled": False}]
    pace = {"cool_down_minutes": 6, "tells_end": False}
    shown = preview(pair, state, channels=two, rules=[], settings=pace)
    assert shown["settings"] == [
        {"name": "alerts.settings.cool_down_minutes", "before": 5, "after": 6}
    ]
    assert sorted(shown["lists"]) == ["alerts.channels", "alerts.rules"]
    found = shown["lists"]["alerts.channels"]
    assert (found["added"], found["changed"], found["removed"]) == (["new"], ["on-call"], [])
    assert shown["lists"]["alerts.rules"]["removed"] == ["threats"]
    assert shown["notes"] == [
        "The channel new has no URL here, so it is switched off; give it one."
    ]
    assert shown["alerts_digest"] == same["alerts_digest"]
    assert pair.get(STATE).json()["alerts"] == state["alerts"]


def test_an_import_does_what_the_preview_said(pair: TestClient, state: dict[str, Any]) -> None:
    """If the alerts are those that were looked at."""
    shown = preview(pair, state)
    pair.put(f"{ALERTS}/rules/blocked", json={"threshold": 3})
    body = {"state": state, "expected_alerts_digest": shown["alerts_digest"]}
    refused = pair.post(STATE, json=body)
    assert refused.status_code == 409
    assert "The alerts were changed since you looked" in refused.json()["detail"]
    body["expected_alerts_digest"] = preview(pair, state)["alerts_digest"]
    done = pair.post(STATE, json=body)
    assert done.status_code == 200, done.text
    assert list(done.json()["lists"]) == ["alerts.rules"]
    assert pair.get(STATE).json()["alerts"] == state["alerts"]
    (channel,) = pair.get(f"{ALERTS}/channels").json()
    assert (channel["has_url"], channel["host"]) == (True, "hooks.example.com")


def test_without_alerts_a_file_says_that_they_stay(pair: TestClient, state: dict[str, Any]) -> None:
    """There is no digest of what it does not have."""
    del state["alerts"]
    shown = pair.post(f"{STATE}/preview", json=state).json()
    assert shown["untouched"] == ["alerts"]
    assert shown["alerts_digest"] is None
    assert pair.post(STATE, json={"state": state}).status_code == 200
    assert len(pair.get(f"{ALERTS}/channels").json()) == 1


@pytest.mark.parametrize(
    "alerts",
    [
        {"channels": [{"name": "on-call", "url": URL}]},
        {"channels": [{"name": "../x"}]},
        {"channels": "on-call"},
        {"rules": [{"rule": "threats", "threshold": -1}]},
        {"rules": [{"rule": "threats", "threshold": None}]},
        {"settings": {"cool_down_minutes": 1.5}},
        {"settings": {"tells_end": "perhaps"}},
        {"pace": {}},
    ],
)
def test_what_cannot_be_alerts_is_refused_beside_its_place(
    pair: TestClient, state: dict[str, Any], alerts: dict[str, Any]
) -> None:
    """A URL that was written into the file by hand is not repeated."""
    sent = {**state, "alerts": {**state["alerts"], **alerts}}
    answer = pair.post(STATE, json={"state": sent})
    assert answer.status_code == 422
    (place,) = answer.json()["fields"]
    assert place.startswith("state.alerts.")
    assert "hunter" not in answer.text
    assert pair.get(STATE).json()["alerts"] == state["alerts"]


def test_no_secret_is_in_the_audit_log(
    pair: TestClient, state: dict[str, Any], sqlite_database: Database
) -> None:
    """What an import did is there, by names."""
    sent = {**state, "alerts": {"channels": [{"name": "new"}]}}
    assert pair.post(STATE, json={"state": sent}).status_code == 200
    with sqlite_database.read() as session:
        (row,) = list_entries(session, AuditFilter(action="cluster.import"))
    assert row.after is not None
    names = row.after["lists"]["alerts.channels"]["names"]
    assert (names["added"], names["removed"]) == (["new"], ["on-call"])
    assert "hunter" not in str(row.before) + str(row.after)
