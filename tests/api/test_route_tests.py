"""A route is tried by a node: asked for, fetched with the credentials, reported, shown masked."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from controlplane.store.engine import Database
from nodeagent.core.contract import HeartbeatAnswer, HeartbeatRequest, NodeReport, Role
from nodeagent.core.route_wire import (
    RouteTestLine,
    RouteTestQuestion,
    RouteTestResult,
    RouteTestWish,
    Speaker,
)
from nodeagent.errands import route_errand
from nodeagent.errors import Unreachable
from tests.fakes.enrolled_agent import EnrolledAgent
from tests.fakes.next_hop import NextHop

TESTS = "/api/v1/route-tests"
SECRET = "correct-horse-battery"
BODY = {"sender": "@a.tld", "recipient": "somebody@b.tld"}


@pytest.fixture
def agent(pair: TestClient) -> EnrolledAgent:
    """Give node-a, enrolled and reporting, and a route with credentials."""
    node = EnrolledAgent(pair, "node-a")
    token = pair.post("/api/v1/nodes/node-a/enrolment-token").json()["token"]
    assert node.enrol(token).status_code == 200
    route = {
        "next_hop": "127.0.0.1",
        "port": 2525,
        "tls_mode": "none",
        "username": "user",
        "password": SECRET,
    }
    assert pair.put("/api/v1/routes/@a.tld", json=route).status_code == 201
    beat(node)
    return node


def beat(node: EnrolledAgent) -> HeartbeatAnswer:
    """Send a heartbeat."""
    request = HeartbeatRequest(report=NodeReport(role=Role.STANDBY))
    answer = node.post("heartbeat", request)
    assert answer.status_code == 200, answer.text
    return HeartbeatAnswer.model_validate_json(answer.content)


class Calls:
    """The calls of a route test over a test client; the first report may be lost."""

    def __init__(self, node: EnrolledAgent, *, loses_first: bool = False) -> None:
        self.node = node
        self.loses_first = loses_first
        self.fetched = 0
        self.reported = threading.Event()

    def route_test(self, question: RouteTestQuestion) -> RouteTestWish:
        """Fetch what is to be tried."""
        self.fetched += 1
        answer = self.node.post("route_test", question)
        return RouteTestWish.model_validate_json(answer.content)

    def report_route_test(self, result: RouteTestResult) -> None:
        """Report how it went."""
        if self.loses_first:
            self.loses_first = False
            self.reported.set()
            raise Unreachable("lost")
        assert self.node.post("route_test_done", result).status_code == 204
        self.reported.set()


def test_a_route_is_tried_by_the_node_and_its_dialogue_is_shown(
    pair: TestClient, agent: EnrolledAgent
) -> None:
    """From the button to the dialogue: the credentials are used, and masked wherever they show."""
    with NextHop(offers=("AUTH PLAIN",)).serve() as hop:
        pair.put(
            "/api/v1/routes/@a.tld",
            json={
                "next_hop": "127.0.0.1",
                "port": hop.port,
                "tls_mode": "none",
                "username": "user",
            },
        )
        asked = pair.post(TESTS, json=BODY)
        assert asked.status_code == 201, asked.text
        assert (asked.json()["node"], asked.json()["is_ok"]) == ("node-a", None)
        calls = Calls(agent)
        tester = route_errand(calls)
        tester.follow(beat(agent).route_test)
        assert calls.reported.wait(20)
        tester.stop()
    shown = pair.get(f"{TESTS}/{asked.json()['id']}")
    test = shown.json()
    assert (test["is_ok"], test["text"]) == (True, "127.0.0.1 takes mail for somebody@b.tld.")
    spoken = [(line["speaker"], line["text"]) for line in test["lines"]]
    assert ("client", "EHLO node-a.relay.internal") in spoken
    assert ("client", "AUTH PLAIN (hidden)") in spoken
    assert ("client", "MAIL FROM:<postmaster@a.tld>") in spoken
    assert SECRET not in shown.text
    assert beat(agent).route_test is None


def test_a_lost_result_is_sent_again_and_nothing_is_tried_twice(
    pair: TestClient, agent: EnrolledAgent
) -> None:
    """The wish stays until its result is in."""
    with NextHop(offers=("AUTH PLAIN",)).serve() as hop:
        pair.put(
            "/api/v1/routes/@a.tld",
            json={
                "next_hop": "127.0.0.1",
                "port": hop.port,
                "tls_mode": "none",
                "username": "user",
            },
        )
        number = pair.post(TESTS, json=BODY).json()["id"]
        calls = Calls(agent, loses_first=True)
        tester = route_errand(calls)
        tester.follow(beat(agent).route_test)
        assert calls.reported.wait(20)
        calls.reported.clear()
        while not calls.reported.wait(0.05):
            tester.follow(beat(agent).route_test)
        tester.stop()
    assert pair.get(f"{TESTS}/{number}").json()["is_ok"] is True
    assert (calls.fetched, hop.heard.count("QUIT")) == (1, 1)


def test_another_node_neither_reads_nor_reports(pair: TestClient, agent: EnrolledAgent) -> None:
    """A wish with its password is for the node that was asked, a stranger's number for nobody."""
    other = EnrolledAgent(pair, "node-b")
    token = pair.post("/api/v1/nodes/node-b/enrolment-token").json()["token"]
    other.enrol(token)
    number = pair.post(TESTS, json={**BODY, "node": "node-a"}).json()["id"]
    assert beat(other).route_test is None
    refused = other.post("route_test", RouteTestQuestion(id=number))
    assert (refused.status_code, SECRET in refused.text) == (404, False)
    done = RouteTestResult(id=number, ok=True, text="done")
    assert other.post("route_test_done", done).status_code == 404
    assert pair.get(f"{TESTS}/{number}").json()["finished_at"] is None
    assert agent.post("route_test", RouteTestQuestion(id=number + 1)).status_code == 404


