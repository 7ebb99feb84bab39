"""The pages of events and of the audit log: filters, what changed, exports."""

from __future__ import annotations

import html
import re

import pytest
from fastapi.testclient import TestClient

from controlplane.store.audit import SYSTEM, Actor, record
from controlplane.store.engine import Database
from controlplane.store.reports import add_event
from controlplane.store.user_tables import AuditRow
from tests.gui.conftest import post

SCRIPT = "<script>alert(1)</script>"


@pytest.fixture
def eventful(browser: TestClient, sqlite_database: Database) -> TestClient:
    """Give a browser of a cluster where something has happened."""
    with sqlite_database.write() as session:
        add_event(session, "fenced", f"why {SCRIPT}", node="node-a")
        add_event(session, "push-failed", "node-b did not answer.", node="node-a")
        add_event(session, "config", "Config version 3 is live.", node="node-b")
    return browser


def test_events_show_how_grave_they_are(eventful: TestClient) -> None:
    """In words, for a colour alone says nothing."""
    page = eventful.get("/events").text
    for words in ("serious", "warning", "information"):
        assert re.search(rf'<span class="badge tone-\w+">{words}</span>', page), words


def test_failed_actions_can_be_filtered_by(eventful: TestClient) -> None:
    """Every kind that a node can report is an option."""
    page = eventful.get("/events?kind=push-failed").text
    assert '<option value="push-failed" selected>' in page
    assert '<option value="apply-config-failed">' in page
    assert "did not answer" in page
    assert "is live" not in page


@pytest.mark.parametrize(
    ("query", "words"),
    [("severity=bad", "why"), ("text=IS+LIVE", "is live"), ("severity=warn", "did not answer")],
)
def test_events_are_filtered_by_severity_and_text(
    eventful: TestClient, query: str, words: str
) -> None:
    """One of three is left each time."""
    page = eventful.get(f"/events?{query}").text
    left = [
        one for one in ("why", "is live", "did not answer") if one in page.partition("<tbody>")[2]
    ]
    assert left == [words]


def test_times_are_read_in_the_viewers_zone(eventful: TestClient) -> None:
    """And the export's address says which moment that is."""
    eventful.cookies.set("relay_zone", "Asia%2FTokyo")
    page = html.unescape(eventful.get("/events?since=2020-01-31+14:30&text=live").text)
    exported = re.findall(r'href="(/api/v1/events/export[^"]*)"', page)[0]
    assert "since=2020-01-31T14%3A30%3A00%2B09%3A00" in exported
    answer = eventful.get(exported)
    assert (answer.status_code, answer.text.count("\r\n")) == (200, 2)
    refused = eventful.get("/events?since=yesterday")
    assert (refused.status_code, 'value="yesterday"' in refused.text) == (422, True)


def test_the_audit_page_shows_before_and_after(
    browser: TestClient, sqlite_database: Database
) -> None:
    """Who, where from, what, of what, and each field with what it was and is."""
    actor = Actor("olga", "192.0.2.7", token_prefix="relay_abc123")
    with sqlite_database.write() as session:
        record(session, actor, "route.update", "@x.test", before={"port": 25}, after={"port": 587})
    page = browser.get("/audit?actor=olga").text
    assert "192.0.2.7" in page
    assert "relay_abc123" in page
    assert re.search(r"<strong>port</strong> <del[^>]*>.*25</del> <ins[^>]*>.*587</ins>", page)
    assert "user.password" not in page.partition("<tbody>")[2]


def test_many_fields_are_folded(browser: TestClient, sqlite_database: Database) -> None:
    """The first five at once, the others behind their number."""
    with sqlite_database.write() as session:
        record(session, SYSTEM, "x.create", "many", after={f"f{one}": one for one in range(9)})
    page = browser.get("/audit?target=many").text
    assert page.count("<ins") == 9
    assert "<summary>4 more</summary>" in page
    assert page.count("<details>") == page.count("</details>") - page.count("<details class")


def test_audit_is_filtered_and_exported(browser: TestClient) -> None:
    """Every action that was ever done is an option; the export keeps the filters."""
    post(browser, "/profile", language="de", theme="auto", time_zone="auto")
    page = browser.get("/audit?action=user.preferences&target=adm*").text
    assert '<option value="user.preferences" selected>' in page
    assert "language" in page
    rows = page.partition("<tbody>")[2].partition("</tbody>")[0]
    assert rows.count("<tr>") == 1
    exported = html.unescape(re.findall(r'href="(/api/v1/audit/export[^"]*)"', page)[0])
    assert exported == "/api/v1/audit/export?action=user.preferences&target=adm%2A"
    assert "language: auto -> de" in browser.get(exported).text


def test_nothing_that_a_stranger_wrote_is_markup(
    eventful: TestClient, sqlite_database: Database
) -> None:
    """Events and each column of the audit log: a user agent may try, and a name at the login."""
    with sqlite_database.write() as session:
        row = AuditRow(actor=SCRIPT, address=SCRIPT, token_prefix=SCRIPT[:16], action=SCRIPT)
        row.target, row.before, row.after = SCRIPT, {SCRIPT: SCRIPT}, {SCRIPT: [SCRIPT]}
        session.add(row)
    post(eventful, "/login", user=SCRIPT, password="x")
    for path in ("/events", "/audit"):
        page = eventful.get(path).text
        assert "<script>" not in page
        assert html.escape(SCRIPT) in page


def test_a_query_that_makes_no_sense_is_explained(browser: TestClient) -> None:
    """No rows, a sentence, what was typed."""
    answer = browser.get("/audit?since=soon&target=kept")
    assert answer.status_code == 422
    assert 'value="kept"' in answer.text
    assert 'role="alert"' in answer.text


def test_pages_of_the_audit_log_show_each_row_once(
    browser: TestClient, sqlite_database: Database
) -> None:
    """Following the link to the next page to its end."""
    with sqlite_database.write() as session:
        for number in range(120):
            record(session, SYSTEM, "x.create", f"row {number:03}")
    found, path = [], "/audit?action=x.create"
    while path:
        page = browser.get(path).text
        found += re.findall(r"row (\d{3})", page)
        links = re.findall(r'href="(/audit\?[^"]*before=[^"]*)"', page)
        path = html.unescape(links[0]) if links else ""
    assert found == [f"{number:03}" for number in reversed(range(120))]
