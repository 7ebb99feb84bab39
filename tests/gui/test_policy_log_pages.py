"""The pages of the policy log and of the quarantine: what was decided, why, and what is held."""

from __future__ import annotations

import html
import re
from datetime import UTC, datetime, timedelta

import pytest
from fastapi.testclient import TestClient

from controlplane.core.permissions import UserRole
from controlplane.store.engine import Database
from nodeagent.core.queue_contract import (
    AttachmentName,
    HeadersResult,
    Preview,
    QueueName,
)
from tests.api.conftest import CHEAP, PASSWORD
from tests.fakes.cluster_agents import enrol_agents
from tests.fakes.people import add_user, open_session
from tests.fakes.policy_logs import START_S, accepted, blocked, bring, limited, quarantined
from tests.fakes.queue_lists import message, queue_id
from tests.fakes.queue_node import QueueNode
from tests.gui.conftest import post

PARTIAL = {"HX-Request": "true", "HX-Request-Type": "partial"}
HOSTILE = "<script>alert(1)</script>"
ONE, TWO, OTHER = queue_id(1), queue_id(2), queue_id(3)


@pytest.fixture
def node(watched: TestClient, sqlite_database: Database) -> QueueNode:
    """Give node-a with two mails in quarantine and one that an operator holds."""
    made = QueueNode(enrol_agents(watched, sqlite_database, "node-a")["node-a"])
    del watched.headers["Authorization"]
    held = [message(number, queue=QueueName.HOLD, sender="a@x.test") for number in (1, 2, 3)]
    made.report(upserts=tuple(held))
    bring(sqlite_database, quarantined(ONE), quarantined(TWO, subject=None, client=None))
    return made


def read_only(client: TestClient, database: Database) -> None:
    """Look at the pages as somebody who may only read."""
    add_user(database, "reader", UserRole.READ_ONLY, PASSWORD, CHEAP)
    client.cookies.clear()
    client.cookies.set("relay_session", open_session(database, "reader", CHEAP))


@pytest.mark.usefixtures("node")
def test_decisions_follow_their_filters(watched: TestClient, sqlite_database: Database) -> None:
    """Newest first; HTMX gets the list alone; what was typed stays."""
    bring(sqlite_database, accepted(subject="Lunch"), blocked(), limited(), first=3)
    page = watched.get("/policy/log").text
    for words in ("Lunch", "block:7", "rate:1", "badword:17", "accepted", "refused", "put off"):
        assert words in page
    chosen = watched.get("/policy/log?verdict=reject", headers=PARTIAL).text
    assert "block:7" in chosen
    assert "Lunch" not in chosen
    assert "<html" not in chosen
    assert "No decision fits." in watched.get("/policy/log?sender=nobody@x.test").text
    typed = watched.get("/policy/log?sender=@x.test").text
    assert 'value="@x.test"' in typed
    assert "Lunch" in typed


@pytest.mark.usefixtures("node")
def test_what_is_not_told_is_said_to_be_not_told(watched: TestClient) -> None:
    """Redacted is neither empty nor made up; the null sender is a bounce."""
    page = watched.get("/policy/log").text
    assert page.count("not told") == 2
    assert "Win now" in page


@pytest.mark.usefixtures("node")
@pytest.mark.parametrize(
    "query", ["verdict=maybe", "stage=lunch", "since=yesterday", "before=x", "queue_id=%00"]
)
def test_a_filter_that_cannot_be_used_is_refused(watched: TestClient, query: str) -> None:
    """With the form as it was typed."""
    refused = watched.get(f"/policy/log?{query}")
    assert refused.status_code == 422
    assert 'name="verdict"' in refused.text


@pytest.mark.usefixtures("node")
def test_pages_of_decisions_follow_their_links(
    watched: TestClient, sqlite_database: Database
) -> None:
    """Every decision once, to the last page."""
    many = [accepted(START_S + number, subject=f"mail {number}") for number in range(120)]
    bring(sqlite_database, *many, first=3)
    found, path = list[str](), "/policy/log"
    for _ in range(5):
        page = watched.get(path).text
        found += re.findall(r"mail (\d+)<", page)
        links = re.findall(r'href="(/policy/log\?[^"]*before=[^"]*)"', page)
        if not links:
            break
        path = html.unescape(links[0])
    assert sorted(map(int, found)) == list(range(120))


@pytest.mark.usefixtures("node")
def test_one_decision_is_shown_whole(watched: TestClient) -> None:
    """With every rule, also those that did not decide."""
    listed = watched.get("/policy/log").text
    numbers = re.findall(r'href="/policy/log/(\d+)"', listed)
    pages = [watched.get(f"/policy/log/{number}").text for number in numbers]
    page = next(page for page in pages if "Win now" in page)
    for words in ("allow:1", "badword:17", "threat:sql-union", "casino", "4.5", "high", ONE):
        assert words in page
    assert "bob@y.test" in page
    assert watched.get("/policy/log/99999").status_code == 404


@pytest.mark.usefixtures("node")
def test_rules_that_fired_follow_their_filters(
    watched: TestClient, sqlite_database: Database
) -> None:
    """Each leads to its decision."""
    bring(sqlite_database, blocked(), first=3)
    page = watched.get("/policy/threats").text
    assert "badword:17" in page
    assert "block:7" in page
    chosen = watched.get("/policy/threats?type=badword", headers=PARTIAL).text
    assert "block:7" not in chosen
    assert re.search(r'href="/policy/log/\d+"', chosen)
    assert watched.get("/policy/threats?severity=awful").status_code == 422
    assert "No rule that fits" in watched.get("/policy/threats?severity=low").text


