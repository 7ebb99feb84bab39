"""The overview tells the truth: what is unknown says so, and words of others stay words."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from controlplane.api.nodes import NodeStatus, NodeView
from controlplane.core.spec import NodeSpec
from controlplane.gui.overview import node_state, read_overview
from controlplane.store.cluster import ClusterStore
from controlplane.store.engine import Database
from controlplane.store.reports import add_event, store_report
from nodeagent.core.contract import NodeReport, PushReport, QueueCounts, Role, VrrpState

VIP = "198.51.100.100"


def _report(database: Database, node: str, **values: Any) -> None:
    with database.write() as session:
        store_report(session, node, NodeReport(**{"role": Role.STANDBY, **values}))


def test_an_empty_cluster_says_so(browser: TestClient) -> None:
    """Nothing is invented where nothing is known."""
    page = browser.get("/").text
    assert "There is no node yet." in page
    assert "Nothing has happened yet." in page


def test_the_page_shows_who_is_active(watched: TestClient, sqlite_database: Database) -> None:
    """Role, VIP, queue and the age of the last push, as the nodes report them."""
    push = PushReport(
        peer="node-b", generation=1, sequence=4, age_s=3.0, messages=12, sent=1, freeze_ms=3.0
    )
    counts = QueueCounts(incoming=0, active=1, deferred=41)
    vips = {"holds_vips": (VIP,), "vrrp": VrrpState.MASTER}
    _report(sqlite_database, "node-a", role=Role.ACTIVE, pushes=(push,), queue=counts, **vips)
    page = watched.get("/").text
    for words in ("ACTIVE", "MASTER", VIP, "deferred 41", "12 messages to node-b", "hold unknown"):
        assert words in page, words


def test_a_silent_node_is_not_called_active(watched: TestClient, sqlite_database: Database) -> None:
    """Its last words are shown as such, and an alert says since when it is silent."""
    _report(sqlite_database, "node-a", role=Role.ACTIVE, holds_vips=(VIP,))
    with sqlite_database.write() as session:
        session.execute(text("UPDATE node_reports SET seen_at = seen_at - 90"))
    page = watched.get("/").text
    assert "last said ACTIVE" in page
    assert "node-a has stopped reporting." in page
    assert "MASTER" not in page
    assert "No node reports that it holds a VIP" in page


def test_a_vip_on_two_nodes_is_an_alert(watched: TestClient, sqlite_database: Database) -> None:
    """A split VIP is shown as what it is."""
    for node in ("node-a", "node-b"):
        _report(sqlite_database, node, role=Role.ACTIVE, holds_vips=(VIP,))
    assert f"{VIP} is on several nodes at the same time: node-a, node-b." in watched.get("/").text


def test_a_refused_config_is_an_alert(watched: TestClient, sqlite_database: Database) -> None:
    """The node's own reason stands on the page."""
    watched.post("/api/v1/config/apply", json={})
    _report(sqlite_database, "node-a", config_failed_version=1, config_error="postfix check: no.")
    page = watched.get("/").text
    assert "node-a refused configuration 1: postfix check: no." in page
    assert "1 wanted, none live" in page


def test_a_recovering_control_plane_says_whom_it_waits_for(
    watched: TestClient, sqlite_database: Database
) -> None:
    """After a restore nothing is granted, and the page says why."""
    with sqlite_database.write() as session:
        session.execute(
            text(
                "INSERT INTO instance (id, instance_id, is_recovering, created_at)"
                " VALUES (1, 'new', true, 0)"
            )
        )
    assert "Restored from a backup" in watched.get("/").text


def test_what_nodes_say_cannot_become_markup(
    watched: TestClient, sqlite_database: Database
) -> None:
    """A text from a node is text."""
    with sqlite_database.write() as session:
        add_event(session, "role", "<script>alert(1)</script>", node="node-a")
    page = watched.get("/").text
    assert "&lt;script&gt;" in page
    assert "<script>" not in page


@pytest.mark.parametrize(
    ("status", "is_fresh", "tone"),
    [
        ({}, False, "bad"),
        ({"is_enrolled": True}, False, "bad"),
        ({"report": NodeReport(role=Role.STANDBY), "last_seen_s": 1.0}, True, "warn"),
        (
            {"report": NodeReport(role=Role.ACTIVE, is_proven=True), "last_seen_s": 1.0},
            True,
            "good",
        ),
        (
            {"report": NodeReport(role=Role.ACTIVE, is_proven=True), "last_seen_s": 99.0},
            False,
            "bad",
        ),
    ],
)
def test_each_state_of_knowledge_has_its_tone(
    status: dict[str, Any], is_fresh: bool, tone: str
) -> None:
    """A report that is too old is not the present."""
    nothing = {
        "is_enrolled": False,
        "is_revoked": False,
        "is_struck_off": False,
        "assigned_version": None,
        "last_seen_s": None,
        "report": None,
    }
    view = NodeView(
        node=NodeSpec(name="node-a", address="198.51.100.11"),
        status=NodeStatus(**{**nothing, **status}),
    )
    state = node_state(view, 1000.0, limit_s=15.0)
    assert (state.is_fresh, state.tone) == (is_fresh, tone)


def test_the_overview_equals_itself_while_nothing_happens(
    watched: TestClient, sqlite_database: Database
) -> None:
    """Time alone changes nothing, so viewers are sent nothing; a report does."""
    store = ClusterStore(sqlite_database, watched.app.state.secret_box)
    _report(sqlite_database, "node-a", role=Role.ACTIVE, holds_vips=(VIP,))
    first = read_overview(store)
    assert read_overview(store) == first
    _report(sqlite_database, "node-a", role=Role.FENCED, holds_vips=())
    assert read_overview(store) != first
