"""What operators look at and do: leases, queue, events, audit pages, switchovers."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import text
from sqlmodel import Session

from controlplane.store.columns import utc_now
from controlplane.store.engine import Database
from controlplane.store.leases import acquire, ensure_lease
from controlplane.store.ownership_tables import AgentRow
from controlplane.store.reports import store_events
from nodeagent.core.contract import (
    EventReport,
    MirrorReport,
    NodeReport,
    PushReport,
    QueueCounts,
    Role,
)
from tests.fakes.reports import store_report

API = "/api/v1"
VIP = "198.51.100.100"
KEY = "any text: only its presence is looked at here"


def _report(database: Database, node: str, **values: Any) -> None:
    with database.write() as session:
        store_report(session, node, NodeReport(**{"role": Role.STANDBY, **values}))


def _enrol(session: Session, node: str) -> None:
    session.add(AgentRow(name=node, public_key_pem=KEY, ssh_host_keys=[], enrolled_at=1.0))
    ensure_lease(session, node)


@pytest.fixture
def running(pair: TestClient, sqlite_database: Database) -> TestClient:
    """Give a pair whose agents are enrolled: node-a active, node-b standby."""
    with sqlite_database.write() as session:
        for node in ("node-a", "node-b"):
            _enrol(session, node)
            acquire(session, node, node, 15.0)
    push = PushReport(
        peer="node-b", generation=1, sequence=4, age_s=2.0, messages=7, sent=1, freeze_ms=3.0
    )
    active = {"role": Role.ACTIVE, "holds_vips": (VIP,), "pushes": (push,)}
    counts = QueueCounts(incoming=0, active=2, deferred=4, hold=1, pending=0, retired=9)
    _report(sqlite_database, "node-a", queue=counts, **active)
    mirror = MirrorReport(queue="node-a", generation=1, sequence=4, messages=7)
    _report(sqlite_database, "node-b", holds_vips=(), mirrors=(mirror,))
    return pair


def test_leases_show_holder_and_last_push(running: TestClient) -> None:
    """Each queue's row says who owns it, for how long, and how old the copy is."""
    first, second = running.get(f"{API}/leases").json()
    assert (first["queue"], first["holder"], first["is_held"]) == ("node-a", "node-a", True)
    assert 0 < first["remaining_s"] <= 15
    assert (first["push_peer"], first["push_messages"]) == ("node-b", 7)
    assert first["push_age_s"] >= 2.0
    assert second["push_age_s"] is None


def test_the_queue_is_one_list_of_all_nodes(running: TestClient) -> None:
    """Retired mail and mirrors are shown but not counted: they are nobody's to deliver."""
    queue = running.get(f"{API}/queue").json()
    assert [node["node"] for node in queue["nodes"]] == ["node-a", "node-b"]
    assert queue["total"] == queue["nodes"][0]["total"] == 7
    assert queue["nodes"][1]["mirrors"][0]["messages"] == 7
    assert queue["nodes"][1]["counts"]["deferred"] is None


def test_a_node_shows_its_last_report(running: TestClient) -> None:
    """Role, VIPs and age come from the node, the rest from the administrator."""
    status = running.get(f"{API}/nodes/node-a").json()["status"]
    assert status["is_enrolled"] is True
    assert status["report"]["role"] == "ACTIVE"
    assert status["last_seen_s"] < 60


def _store_events(database: Database, *events: tuple[str, str, str]) -> None:
    with database.write() as session:
        for number, (node, kind, words) in enumerate(events):
            event = EventReport(id=f"{node}-{number}", at=utc_now(), kind=kind, text=words)
            store_events(session, node, [event])


def test_events_are_filtered_and_paged(client: TestClient, sqlite_database: Database) -> None:
    """Newest first by default; by node, by kind, older than, newer than, since."""
    _store_events(
        sqlite_database,
        ("node-a", "role", "one"),
        ("node-b", "role", "two"),
        ("node-a", "fenced", "three"),
    )

    def texts(**params: Any) -> list[str]:
        return [one["text"] for one in client.get(f"{API}/events", params=params).json()]

    assert texts() == ["three", "two", "one"]
    assert texts(node="node-a") == ["three", "one"]
    assert texts(kind="role") == ["two", "one"]
    assert texts(limit=1) == ["three"]
    newest = client.get(f"{API}/events").json()[0]["number"]
    assert texts(before=newest) == ["two", "one"]
    assert texts(after=newest - 2) == ["two", "three"]
    assert texts(since=(utc_now() + timedelta(minutes=5)).isoformat()) == []
    assert texts(since=(utc_now() - timedelta(minutes=5)).isoformat(), limit=9) == texts()


@pytest.mark.parametrize(
    "params", [{"limit": 0}, {"limit": 1001}, {"node": "Not A Node"}, {"since": "yesterday"}]
)
def test_a_senseless_filter_is_refused(client: TestClient, params: dict[str, Any]) -> None:
    """The field at fault is named."""
    answer = client.get(f"{API}/events", params=params)
    assert answer.status_code == 422
    assert list(answer.json()["fields"]) == list(params)


