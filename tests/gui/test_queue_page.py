"""The queue's pages: the list, what is done with many messages, one message and its headers."""

from __future__ import annotations

import html
import re

import pytest
from fastapi.testclient import TestClient

from controlplane.core.permissions import UserRole
from controlplane.store.engine import Database
from nodeagent.core.queue_contract import (
    HeadersResult,
    ItemState,
    QueuedMessage,
    QueueName,
    QueueReport,
)
from tests.api.conftest import CHEAP, PASSWORD
from tests.fakes.cluster_agents import enrol_agents
from tests.fakes.people import add_user, open_session
from tests.fakes.queue_node import IDS, QueueNode
from tests.gui.conftest import post

PARTIAL = {"HX-Request": "true", "HX-Request-Type": "partial"}
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def node(watched: TestClient, sqlite_database: Database) -> QueueNode:
    """Give node-a, whose queue holds three messages."""
    made = QueueNode(enrol_agents(watched, sqlite_database, "node-a")["node-a"])
    del watched.headers["Authorization"]
    made.report(*IDS)
    return made


def test_the_list_follows_its_filters(node: QueueNode, watched: TestClient) -> None:
    """Rows, total, freshness; HTMX gets the list alone; what was typed stays."""
    del node
    page = watched.get("/queue").text
    assert [one in page for one in IDS] == [True] * 3
    assert "node-a: 3 messages, seen" in page
    chosen = watched.get("/queue?recipient=B1@", headers=PARTIAL).text
    assert [one in chosen for one in IDS] == [False, True, False]
    assert "<html" not in chosen
    assert 'value="B1@"' in watched.get("/queue?recipient=B1@").text
    assert "no message that fits" in watched.get("/queue?older_than_s=600&queue=hold").text
    refused = watched.get("/queue?queue=corrupt")
    assert refused.status_code == 422
    assert watched.get("/queue?before=nowhere").status_code == 422


def test_pages_follow_their_links(node: QueueNode, watched: TestClient) -> None:
    """Every message once, to the last page."""
    many = [f"4jWm8M3632zKH{one}" for one in "BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxy"]
    node.report(*(f"{one}{tail}" for one in many for tail in "BC"))
    found, path = set[str](), "/queue?oldest_first=on"
    for _ in range(3):
        page = watched.get(path).text
        found |= set(re.findall(r'name="message" value="node-a/(\w+)"', page))
        links = re.findall(r'href="(/queue\?[^"]*before=[^"]*)"', page)
        path = html.unescape(links[0]) if links else ""
        if not path:
            break
    assert len(found) == len(IDS) + 2 * len(many)


def test_ticked_messages_are_held_and_counted(node: QueueNode, watched: TestClient) -> None:
    """From the tick to the count of what was done."""
    answer = post(watched, "/queue", verb="hold", message=[f"node-a/{one}" for one in IDS[:2]])
    assert (answer.status_code, answer.headers["location"]) == (303, "/queue/actions")
    assert "running" in watched.get("/queue/actions").text
    assert node.obey() == 2
    page = watched.get("/queue/actions/1").text
    assert "2 messages are selected. finished." in page
    assert "2 done, 0 waiting, 0 not found" in page


def test_a_delete_asks_with_its_count(node: QueueNode, watched: TestClient) -> None:
    """All that fit the filters, on a page of its own; nothing happens before the answer."""
    answer = post(watched, "/queue", verb="delete", everything="on", recipient="b1@")
    assert answer.headers["location"] == "/queue/actions/1"
    assert "Delete 1 message" in watched.get("/queue/actions/1").text
    assert node.obey() == 0
    assert post(watched, "/queue/actions/1/confirm", count="2").status_code == 409
    assert post(watched, "/queue/actions/1/confirm", count="x").status_code == 422
    assert post(watched, "/queue/actions/1/confirm", count="1").status_code == 303
    assert node.obey(ItemState.DONE) == 1
    assert post(watched, "/queue/actions/1/cancel").status_code == 303