@pytest.mark.usefixtures("node")
def test_rules_that_fired_are_filtered_by_time_and_exported(watched: TestClient) -> None:
    """Times without a zone are the viewer's; the export has the same filters, and its zone."""
    begin = datetime.fromtimestamp(START_S, UTC)
    hours = [(begin + timedelta(hours=by)).strftime("%Y-%m-%d %H:%M") for by in (-1, 1)]
    around = {"from_date": hours[0], "to_date": hours[1], "type": "badword"}
    page = watched.get("/policy/threats", params=around).text
    assert "badword:17" in page
    link = re.search(r'href="([^"]+/threats/export[^"]*)"', page)
    assert link is not None
    exported = watched.get(html.unescape(link[1]))
    assert exported.headers["content-type"].startswith("text/csv")
    assert "badword:17" in exported.text
    for outside in ({"to_date": hours[0]}, {"from_date": hours[1]}):
        assert "badword:17" not in watched.get("/policy/threats", params=outside).text
    refused = watched.get("/policy/threats", params={"from_date": "yesterday"})
    assert refused.status_code == 422
    assert 'value="yesterday"' in refused.text


@pytest.mark.usefixtures("node")
def test_the_quarantine_shows_what_the_policy_holds(watched: TestClient) -> None:
    """What an operator put on hold is not among it."""
    page = watched.get("/policy/quarantine").text
    assert [one in page for one in (ONE, TWO, OTHER)] == [True, True, False]
    assert "2 of 2 rows" in page
    assert "no mail in quarantine that fits" in watched.get("/policy/quarantine?severity=low").text
    assert watched.get("/policy/quarantine?type=virus").status_code == 422


def test_ticked_mails_are_released(node: QueueNode, watched: TestClient) -> None:
    """By the queue's own actions, on the node that has them."""
    said = post(watched, "/policy/quarantine", verb="release", message=[f"node-a/{ONE}"])
    assert said.status_code in {200, 303}
    assert node.obey_each() == [("release", (ONE,))]


def test_a_delete_is_confirmed_first(node: QueueNode, watched: TestClient) -> None:
    """It is gone for good, so the count is shown before."""
    said = post(watched, "/policy/quarantine", verb="delete", everything="on")
    page = said.text if said.status_code == 200 else watched.get(said.headers["location"]).text
    assert "2 messages are selected" in page
    assert node.obey_each() == []


@pytest.mark.usefixtures("node")
@pytest.mark.parametrize(
    "form",
    [
        {"verb": "release"},
        {"verb": "shred", "everything": "on"},
        {"everything": "on"},
        {"verb": "release", "message": ["node-a"]},
        {"verb": "release", "message": ["../x/y"]},
    ],
)
def test_what_no_page_sends_changes_nothing(
    node: QueueNode, watched: TestClient, form: dict[str, object]
) -> None:
    """One sentence, and no action."""
    said = post(watched, "/policy/quarantine", **form)
    assert said.status_code == 422
    assert node.obey_each() == []


def test_a_held_mail_is_looked_into(node: QueueNode, watched: TestClient) -> None:
    """Asked for, answered by the node, shown as text and never as HTML."""
    page = watched.get(f"/policy/quarantine/node-a/{ONE}").text
    assert "badword:17" in page
    assert "Look into it" in page
    asked = post(watched, f"/policy/quarantine/node-a/{ONE}/preview")
    where = asked.headers.get("location") or str(asked.url)
    waiting = watched.get(where).text
    assert "has not answered yet" in waiting
    (wish,) = node.report().headers
    preview = Preview(
        text=HOSTILE,
        is_cut=True,
        attachments=(AttachmentName(name=f"{HOSTILE}.pdf", type="application/pdf", size_bytes=5),),
    )
    result = HeadersResult(request=wish.request, headers=f"Subject: {HOSTILE}", preview=preview)
    node.report(headers=(result,))
    shown = watched.get(where).text
    assert HOSTILE not in shown
    assert shown.count(html.escape(HOSTILE)) >= 3
    assert "There is more than is shown." in shown


@pytest.mark.usefixtures("node")
def test_what_is_not_in_quarantine_is_not_found(watched: TestClient) -> None:
    """Nor is a mail that nobody knows."""
    assert watched.get(f"/policy/quarantine/node-a/{OTHER}").status_code == 404
    assert watched.get("/policy/quarantine/node-a/4jWm8M3632zKHB").status_code == 404


@pytest.mark.usefixtures("node")
def test_whoever_may_only_read_sees_no_buttons(
    watched: TestClient, sqlite_database: Database
) -> None:
    """And is refused where they ask all the same."""
    read_only(watched, sqlite_database)
    page = watched.get("/policy/quarantine").text
    assert ONE in page
    assert "Release" not in page
    assert "Look into it" not in watched.get(f"/policy/quarantine/node-a/{ONE}").text
    said = post(watched, "/policy/quarantine", verb="release", everything="on")
    assert said.status_code == 403


@pytest.mark.usefixtures("node")
def test_a_strangers_texts_stay_texts(watched: TestClient, sqlite_database: Database) -> None:
    """In the log, in one decision, among the rules, in the quarantine."""
    hostile = quarantined(
        queue_id(4), subject=HOSTILE, sender=f"{HOSTILE}@x.test", helo=HOSTILE, client=HOSTILE
    )
    bring(sqlite_database, hostile, first=3)
    listed = watched.get("/policy/log").text
    numbers = re.findall(r'href="/policy/log/(\d+)"', listed)
    pages = [listed, watched.get("/policy/threats").text, watched.get("/policy/quarantine").text]
    pages += [watched.get(f"/policy/log/{number}").text for number in numbers]
    assert [page for page in pages if HOSTILE in page] == []
    assert html.escape(HOSTILE) in listed