def test_the_audit_log_is_filtered_and_paged(client: TestClient) -> None:
    """By who, what and target; page by page."""
    for number in range(3):
        client.put(f"{API}/recipient-domains/d{number}.tld", json={})

    def targets(**params: Any) -> list[str]:
        return [one["target"] for one in client.get(f"{API}/audit", params=params).json()]

    assert targets(action="recipient-domain.create") == ["d2.tld", "d1.tld", "d0.tld"]
    assert targets(target="d1.tld", actor="admin") == ["d1.tld"]
    newest = client.get(f"{API}/audit", params={"limit": 1}).json()[0]["id"]
    assert targets(before=newest, limit=1) == ["d1.tld"]
    assert targets(actor="nobody") == []
    assert client.get(f"{API}/audit").json()[0]["address"] == "testclient"


def test_a_switchover_is_asked_of_the_active_node(running: TestClient) -> None:
    """The source is found by who holds the VIP; the wish shows until it is finished."""
    answer = running.post(f"{API}/switchover", json={"destination": "node-b"})
    assert answer.status_code == 202, answer.text
    assert (answer.json()["source"], answer.json()["finished_at"]) == ("node-a", None)
    state = running.get(f"{API}/switchover").json()
    assert state["current"]["destination"] == "node-b"
    assert state["history"][0]["requested_by"] == "admin"
    kinds = [one["kind"] for one in running.get(f"{API}/events").json()]
    assert "switchover-requested" in kinds


def test_a_switchover_shows_how_far_it_has_come(running: TestClient) -> None:
    """Its steps in their order, with what each left behind; an unknown number is refused."""
    asked = running.post(f"{API}/switchover", json={"destination": "node-b"}).json()
    shown = running.get(f"{API}/switchover/{asked['id']}").json()
    states = [(step["name"], step["state"]) for step in shown["steps"]]
    assert states == [
        ("asked", "done"),
        ("pushed", "running"),
        ("granted", "waiting"),
        ("adopted", "waiting"),
        ("moved", "waiting"),
    ]
    assert shown["steps"][0]["at"] == asked["requested_at"]
    assert {name: shown[name] for name in asked} == asked
    running.delete(f"{API}/switchover")
    ended = running.get(f"{API}/switchover/{asked['id']}").json()
    assert (ended["steps"][1]["state"], ended["text"]) == ("failed", "Withdrawn by admin.")
    refused = running.get(f"{API}/switchover/{asked['id'] + 1}")
    assert refused.status_code == 404
    assert "no switchover number" in refused.json()["detail"]


def test_one_switchover_at_a_time(running: TestClient) -> None:
    """A second one is refused until the first is finished or withdrawn."""
    running.post(f"{API}/switchover", json={"destination": "node-b"})
    again = running.post(f"{API}/switchover", json={"destination": "node-b"})
    assert again.status_code == 409
    assert "under way" in again.json()["detail"]
    assert running.delete(f"{API}/switchover").status_code == 204
    assert running.delete(f"{API}/switchover").status_code == 404
    assert running.get(f"{API}/switchover").json()["current"] is None
    assert running.post(f"{API}/switchover", json={"destination": "node-b"}).status_code == 202


def _silence(database: Database, node: str) -> None:
    with database.write() as session:
        session.execute(
            text("UPDATE node_reports SET seen_at = seen_at - 60 WHERE node = :node"),
            {"node": node},
        )


@pytest.mark.parametrize(
    ("destination", "status", "words"),
    [("node-a", 409, "active already"), ("node-z", 404, "no node"), ("UPPER", 422, "")],
)
def test_a_destination_that_makes_no_sense_is_refused(
    running: TestClient, destination: str, status: int, words: str
) -> None:
    """The active node itself, an unknown one, a name that is none."""
    answer = running.post(f"{API}/switchover", json={"destination": destination})
    assert answer.status_code == status
    assert words in answer.json()["detail"]


@pytest.mark.parametrize("silent", ["node-a", "node-b"])
def test_both_sides_must_have_been_seen_recently(
    running: TestClient, sqlite_database: Database, silent: str
) -> None:
    """A switchover needs two live hosts; a dead one needs a failover."""
    _silence(sqlite_database, silent)
    answer = running.post(f"{API}/switchover", json={"destination": "node-b"})
    assert answer.status_code == 409
    assert f"{silent} was last seen" in answer.json()["detail"]


def test_a_node_in_maintenance_takes_nothing_over(running: TestClient) -> None:
    """The operator said so."""
    body = running.get(f"{API}/nodes/node-b").json()["node"]
    body.pop("name")
    running.put(f"{API}/nodes/node-b", json={**body, "is_maintenance": True})
    answer = running.post(f"{API}/switchover", json={"destination": "node-b"})
    assert "in maintenance" in answer.json()["detail"]


def test_a_fenced_node_takes_nothing_over(running: TestClient, sqlite_database: Database) -> None:
    """It has mail of its own to sort out first."""
    _report(sqlite_database, "node-b", role=Role.FENCED, holds_vips=())
    answer = running.post(f"{API}/switchover", json={"destination": "node-b"})
    assert "FENCED" in answer.json()["detail"]


def test_without_an_active_node_there_is_nothing_to_hand_over(
    pair: TestClient, sqlite_database: Database, app: FastAPI
) -> None:
    """Nobody reports a VIP: one sentence."""
    del app
    with sqlite_database.write() as session:
        _enrol(session, "node-b")
    _report(sqlite_database, "node-b")
    answer = pair.post(f"{API}/switchover", json={"destination": "node-b"})
    assert "No node reports" in answer.json()["detail"]
