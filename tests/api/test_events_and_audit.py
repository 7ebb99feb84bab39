"""Events and audit over the API: filters, pages, exports as CSV, and no secret in any of them."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from controlplane.core.event_severity import severity_of
from controlplane.core.permissions import Scope
from controlplane.store.audit import SYSTEM, record
from controlplane.store.engine import Database
from controlplane.store.reports import add_event
from controlplane.store.user_tables import AuditRow
from tests.fakes.people import audited, bearer, make_token

EVENTS, AUDIT = "/api/v1/events", "/api/v1/audit"
HAPPENED = [
    ("role", "node-a", "No longer ACTIVE: the role is FENCED."),
    ("push-failed", "node-a", "node-b did not answer."),
    ("adopted", "node-b", "12 messages of node-a are ours now, by receipt 3."),
    ("apply-config-failed", "node-b", "postfix check: 100% wrong_line"),
    ("fenced", "node-a", "=cmd|' /C calc'!A0"),
    ("config-applied", None, "Version 7."),
]


@pytest.fixture
def happened(client: TestClient, sqlite_database: Database) -> TestClient:
    """Give a client of a cluster where something of each kind has happened."""
    with sqlite_database.write() as session:
        for kind, node, text in HAPPENED:
            add_event(session, kind, text, node=node)
    return client


def found(client: TestClient, **query: Any) -> list[str]:
    """Return the kinds that a query finds, newest first."""
    answer = client.get(EVENTS, params=query)
    assert answer.status_code == 200, answer.text
    return [one["kind"] for one in answer.json()]


def rows(answer: Any) -> list[list[str]]:
    """Return the cells of an export."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert "attachment" in answer.headers["content-disposition"]
    return list(csv.reader(io.StringIO(answer.text)))


@pytest.mark.parametrize(
    ("query", "kinds"),
    [
        ({"severity": "bad"}, ["fenced"]),
        ({"severity": "warn"}, ["apply-config-failed", "push-failed"]),
        ({"severity": "info"}, ["config-applied", "adopted", "role"]),
        ({"text": "RECEIPT 3"}, ["adopted"]),
        ({"text": "100% wrong_"}, ["apply-config-failed"]),
        ({"text": "100_"}, []),
        ({"node": "node-b", "severity": "info"}, ["adopted"]),
        ({"kind": "push-failed"}, ["push-failed"]),
        ({"until": "2020-01-01T00:00:00Z"}, []),
        ({"since": "2020-01-01T00:00:00Z", "limit": 1}, ["config-applied"]),
    ],
)
def test_events_are_filtered(happened: TestClient, query: dict[str, Any], kinds: list[str]) -> None:
    """By what happened, where, how grave, what it says and when."""
    assert found(happened, **query) == kinds


def test_the_filter_and_the_view_agree_on_severity(happened: TestClient) -> None:
    """What SQL leaves is what the table says, of every event."""
    for severity in ("bad", "warn", "info"):
        listed = happened.get(EVENTS, params={"severity": severity}).json()
        assert {one["severity"] for one in listed} == {severity}
    assert len(found(happened)) == len(HAPPENED)
    assert {one["severity"] == severity_of(one["kind"]) for one in happened.get(EVENTS).json()} == {
        True
    }


@pytest.mark.parametrize(
    "query",
    [
        {"severity": "grave"},
        {"text": "a\x00b"},
        {"since": "2026-01-01T00:00:00"},
        {"until": "soon"},
        {"color": "red"},
    ],
)
def test_a_filter_that_makes_no_sense_is_refused(
    happened: TestClient, query: dict[str, str]
) -> None:
    """With the field that is wrong; the export refuses the same."""
    for path in (EVENTS, f"{EVENTS}/export"):
        answer = happened.get(path, params=query)
        assert (answer.status_code, set(answer.json()["fields"])) == (422, set(query))


def test_the_export_has_the_filters_and_no_formula(happened: TestClient) -> None:
    """Newest first, one line each, the last cell of a stranger's text defused."""
    lines = rows(happened.get(f"{EVENTS}/export"))
    assert lines[0] == ["number", "received_at", "happened_at", "node", "severity", "kind", "text"]
    assert [line[5] for line in lines[1:]] == [kind for kind, _, _ in reversed(HAPPENED)]
    assert lines[1][3] == ""
    assert lines[2][6] == "'=cmd|' /C calc'!A0"
    filtered = rows(happened.get(f"{EVENTS}/export", params={"severity": "bad"}))
    assert [line[5] for line in filtered[1:]] == ["fenced"]


