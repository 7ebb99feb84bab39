"""The policy log over REST: what a hook brings is shown, counted and exported, nothing else is."""

from __future__ import annotations

import csv
import gzip
import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from controlplane.store.engine import Database
from nodeagent.core.agent_api import AGENT_API
from nodeagent.core.stream_wire import pack
from nodeagent.policy.log_wire import MOST_PLAIN_BYTES
from nodeagent.policy.sync_wire import PolicySync
from tests.fakes.cluster_agents import enrol_agents
from tests.fakes.enrolled_agent import EnrolledAgent
from tests.fakes.people import audited
from tests.fakes.policy_logs import accepted, batch, blocked, connection, limited, quarantined
from tests.fakes.postfix_queue import queue_id

ONE = queue_id(1)
BASE = "/api/v1/mail-security"
HOSTILE = '=HYPERLINK("http://evil")<script>alert(1)</script>'
NOW = datetime.now(UTC)


@pytest.fixture
def agent(pair: TestClient, sqlite_database: Database) -> EnrolledAgent:
    """Give the enrolled agent of node-a."""
    return enrol_agents(pair, sqlite_database, "node-a")["node-a"]


@pytest.fixture
def logged(agent: EnrolledAgent) -> TestClient:
    """Give the client of a cluster whose hook has decided five times in the last minute."""
    now_s = NOW.timestamp()
    entries = [
        connection(now_s - 50, helo=HOSTILE),
        accepted(now_s - 40, client=None, sender=None, subject=None),
        blocked(now_s - 30, sender="-s@x.test", text=HOSTILE),
        limited(now_s - 20),
        quarantined(ONE, now_s - 10),
    ]
    answer = agent.bring("policy_log", batch(entries))
    assert (answer.status_code, answer.json()) == (200, {"acknowledged": 5})
    return agent.client


def test_the_status_has_the_numbers_of_a_day(logged: TestClient) -> None:
    """By the names that monitoring knows."""
    status = logged.get(f"{BASE}/status").json()
    assert {
        name: status[name]
        for name in (
            *("threats_24h", "blocked_emails_24h", "rate_limit_blocks_24h"),
            *("quarantined_24h", "accepted_24h", "connections_24h"),
        )
    } == {
        "threats_24h": 5,
        "blocked_emails_24h": 2,
        "rate_limit_blocks_24h": 1,
        "quarantined_24h": 1,
        "accepted_24h": 1,
        "connections_24h": 1,
    }


def test_the_status_says_what_is_in_force(agent: EnrolledAgent) -> None:
    """Lists as they are published, the blocklist without the allowlist, and what each node has."""
    client = agent.client
    before = client.get(f"{BASE}/status").json()
    assert (before["active"], before["badwords_count"], before["blocklist_count"]) == (False, 0, 0)
    assert {one["node"]: one["revision"] for one in before["nodes"]} == {
        "node-a": None,
        "node-b": None,
    }
    assert client.patch(f"{BASE}/settings", json={"is_active": True}).status_code == 200
    for kind, entry in (
        ("blocklist", {"value": "192.0.2.0/24"}),
        ("blocklist", {"value": "spam.test"}),
        ("allowlist", {"value": "192.0.2.7"}),
        ("badwords", {"pattern": "casino"}),
    ):
        assert client.post(f"{BASE}/{kind}", json=entry).status_code == 201
    status = client.get(f"{BASE}/status").json()
    assert (status["active"], status["badwords_count"], status["blocklist_count"]) == (True, 1, 2)
    said = PolicySync(source="d" * 32, revision=status["revision"], problem="slow disk")
    assert agent.post("policy", said).status_code == 200
    node = client.get(f"{BASE}/status").json()["nodes"][0]
    assert (node["node"], node["revision"]) == ("node-a", status["revision"])
    assert node["problem"] == "slow disk"
    assert 0 <= node["seen_s"] < 600


def test_a_silent_cluster_has_zeros(client: TestClient) -> None:
    """Nothing was decided; nothing is made up."""
    status = client.get(f"{BASE}/status").json()
    assert status["threats_24h"] == status["blocked_emails_24h"] == status["accepted_24h"] == 0
    assert client.get(f"{BASE}/threats").json() == {
        "threats": [],
        "total": 0,
        "has_more_than": False,
    }
    assert client.get(f"{BASE}/log").json() == {"entries": [], "next": None}
    assert client.get(f"{BASE}/connections").json() == {"connections": [], "next": None}