def test_an_action_can_be_withdrawn(node: QueueNode, watched: TestClient) -> None:
    """The node hears nothing of it."""
    post(watched, "/queue", verb="flush", everything="on")
    assert "Withdraw" in watched.get("/queue/actions/1").text
    post(watched, "/queue/actions/1/cancel")
    assert "cancelled" in watched.get("/queue/actions").text
    assert node.obey() == 0


@pytest.mark.parametrize(
    "fields",
    [
        {"verb": "hold"},
        {"verb": "explode", "everything": "on"},
        {"verb": "hold", "message": "node-a"},
        {"verb": "hold", "message": "node-a/-d ALL"},
        {"verb": "hold", "everything": "on", "older_than_s": "soon"},
    ],
)
def test_what_no_page_of_ours_sends_is_refused(
    node: QueueNode, watched: TestClient, fields: dict[str, str]
) -> None:
    """One sentence; no action is kept."""
    del node
    assert post(watched, "/queue", **fields).status_code == 422
    assert "Nothing was done" in watched.get("/queue/actions").text


def test_headers_are_shown_once_the_node_has_sent_them(
    node: QueueNode, watched: TestClient
) -> None:
    """Asked by a button; the page looks again until they are there."""
    where = f"/queue/messages/node-a/{IDS[0]}"
    assert "Show headers" in watched.get(where).text
    asked = post(watched, f"{where}/headers")
    waiting = watched.get(asked.headers["location"]).text
    assert "has not answered yet" in waiting
    assert f'hx-get="{where}?headers=1"' in waiting
    (wish,) = node.report().headers
    node.report(headers=(HeadersResult(request=wish.request, headers=f"Subject: {HOSTILE}"),))
    shown = watched.get(asked.headers["location"], headers=PARTIAL).text
    assert html.escape(HOSTILE) in shown
    assert "<script>alert" not in shown
    assert "hx-get" not in shown
    node.report(removals=(IDS[0],))
    assert "no more" in watched.get(asked.headers["location"]).text
    assert watched.get(where).status_code == 404


def test_what_strangers_wrote_stays_text(node: QueueNode, watched: TestClient) -> None:
    """Sender, recipient, reason: each comes from outside."""
    odd = QueuedMessage(
        id=IDS[0],
        queue=QueueName.DEFERRED,
        arrived_at=1.0,
        size_bytes=1,
        sender=f"1{HOSTILE}",
        recipients=(f"2{HOSTILE}",),
        recipient_count=1,
        next_hop=f"3{HOSTILE}",
        reason=f"4{HOSTILE}",
    )
    node.sequence += 1
    report = QueueReport(
        session="one", sequence=node.sequence, upserts=(odd,), is_complete=True, scan_age_s=0
    )
    assert node.agent.post("queue", report).status_code == 200
    for path in ("/queue", f"/queue/messages/node-a/{IDS[0]}"):
        page = watched.get(path).text
        assert f"4{html.escape(HOSTILE)}" in page
        assert "<script>alert" not in page


def test_who_only_reads_is_offered_nothing_else(
    node: QueueNode, watched: TestClient, sqlite_database: Database
) -> None:
    """The list without boxes and buttons; headers are refused."""
    del node
    add_user(sqlite_database, "rita", UserRole.READ_ONLY, PASSWORD, CHEAP)
    watched.cookies.clear()
    watched.cookies.set("relay_session", open_session(sqlite_database, "rita", CHEAP))
    page = watched.get("/queue").text
    assert IDS[0] in page
    assert 'name="verb"' not in page
    where = f"/queue/messages/node-a/{IDS[0]}"
    assert "Show headers" not in watched.get(where).text
    assert post(watched, f"{where}/headers").status_code == 403
    assert post(watched, "/queue", verb="hold", everything="on").status_code == 403