def test_an_export_goes_on_over_its_pages(client: TestClient, sqlite_database: Database) -> None:
    """Each event once, also where one page ends and the next begins."""
    with sqlite_database.write() as session:
        for number in range(1003):
            add_event(session, "config", f"number {number}", node="node-a")
    lines = rows(client.get(f"{EVENTS}/export"))
    assert [line[6] for line in lines[1:]] == [f"number {one}" for one in reversed(range(1003))]


@pytest.fixture
def changed(client: TestClient) -> TestClient:
    """Give a client after two changes of a policy and one of a route with a password."""
    for action in ("blocked", "allowed"):
        client.put("/api/v1/sender-policies/example.com", json={"action": action})
    route = {"next_hop": "smtp.example.net", "username": "u", "password": "hunter2-Relays"}
    client.put("/api/v1/routes/@example.com", json=route)
    return client


@pytest.mark.parametrize(
    ("query", "actions"),
    [
        ({"action": "sender-policy.update"}, ["sender-policy.update"]),
        ({"action": "sender-policy.*"}, ["sender-policy.update", "sender-policy.create"]),
        ({"target": "@exam*"}, ["route.create"]),
        ({"target": "exam%*"}, []),
        ({"target": "example.co"}, []),
        ({"actor": "adm*", "action": "route.*"}, ["route.create"]),
        ({"actor": "nobody"}, []),
        ({"until": "2020-01-01T00:00:00Z"}, []),
    ],
)
def test_audit_is_filtered(changed: TestClient, query: dict[str, str], actions: list[str]) -> None:
    """A whole name or its beginning; no wildcard but the last star."""
    answer = changed.get(AUDIT, params=query)
    assert [one["action"] for one in answer.json()] == actions


def test_the_audit_export_says_what_became_of_each_field(changed: TestClient) -> None:
    """Who, when, what, and before and after in one cell; a password is masked."""
    answer = changed.get(f"{AUDIT}/export", params={"action": "*", "actor": "admin"})
    lines = rows(answer)
    columns = "id,at,actor,address,token_prefix,action,target,change"
    assert lines[0] == columns.split(",")
    by_action = {line[5]: line for line in lines[1:]}
    assert by_action["sender-policy.update"][6:] == ["example.com", "action: blocked -> allowed"]
    assert by_action["route.create"][6] == "'@example.com"
    assert "password: (secret)" in by_action["route.create"][7]
    assert "hunter2" not in answer.text


def test_an_export_of_the_audit_log_is_audited(
    changed: TestClient, sqlite_database: Database
) -> None:
    """With its filters, and by whom: a token of scope read may, and is named."""
    token = make_token(sqlite_database, "admin", Scope.READ)
    answer = changed.get(f"{AUDIT}/export", params={"actor": "x"}, headers=bearer(token))
    assert len(rows(answer)) == 1
    assert audited(sqlite_database)[-1] == ("admin", "audit.export", "")
    (entry,) = changed.get(AUDIT, params={"action": "audit.export"}).json()
    assert (entry["after"], entry["token_prefix"]) == ({"actor": "x"}, token[:12])


def test_a_secret_in_an_old_row_is_masked(client: TestClient, sqlite_database: Database) -> None:
    """Written before its name was known to be one, it still does not come back."""
    with sqlite_database.write() as session:
        record(session, SYSTEM, "old.row", "x", after={"port": 25})
        row = session.get_one(AuditRow, len(audited(sqlite_database)) + 1)
        row.after = {"port": 25, "nested": [{"private_key": "PEM of a key"}]}
        session.add(row)
    listed = client.get(AUDIT, params={"action": "old.row"})
    assert listed.json()[0]["after"] == {"port": 25, "nested": [{"private_key": "(secret)"}]}
    exported = client.get(f"{AUDIT}/export", params={"action": "old.row"})
    assert "PEM of a key" not in listed.text + exported.text


def test_audit_is_cut_by_time(client: TestClient, sqlite_database: Database) -> None:
    """From the one moment to just before the other."""
    with sqlite_database.write() as session:
        for days in (1, 2, 3):
            at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=days)
            session.add(AuditRow(actor="a", action="x.y", target=f"day {days}", at=at))
    query = {"since": "2026-01-03T00:00:00Z", "until": "2026-01-04T00:00:00Z"}
    assert [one["target"] for one in client.get(AUDIT, params=query).json()] == ["day 2"]
