"""The pages of the GUI: login, forced password change, and a status page that tells the truth."""

from __future__ import annotations

import re
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from controlplane.api.nodes import NodeStatus, NodeView
from controlplane.core.spec import NodeSpec
from controlplane.gui.status import duration, node_line
from controlplane.store.engine import Database
from controlplane.store.reports import add_event, store_report
from controlplane.store.users import FIRST_PASSWORD
from nodeagent.core.contract import NodeReport, PushReport, QueueCounts, Role, VrrpState

NEW = "seven-Relays-43"
OWN_PAGE = {"Sec-Fetch-Site": "same-origin"}
VIP = "198.51.100.100"


def _post(client: TestClient, path: str, **fields: str) -> Any:
    return client.post(path, data=fields, headers=OWN_PAGE, follow_redirects=False)


@pytest.fixture
def browser(anonymous: TestClient) -> TestClient:
    """Give a browser that is logged in by cookie, with a password of its own."""
    assert _post(anonymous, "/login", user="admin", password=FIRST_PASSWORD).status_code == 303
    answer = _post(
        anonymous,
        "/password",
        current_password=FIRST_PASSWORD,
        new_password=NEW,
        repeated=NEW,
    )
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    return anonymous


def _report(database: Database, node: str, **values: Any) -> None:
    with database.write() as session:
        store_report(session, node, NodeReport(**{"role": Role.STANDBY, **values}))


