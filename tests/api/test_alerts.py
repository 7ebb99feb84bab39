"""The calls of alerts: channels whose URL nobody sees again, thresholds, tests, what was sent."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select
from sqlmodel import col

from controlplane.core.alert_rules import RULES, Subject
from controlplane.store.alert_messages import judge_readings
from controlplane.store.alert_tables import AlertChannelRow
from controlplane.store.engine import Database
from tests.api.conftest import CHEAP
from tests.fakes.people import audited, bearer, open_session
from tests.fakes.receivers import MailServer, WebHook

CHANNELS = "/api/v1/alerts/channels"
RULES_PATH = "/api/v1/alerts/rules"
URL = "jsons://user:hunter2@hooks.example.com/hunter3?+X-Key=hunter4"


def put(client: TestClient, name: str = "on-call", **body: Any) -> Any:
    """Put a channel."""
    return client.put(f"{CHANNELS}/{name}", json=body)


def test_a_channel_is_added_changed_and_removed(client: TestClient) -> None:
    """Its service and host are shown."""
    made = put(client, url=URL)
    assert made.status_code == 201
    assert made.json() == {
        "name": "on-call",
        "has_url": True,
        "service": "JSON",
        "host": "hooks.example.com",
        "is_enabled": True,
        "last_at": None,
        "last_is_ok": None,
        "last_text": "",
    }
    changed = put(client, is_enabled=False)
    assert (changed.status_code, changed.json()["is_enabled"]) == (200, False)
    moved = put(client, url="ntfys://push.example.com/topic")
    assert (moved.json()["service"], moved.json()["host"]) == ("ntfy", "push.example.com")
    assert client.delete(f"{CHANNELS}/on-call").status_code == 204
    assert client.get(CHANNELS).json() == []
    assert client.delete(f"{CHANNELS}/on-call").status_code == 404


def test_no_answer_gives_a_url_back(client: TestClient, sqlite_database: Database) -> None:
    """Not of the call that sets it, no list, no audit log, no refusal, no row in clear."""
    said = put(client, url=URL).text + put(client, url=URL + "&pgp=hunter5").text
    said += client.get(CHANNELS).text + client.get("/api/v1/audit").text
    said += client.post(f"{CHANNELS}/on-call/test").text
    said += put(client, "other", url="nonsense://hunter6").text
    with sqlite_database.read() as session:
        said += str(session.execute(select(col(AlertChannelRow.url_sealed))).scalars().all())
    assert "on-call" in said
    assert "hunter" not in said


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "needs a URL"),
        ({"url": "file:///etc/passwd"}, "must begin with one of"),
        ({"url": "json://169.254.169.254/latest/meta-data"}, "link-local"),
        ({"url": "json://[fe80::1%25eth0]/"}, "."),
        ({"url": "mailto://u:p@example.com?pgp=sign"}, '"pgp" cannot be used'),
        ({"url": "x" * 2001}, "2000"),
        ({"url": 7}, "string"),
        ({"url": URL, "secret": 1}, "secret"),
    ],
)
def test_a_channel_that_cannot_be_used_is_explained(
    client: TestClient, body: dict[str, Any], words: str
) -> None:
    """And nothing is stored."""
    answer = put(client, **body)
    assert answer.status_code == 422
    assert words in str(answer.json())
    assert client.get(CHANNELS).json() == []


@pytest.mark.parametrize("name", ["_new", "a/b", "%00", "x" * 64, " x", "ü"])
def test_a_channels_name_is_a_plain_word(client: TestClient, name: str) -> None:
    """It stands in paths and in messages."""
    assert put(client, name, url=URL).status_code in {404, 405, 422}


def test_the_test_button_says_how_it_went(client: TestClient) -> None:
    """To a webhook that takes it, to a mail server that does, to nobody; the channel remembers."""
    with WebHook().serve() as hook, MailServer().serve() as server:
        put(client, "hook", url=hook.url)
        put(client, "mail", url=server.url)
        for name in ("hook", "mail"):
            answer = client.post(f"{CHANNELS}/{name}/test")
            assert answer.json() == {"is_ok": True, "text": "The message was taken."}
        hook.status = 403
        assert client.post(f"{CHANNELS}/hook/test").json()["text"].endswith("status 403.")
    assert hook.got[0]["title"].endswith("Test of alerts")
    assert server.got[0]["subject"].endswith("Test of alerts")
    answer = client.post(f"{CHANNELS}/hook/test")
    assert (answer.status_code, answer.json()["is_ok"]) == (200, False)
    hooked, mailed = client.get(CHANNELS).json()
    assert (hooked["last_is_ok"], mailed["last_is_ok"]) == (False, True)
    assert mailed["last_at"] is not None
    assert client.post(f"{CHANNELS}/nobody/test").status_code == 404


def test_who_tests_a_channel_is_audited(client: TestClient, sqlite_database: Database) -> None:
    """It sends something to somebody."""
    put(client, url="json://127.0.0.1:1/")
    client.post(f"{CHANNELS}/on-call/test")
    assert ("admin", "alert-channel.test", "on-call") in audited(sqlite_database)


def test_thresholds_are_listed_and_set(client: TestClient) -> None:
    """With the program's own beside, for the way back."""
    rules = client.get(RULES_PATH).json()
    assert [rule["name"] for rule in rules] == [rule.name for rule in RULES]
    wanted = {"is_enabled": False, "threshold": 12.5}
    answer = client.put(f"{RULES_PATH}/queue-size", json=wanted)
    assert answer.json() | wanted == answer.json()
    assert answer.json()["default"] == 1000
    assert client.put(f"{RULES_PATH}/moon", json=wanted).status_code == 404


