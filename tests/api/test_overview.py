"""Attention, samples and metrics over REST: who may read them, and what they say."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from controlplane.store.engine import Database
from controlplane.store.ownership_tables import ReceiptRow
from controlplane.store.reports import add_event
from controlplane.store.samples import take_samples
from controlplane.store.situation import read_situation
from nodeagent.core.contract import MailFlow, NodeReport, PushReport, QueueCounts, Role, VrrpState
from tests.api.conftest import PASSWORD
from tests.fakes.reports import store_report

VIP = "198.51.100.100"


def report(database: Database, node: str, **values: Any) -> None:
    """Store what a node says of itself."""
    with database.write() as session:
        store_report(session, node, NodeReport(**{"role": Role.STANDBY, **values}))


def rules(client: TestClient) -> list[str]:
    """Return the rules that hold, as the API lists them."""
    answer = client.get("/api/v1/attention")
    assert answer.status_code == 200, answer.text
    return [one["rule"] for one in answer.json()]


def test_an_empty_cluster_asks_for_a_node(client: TestClient) -> None:
    """The first step is named."""
    (one,) = client.get("/api/v1/attention").json()
    assert (one["rule"], one["severity"], one["since"]) == ("no-nodes", "info", None)
    assert one["step"] == "Add the first node."


def test_a_silent_node_is_listed_with_when_it_spoke_last(
    pair: TestClient, sqlite_database: Database
) -> None:
    """The worst first; two holders are seen as soon as they report."""
    for node in ("node-a", "node-b"):
        report(sqlite_database, node, role=Role.ACTIVE, holds_vips=(VIP,), is_proven=True)
    assert rules(pair)[0] == "vip-twice"
    with sqlite_database.write() as session:
        session.execute(
            text("UPDATE node_reports SET seen_at = seen_at - 90 WHERE node = 'node-b'")
        )
    found = {one["rule"]: one for one in pair.get("/api/v1/attention").json()}
    assert "vip-twice" not in found
    assert found["silent"]["text"] == "node-b has stopped reporting."
    assert found["silent"]["since"].endswith("Z")


def test_what_was_lost_stays_listed_for_a_day(pair: TestClient, sqlite_database: Database) -> None:
    """Then it is history."""
    with sqlite_database.write() as session:
        add_event(session, "events-dropped", "17 events were dropped.", node="node-a")
    assert "events-dropped" in rules(pair)
    with sqlite_database.write() as session:
        session.execute(text("UPDATE events SET received_at = received_at - 86401"))
    assert "events-dropped" not in rules(pair)


def test_the_first_password_is_listed_until_it_is_changed(
    client: TestClient, sqlite_database: Database
) -> None:
    """Another administrator has to see it."""
    assert "first-password" not in rules(client)
    with sqlite_database.write() as session:
        session.execute(text("UPDATE users SET password_changed_at = NULL"))
    assert "first-password" in rules(client)


def test_samples_are_shown_as_series(pair: TestClient, sqlite_database: Database) -> None:
    """With a value for each moment, null where nothing is known."""
    report(sqlite_database, "node-a", queue=QueueCounts(deferred=41), flow=MailFlow(accepted=5))
    with sqlite_database.write() as session:
        take_samples(session)
    shown = pair.get("/api/v1/samples", params={"hours": 0.5}).json()
    (series,) = shown["nodes"]
    assert (shown["step_s"], len(shown["at"])) == (10, 180)
    assert [count for count in series["queue"]["deferred"] if count is not None] == [41]
    assert set(series["queue"]["hold"]) == {None}
    assert len(series["flow"]["accepted"]) == 180


@pytest.mark.parametrize("query", ["hours=0", "hours=721", "hours=x", "days=1", "hours=nan"])
def test_a_span_that_is_none_is_refused(pair: TestClient, query: str) -> None:
    """With a sentence about the field."""
    answer = pair.get(f"/api/v1/samples?{query}")
    assert answer.status_code == 422
    assert answer.json()["fields"]


@pytest.mark.parametrize("path", ["/metrics", "/api/v1/attention", "/api/v1/samples"])
def test_nothing_is_shown_to_strangers(anonymous: TestClient, path: str) -> None:
    """Names of nodes and sizes of queues are nobody else's business."""
    assert anonymous.get(path).status_code == 401


def test_prometheus_reads_with_an_api_token(pair: TestClient, anonymous: TestClient) -> None:
    """One of the lowest scope will do, and its revocation ends it."""
    body = {"name": "prometheus", "scope": "read", "current_password": PASSWORD}
    made = pair.post("/api/v1/profile/tokens", json=body)
    assert made.status_code == 201, made.text
    bearer = {"Authorization": f"Bearer {made.json()['token']}"}
    answer = anonymous.get("/metrics", headers=bearer)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert f'relay_vip_holders{{vip="{VIP}"}} 0.0' in answer.text
    assert "process_cpu_seconds_total" in answer.text
    pair.delete(f"/api/v1/profile/tokens/{made.json()['id']}")
    assert anonymous.get("/metrics", headers=bearer).status_code == 401


def test_a_situation_equals_itself_while_nothing_happens(
    pair: TestClient, sqlite_database: Database
) -> None:
    """Reports that say the same are no news; another role, a push or an adoption is."""
    del pair
    push = PushReport(
        peer="node-b", generation=1, sequence=4, age_s=3.0, messages=12, sent=1, freeze_ms=3.0
    )
    active: dict[str, Any] = {"role": Role.ACTIVE, "vrrp": VrrpState.MASTER, "holds_vips": (VIP,)}

    def situation(**values: Any) -> Any:
        report(sqlite_database, "node-a", **(active | values))
        with sqlite_database.read() as session:
            return read_situation(session)

    first = situation(pushes=(push,))
    older = push.model_copy(update={"age_s": 3.7})
    assert situation(pushes=(older,), rule="push") == first
    assert situation(pushes=(push.model_copy(update={"sequence": 5}),)) != first
    assert situation(pushes=(push,), role=Role.FENCED) != first
    with sqlite_database.write() as session:
        session.add(
            ReceiptRow(
                number=1,
                queue="node-a",
                generation=2,
                holder="node-b",
                messages=9,
                committed_at=1.0,
            )
        )
    assert situation(pushes=(push,)) != first
