"""The log of connections over REST: found, read page by page, followed, exported, audited."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlmodel import select

from controlplane.store.engine import Database
from controlplane.store.user_tables import AuditRow
from tests.fakes.policy_logs import START_S, accepted, bring, connection

CONNECTIONS = "/api/v1/mail-security/connections"
EXPORT = f"{CONNECTIONS}/export"
FORMULA = '=HYPERLINK("http://evil")'
PSEUDONYM = "~0123456789abcdef0123"
NOTHING_TOLD = {"client": None, "helo": None, "login": None}


def at(seconds: float) -> str:
    """Return a time in seconds after the first connection."""
    return (datetime.fromtimestamp(START_S, UTC) + timedelta(seconds=seconds)).isoformat()


@pytest.fixture
def logged(pair: TestClient, sqlite_database: Database) -> TestClient:
    """Give the client of a cluster with five sessions, one of them told late; mails between."""
    bring(
        sqlite_database,
        connection(START_S, helo=FORMULA, login="ann"),
        accepted(START_S + 5),
        connection(START_S + 10, client="2001:DB8::25", messages=0),
        connection(START_S + 20, client=PSEUDONYM),
    )
    late = connection(START_S - 10, client="192.0.2.9", messages=7)
    unknown = connection(START_S + 30, **NOTHING_TOLD)
    bring(sqlite_database, late, unknown, node="node-b")
    return pair


def clients(browser: TestClient, /, **params: Any) -> list[str | None]:
    """Return the clients of a page."""
    answer = browser.get(CONNECTIONS, params=params)
    assert answer.status_code == 200, answer.text
    return [one["client"] for one in answer.json()["connections"]]


IN_TIME = [None, PSEUDONYM, "2001:db8::25", "192.0.2.66", "192.0.2.9"]


@pytest.mark.parametrize(
    ("params", "found"),
    [
        ({}, IN_TIME),
        ({"node": "node-a"}, IN_TIME[1:4]),
        ({"node": "node-b"}, [None, "192.0.2.9"]),
        ({"node": "node-c"}, []),
        ({"client": "192.0.2.66"}, ["192.0.2.66"]),
        ({"client": " 192.0.2.6* "}, ["192.0.2.66"]),
        ({"client": "2001:0DB8::0:25"}, ["2001:db8::25"]),
        ({"client": "2001:db8*"}, ["2001:db8::25"]),
        ({"client": PSEUDONYM}, [PSEUDONYM]),
        ({"client": "192.0.2"}, []),
        ({"client": "192.0.2.*", "node": "node-b"}, ["192.0.2.9"]),
        ({"since": at(10)}, IN_TIME[:3]),
        ({"until": at(10)}, IN_TIME[3:]),
        ({"since": at(0), "until": at(20)}, IN_TIME[2:4]),
        ({"since": at(20), "until": at(0)}, []),
    ],
)
def test_connections_are_filtered(
    logged: TestClient, params: dict[str, str], found: list[str | None]
) -> None:
    """Each filter alone and with others, newest first; the first moment counts, the last not."""
    assert clients(logged, **params) == found


def test_a_connection_has_what_is_known_of_it(logged: TestClient) -> None:
    """And null for the rest."""
    newest, *_, oldest = logged.get(CONNECTIONS).json()["connections"]
    assert {name: newest[name] for name in NOTHING_TOLD} == NOTHING_TOLD
    assert datetime.fromisoformat(oldest.pop("at")) == datetime.fromisoformat(at(-10))
    assert oldest.pop("number") > 0
    assert oldest == {
        "node": "node-b",
        "door": "milter",
        "client": "192.0.2.9",
        "helo": "mx.x.test",
        "login": None,
        "messages": 7,
    }


@pytest.mark.parametrize("limit", [1, 2, 4, 5, 6])
def test_pages_have_every_connection_once(logged: TestClient, limit: int) -> None:
    """The last page says that it is the last, also when it is full."""
    seen, after, pages = list[str | None](), None, 0
    while pages == 0 or after is not None:
        given = {} if after is None else {"after": after}
        page = logged.get(CONNECTIONS, params={"limit": limit, **given}).json()
        seen += [one["client"] for one in page["connections"]]
        after, pages = page["next"], pages + 1
    assert (seen, pages) == (IN_TIME, -(-len(IN_TIME) // limit))


def test_connections_are_followed_by_arrival(logged: TestClient, sqlite_database: Database) -> None:
    """Oldest first; one that ended long before is seen as it comes, others not."""
    page = logged.get(CONNECTIONS, params={"newer_than": 0, "limit": 3}).json()
    assert [one["client"] for one in page["connections"]] == [
        *("192.0.2.66", "2001:db8::25", PSEUDONYM)
    ]
    assert page["next"] is None
    last = page["connections"][-1]["number"]
    assert clients(logged, newer_than=last) == ["192.0.2.9", None]
    assert clients(logged, newer_than=last, node="node-a") == []
    bring(sqlite_database, connection(START_S - 1000, client="198.51.100.1"), first=5)
    assert clients(logged, newer_than=last, node="node-a") == ["198.51.100.1"]
    assert clients(logged, newer_than=2**53 - 1) == []


@pytest.mark.parametrize(
    ("params", "fields"),
    [
        ({"newer_than": 1, "after": "1_1"}, set()),
        ({"newer_than": -1}, {"newer_than"}),
        ({"newer_than": 2**53}, {"newer_than"}),
        ({"limit": 0}, {"limit"}),
        ({"limit": 501}, {"limit"}),
        ({"node": "Node A"}, {"node"}),
        ({"client": "x" * 321}, {"client"}),
        ({"since": "2026-01-01T00:00:00"}, {"since"}),
        ({"until": "0001-01-01T00:00:00Z"}, {"until"}),
        ({"verdict": "reject"}, {"verdict"}),
    ],
)
def test_what_cannot_be_asked_is_refused(
    logged: TestClient, params: dict[str, Any], fields: set[str]
) -> None:
    """One sentence for the field at fault; a connection has no verdict."""
    answer = logged.get(CONNECTIONS, params=params)
    assert answer.status_code == 422
    assert fields <= set(answer.json()["fields"])


def exported(browser: TestClient, /, **params: Any) -> list[dict[str, str]]:
    """Return the lines of an export."""
    answer = browser.get(EXPORT, params=params)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert 'filename="policy-connections.csv"' in answer.headers["content-disposition"]
    return list(csv.DictReader(io.StringIO(answer.text)))


@pytest.mark.parametrize("page", [1, 2, 5, 1000])
def test_an_export_has_the_lines_of_the_list(
    logged: TestClient, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    """In its order, however many are read at once; nothing told is an empty cell."""
    monkeypatch.setattr("controlplane.api.mail_security.log.EXPORT_PAGE", page)
    listed = logged.get(CONNECTIONS).json()["connections"]
    rows = exported(logged)
    assert [int(row["number"]) for row in rows] == [one["number"] for one in listed]
    times = [datetime.fromisoformat(row["at"]) for row in rows]
    assert times == [datetime.fromisoformat(one["at"]) for one in listed]
    assert [rows[0][name] for name in NOTHING_TOLD] == ["", "", ""]
    assert rows[3]["helo"] == f"'{FORMULA}"
    assert (rows[3]["login"], rows[3]["messages"], rows[3]["door"]) == ("ann", "2", "milter")


def test_an_export_follows_its_filters_and_is_audited(
    logged: TestClient, sqlite_database: Database
) -> None:
    """Who took what with them is written down; a refused export is none."""
    rows = exported(logged, node="node-a", client="192.0.*", until=at(1))
    assert [row["client"] for row in rows] == ["192.0.2.66"]
    for params in ({"limit": 5}, {"since": "yesterday"}, {"after": "1_1"}):
        assert logged.get(EXPORT, params=params).status_code == 422
    with sqlite_database.read() as session:
        action = "policy-log.export-connections"
        (entry,) = session.exec(select(AuditRow).where(AuditRow.action == action)).all()
    assert entry.after is not None
    assert {"node": "node-a", "client": "192.0.*"}.items() <= entry.after.items()


def test_nobody_reads_connections_unasked(anonymous: TestClient) -> None:
    """Neither the list nor the file."""
    assert [anonymous.get(path).status_code for path in (CONNECTIONS, EXPORT)] == [401, 401]
