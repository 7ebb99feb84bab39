"""Trying a route by the page: asked for, waited for, shown line by line, as text."""

from __future__ import annotations

from fastapi.testclient import TestClient
from sqlalchemy import text

from controlplane.core.permissions import UserRole
from controlplane.store.engine import Database
from controlplane.store.node_tests import waiting
from controlplane.store.ownership_tables import AgentRow, RouteTestRow
from controlplane.store.route_tests import finish
from nodeagent.core.contract import NodeReport, Role
from nodeagent.core.route_wire import RouteTestLine, RouteTestResult, Speaker
from tests.fakes.reports import store_report
from tests.gui.conftest import HOSTILE, open_as, post

TRY = "/mail/routes/try?key=@c.tld"
SECRET = "correct-horse-battery"


def _with_node(watched: TestClient, database: Database) -> None:
    route = {"next_hop": "mx.tld", "username": "u", "password": SECRET}
    assert watched.put("/api/v1/routes/@c.tld", json=route).status_code == 201
    with database.write() as session:
        session.add(AgentRow(name="node-a", public_key_pem="k", ssh_host_keys=[], enrolled_at=1.0))
        store_report(session, "node-a", NodeReport(role=Role.STANDBY))


def test_a_route_is_tried_and_its_dialogue_shown(
    watched: TestClient, sqlite_database: Database
) -> None:
    """The page asks again until the node has reported; what a next hop says stays text."""
    _with_node(watched, sqlite_database)
    assert TRY.replace("@", "%40") in watched.get("/mail/routes").text
    assert "mx.tld" in watched.get(TRY).text
    asked = post(watched, TRY, recipient="b@b.tld", node="")
    assert asked.status_code == 303
    path = asked.headers["location"]
    waits = watched.get(path).text
    assert "node-a has been asked; its answer appears here." in waits
    assert f'hx-get="{path}"' in waits
    with sqlite_database.write() as session:
        number = waiting(session, RouteTestRow, "node-a")
        assert number is not None
        line = RouteTestLine(speaker=Speaker.SERVER, text=f"220 {HOSTILE}")
        finish(session, "node-a", RouteTestResult(id=number, ok=False, text=HOSTILE, lines=(line,)))
    shown = watched.get(path).text
    assert "<script>alert" not in shown
    assert "220 &lt;script&gt;alert" in shown
    assert f'hx-get="{path}"' not in shown
    assert SECRET not in shown + waits


def test_a_node_that_is_silent_leaves_it_unknown(
    watched: TestClient, sqlite_database: Database
) -> None:
    """Neither good nor bad is made of it."""
    _with_node(watched, sqlite_database)
    path = post(watched, TRY, recipient="b@b.tld", node="node-a").headers["location"]
    with sqlite_database.write() as session:
        session.execute(text("UPDATE route_tests SET requested_at = requested_at - 61"))
    page = watched.get(path).text
    assert "did not report in time: whether the route works is unknown." in page
    assert "hx-trigger" not in page.partition('id="result"')[2].partition(">")[0]


def test_wrong_input_keeps_what_was_typed(watched: TestClient, sqlite_database: Database) -> None:
    """Beside the recipient; a node that cannot try it is said above."""
    _with_node(watched, sqlite_database)
    answer = post(watched, TRY, recipient=HOSTILE, node="node-a")
    assert answer.status_code == 422
    assert 'id="f-recipient-error"' in answer.text
    assert "<script>alert" not in answer.text
    refused = post(watched, TRY, recipient="b@b.tld", node="node-b")
    assert refused.status_code == 409
    assert "node-b is not enrolled, so it cannot try a route." in refused.text
    assert 'value="b@b.tld"' in refused.text
    assert watched.get("/mail/routes/try?key=@none.tld").status_code == 404


def test_read_only_tries_nothing(watched: TestClient, sqlite_database: Database) -> None:
    """Neither the form nor the wish."""
    _with_node(watched, sqlite_database)
    reader = open_as(watched, sqlite_database, UserRole.READ_ONLY)
    assert reader.get(TRY).status_code == 403
    assert post(reader, TRY, recipient="b@b.tld").status_code == 403
    with sqlite_database.read() as session:
        assert waiting(session, RouteTestRow, "node-a") is None
