"""The overview tells the truth: what is unknown says so, and words of others stay words."""

from __future__ import annotations

import re
from typing import Any

from fastapi.testclient import TestClient
from sqlalchemy import text

from controlplane.gui.overview import read_overview
from controlplane.store.cluster import ClusterStore
from controlplane.store.engine import Database
from controlplane.store.reports import add_event
from nodeagent.core.contract import NodeReport, PushReport, QueueCounts, Role, VrrpState
from tests.fakes.reports import store_report

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
    assert f"No node reports that it holds {VIP}" in page


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


def test_what_needs_attention_names_the_next_step(
    watched: TestClient, sqlite_database: Database
) -> None:
    """In the viewer's language; a step on a page that there is not is no link."""
    _report(sqlite_database, "node-a", role=Role.ACTIVE, holds_vips=(VIP,), is_proven=True)
    page = watched.get("/").text
    assert "has pushed its queue to nobody" not in page  # node-b is not enrolled
    assert 'data-rule="not-enrolled"' in page
    with sqlite_database.write() as session:
        add_event(session, "events-dropped", "17 events were dropped.", node="node-a")
    page = watched.get("/").text
    assert '<a href="/events">What it knew of that time' in page
    assert "/manuals/howto/look-at-mail-set-aside.md" not in page
    _report(sqlite_database, "node-a", queue=QueueCounts(quarantined=2))
    manual = re.search(r'<a href="(/manuals/[^"]+)">Look at them', watched.get("/").text)
    assert manual is not None
    assert "set aside" in watched.get(manual[1]).text
    assert "hat während des letzten Tages Ereignisse verloren" in (
        watched.get("/", headers={"Accept-Language": "de"}).text
    )


def test_what_waits_is_unknown_while_a_node_is(
    watched: TestClient, sqlite_database: Database
) -> None:
    """A sum of what is known would be too small."""
    counts = QueueCounts(incoming=0, active=1, deferred=41, hold=0, pending=0)
    _report(sqlite_database, "node-a", queue=counts)
    assert 'id="tile-waiting">unknown<' in watched.get("/").text
    _report(sqlite_database, "node-b", queue=counts)
    assert 'id="tile-waiting">84<' in watched.get("/").text
