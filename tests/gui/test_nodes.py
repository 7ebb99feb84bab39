"""The pages of nodes: adding, enrolling, looking at, keeping off the VIPs, removing."""

from __future__ import annotations

import html
import re
import shlex
from itertools import pairwise
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from controlplane.core.permissions import UserRole
from controlplane.gui.node_states import Enrolment, node_topic, read_node, read_nodes
from controlplane.store.agents import issue_token
from controlplane.store.cluster import ClusterStore
from controlplane.store.engine import Database
from controlplane.store.ownership_tables import AgentRow
from nodeagent.core.contract import QueueCounts, Role, VrrpState
from tests.fakes.enrolled_agent import EnrolledAgent
from tests.fakes.reports import enrol_owners, report_as
from tests.gui.conftest import HOSTILE, open_as, post

VIP = "198.51.100.100"
GOOD = {
    "address": "198.51.100.13",
    "interface": "ens3",
    "prefix_len": "24",
    "cluster_mode": "slave",
    "vrrp_priority": "90",
    "hostname": "mx3.example.com",
    "ssh_user": "relay",
    "ssh_port": "2222",
}
COMMAND = re.compile(r'<pre id="enrol-command"[^>]*>([^<]*)</pre>')


@pytest.fixture
def store(watched: TestClient, sqlite_database: Database) -> ClusterStore:
    """Give the store behind the pages."""
    app: Any = watched.app
    return ClusterStore(sqlite_database, app.state.secret_box)


def test_the_list_says_what_is_known_and_what_is_not(
    watched: TestClient, sqlite_database: Database
) -> None:
    """A node that reports, one that is enrolled and silent, one that nobody enrolled."""
    assert post(watched, "/nodes/_new", name="node-c", **GOOD).status_code == 303
    enrol_owners(sqlite_database, "node-a", "node-b")
    report_as(sqlite_database, "node-a", role=Role.ACTIVE, holds_vips=(VIP,), agent_version="0.1.0")
    page = watched.get("/nodes").text
    rows = {
        name: page.partition(f'id="node-{name}"')[2].partition("</tr>")[0]
        for name in ("node-a", "node-b", "node-c")
    }
    for words in ("ACTIVE", VIP, "0.1.0", "none assigned", "now", "priority 150", "master"):
        assert words in rows["node-a"]
    for words in ("enrolled, silent", "never", "unknown"):
        assert words in rows["node-b"]
    assert "not enrolled" in rows["node-c"]


def test_a_node_goes_from_the_form_to_its_first_report(
    watched: TestClient, sqlite_database: Database
) -> None:
    """Added, enrolled with the command of its page, and the page says each time how far it is."""
    form = watched.get("/nodes/_new").text
    assert 'value="slave" selected' in form
    added = post(watched, "/nodes/_new", name="node-c", **GOOD)
    assert (added.status_code, added.headers["location"]) == (303, "/nodes/node-c")
    stored = watched.get("/api/v1/nodes/node-c").json()["node"]
    assert {name: str(stored[name]) for name in GOOD} == GOOD
    assert "none: it was never enrolled" in watched.get("/nodes/node-c").text
    page = post(watched, "/nodes/node-c/token")
    assert page.status_code == 200
    command = shlex.split(html.unescape(COMMAND.search(page.text)[1]))  # type: ignore[index]
    token = command[command.index("--token") + 1]
    later = watched.get("/nodes/node-c").text
    assert "waits for its token to be used" in later
    assert token not in later
    assert EnrolledAgent(watched, "node-c").enrol(token).status_code == 200
    enrolled = watched.get("/nodes/node-c").text
    assert "waits for its token" not in enrolled
    assert "No report yet" in enrolled
    report_as(sqlite_database, "node-c", vrrp=VrrpState.BACKUP, postfix_running=True)
    assert "STANDBY" in watched.get("/nodes/node-c").text


