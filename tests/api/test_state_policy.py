"""The mail policy in the state file over REST: who may, what is refused, what the preview says."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

STATE = "/api/v1/state"
MAIL = "/api/v1/mail-security"
NEWS = "news@lists.example.com"
READER = "reader@example.net"


@pytest.fixture
def state(pair: TestClient) -> dict[str, Any]:
    """Set something of the policy; give the export."""
    for path, body in (
        ("blocklist", {"value": "spam.example", "expires_at": "2031-01-31T00:00:00.5Z"}),
        ("badwords", {"pattern": "viagra", "severity": "high"}),
        ("rates", {"subject": "login", "window": "hour", "limit": 200}),
        ("categories", {"address": NEWS, "allowed_senders": ["boss@a.tld"]}),
    ):
        answer = pair.post(f"{MAIL}/{path}", json=body)
        assert answer.status_code == 201, answer.text
    assert pair.put(f"{MAIL}/categories/{NEWS}/subscriptions/{READER}").status_code == 201
    assert pair.patch(f"{MAIL}/settings", json={"is_active": True}).status_code == 200
    exported: dict[str, Any] = pair.get(STATE).json()
    return exported


def preview(pair: TestClient, state: dict[str, Any]) -> dict[str, Any]:
    """Return what a file would change."""
    answer = pair.post(f"{STATE}/preview", json=state)
    assert answer.status_code == 200, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


def test_the_file_has_entries_as_their_own_export_has_them(
    pair: TestClient, state: dict[str, Any]
) -> None:
    """So a list can be taken from the one and put into the other."""
    for name in ("blocklist", "allowlist", "badwords", "rates", "categories", "subscriptions"):
        own = pair.get(f"{MAIL}/{name}/export", params={"format": "json"}).json()
        assert state["policy"][name] == own
    own = pair.get(f"{MAIL}/settings").json()["settings"]
    own["http"] = {name: own["http"][name] for name in own["http"] if not name.startswith("has_")}
    assert state["policy"]["settings"] == own


def test_a_file_brings_back_the_policy(pair: TestClient, state: dict[str, Any]) -> None:
    """The preview names what changes; the import does just that."""
    pair.patch(f"{MAIL}/settings", json={"is_active": False})
    pair.post(f"{MAIL}/badwords", json={"pattern": "casino"})
    (word,) = pair.get(f"{MAIL}/badwords", params={"search": "viagra"}).json()["items"]
    pair.put(f"{MAIL}/badwords/{word['id']}", json={"pattern": "viagra", "severity": "low"})
    (rate,) = pair.get(f"{MAIL}/rates").json()["items"]
    pair.delete(f"{MAIL}/rates/{rate['id']}")
    shown = preview(pair, state)
    assert shown["settings"] == [
        {"name": "policy.settings.is_active", "before": False, "after": True}
    ]
    assert set(shown["lists"]) == {"policy.badwords", "policy.rates"}
    words = shown["lists"]["policy.badwords"]
    assert (words["removed"], words["changed"]) == (["word casino"], ["word viagra"])
    assert shown["lists"]["policy.rates"]["added"] == ["login hour"]
    body = {"state": state, "expected_policy_edits": shown["policy_edits"]}
    assert pair.post(STATE, json=body).status_code == 200
    after = pair.get(STATE).json()["policy"]
    assert after == state["policy"]


def test_subscriptions_can_be_left_out(pair: TestClient, state: dict[str, Any]) -> None:
    """Then no address of a subscriber is in the file, and an import ends none."""
    answer = pair.get(STATE, params={"subscriptions": "false"})
    assert READER in json.dumps(state)
    assert READER not in answer.text
    policy = answer.json()["policy"]
    assert (policy["subscriptions"], policy["left_out"]) == (None, {"subscriptions": 1})
    shown = preview(pair, answer.json())
    assert (shown["lists"], shown["untouched"]) == ({}, ["policy.subscriptions"])
    assert pair.post(STATE, json={"state": answer.json()}).status_code == 200
    assert pair.get(STATE).json()["policy"] == state["policy"]


def test_a_policy_that_changed_since_the_preview_is_not_replaced(
    pair: TestClient, state: dict[str, Any]
) -> None:
    """409, and what was added stays."""
    edits = preview(pair, state)["policy_edits"]
    pair.post(f"{MAIL}/badwords", json={"pattern": "casino"})
    answer = pair.post(STATE, json={"state": state, "expected_policy_edits": edits})
    assert answer.status_code == 409
    assert pair.get(f"{MAIL}/badwords").json()["total"] == 2


@pytest.mark.parametrize(
    ("place", "name", "value"),
    [
        ((), "more", []),
        (("settings",), "more", 1),
        (("settings",), "pseudonym_key", "0" * 64),
        (("settings",), "trusted_networks", []),
        (("settings", "http"), "token_sha256", "0" * 64),
        (("settings", "http"), "has_token", True),
        (("settings", "http"), "port", 0),
        (("settings", "spf"), "on_fail", "explode"),
        (("settings",), "threat_reject_score", "NaN"),
        ((), "blocklist", {}),
        ((), "badwords", ["viagra"]),
        ((), "threat_rules", [{"rule": "x", "score": -1}]),
        ((), "left_out", {"mail": 1}),
    ],
)
def test_what_is_no_policy_is_refused_beside_its_field(
    pair: TestClient, state: dict[str, Any], place: tuple[str, ...], name: str, value: Any
) -> None:
    """An unknown field is no field that is passed over; a secret cannot be set by a file."""
    within = state["policy"]
    for part in place:
        within = within[part]
    within[name] = value
    for path, body in ((f"{STATE}/preview", state), (STATE, {"state": state})):
        answer = pair.post(path, json=body)
        assert answer.status_code == 422
        assert any(name in field for field in answer.json()["fields"]), answer.text


def test_entries_that_cannot_be_used_are_problems_of_the_preview(
    pair: TestClient, state: dict[str, Any]
) -> None:
    """With those of the cluster's lists beside them; lone surrogates are no reason to break off."""
    state["policy"]["badwords"] = [{"pattern": "(", "is_regex": True}]
    state["policy"]["blocklist"] = [{"value": "a.tld"}, {"\ud800": 1}]
    state["lists"]["trusted_networks"] = ["home"]
    raw = json.dumps(state)
    kind = {"Content-Type": "application/json"}
    shown = pair.post(f"{STATE}/preview", content=raw, headers=kind).json()
    assert set(shown["problems"]) == {
        "trusted_networks.home",
        "policy.badwords entry 1",
        "policy.blocklist entry 2",
    }
    refused = pair.post(STATE, content=f'{{"state": {raw}}}', headers=kind)
    assert (refused.status_code, refused.json()["fields"]) == (422, shown["problems"])


