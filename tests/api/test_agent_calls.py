"""The agent API end to end over HTTP: view, reports, leases, receipts, config, switchover."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select
from sqlmodel import col

from controlplane.store import agents, reports, switchovers
from controlplane.store.engine import Database
from controlplane.store.instance import mark_restored
from controlplane.store.ownership_tables import AgentRow, EventRow, LeaseRow, SwitchoverRow
from nodeagent.core import contract as wire
from tests.fakes.cluster_agents import enrol_agents
from tests.fakes.enrolled_agent import HOST_KEY, SSH_KEY, EnrolledAgent

M1 = "4fQ1x1BcdfgzB"
REPORT = wire.NodeReport(role=wire.Role.ACTIVE, holds_vips=("198.51.100.100",), rule="idle")
OTHER_KEY = SSH_KEY.replace("abcdef", "ABCDEF")


@pytest.fixture
def enrolled(pair: TestClient, sqlite_database: Database) -> dict[str, EnrolledAgent]:
    """Give the agents of a cluster of two nodes and one VIP."""
    return enrol_agents(pair, sqlite_database, "node-a", "node-b")


@pytest.fixture
def a(enrolled: dict[str, EnrolledAgent]) -> EnrolledAgent:
    """Give node-a's agent."""
    return enrolled["node-a"]


@pytest.fixture
def b(enrolled: dict[str, EnrolledAgent]) -> EnrolledAgent:
    """Give node-b's agent."""
    return enrolled["node-b"]


def beat(agent: EnrolledAgent, **content: Any) -> wire.HeartbeatAnswer:
    """Send one heartbeat."""
    request = wire.HeartbeatRequest(**({"report": REPORT} | content))
    answer = agent.post("heartbeat", request)
    assert answer.status_code == 200, answer.text
    return wire.HeartbeatAnswer.model_validate(answer.json())


def own_lease(agent: EnrolledAgent) -> wire.LeaseView:
    """Take the own lease."""
    answer = agent.post("reconcile", wire.ReconcileRequest())
    lease = wire.ReconcileAnswer.model_validate(answer.json()).lease
    assert lease is not None
    return lease


def event(number: int) -> wire.EventReport:
    """Return something that happened."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return wire.EventReport(id=f"event-{number}", at=at, kind="role", text=f"Number {number}.")


def test_the_view_has_what_administrators_want(a: EnrolledAgent, b: EnrolledAgent) -> None:
    """VIPs, timings and the peer's address and keys come from the cluster's tables."""
    beat(b)
    view = beat(a).view
    assert view.node == "node-a"
    assert view.vips == ("198.51.100.100",)
    assert view.timings == wire.Timings()
    assert [peer.name for peer in view.peers] == ["node-b"]
    peer = view.peers[0]
    assert peer.address == "198.51.100.12"
    assert (peer.ssh_public_key, peer.ssh_host_keys) == (SSH_KEY, (HOST_KEY,))
    assert peer.holds_vips == ("198.51.100.100",)
    assert peer.last_seen_s is not None
    assert peer.last_seen_s < 60
    assert [lease.queue for lease in view.leases] == ["node-a", "node-b"]


def test_a_peer_that_never_reported_was_never_seen(a: EnrolledAgent) -> None:
    """Unknown is shown as unknown."""
    peer = beat(a).view.peers[0]
    assert (peer.last_seen_s, peer.holds_vips) == (None, ())


def test_a_revoked_peers_keys_are_no_longer_handed_out(
    a: EnrolledAgent, sqlite_database: Database
) -> None:
    """The other nodes stop trusting it with their next heartbeat."""
    with sqlite_database.write() as session:
        agents.revoke(session, "node-b")
    peer = beat(a).view.peers[0]
    assert (peer.ssh_public_key, peer.ssh_host_keys) == (None, ())


def test_the_wanted_state_of_a_node_reaches_its_view(
    a: EnrolledAgent, pair: TestClient, sqlite_database: Database
) -> None:
    """Maintenance and a wish for a switchover are part of the next view."""
    wanted = pair.get("/api/v1/nodes/node-a").json()["node"] | {"is_maintenance": True}
    del wanted["name"]
    assert pair.put("/api/v1/nodes/node-a", json=wanted).status_code == 200
    with sqlite_database.write() as session:
        switchovers.request_switchover(session, "node-a", "node-b", "admin")
    view = beat(a).view
    assert view.is_maintenance
    assert view.switchover is not None
    assert (view.switchover.source, view.switchover.destination) == ("node-a", "node-b")


def test_changed_timings_count_from_the_next_lease(a: EnrolledAgent, pair: TestClient) -> None:
    """The lease is as long as the administrators' timings say."""
    timings = {"lease_duration_s": 40.0, "promise_s": 40.0}
    assert pair.patch("/api/v1/cluster", json={"timings": timings}).status_code == 200
    assert own_lease(a).remaining_s > 30


