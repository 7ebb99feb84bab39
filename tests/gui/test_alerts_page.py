"""The pages of alerts: what an Admin sets by forms and tries, and what others see of it."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from controlplane.core.alert_rules import RULES, Subject
from controlplane.core.permissions import UserRole
from controlplane.store.alert_channels import list_channels
from controlplane.store.alert_messages import judge_readings
from controlplane.store.alert_settings import read_thresholds, settings_row
from controlplane.store.engine import Database
from tests.api.conftest import CHEAP, PASSWORD
from tests.fakes.people import add_user, open_session
from tests.fakes.receivers import WebHook
from tests.gui.conftest import post

NEW = "/alerts/channels/_new"
URL = "jsons://user:hunter2@hooks.example.com/x"


def names(database: Database) -> list[str]:
    """Return the channels that there are."""
    with database.read() as session:
        return [row.name for row in list_channels(session)]


def test_an_empty_page_says_so(browser: TestClient) -> None:
    """No channel, nothing said, and all rules with their thresholds."""
    page = browser.get("/alerts").text
    assert "There is no channel yet" in page
    assert "Nothing was said yet." in page
    for rule in RULES:
        assert f'<a href="/alerts/rules/{rule.name}">{rule.title}</a>' in page
    assert "1,000 messages" in page


def test_a_channel_is_added_and_its_url_is_on_no_page(
    browser: TestClient, sqlite_database: Database
) -> None:
    """The way leads to its page, where the test is."""
    answer = post(browser, NEW, name="on call", url=URL, is_enabled="on")
    assert (answer.status_code, answer.headers["location"]) == (303, "/alerts/channels/on%20call")
    assert names(sqlite_database) == ["on call"]
    pages = [browser.get(path).text for path in ("/alerts", "/alerts/channels/on%20call")]
    assert all("hooks.example.com" in page for page in pages)
    assert "hunter2" not in "".join(pages)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": "", "url": URL}, "f-name-error"),
        ({"name": "x", "url": ""}, "f-url-error"),
        ({"name": "a/b", "url": URL}, "f-name-error"),
        ({"name": "x", "url": "file:///etc/passwd"}, "must begin with one of"),
        ({"name": "x", "url": "json://169.254.169.254/"}, "link-local"),
        ({"name": "taken", "url": URL}, "one of this name already"),
    ],
)
def test_a_channel_that_cannot_be_added_is_explained(
    browser: TestClient, sqlite_database: Database, fields: dict[str, str], words: str
) -> None:
    """Beside the field; what was typed as a URL is not sent back."""
    post(browser, NEW, name="taken", url=URL, is_enabled="on")
    answer = post(browser, NEW, **fields)
    assert answer.status_code in {409, 422}
    assert words in answer.text
    assert "hunter2" not in answer.text
    assert names(sqlite_database) == ["taken"]


def test_refusals_are_said_in_german(browser: TestClient) -> None:
    """The API's sentence is found again in the catalogue."""
    browser.headers["Accept-Language"] = "de"
    answer = post(browser, NEW, name="x", url="json://169.254.169.254/")
    assert "link-lokale oder reservierte Adresse" in answer.text


def test_a_test_shows_how_it_went(browser: TestClient) -> None:
    """On the channel's page, and in the list afterwards."""
    with WebHook().serve() as hook:
        post(browser, NEW, name="hook", url=hook.url, is_enabled="on")
        good = post(browser, "/alerts/channels/hook/test")
        hook.status = 500
        bad = post(browser, "/alerts/channels/hook/test")
    assert "The message was taken." in good.text
    assert "It answered with the status 500." in bad.text
    assert len(hook.got) == 2
    assert "It answered with the status 500." in browser.get("/alerts").text
    assert post(browser, "/alerts/channels/nobody/test").status_code == 404


def test_a_channel_is_changed_and_removed(browser: TestClient, sqlite_database: Database) -> None:
    """Without a URL the present one stays; a wrong one changes nothing."""
    post(browser, NEW, name="hook", url=URL, is_enabled="on")
    path = "/alerts/channels/hook"
    assert post(browser, path, url="").status_code == 303
    with sqlite_database.read() as session:
        (row,) = list_channels(session)
    assert (row.is_enabled, row.host) == (False, "hooks.example.com")
    assert post(browser, path, url="nonsense", is_enabled="on").status_code == 422
    with sqlite_database.read() as session:
        assert not list_channels(session)[0].is_enabled
    assert post(browser, f"{path}/delete").status_code == 303
    assert names(sqlite_database) == []
    assert browser.get(path).status_code == 404


def test_a_threshold_is_set(browser: TestClient, sqlite_database: Database) -> None:
    """Also to a fraction, also to off; nonsense is refused beside the field."""
    path = "/alerts/rules/queue-size"
    assert post(browser, path, threshold="12.5").status_code == 303
    with sqlite_database.read() as session:
        threshold = read_thresholds(session)["queue-size"]
    assert (threshold.is_enabled, threshold.value) == (False, 12.5)
    for typed in ("", "0", "many"):
        answer = post(browser, path, threshold=typed, is_enabled="on")
        assert (answer.status_code, "f-threshold-error" in answer.text) == (422, True)
    assert browser.get("/alerts/rules/moon").status_code == 404
    assert post(browser, "/alerts/rules/moon", threshold="1").status_code == 404


def test_the_pace_is_set(browser: TestClient, sqlite_database: Database) -> None:
    """Out of its limits it is refused beside the field, on the same page."""
    assert post(browser, "/alerts/settings", cool_down_minutes="5").status_code == 303
    with sqlite_database.read() as session:
        row = settings_row(session)
    assert (row.cool_down_minutes, row.tells_end) == (5, False)
    answer = post(browser, "/alerts/settings", cool_down_minutes="0", tells_end="on")
    assert answer.status_code == 422
    assert "f-cool_down_minutes-error" in answer.text
    assert "Thresholds" in answer.text


def test_what_was_said_is_shown(browser: TestClient, sqlite_database: Database) -> None:
    """With its rules, its text as text, and that nobody was told."""
    subject = Subject("a", 5000.0, "<b>node-a</b> is full.")
    with sqlite_database.write() as session:
        judge_readings(session, {"queue-size": (subject,)})
    page = browser.get("/alerts").text
    assert "&lt;b&gt;node-a&lt;/b&gt; is full." in page
    assert "nobody: there was no channel" in page
    assert "Nothing was said yet." not in page


def test_who_is_no_admin_sees_no_channels(browser: TestClient, sqlite_database: Database) -> None:
    """And no form; what was said and the thresholds are for everybody."""
    post(browser, NEW, name="hook", url=URL, is_enabled="on")
    add_user(sqlite_database, "rita", UserRole.READ_ONLY, PASSWORD, CHEAP)
    browser.cookies.clear()
    browser.cookies.set("relay_session", open_session(sqlite_database, "rita", CHEAP))
    page = browser.get("/alerts").text
    assert "Much mail waits" in page
    assert "hooks.example.com" not in page
    assert "<form" not in page.partition("<main")[2]
    assert browser.get("/alerts/channels/hook").status_code == 403
    assert post(browser, "/alerts/channels/hook/test").status_code == 403
