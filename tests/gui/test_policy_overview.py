"""The first page of the mail policy: what is on, what is missing, and who may switch it."""

from __future__ import annotations

import re

import pytest
from fastapi.testclient import TestClient

from controlplane.core.permissions import UserRole
from controlplane.store.clock import read_clock_s
from controlplane.store.engine import Database
from controlplane.store.policy_log_intake import take_in_parts
from controlplane.store.policy_nodes import note
from nodeagent.policy.model import RuleKind, Verdict
from nodeagent.policy.sync_wire import PolicySync
from tests.fakes.policy_logs import accepted, batch, blocked, fired
from tests.gui.conftest import OWN_PAGE, open_as, post

API = "/api/v1"
HOSTILE = "<script>alert(1)</script>"
HTMX = {**OWN_PAGE, "HX-Request": "true", "HX-Request-Type": "partial"}


def main_of(page: str) -> str:
    """Return the page's own part."""
    return page.partition("<main")[2]


def test_it_says_which_of_the_two_switches_is_missing(watched: TestClient) -> None:
    """Each has its own button; both together judge mail."""
    page = main_of(watched.get("/policy").text)
    assert "Mail is not judged." in page
    assert "Switch the policy on" in page
    assert "Let Postfix ask it" in page
    assert post(watched, "/policy/switch", on="on").headers["location"] == "/policy"
    page = main_of(watched.get("/policy").text)
    assert "The mail policy is on." in page
    assert "Mail is not judged." in page
    assert "Switch the policy on" not in page
    assert watched.get(f"{API}/mail-security/settings").json()["settings"]["is_active"] is True
    assert post(watched, "/policy/milter", on="on").status_code == 303
    page = main_of(watched.get("/policy").text)
    assert "next apply" in page
    assert "The policy is on, and Postfix is set to ask it." in page
    assert watched.get(f"{API}/cluster").json()["settings"]["milters"]["policy"] is True
    assert post(watched, "/policy/switch").status_code == 303
    assert "Mail is not judged." in main_of(watched.get("/policy").text)


def test_the_http_door_is_no_milter(watched: TestClient) -> None:
    """Where only the door asks, that is what is said."""
    watched.post(f"{API}/mail-security/settings/http-credentials", json={"kind": "bearer"})
    change = {"is_active": True, "http": {"is_enabled": True}}
    assert watched.patch(f"{API}/mail-security/settings", json=change).status_code == 200
    page = main_of(watched.get("/policy").text)
    assert "on for the HTTP door; Postfix is not set to ask it" in page
    assert "mail for the quarantine or for a category is put off (hook:not-kept)" in page
    assert "Let Postfix ask it" in page


@pytest.mark.parametrize("role", [UserRole.OPERATOR, UserRole.READ_ONLY])
def test_only_an_admin_may_switch(
    watched: TestClient, sqlite_database: Database, role: UserRole
) -> None:
    """Others see how it stands, without a button."""
    other = open_as(watched, sqlite_database, role)
    page = main_of(other.get("/policy").text)
    assert "Mail is not judged." in page
    assert 'method="post"' not in page
    for path in ("/policy/switch", "/policy/milter"):
        assert post(other, path, on="on").status_code == 403
    assert "Mail is not judged." in other.get("/policy").text


@pytest.mark.parametrize("path", ["/policy/switch", "/policy/milter"])
def test_a_form_of_another_site_switches_nothing(watched: TestClient, path: str) -> None:
    """Neither without a token nor from elsewhere."""
    assert watched.post(path, data={"on": "on"}, headers=OWN_PAGE).status_code == 403
    foreign = {"Sec-Fetch-Site": "cross-site"}
    assert watched.post(path, data={"on": "on"}, headers=foreign).status_code == 403


def test_nothing_is_made_up(watched: TestClient) -> None:
    """Before anything happened: no revision of a node, no chart, no rule."""
    page = main_of(watched.get("/policy").text)
    assert page.count(">unknown<") == 2
    assert page.count("never") == 2
    assert "Nothing was decided in this span." in page
    assert "No rule fired in this span." in page
    assert "data-chart" not in page


def test_it_shows_numbers_nodes_and_rules(watched: TestClient, sqlite_database: Database) -> None:
    """What the log counted and what the nodes said, a stranger's words as text."""
    with sqlite_database.read() as session:
        now_s = read_clock_s(session)
    rule = fired(RuleKind.PLUGIN, HOSTILE, Verdict.REJECT)
    entries = [accepted(now_s), accepted(now_s), blocked(now_s), blocked(now_s, fired=(rule,))]
    take_in_parts(sqlite_database, "node-a", batch(entries))
    said = PolicySync(source="a" * 32, revision=0, problem=f"{HOSTILE} was left out.")
    with sqlite_database.write() as session:
        note(session, "node-a", said)
    for path in ("/policy", "/policy?span=30d", "/policy/state?span=24h"):
        page = watched.get(path, headers=HTMX if "state" in path else {}).text
        tiles = re.findall(r'"subheader">([^<]+)</div><div class="tile-value">([^<]+)<', page)
        assert dict(tiles)["Messages let through"] == "2"
        assert dict(tiles)["Refused, put off or discarded"] == "2"
        assert "data-chart" in page
        assert "block:7" in page
        assert "<script>alert" not in page
        assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 2


def test_a_span_that_there_is_not_is_refused(watched: TestClient) -> None:
    """The address may be typed by hand."""
    assert watched.get("/policy?span=1h").status_code == 422


def test_tabs_lead_to_pages_that_there_are(watched: TestClient) -> None:
    """The page at hand is marked; no tab leads nowhere."""
    page = watched.get("/policy").text
    tabs = page.partition('aria-label="Mail policy">')[2].partition("</nav>")[0]
    paths = re.findall(r'href="([^"]+)"', tabs)
    assert paths[0] == "/policy"
    assert tabs.count('aria-current="page"') == 1
    for path in paths:
        assert watched.get(path).status_code == 200, path
    sidebar = page.partition('id="sidebar"')[2].partition("</aside>")[0]
    assert 'href="/policy" aria-current="page"' in sidebar