@pytest.mark.parametrize("threshold", [0, -1, "many", None, 1e13])
def test_a_threshold_is_a_positive_number(client: TestClient, threshold: object) -> None:
    """Of nothing everything would be an alert."""
    before = client.get(RULES_PATH).json()
    answer = client.put(f"{RULES_PATH}/queue-size", json={"threshold": threshold})
    assert answer.status_code == 422
    assert client.get(RULES_PATH).json() == before


def test_a_threshold_that_is_no_number_is_refused(client: TestClient) -> None:
    """JSON's dialects know some."""
    for text in ("NaN", "Infinity", "-Infinity"):
        answer = client.put(
            f"{RULES_PATH}/queue-size",
            content=f'{{"threshold": {text}}}',
            headers={"Content-Type": "application/json"},
        )
        assert answer.status_code == 422


def test_the_pace_is_set_within_limits(client: TestClient) -> None:
    """From a minute to a day."""
    path = "/api/v1/alerts/settings"
    assert client.get(path).json() == {"cool_down_minutes": 30, "tells_end": True}
    wanted = {"cool_down_minutes": 5, "tells_end": False}
    assert client.put(path, json=wanted).json() == wanted
    assert client.get(path).json() == wanted
    for minutes in (0, 1441, 1.5):
        assert client.put(path, json={"cool_down_minutes": minutes}).status_code == 422
    assert client.get(path).json() == wanted


def test_what_was_said_is_listed_page_by_page(
    client: TestClient, sqlite_database: Database
) -> None:
    """With what became of it on each channel."""
    put(client, url="json://127.0.0.1:1/")
    for key in ("a", "b"):
        with sqlite_database.write() as session:
            for table in ("alert_states", "alert_settings"):
                session.connection().exec_driver_sql(f"DELETE FROM {table}")
            judge_readings(session, {"queue-size": (Subject(key, 5000.0, f"{key} is full."),)})
    newest, first = client.get("/api/v1/alerts/recent").json()
    assert newest["number"] > first["number"]
    assert newest["notices"] == [{"rule": "queue-size", "kind": "begun"}]
    assert "b is full." in newest["body"]
    (delivery,) = newest["deliveries"]
    assert delivery == {
        "channel": "on-call",
        "attempts": 0,
        "is_ok": None,
        "is_over": False,
        "text": "",
    }
    page = client.get("/api/v1/alerts/recent", params={"before": newest["number"], "limit": 1})
    assert page.json() == [first]


def test_channels_are_an_admins_business(team: TestClient, sqlite_database: Database) -> None:
    """Thresholds and what was said are for everybody to read."""
    for name in ("olga", "rita"):
        headers = bearer(open_session(sqlite_database, name, CHEAP))
        assert team.get(CHANNELS, headers=headers).status_code == 403
        assert team.post(f"{CHANNELS}/x/test", headers=headers).status_code == 403
        assert team.get(RULES_PATH, headers=headers).status_code == 200
        assert team.get("/api/v1/alerts/recent", headers=headers).status_code == 200
