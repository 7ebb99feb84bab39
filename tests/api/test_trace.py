"""The trace over REST: what a node brings is found, shown and exported, and nothing else is."""

from __future__ import annotations

import csv
import gzip
import io
from typing import Any

import pytest
from fastapi.testclient import TestClient

from controlplane.store.engine import Database
from nodeagent.core.agent_api import AGENT_API
from nodeagent.core.stream_wire import pack
from nodeagent.core.trace_wire import MOST_PLAIN_BYTES
from tests.fakes.cluster_agents import enrol_agents
from tests.fakes.enrolled_agent import EnrolledAgent
from tests.fakes.people import audited
from tests.fakes.postfix_queue import queue_id
from tests.fakes.traces import accepted, batch, entry, removed, tried

ONE, TWO = queue_id(1), queue_id(2)
HOSTILE = '=HYPERLINK("http://evil")<script>alert(1)</script>'


@pytest.fixture
def agent(pair: TestClient, sqlite_database: Database) -> EnrolledAgent:
    """Give the enrolled agent of node-a."""
    return enrol_agents(pair, sqlite_database, "node-a")["node-a"]


@pytest.fixture
def traced(agent: EnrolledAgent) -> TestClient:
    """Give the client of a cluster that has relayed one message and refused another."""
    refused = entry(
        9,
        f"smtpd[1]: NOQUEUE: reject: RCPT from u[192.0.2.66]: 554 5.7.1 no; from=<-s@x.test> "
        f"to=<r@z.test> proto=ESMTP helo=<{HOSTILE}>",
    )
    lines = [*accepted(ONE), tried(ONE, 1, "sent"), removed(ONE, 2), refused]
    answer = agent.bring("trace", batch(lines))
    assert (answer.status_code, answer.json()) == (200, {"acknowledged": 6})
    return agent.client


def test_a_scrape_says_when_the_trace_last_came(traced: TestClient) -> None:
    """Of the node that has brought something, and of no other."""
    sample = "relay_trace_received_timestamp_seconds{node="
    lines = [line for line in traced.get("/metrics").text.splitlines() if line.startswith(sample)]
    (line,) = lines
    assert line.startswith(f'{sample}"node-a"}} 1.')


def test_a_message_is_found_and_shown(traced: TestClient) -> None:
    """A search gives its number, the number its lines and recipients."""
    page = traced.get("/api/v1/trace", params={"recipient": "b@y.test"}).json()
    assert page["next"] is None
    (message,) = page["messages"]
    assert (message["queue_id"], message["status"], message["node"]) == (ONE, "delivered", "node-a")
    shown = traced.get(f"/api/v1/trace/{message['number']}").json()
    assert [step["kind"] for step in shown["steps"]] == [
        *("client", "message-id", "queued", "delivery", "removed")
    ]
    assert shown["message"]["deliveries"][0]["reply"] == "said sent"
    assert not shown["is_cut"]


def test_pages_follow_one_another(traced: TestClient) -> None:
    """`next` continues behind the last message; the last page has none."""
    first = traced.get("/api/v1/trace", params={"limit": 1}).json()
    second = traced.get("/api/v1/trace", params={"limit": 1, "after": first["next"]}).json()
    assert [one["messages"][0]["queue_id"] for one in (first, second)] == [None, ONE]
    assert second["next"] is None


def test_an_export_is_one_line_a_recipient_and_computes_nothing(
    traced: TestClient, sqlite_database: Database
) -> None:
    """A stranger's text stays text in a spreadsheet; who exported what is audited."""
    answer = traced.get("/api/v1/trace/export")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert "attachment" in answer.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [(row["queue_id"], row["recipient_status"]) for row in rows] == [
        ("", "rejected"),
        (ONE, "sent"),
    ]
    assert rows[0]["sender"] == "'-s@x.test"
    assert rows[0]["helo"] == f"'{HOSTILE}"
    assert ("admin", "trace.export", "") in audited(sqlite_database)


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"after": "1 OR 1=1"}, "after"),
        ({"status": "lost"}, "status"),
        ({"sender": "a\nb"}, "sender"),
        ({"queue_id": "../x"}, "queue_id"),
        ({"since": "2026-01-01T00:00:00"}, "since"),
        ({"limit": 0}, "limit"),
        ({"offset": 5}, "offset"),
    ],
)
def test_a_filter_that_cannot_be_used_is_refused(
    client: TestClient, params: dict[str, Any], field: str
) -> None:
    """One sentence for the field at fault."""
    answer = client.get("/api/v1/trace", params=params)
    assert answer.status_code == 422
    assert field in answer.json()["fields"]


def test_an_unknown_message_is_not_found(client: TestClient) -> None:
    """It may have been pruned."""
    answer = client.get("/api/v1/trace/77")
    assert answer.status_code == 404
    assert "older than what is kept" in answer.json()["detail"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no gzip",
        gzip.compress(b"no json"),
        gzip.compress(b"{}"),
        pack(batch(accepted(ONE)))[:-4],
        gzip.compress(b" " * (MOST_PLAIN_BYTES + 1)),
    ],
    ids=["empty", "plain", "no-json", "no-batch", "torn", "bomb"],
)
def test_a_body_that_is_no_batch_changes_nothing(agent: EnrolledAgent, body: bytes) -> None:
    """It is refused in one sentence, and unpacked no further than the largest batch."""
    answer = agent.bring("trace", body)
    assert answer.status_code == 422
    assert agent.client.get("/api/v1/trace").json()["messages"] == []


def test_only_a_node_brings_lines_and_only_users_read_them(
    traced: TestClient, anonymous: TestClient
) -> None:
    """A user's session brings nothing; nobody reads without one."""
    content = pack(batch(accepted(TWO)))
    assert traced.post(AGENT_API["trace"], content=content).status_code == 401
    for path in ("", "/1", "/export"):
        assert anonymous.get(f"/api/v1/trace{path}").status_code == 401