def test_a_repeated_report_changes_nothing(pair: TestClient, agent: EnrolledAgent) -> None:
    """The first one holds; a NUL in a line reaches no database."""
    number = pair.post(TESTS, json=BODY).json()["id"]
    line = RouteTestLine(speaker=Speaker.SERVER, text="220 \x00")
    for words in ("first", "second"):
        result = RouteTestResult(id=number, ok=False, text=words, lines=(line,))
        assert agent.post("route_test_done", result).status_code == 204
    test = pair.get(f"{TESTS}/{number}").json()
    assert (test["text"], test["lines"]) == (
        "first",
        [{"speaker": "server", "text": "220 \ufffd"}],
    )


def test_one_try_at_a_time_and_a_silent_node_ends_it(
    pair: TestClient, agent: EnrolledAgent, sqlite_database: Database
) -> None:
    """A second wish waits for the first; after a minute nobody waits any more."""
    del agent
    number = pair.post(TESTS, json=BODY).json()["id"]
    refused = pair.post(TESTS, json=BODY)
    assert refused.status_code == 409
    assert "is trying a route already" in refused.json()["detail"]
    with sqlite_database.write() as session:
        session.execute(text("UPDATE route_tests SET requested_at = requested_at - 61"))
    assert pair.get(f"{TESTS}/{number}").json()["is_over"] is True
    assert pair.post(TESTS, json=BODY).status_code == 201


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"sender": "@none.tld"}, 404, "There is no route @none.tld."),
        ({"recipient": "b.tld"}, 422, "has no @"),
        ({"recipient": "@b.tld"}, 422, "A whole address is needed, not a domain."),
        ({"recipient": "a@b.tld>\r\nDATA"}, 422, ""),
        ({"node": "node-b"}, 409, "node-b is not enrolled, so it cannot try a route."),
        ({"node": "node-c"}, 404, "There is no node node-c."),
    ],
)
def test_what_cannot_be_tried_is_one_sentence(
    pair: TestClient, agent: EnrolledAgent, change: dict[str, Any], status: int, words: str
) -> None:
    """Nothing is asked of any node."""
    answer = pair.post(TESTS, json={**BODY, **change})
    assert answer.status_code == status
    assert words in answer.text
    assert beat(agent).route_test is None


def test_without_a_node_there_is_nobody_to_try(pair: TestClient) -> None:
    """The control plane itself tries nothing: it is the node's way that counts."""
    pair.put("/api/v1/routes/@a.tld", json={"next_hop": "mx.tld"})
    answer = pair.post(TESTS, json=BODY)
    assert answer.status_code == 409
    assert answer.json()["detail"] == "No node has reported yet, so none can try a route."