def test_a_token_is_shown_once(watched: TestClient) -> None:
    """Whoever comes back to its address is led to the node, and makes no further one."""
    answer = watched.get("/nodes/node-a/token", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/nodes/node-a")


def test_what_a_live_page_follows_changes_with_each_step(
    watched: TestClient, sqlite_database: Database, store: ClusterStore
) -> None:
    """And with nothing else: reading it twice gives the same, so nobody is sent anything."""
    del watched
    states = [read_node(store, "node-a")]
    with sqlite_database.write() as session:
        issue_token(session, "node-a", "fingerprint")
    states.append(read_node(store, "node-a"))
    enrol_owners(sqlite_database, "node-a")
    states.append(read_node(store, "node-a"))
    report_as(sqlite_database, "node-a")
    states.append(read_node(store, "node-a"))
    assert all(one != other for one, other in pairwise(states))
    report_as(sqlite_database, "node-a")
    assert read_node(store, "node-a") == states[-1]
    assert read_nodes(store) == read_nodes(store)
    assert node_topic("node-a").read(store) == states[-1]


def test_a_token_that_has_ended_is_not_waited_for(
    watched: TestClient, sqlite_database: Database, store: ClusterStore
) -> None:
    """Nor one that was used: the page would wait for ever."""
    del watched
    with sqlite_database.write() as session:
        issue_token(session, "node-a", "fingerprint", -1.0)
    assert read_node(store, "node-a").enrolment == Enrolment()


def test_a_node_that_is_removed_while_somebody_looks_is_said_to_be(
    watched: TestClient, store: ClusterStore
) -> None:
    """The stream goes on; only a new look is refused."""
    topic = node_topic("node-b")
    assert topic.read(store).spec is not None
    assert post(watched, "/nodes/node-b/remove").status_code == 303
    assert topic.read(store).spec is None
    assert watched.get("/nodes/node-b").status_code == 404
    assert watched.get("/nodes/node-b/live").status_code == 404


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"name": "Node C"}, "name", "is not a node name"),
        ({"name": ""}, "name", "Fill in this field."),
        ({"name": "node-a"}, "name", "There is one of this name already"),
        ({"address": "198.51.100.11"}, "address", "198.51.100.11"),
        ({"address": "127.0.0.1"}, "address", "can be reached at"),
        ({"address": "host.example.com"}, "address", "is not an IP address"),
        ({"interface": "eth 0"}, "interface", "is not an interface name"),
        ({"prefix_len": "64"}, "prefix_len", "64"),
        ({"cluster_mode": "master"}, "cluster_mode", "cannot be master"),
        ({"cluster_mode": "boss"}, "cluster_mode", "standalone"),
        ({"vrrp_priority": "100"}, "vrrp_priority", "the same vrrp_priority"),
        ({"vrrp_priority": "many"}, "vrrp_priority", "integer"),
        ({"hostname": "no dot"}, "hostname", "contains a space"),
        ({"ssh_user": "Root!"}, "ssh_user", "is not a user name"),
        ({"ssh_port": "70000"}, "ssh_port", "70000"),
    ],
)
def test_wrong_input_keeps_what_was_typed(
    watched: TestClient, change: dict[str, str], field: str, words: str
) -> None:
    """The sentence stands beside its field; no node is stored, nothing typed is lost."""
    typed = {"name": "node-c", **GOOD, **change}
    answer = post(watched, "/nodes/_new", **typed)
    assert answer.status_code == 422
    beside = answer.text.partition(f'id="f-{field}-error">')[2].partition("</p>")[0]
    assert words in html.unescape(beside)
    for one, value in typed.items():
        if one != "cluster_mode":
            assert html.escape(value) in answer.text
    assert [view["node"]["name"] for view in watched.get("/api/v1/nodes").json()] == [
        "node-a",
        "node-b",
    ]


def test_a_node_is_changed_and_its_maintenance_stays(watched: TestClient) -> None:
    """Its button and its form do not undo each other; a refused form shows the node's page."""
    assert post(watched, "/nodes/node-b/maintenance", maintenance="on").status_code == 303
    typed = {**GOOD, "address": "198.51.100.12"}
    saved = post(watched, "/nodes/node-b", **typed)
    assert (saved.status_code, saved.headers["location"]) == (303, "/nodes/node-b")
    node = watched.get("/api/v1/nodes/node-b").json()["node"]
    assert (node["is_maintenance"], node["interface"]) == (True, "ens3")
    assert "End the maintenance" in watched.get("/nodes/node-b").text
    refused = post(watched, "/nodes/node-b", **{**typed, "interface": HOSTILE})
    assert refused.status_code == 422
    assert html.escape(HOSTILE, quote=False)[:20] in refused.text
    assert "<script>alert" not in refused.text
    assert post(watched, "/nodes/node-b/maintenance", maintenance="off").status_code == 303
    assert watched.get("/api/v1/nodes/node-b").json()["node"]["is_maintenance"] is False


@pytest.mark.parametrize("value", [{}, {"maintenance": "maybe"}, {"maintenance": ["on", "off"]}])
def test_a_maintenance_is_on_or_off(watched: TestClient, value: dict[str, Any]) -> None:
    """What no button of ours sends changes nothing."""
    assert post(watched, "/nodes/node-a/maintenance", **value).status_code == 422
    assert watched.get("/api/v1/nodes/node-a").json()["node"]["is_maintenance"] is False


