"""The quarantine over REST: what is held and why, a look into it, release, delete, audit."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from controlplane.store.engine import POLICY_LOG_LOCK, Database
from controlplane.store.policy_log_intake import take_batch
from controlplane.store.queue_tables import QueueHeadersRow
from nodeagent.core.queue_contract import (
    AttachmentName,
    HeadersResult,
    Preview,
    QueueName,
)
from tests.api.conftest import CHEAP
from tests.fakes.enrolled_agent import EnrolledAgent
from tests.fakes.people import audited, bearer, open_session
from tests.fakes.policy_logs import batch, quarantined
from tests.fakes.queue_lists import message, queue_id
from tests.fakes.queue_node import QueueNode

BASE = "/api/v1/mail-security/quarantine"
ONE, TWO, OTHER = queue_id(1), queue_id(2), queue_id(3)


@pytest.fixture
def node(agents: dict[str, EnrolledAgent], sqlite_database: Database) -> QueueNode:
    """Give node-a with two messages in quarantine and one that an operator holds."""
    node = QueueNode(agents["node-a"])
    held = [message(number, queue=QueueName.HOLD, sender="a@x.test") for number in (1, 2, 3)]
    node.report(upserts=tuple(held))
    with sqlite_database.write(POLICY_LOG_LOCK) as session:
        entries = [quarantined(ONE), quarantined(TWO, subject=None, client=None)]
        take_batch(session, "node-a", batch(entries))
    return node


@pytest.mark.usefixtures("node")
def test_the_list_says_what_is_held_and_why(client: TestClient) -> None:
    """Envelope from the queue, reasons from the log; null is what is not told."""
    page = client.get(BASE).json()
    assert (page["total"], page["after"]) == (2, None)
    two, one = page["messages"]
    assert (one["message"]["queue_id"], one["message"]["sender"]) == (ONE, "a@x.test")
    assert one["rules"] == ["allow:1", "badword:17", "threat:sql-union"]
    assert (one["severity"], one["subject"], one["action"]) == ("high", "Win now", None)
    assert (two["subject"], two["client"]) == (None, None)
    assert [entry["node"] for entry in page["nodes"]] == ["node-a"]


@pytest.mark.usefixtures("node")
def test_pages_and_filters(client: TestClient) -> None:
    """One by one, and by what fired."""
    first = client.get(BASE, params={"limit": 1}).json()
    second = client.get(BASE, params={"limit": 1, "after": first["after"]}).json()
    ids = [page["messages"][0]["message"]["queue_id"] for page in (first, second)]
    assert ids == [TWO, ONE]
    assert second["after"] is None
    for params, total in (
        ({"rule": "badword:*", "type": "threat"}, 2),
        ({"severity": "low"}, 0),
        ({"node": "node-b"}, 0),
        ({"queue_id": ONE}, 1),
    ):
        assert client.get(BASE, params=params).json()["total"] == total, params


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"after": "x"}, "after"),
        ({"type": "virus"}, "type"),
        ({"severity": "bad"}, "severity"),
        ({"node": "../x"}, "node"),
        ({"rule": ""}, "rule"),
        ({"limit": 0}, "limit"),
        ({"queue": "hold"}, "queue"),
    ],
)
def test_a_filter_that_cannot_be_used_is_refused(
    client: TestClient, params: dict[str, Any], field: str
) -> None:
    """One sentence for the field at fault."""
    answer = client.get(BASE, params=params)
    assert answer.status_code == 422
    assert set(answer.json()["fields"]) == {field}


@pytest.mark.usefixtures("node")
def test_one_message_is_shown_with_its_reasons(client: TestClient) -> None:
    """Every rule; what is in hold for another reason is not found here."""
    shown = client.get(f"{BASE}/messages/node-a/{ONE}").json()
    assert [one["type"] for one in shown["fired"]] == ["allowlist", "badword", "threat"]
    assert (shown["revision"], shown["message_id"]) == (3, "<1@x.test>")
    assert client.get(f"/api/v1/mail-security/log/{shown['decision']}").json()["queue_id"] == ONE
    for where in (f"node-a/{OTHER}", f"node-b/{ONE}"):
        answer = client.get(f"{BASE}/messages/{where}")
        assert answer.status_code == 404
        assert "quarantine" in answer.json()["detail"]


def test_a_look_into_a_message_is_asked_for_sealed_and_audited(
    node: QueueNode, client: TestClient, sqlite_database: Database
) -> None:
    """Answered with text and names, sealed in the database, seen by who asked alone."""
    wish = client.post(f"{BASE}/messages/node-a/{ONE}/preview")
    assert wish.status_code == 202
    where = f"{BASE}/previews/{wish.json()['id']}"
    waiting = client.get(where).json()
    assert (waiting["is_answered"], waiting["text"], waiting["attachments"]) == (False, None, [])
    (asked,) = node.report().headers
    assert (asked.id, asked.has_preview) == (ONE, True)
    preview = Preview(
        text="secret text",
        is_cut=True,
        attachments=(AttachmentName(name="a.exe", type="application/x", size_bytes=9),),
    )
    result = HeadersResult(request=asked.request, headers="Subject: x", preview=preview)
    node.report(headers=(result,))
    shown = client.get(where).json()
    assert (shown["headers"], shown["text"], shown["is_cut"]) == ("Subject: x", "secret text", True)
    assert shown["attachments"] == [{"name": "a.exe", "type": "application/x", "size_bytes": 9}]
    with sqlite_database.read() as session:
        row = session.get_one(QueueHeadersRow, asked.request)
        assert "secret" not in (row.content_sealed or "")
    assert ("admin", "quarantine.preview", f"node-a/{ONE}") in audited(sqlite_database)
    assert client.post(f"{BASE}/messages/node-a/{OTHER}/preview").status_code == 404


def test_a_node_of_before_has_headers_alone(node: QueueNode, client: TestClient) -> None:
    """It does not know of previews; what it does not send is null."""
    wish = client.post(f"{BASE}/messages/node-a/{ONE}/preview").json()["id"]
    (asked,) = node.report().headers
    node.report(headers=(HeadersResult(request=asked.request, headers="Subject: x"),))
    shown = client.get(f"{BASE}/previews/{wish}").json()
    assert (shown["is_answered"], shown["headers"], shown["text"]) == (True, "Subject: x", None)


def test_headers_of_the_queue_ask_for_no_text(node: QueueNode, client: TestClient) -> None:
    """The text of mail is read for the quarantine alone."""
    client.post(f"/api/v1/queue/messages/node-a/{OTHER}/headers")
    (asked,) = node.report().headers
    assert not asked.has_preview


def test_a_release_goes_to_the_node_and_is_audited(
    node: QueueNode, client: TestClient, sqlite_database: Database
) -> None:
    """What is not in quarantine is left out; what was let go is gone from the list at once."""
    named = [{"node": "node-a", "queue_id": one} for one in (ONE, OTHER)]
    answer = client.post(f"{BASE}/actions", json={"verb": "release", "messages": named})
    assert answer.status_code == 202
    action = answer.json()
    assert (action["total"], action["state"], action["verb"]) == (1, "running", "release")
    waiting = client.get(f"{BASE}/messages/node-a/{ONE}").json()["action"]
    assert waiting == {"id": action["id"], "verb": "release", "state": "waiting"}
    assert node.obey_each() == [("release", (ONE,))]
    assert client.get(BASE).json()["total"] == 1
    assert client.get(f"/api/v1/queue/actions/{action['id']}").json()["state"] == "finished"
    assert ("admin", "quarantine.action", str(action["id"])) in audited(sqlite_database)


def test_a_delete_waits_for_its_count(node: QueueNode, client: TestClient) -> None:
    """As every delete of the queue; an empty filter is the whole quarantine and nothing else."""
    action = client.post(f"{BASE}/actions", json={"verb": "delete", "filter": {}}).json()
    assert (action["total"], action["state"]) == (2, "unconfirmed")
    assert node.obey_each() == []
    confirm = f"/api/v1/queue/actions/{action['id']}/confirm"
    assert client.post(confirm, json={"count": 3}).status_code == 409
    assert client.post(confirm, json={"count": 2}).status_code == 202
    assert node.obey_each() == [("delete", (ONE, TWO))]
    assert client.get(BASE).json()["total"] == 0


def test_an_action_on_nothing_is_finished(node: QueueNode, client: TestClient) -> None:
    """Nothing matched, nothing happened, and the answer says so."""
    body = {"verb": "release", "filter": {"rule": "no-such-rule"}}
    action = client.post(f"{BASE}/actions", json=body).json()
    assert (action["total"], action["state"]) == (0, "finished")
    assert node.obey_each() == []


@pytest.mark.parametrize(
    "body",
    [
        {"verb": "release"},
        {"verb": "hold", "filter": {}},
        {"verb": "release", "filter": {}, "messages": [{"node": "node-a", "queue_id": ONE}]},
        {"verb": "release", "messages": []},
        {"verb": "release", "messages": [{"node": "node-a", "queue_id": "../x"}]},
        {"verb": "release", "filter": {"sendr": "x"}},
    ],
)
@pytest.mark.usefixtures("node")
def test_a_body_that_is_no_action_changes_nothing(client: TestClient, body: dict[str, Any]) -> None:
    """Refused with one sentence a field."""
    answer = client.post(f"{BASE}/actions", json=body)
    assert answer.status_code == 422
    assert answer.json()["fields"]
    assert client.get("/api/v1/queue/actions").json() == []


@pytest.mark.usefixtures("node")
def test_who_only_reads_sees_why_and_not_what(team: TestClient, sqlite_database: Database) -> None:
    """The list is for everybody; texts and actions are an Operator's."""
    rita = bearer(open_session(sqlite_database, "rita", CHEAP))
    assert team.get(BASE, headers=rita).json()["total"] == 2
    assert team.get(f"{BASE}/messages/node-a/{ONE}", headers=rita).status_code == 200
    refused = [
        team.post(f"{BASE}/messages/node-a/{ONE}/preview", headers=rita),
        team.get(f"{BASE}/previews/1", headers=rita),
        team.post(f"{BASE}/actions", json={"verb": "release", "filter": {}}, headers=rita),
    ]
    assert [answer.status_code for answer in refused] == [403] * 3