def test_a_heartbeat_renews_only_when_asked(a: EnrolledAgent) -> None:
    """`renewed` is True for a renewal that this very request brought about."""
    lease = own_lease(a)
    assert not beat(a, generation=lease.generation).renewed
    assert beat(a, renew=True, generation=lease.generation).renewed
    assert not beat(a, renew=True, generation=lease.generation - 1).renewed


def test_the_last_report_is_kept(a: EnrolledAgent, sqlite_database: Database) -> None:
    """What a node says of itself is stored as it said it, the newest only."""
    beat(a, report=wire.NodeReport(role=wire.Role.FENCED))
    beat(a)
    with sqlite_database.read() as session:
        age_s, report = reports.read_reports(session)["node-a"]
    assert report == REPORT
    assert age_s < 60


def test_the_newest_push_is_kept_on_the_lease(a: EnrolledAgent, sqlite_database: Database) -> None:
    """Operators see how old the peer's copy is even when the node is dead."""
    pushes = tuple(
        wire.PushReport(
            peer=peer,
            generation=1,
            sequence=sequence,
            age_s=age_s,
            messages=7,
            sent=1,
            freeze_ms=2.0,
        )
        for peer, sequence, age_s in (("node-c", 4, 30.0), ("node-b", 5, 2.0))
    )
    beat(a, report=REPORT.model_copy(update={"pushes": pushes}))
    beat(a)
    with sqlite_database.read() as session:
        row = session.get(LeaseRow, "node-a")
        assert row is not None
        assert (row.push_peer, row.push_sequence, row.push_messages) == ("node-b", 5, 7)


def test_events_are_stored_once(a: EnrolledAgent, sqlite_database: Database) -> None:
    """A repeated event is acknowledged again and stored no second time."""
    first = beat(a, events=(event(1), event(2)))
    again = beat(a, events=(event(2), event(3), event(3)))
    assert first.acknowledged_events == ("event-1", "event-2")
    assert again.acknowledged_events == ("event-2", "event-3")
    with sqlite_database.read() as session:
        rows = session.execute(
            select(col(EventRow.event_id)).where(col(EventRow.kind) == "role")
        ).scalars()
        assert list(rows) == ["event-1", "event-2", "event-3"]


def test_new_ssh_keys_are_taken_over_and_shown(a: EnrolledAgent, sqlite_database: Database) -> None:
    """A reinstalled sshd brings new host keys; the change is an event, repeated ones are not."""
    for _ in range(2):
        beat(a, ssh_public_key=OTHER_KEY, ssh_host_keys=(OTHER_KEY,))
    with sqlite_database.read() as session:
        row = session.get(AgentRow, "node-a")
        assert row is not None
        assert (row.ssh_public_key, row.ssh_host_keys) == (OTHER_KEY, [OTHER_KEY])
        kinds = session.execute(select(col(EventRow.kind))).scalars().all()
    assert list(kinds).count("ssh-keys") == 1


def test_a_key_line_with_options_is_not_taken_over(
    a: EnrolledAgent, sqlite_database: Database
) -> None:
    """What goes into peers' authorized_keys is one bare key, or stays what it was."""
    beat(a, ssh_public_key=f'command="sh" {SSH_KEY}', ssh_host_keys=("bad\nline",))
    with sqlite_database.read() as session:
        row = session.get(AgentRow, "node-a")
        assert row is not None
        assert (row.ssh_public_key, row.ssh_host_keys) == (SSH_KEY, [HOST_KEY])