def test_threats_are_listed_newest_first(logged: TestClient) -> None:
    """With limit and offset, and the number of the decision that they led to."""
    page = logged.get(f"{BASE}/threats").json()
    rules = [one["rule"] for one in page["threats"]]
    assert rules == ["threat:sql-union", "badword:17", "rate:2", "rate:1", "block:7"]
    assert (page["total"], page["has_more_than"]) == (5, False)
    part = logged.get(f"{BASE}/threats", params={"limit": 2, "offset": 1}).json()
    assert [one["rule"] for one in part["threats"]] == rules[1:3]
    assert part["total"] == 5
    word = page["threats"][1]
    assert (word["type"], word["severity"], word["matched"]) == ("badword", "high", "casino")
    shown = logged.get(f"{BASE}/log/{word['message']}").json()
    assert (shown["verdict"], shown["queue_id"]) == ("quarantine", ONE)
    assert [one["rule"] for one in shown["fired"]] == ["allow:1", "badword:17", "threat:sql-union"]
    assert shown["fired"][2]["score"] == 4.5


@pytest.mark.parametrize(
    ("params", "count"),
    [
        ({"severity": "high"}, 1),
        ({"severity": "low"}, 0),
        ({"type": "rate"}, 2),
        ({"rule": "rate:*"}, 2),
        ({"rule": "block:7", "type": "blocklist"}, 1),
        ({"from_date": (NOW - timedelta(seconds=15)).isoformat()}, 2),
        ({"to_date": (NOW - timedelta(seconds=25)).isoformat()}, 1),
        ({"from_date": (NOW - timedelta(days=1)).date().isoformat()}, 5),
        ({"to_date": NOW.date().isoformat()}, 5),
        ({"to_date": (NOW - timedelta(days=2)).date().isoformat()}, 0),
        ({"from_date": (NOW + timedelta(days=1)).date().isoformat()}, 0),
    ],
)
def test_threats_are_filtered(logged: TestClient, params: dict[str, Any], count: int) -> None:
    """Severity, type, rule, and times or whole days."""
    page = logged.get(f"{BASE}/threats", params=params).json()
    assert (len(page["threats"]), page["total"]) == (count, count)


@pytest.mark.parametrize(
    ("path", "params", "field"),
    [
        ("threats", {"severity": "worst"}, "severity"),
        ("threats", {"type": "virus"}, "type"),
        ("threats", {"limit": 501}, "limit"),
        ("threats", {"offset": 100_001}, "offset"),
        ("threats", {"offset": -1}, "offset"),
        ("threats", {"from_date": "yesterday"}, "from_date"),
        ("threats", {"from_date": "2026-01-01T00:00:01"}, "from_date"),
        ("threats", {"to_date": "0001-01-01"}, "to_date"),
        ("threats", {"rule": "a\nb"}, "rule"),
        ("threats", {"kind": "rate"}, "kind"),
        ("log", {"verdict": "maybe"}, "verdict"),
        ("log", {"after": "1 OR 1=1"}, "after"),
        ("log", {"node": "../x"}, "node"),
        ("log", {"queue_id": "a b"}, "queue_id"),
        ("log", {"since": "2026-01-01T00:00:00"}, "since"),
        ("connections", {"after": "x"}, "after"),
        ("connections", {"client": "\x00"}, "client"),
        ("trends", {"span": "1y"}, "span"),
    ],
)
def test_a_filter_that_cannot_be_used_is_refused(
    client: TestClient, path: str, params: dict[str, Any], field: str
) -> None:
    """One sentence for the field at fault."""
    answer = client.get(f"{BASE}/{path}", params=params)
    assert answer.status_code == 422
    named = {name.split(".")[0] for name in answer.json()["fields"]}
    assert named == {field}