def test_removing_says_first_what_it_means(watched: TestClient, sqlite_database: Database) -> None:
    """With the VIP that the node holds and the mail that would be left behind."""
    enrol_owners(sqlite_database, "node-a")
    page = watched.get("/nodes/node-a/remove").text
    assert "What waits in its queue is unknown" in page
    assert post(watched, "/nodes/node-a/remove").status_code == 409
    counts = QueueCounts(incoming=0, active=1, deferred=6, hold=0, pending=0)
    report_as(sqlite_database, "node-a", role=Role.ACTIVE, holds_vips=(VIP,), queue=counts)
    page = watched.get("/nodes/node-a/remove").text
    assert f"It holds {VIP}: switch over first." in page
    assert "7 messages wait in its queue." in page
    assert 'type="checkbox" name="abandon_queue" required' in page
    refused = post(watched, "/nodes/node-a/remove")
    assert refused.status_code == 409
    assert "Its queue holds 7" in refused.text
    empty = QueueCounts(incoming=0, active=0, deferred=0, hold=0, pending=0)
    report_as(sqlite_database, "node-a", holds_vips=(), queue=empty)
    page = watched.get("/nodes/node-a/remove").text
    assert "switch over first" not in page
    assert "wait in its queue" not in page
    assert "abandon_queue" not in page
    removed = post(watched, "/nodes/node-a/remove")
    assert (removed.status_code, removed.headers["location"]) == (303, "/nodes")
    assert "node-a is removed and its key is revoked." in watched.get("/nodes").text
    with sqlite_database.read() as session:
        agent = session.get(AgentRow, "node-a")
        assert agent is not None
        assert agent.revoked_at is not None
        assert session.execute(text("SELECT count(*) FROM leases")).scalar() == 1


def test_a_queue_is_left_behind_when_that_is_asked_for(
    watched: TestClient, sqlite_database: Database
) -> None:
    """A box that no button of ours ticks so asks for nothing."""
    enrol_owners(sqlite_database, "node-a")
    for wrong in (["off"], ["on", "on"], ["yes"]):
        assert post(watched, "/nodes/node-a/remove", abandon_queue=wrong).status_code == 409
    assert post(watched, "/nodes/node-a/remove", abandon_queue="on").status_code == 303
    assert watched.get("/api/v1/nodes/node-a").status_code == 404


def test_keys_are_revoked_and_nodes_given_up(
    watched: TestClient, sqlite_database: Database
) -> None:
    """Each with its notice, and the page shows it."""
    enrol_owners(sqlite_database, "node-a", "node-b")
    assert post(watched, "/nodes/node-b/revoke").status_code == 303
    page = watched.get("/nodes/node-b").text
    assert "The key of node-b is revoked." in page
    assert "key revoked" in page
    assert post(watched, "/nodes/node-a/dead").status_code == 303
    assert "a peer with a copy adopts its queue now" in watched.get("/nodes/node-a").text
    assert post(watched, "/nodes/node-b/strike").status_code == 303
    assert "struck off" in watched.get("/nodes/node-b").text
    actions = [one["action"] for one in watched.get("/api/v1/audit").json()]
    assert actions[:3] == ["node.strike", "node.confirm-dead", "node.revoke-key"]


def test_what_the_api_refuses_the_page_says(watched: TestClient) -> None:
    """A node that never enrolled has neither a key nor a queue."""
    for action, status, words in (
        ("revoke", 404, "node-a is not enrolled."),
        ("dead", 409, "it has no queue to adopt"),
    ):
        answer = post(watched, f"/nodes/node-a/{action}")
        assert answer.status_code == status
        assert words in answer.text


def test_what_a_node_says_stays_text(watched: TestClient, sqlite_database: Database) -> None:
    """An agent's words are those of whoever has its key."""
    enrol_owners(sqlite_database, "node-a")
    report_as(
        sqlite_database,
        "node-a",
        agent_version=HOSTILE,
        freezer=HOSTILE,
        config_error=HOSTILE,
        holds_vips=(HOSTILE,),
    )
    for path in ("/nodes", "/nodes/node-a", "/nodes/node-a/remove", "/switchover"):
        page = watched.get(path).text
        assert "<script>alert" not in page
        assert html.escape(HOSTILE[:25]) in page, path


KEYS = ("remove", "token", "revoke", "strike", "dead")
ADMINS = ("_new", "node-a", *(f"node-a/{one}" for one in KEYS))


@pytest.mark.parametrize("role", [UserRole.OPERATOR, UserRole.READ_ONLY])
def test_who_may_not_is_shown_no_button_and_refused(
    watched: TestClient, sqlite_database: Database, role: UserRole
) -> None:
    """Operators keep nodes off the VIPs; everything else of a node is the administrators'."""
    viewer = open_as(watched, sqlite_database, role)
    page = viewer.get("/nodes/node-a").text
    assert "198.51.100.11" in page
    assert ("Begin a maintenance" in page) is (role is UserRole.OPERATOR)
    for words in ("Make an enrolment token", "/nodes/node-a/remove", "Strike it off", "<textarea"):
        assert words not in page
    assert "/nodes/_new" not in viewer.get("/nodes").text
    for path in ADMINS:
        assert post(viewer, f"/nodes/{path}", **GOOD).status_code == 403, path
    for path in ("_new", "node-a/remove"):
        assert viewer.get(f"/nodes/{path}").status_code == 403
    answer = post(viewer, "/nodes/node-a/maintenance", maintenance="on")
    assert answer.status_code == (303 if role is UserRole.OPERATOR else 403)