def test_a_stranger_sees_nothing_but_the_login(anonymous: TestClient) -> None:
    """Without a session the page leads to the login form."""
    answer = anonymous.get("/", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert 'name="password"' in anonymous.get("/login").text


def test_the_first_login_leads_to_a_new_password(anonymous: TestClient) -> None:
    """The status stays out of reach until the first password is gone."""
    _post(anonymous, "/login", user="admin", password=FIRST_PASSWORD)
    answer = anonymous.get("/", follow_redirects=False)
    assert answer.headers["location"] == "/password"
    assert "opens nothing but this page" in anonymous.get("/password").text


@pytest.mark.parametrize(
    ("new", "repeated", "words"),
    [
        (NEW, f"{NEW}x", "The two new passwords differ."),
        ("short", "short", "at least 10 characters"),
        (FIRST_PASSWORD, FIRST_PASSWORD, "must differ"),
        ("", "", "Fill in every field"),
    ],
)
def test_a_bad_new_password_is_explained(
    anonymous: TestClient, new: str, repeated: str, words: str
) -> None:
    """The form comes back with one sentence."""
    _post(anonymous, "/login", user="admin", password=FIRST_PASSWORD)
    fields = {"new_password": new, "repeated": repeated}
    answer = _post(anonymous, "/password", current_password=FIRST_PASSWORD, **fields)
    assert answer.status_code == 422
    assert words in answer.text


def test_a_wrong_password_shows_the_form_again(anonymous: TestClient) -> None:
    """With the reason, and nothing typed is repeated."""
    answer = _post(anonymous, "/login", user="<b>admin</b>", password="wrong")
    assert answer.status_code == 401
    assert "User name or password is wrong." in answer.text
    assert "<b>" not in answer.text


@pytest.mark.parametrize("path", ["/login", "/password", "/logout"])
def test_a_form_of_another_site_is_refused(browser: TestClient, path: str) -> None:
    """No page elsewhere can log in, log out or change anything with this browser."""
    headers = {"Sec-Fetch-Site": "cross-site"}
    assert browser.post(path, data={"user": "x"}, headers=headers).status_code == 403


def test_logging_out_ends_it(browser: TestClient) -> None:
    """The cookie is worth nothing afterwards."""
    cookie = browser.cookies["relay_session"]
    assert _post(browser, "/logout").headers["location"] == "/login"
    browser.cookies.set("relay_session", cookie)
    assert browser.get("/", follow_redirects=False).headers["location"] == "/login"


def test_a_long_form_is_refused(anonymous: TestClient) -> None:
    """A form is a few fields, not a megabyte."""
    assert _post(anonymous, "/login", user="x" * 10_000, password="y").status_code == 422


def test_an_empty_cluster_says_so(browser: TestClient) -> None:
    """Nothing is invented where nothing is known."""
    page = browser.get("/").text
    assert "There is no node yet." in page
    assert "Nothing has happened yet." in page


def test_the_pages_load_nothing_from_elsewhere(browser: TestClient) -> None:
    """No script, no foreign address; the policy header forbids both."""
    answer = browser.get("/")
    assert "<script" not in answer.text
    assert re.findall(r'(?:src|href)="(?!/)', answer.text) == []
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"
    assert browser.get("/style.css").headers["content-type"].startswith("text/css")


@pytest.fixture
def watched(pair: TestClient) -> TestClient:
    """Give the pair's client in the shape of a browser: with a cookie instead of a header."""
    token = pair.headers["Authorization"].removeprefix("Bearer ")
    pair.cookies.set("relay_session", token)
    return pair


def test_the_page_shows_who_is_active(watched: TestClient, sqlite_database: Database) -> None:
    """Role, VIP, queue and the age of the last push, as the nodes report them."""
    push = PushReport(
        peer="node-b", generation=1, sequence=4, age_s=3.0, messages=12, sent=1, freeze_ms=3.0
    )
    counts = QueueCounts(incoming=0, active=1, deferred=41)
    vips = {"holds_vips": (VIP,), "vrrp": VrrpState.MASTER}
    _report(sqlite_database, "node-a", role=Role.ACTIVE, pushes=(push,), queue=counts, **vips)
    page = watched.get("/").text
    for words in ("ACTIVE", "MASTER", VIP, "deferred 41", "12 to node-b, 3 s old", "hold ?"):
        assert words in page, words


def test_a_silent_node_is_not_called_active(watched: TestClient, sqlite_database: Database) -> None:
    """Its last words are shown as such, and an alert says since when it is silent."""
    _report(sqlite_database, "node-a", role=Role.ACTIVE, holds_vips=(VIP,))
    with sqlite_database.write() as session:
        session.execute(text("UPDATE node_reports SET seen_at = seen_at - 90"))
    page = watched.get("/").text
    assert "not known (last said ACTIVE)" in page
    assert "node-a has not reported for 2 min." in page
    assert "No node reports that it holds a VIP" in page


def test_a_vip_on_two_nodes_is_an_alert(watched: TestClient, sqlite_database: Database) -> None:
    """A split VIP is shown as what it is."""
    for node in ("node-a", "node-b"):
        _report(sqlite_database, node, role=Role.ACTIVE, holds_vips=(VIP,))
    assert f"{VIP} is on node-a and node-b at the same time." in watched.get("/").text


def test_a_refused_config_is_an_alert(watched: TestClient, sqlite_database: Database) -> None:
    """The node's own reason stands on the page."""
    watched.post("/api/v1/config/apply", json={})
    _report(sqlite_database, "node-a", config_failed_version=1, config_error="postfix check: no.")
    page = watched.get("/").text
    assert "node-a refused config 1: postfix check: no." in page
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
    assert "<script" not in page


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (59, "59 s"), (61, "1 min"), (7300, "2 h"), (2e5, "2 d")]
)
def test_durations_are_written_for_people(seconds: float, words: str) -> None:
    """One number and one unit."""
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("status", "role", "tone"),
    [
        ({}, "not enrolled", "bad"),
        ({"is_enrolled": True}, "enrolled, silent", "bad"),
        ({"report": NodeReport(role=Role.STANDBY), "last_seen_s": 1.0}, "STANDBY", "warn"),
        (
            {"report": NodeReport(role=Role.ACTIVE, is_proven=True), "last_seen_s": 1.0},
            "ACTIVE",
            "good",
        ),
        (
            {"report": NodeReport(role=Role.ACTIVE, is_proven=True), "last_seen_s": 99.0},
            "not known (last said ACTIVE)",
            "bad",
        ),
    ],
)
def test_a_node_in_words(status: dict[str, Any], role: str, tone: str) -> None:
    """Each state of knowledge has its own words and its own colour."""
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
    line = node_line(view, limit_s=15.0)
    assert (line.role, line.tone) == (role, tone)