def test_the_log_goes_page_by_page(logged: TestClient) -> None:
    """`next` continues behind the last decision; what is not told is null."""
    first = logged.get(f"{BASE}/log", params={"limit": 3}).json()
    second = logged.get(f"{BASE}/log", params={"limit": 3, "after": first["next"]}).json()
    verdicts = [one["verdict"] for page in (first, second) for one in page["entries"]]
    assert verdicts == ["quarantine", "tempfail", "reject", "accept"]
    assert second["next"] is None
    last = second["entries"][0]
    assert (last["client"], last["sender"], last["subject"]) == (None, None, None)
    assert first["entries"][1]["rules"] == ["rate:1", "rate:2"]


@pytest.mark.parametrize(
    ("params", "verdicts"),
    [
        ({"verdict": "reject"}, ["reject"]),
        ({"stage": "mail"}, ["tempfail"]),
        ({"door": "http"}, []),
        ({"sender": "@x.test"}, ["quarantine", "tempfail", "reject"]),
        ({"client": "192.0.2.66", "stage": "rcpt"}, ["reject"]),
        ({"queue_id": f" {ONE} "}, ["quarantine"]),
        ({"message_id": "1@x.test", "verdict": "accept"}, ["accept"]),
        ({"since": (NOW - timedelta(seconds=25)).isoformat()}, ["quarantine", "tempfail"]),
        ({"until": (NOW - timedelta(seconds=35)).isoformat()}, ["accept"]),
    ],
)
def test_the_log_is_filtered(
    logged: TestClient, params: dict[str, Any], verdicts: list[str]
) -> None:
    """Every filter over the API, alone and together."""
    page = logged.get(f"{BASE}/log", params=params).json()
    assert [one["verdict"] for one in page["entries"]] == verdicts


def test_the_log_is_followed_by_arrival(logged: TestClient) -> None:
    """Oldest first, from a number on; that goes one way only."""
    seen: list[str] = []
    last = 0
    while True:
        page = logged.get(f"{BASE}/log", params={"newer_than": last, "limit": 3}).json()
        assert page["next"] is None
        if not page["entries"]:
            break
        seen += [one["verdict"] for one in page["entries"]]
        last = page["entries"][-1]["number"]
    assert seen == ["accept", "reject", "tempfail", "quarantine"]
    rest = {"newer_than": 0, "verdict": "reject"}
    assert len(logged.get(f"{BASE}/log", params=rest).json()["entries"]) == 1
    both = logged.get(f"{BASE}/log", params={"newer_than": 1, "after": "1_1"})
    assert both.status_code == 422


def test_connections_are_listed(logged: TestClient) -> None:
    """Who was connected, and how many mails that brought."""
    (one,) = logged.get(f"{BASE}/connections", params={"client": "192.0.*"}).json()["connections"]
    assert (one["node"], one["messages"], one["helo"]) == ("node-a", 2, HOSTILE)
    assert logged.get(f"{BASE}/connections", params={"node": "node-b"}).json()["connections"] == []


@pytest.mark.parametrize(("span", "steps", "step_s"), [("24h", 24, 3600), ("30d", 30, 86_400)])
def test_trends_show_a_day_and_a_month(
    logged: TestClient, span: str, steps: int, step_s: int
) -> None:
    """One value a step, and the rules that fired most."""
    shown = logged.get(f"{BASE}/trends", params={"span": span}).json()
    assert (len(shown["at"]), shown["step_s"]) == (steps, step_s)
    assert {name: sum(values) for name, values in shown["verdicts"].items()} == {
        "accept": 1,
        "reject": 1,
        "tempfail": 1,
        "quarantine": 1,
    }
    assert sum(shown["threats"]["rate"]) == 2
    assert sum(shown["severities"]["high"]) == 1
    assert {one["rule"]: one["count"] for one in shown["top_rules"]}["block:7"] == 1


@pytest.mark.parametrize(
    ("what", "lines", "action"),
    [("threats", 5, "policy-log.export-threats"), ("log", 4, "policy-log.export-log")],
)
def test_an_export_computes_nothing_and_is_audited(
    logged: TestClient, sqlite_database: Database, what: str, lines: int, action: str
) -> None:
    """A stranger's text stays text in a spreadsheet; who exported what is written down."""
    answer = logged.get(f"{BASE}/{what}/export")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(rows) == lines
    assert {row["node"] for row in rows} == {"node-a"}
    assert "'-s@x.test" in {row["sender"] for row in rows}
    assert ("admin", action, "") in audited(sqlite_database)
    if what == "log":
        assert rows[2]["text"] == f"'{HOSTILE}"
        assert rows[0]["rules"] == "allow:1 badword:17 threat:sql-union"
    one = logged.get(f"{BASE}/{what}/export", params={"from_date": "2026-01-01"})
    assert one.status_code == (200 if what == "threats" else 422)