def test_an_adoption_over_http(a: EnrolledAgent, b: EnrolledAgent) -> None:
    """Grant, acquire, receipt, done, release, and the way back: all calls in their order."""
    lease = own_lease(a)
    granting = wire.LeaseRequest(queue="node-a", generation=lease.generation, to="node-b")
    assert a.post("grant", granting).json()["lease"]["granted_to"] == "node-b"
    taken = b.post("acquire", wire.LeaseRequest(queue="node-a")).json()["lease"]
    generation = taken["generation"]
    receipt = wire.ReceiptRequest(queue="node-a", generation=generation, ids=(M1,))
    question = wire.ReceiptQuestion(queue="node-a", generation=generation)
    assert b.post("receipt_state", question).json()["state"] == "unknown"
    committed = {"state": "committed", "number": 1, "reason": "", "excluded": []}
    assert b.post("receipt", receipt).json() == committed
    assert b.post("receipt_done", question).json()["state"] == "done"
    refused = a.post("reconcile", wire.ReconcileRequest(pending_ids=(M1,))).json()
    assert (refused["lease"], refused["elsewhere"]) == (None, [])
    assert "node-b holds the lease" in refused["reason"]
    released = wire.LeaseRequest(queue="node-a", generation=generation)
    assert b.post("release", released).status_code == 200
    back = a.post("reconcile", wire.ReconcileRequest(pending_ids=(M1,))).json()
    assert back["lease"]["holder"] == "node-a"
    assert back["elsewhere"] == [
        {
            "id": M1,
            "receipt": 1,
            "owner": "node-b",
            "queue": "node-a",
            "generation": generation,
        }
    ]


def test_a_conflicting_receipt_is_a_409(a: EnrolledAgent, b: EnrolledAgent) -> None:
    """The agent gets one sentence that it can log."""
    del a
    lease = b.post("acquire", wire.LeaseRequest(queue="node-a")).json()["lease"]
    receipt = wire.ReceiptRequest(queue="node-a", generation=lease["generation"], ids=(M1,))
    b.post("receipt", receipt)
    answer = b.post("receipt", receipt.model_copy(update={"ids": ()}))
    assert answer.status_code == 409
    assert "other messages" in answer.json()["detail"]


def test_queue_ids_are_checked(b: EnrolledAgent) -> None:
    """What is no Postfix long queue id never gets into a receipt."""
    answer = b.post("receipt", {"queue": "node-a", "generation": 1, "ids": ["../../etc/passwd"]})
    assert answer.status_code == 422
    assert "ids.0" in answer.json()["fields"]


def test_a_newer_agents_field_is_not_read(a: EnrolledAgent) -> None:
    """Hosts are upgraded one by one: what is known of the call is done."""
    answer = a.post("reconcile", {"pending_ids": [], "surprise": 1})
    assert answer.status_code == 200
    assert answer.json()["lease"]["holder"] == "node-a"


def test_no_config_is_a_404_until_one_is_applied(a: EnrolledAgent) -> None:
    """A fresh node is told in one sentence that nothing is assigned yet."""
    answer = a.get("config")
    assert answer.status_code == 404
    assert "node-a" in answer.json()["detail"]


def test_an_applied_config_reaches_its_node(a: EnrolledAgent, pair: TestClient) -> None:
    """The view names the version and the bundle holds its files."""
    applied = pair.post("/api/v1/config/apply", json={"reason": "first"})
    assert applied.status_code in {200, 201}, applied.text
    version = beat(a).view.config_version
    assert version is not None
    bundle = wire.ConfigBundle.model_validate(a.get("config").json())
    assert bundle.version == version
    assert "/etc/postfix/main.cf" in {file.path for file in bundle.files}


def test_the_source_reports_how_a_switchover_ended(
    a: EnrolledAgent, b: EnrolledAgent, sqlite_database: Database
) -> None:
    """Only the source may report, once; then the wish is gone from the view."""
    with sqlite_database.write() as session:
        number = switchovers.request_switchover(session, "node-a", "node-b", "admin").id
    assert number is not None
    result = wire.SwitchoverResult(id=number, ok=True, stall_ms=120.0, messages=3)
    assert b.post("switchover_done", result).status_code == 404
    assert a.post("switchover_done", result).status_code == 204
    late = result.model_copy(update={"ok": False})
    assert a.post("switchover_done", late).status_code == 204
    assert beat(a).view.switchover is None
    with sqlite_database.read() as session:
        row = session.get(SwitchoverRow, number)
        assert row is not None
        assert (row.is_ok, row.stall_ms, row.messages) == (True, 120.0, 3)


def test_while_recovering_receipts_answer_503(b: EnrolledAgent, sqlite_database: Database) -> None:
    """The agent must take it for unreachable, not for an unknown receipt."""
    with sqlite_database.write() as session:
        mark_restored(session)
    question = wire.ReceiptQuestion(queue="node-a", generation=1)
    answer = b.post("receipt_state", question)
    assert answer.status_code == 503
    assert "waits for the reports" in answer.json()["detail"]