def test_lists_have_a_longest_length(pair: TestClient, state: dict[str, Any]) -> None:
    """Of the file and of the list it replaces; both say the way out, and the rest still exports."""
    many = [{"value": f"u{number}@a.tld"} for number in range(10_001)]
    full = {**state, "policy": {**state["policy"], "blocklist": many}}
    shown = preview(pair, full)
    assert "10001 entries, more than the 10000" in shown["problems"]["policy.blocklist"]
    body = json.dumps(many)
    kind = {"Content-Type": "application/json"}
    added = pair.post(f"{MAIL}/blocklist/import?replace=true", content=body, headers=kind)
    assert added.json()["added"] == 10_001, added.text
    policy = pair.get(STATE).json()["policy"]
    assert (policy["blocklist"], policy["left_out"]) == (None, {"blocklist": 10_001})
    assert policy["badwords"] == state["policy"]["badwords"]
    sentence = preview(pair, state)["problems"]["policy.blocklist"]
    assert "import it by a file of its own" in sentence
    assert preview(pair, {**state, "policy": policy})["untouched"] == ["policy.blocklist"]


def test_an_import_has_a_most_of_changes(pair: TestClient, state: dict[str, Any]) -> None:
    """Of all lists together, because every heartbeat waits for it."""
    for name in ("blocklist", "allowlist"):
        state["policy"][name] = [{"value": f"u{number}@a.tld"} for number in range(10_000)]
    assert "It would change 20001 entries" in preview(pair, state)["problems"]["policy"]