@pytest.mark.parametrize(
    ("what", "listed"), [("threats", "threats"), ("log", "entries"), ("connections", "connections")]
)
def test_an_export_calls_things_as_the_list_does(
    logged: TestClient, what: str, listed: str
) -> None:
    """Each column is a field of that name, with the same value."""
    rows = list(csv.DictReader(io.StringIO(logged.get(f"{BASE}/{what}/export").text)))
    shown = logged.get(f"{BASE}/{what}").json()[listed]
    assert rows
    for row, entry in zip(rows, shown, strict=True):
        assert row.keys() <= entry.keys()
        assert row.pop("at")[:19] == entry["at"][:19]
        for name, cell in row.items():
            value = entry[name]
            text = " ".join(value) if isinstance(value, list) else str(value)
            assert cell.removeprefix("'") == ("" if value is None else text)


def test_a_rule_that_fired_is_told_in_one_form(logged: TestClient) -> None:
    """In the log, in quarantine and in a trial; what is called `type` is so everywhere."""
    entries = logged.get(f"{BASE}/log").json()["entries"]
    logged_forms = [
        one.keys()
        for entry in entries
        for one in logged.get(f"{BASE}/log/{entry['number']}").json()["fired"]
    ]
    logged.post(f"{BASE}/badwords", json={"pattern": "casino"})
    mail = {"recipients": ["to@to.test"], "parts": {"text": "casino"}}
    stages = logged.post(f"{BASE}/try", json=mail).json()["stages"]
    tried_forms = [one.keys() for stage in stages for one in stage["fired"]]
    assert logged_forms
    assert tried_forms
    assert all(keys == logged_forms[0] for keys in logged_forms + tried_forms)
    assert "type" in logged_forms[0]


def test_an_export_has_more_than_one_page(
    logged: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Page by page, every line once, in the order of the list."""
    monkeypatch.setattr("controlplane.api.mail_security.log.EXPORT_PAGE", 2)
    for what, lines in (("threats", 5), ("log", 4)):
        text = logged.get(f"{BASE}/{what}/export").text
        rows = list(csv.DictReader(io.StringIO(text)))
        assert len(rows) == lines
        assert [row["at"] for row in rows] == sorted((row["at"] for row in rows), reverse=True)


def test_an_unknown_decision_is_not_found(client: TestClient) -> None:
    """One sentence; a number that is none is refused."""
    answer = client.get(f"{BASE}/log/77")
    assert answer.status_code == 404
    assert "older than what is kept" in answer.json()["detail"]
    assert client.get(f"{BASE}/log/0").status_code == 422


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        gzip.compress(b"{}"),
        gzip.compress(b"\xff\xfe"),
        gzip.compress(b"null"),
        pack(batch([accepted()]))[:-9],
        gzip.compress(b" " * (MOST_PLAIN_BYTES + 1)),
    ],
    ids=["empty", "plain", "no fields", "no text", "null", "torn", "too long"],
)
def test_a_body_that_is_no_batch_is_refused(agent: EnrolledAgent, body: bytes) -> None:
    """Nothing is stored, and the sentence says what is expected."""
    answer = agent.bring("policy_log", body)
    assert answer.status_code == 422
    assert "policy log" in answer.json()["detail"] or "body" in answer.json()["fields"]
    assert agent.client.get(f"{BASE}/log").json()["entries"] == []


def test_only_a_node_may_bring_entries(agent: EnrolledAgent) -> None:
    """Neither a stranger nor a user."""
    content = pack(batch([accepted()]))
    for headers in ({}, {"Authorization": "Bearer nonsense"}):
        answer = agent.client.post(AGENT_API["policy_log"], content=content, headers=headers)
        assert answer.status_code == 401
