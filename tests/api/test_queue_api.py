"""The queue over HTTP: an agent brings its list, operators look, act and are counted."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from controlplane.api.body_limit import MIB, larger_limits
from controlplane.store.engine import Database
from controlplane.store.instance import mark_restored
from nodeagent.core.agent_api import AGENT_API
from nodeagent.core.queue_contract import (
    CommandResult,
    HeadersResult,
    ItemResult,
    ItemState,
    QueuedMessage,
    QueueName,
)
from tests.api.conftest import CHEAP
from tests.fakes.cluster_agents import enrol_agents
from tests.fakes.people import audited, bearer, open_session
from tests.fakes.queue_node import IDS, QueueNode

QUEUE = "/api/v1/queue"


@pytest.fixture
def node(pair: TestClient, sqlite_database: Database) -> QueueNode:
    """Give node-a, whose queue holds three messages."""
    made = QueueNode(enrol_agents(pair, sqlite_database, "node-a")["node-a"])
    assert made.report(*IDS).is_expected
    return made


@pytest.fixture
def rita(team: TestClient, sqlite_database: Database) -> dict[str, str]:
    """Give the header of a ReadOnly user."""
    del team
    return bearer(open_session(sqlite_database, "rita", CHEAP))


def test_the_list_is_paged_and_says_how_fresh_it_is(node: QueueNode, client: TestClient) -> None:
    """Newest first; the place of the next page comes with the page."""
    del node
    page = client.get(f"{QUEUE}/messages", params={"limit": 2}).json()
    assert [one["queue_id"] for one in page["messages"]] == [IDS[2], IDS[1]]
    assert page["total"] == 3
    rest = client.get(f"{QUEUE}/messages", params={"limit": 2, "after": page["after"]}).json()
    assert [one["queue_id"] for one in rest["messages"]] == [IDS[0]]
    assert rest["after"] is None
    (listed,) = page["nodes"]
    assert (listed["node"], listed["messages"], listed["is_complete"]) == ("node-a", 3, True)
    assert listed["listed_age_s"] >= 0.5
    shown = client.get(f"{QUEUE}/messages/node-a/{IDS[0]}").json()
    assert (shown["recipients"], shown["next_hop"]) == (["b0@to.test"], "mx.to.test")
    empty = client.get(f"{QUEUE}/messages", params={"sender": ""}).json()
    assert empty["total"] == 0


@pytest.mark.parametrize(
    "query",
    [{"after": "nowhere"}, {"queue": "corrupt"}, {"limit": 501}, {"nonsense": "1"}, {"node": "A"}],
)
def test_a_bad_filter_is_one_sentence(
    node: QueueNode, client: TestClient, query: dict[str, str]
) -> None:
    """Beside the parameter at fault."""
    del node
    answer = client.get(f"{QUEUE}/messages", params=query)
    assert answer.status_code == 422
    assert answer.json()["detail"]


def test_a_hold_runs_at_once_and_is_counted(
    node: QueueNode, client: TestClient, sqlite_database: Database
) -> None:
    """Accepted, handed to the node, done, audited."""
    body = {"verb": "hold", "filter": {"domain": "to.test"}}
    action = client.post(f"{QUEUE}/actions", json=body)
    assert action.status_code == 202
    assert (action.json()["state"], action.json()["counts"]["waiting"]) == ("running", 3)
    assert node.obey() == 3
    ended = client.get(f"{QUEUE}/actions/{action.json()['id']}").json()
    assert (ended["state"], ended["counts"]["done"], ended["total"]) == ("finished", 3, 3)
    assert ended["nodes"]["node-a"]["done"] == 3
    assert ended["finished_at"] is not None
    assert ("admin", "queue.action", "1") in audited(sqlite_database)
    assert node.obey() == 0


def test_a_delete_needs_its_count(node: QueueNode, client: TestClient) -> None:
    """The node hears of it after the confirmation only."""
    named = [{"node": "node-a", "queue_id": one} for one in (IDS[0], IDS[0], IDS[1])]
    action = client.post(f"{QUEUE}/actions", json={"verb": "delete", "messages": named}).json()
    assert (action["state"], action["total"]) == ("unconfirmed", 2)
    assert node.obey() == 0
    confirm = f"{QUEUE}/actions/{action['id']}/confirm"
    wrong = client.post(confirm, json={"count": 3})
    assert (wrong.status_code, "2 messages" in wrong.json()["detail"]) == (409, True)
    assert client.post(confirm, json={"count": 2}).status_code == 202
    assert node.obey(ItemState.NOT_FOUND) == 2
    ended = client.get(f"{QUEUE}/actions").json()[0]
    assert (ended["counts"]["done"], ended["counts"]["not_found"]) == (0, 2)


def test_a_withdrawn_action_is_not_carried_out(node: QueueNode, client: TestClient) -> None:
    """What was not handed out yet stays undone, and is counted."""
    action = client.post(f"{QUEUE}/actions", json={"verb": "flush", "filter": {}}).json()
    ended = client.delete(f"{QUEUE}/actions/{action['id']}").json()
    assert (ended["state"], ended["counts"]["withdrawn"]) == ("cancelled", 3)
    assert ended["error"] == "Withdrawn by admin."
    assert node.obey() == 0
    assert client.delete(f"{QUEUE}/actions/{action['id']}").status_code == 409


@pytest.mark.parametrize(
    "body",
    [
        {"verb": "hold"},
        {"verb": "hold", "filter": {}, "messages": [{"node": "node-a", "queue_id": IDS[0]}]},
        {"verb": "bounce", "filter": {}},
        {"verb": "hold", "messages": []},
        {"verb": "hold", "messages": [{"node": "node-a", "queue_id": "-d ALL"}]},
        {"verb": "hold", "filter": {"older": 3}},
    ],
)
def test_an_unclear_action_does_nothing(
    node: QueueNode, client: TestClient, body: dict[str, Any]
) -> None:
    """Refused with a sentence, and no action is kept."""
    del node
    answer = client.post(f"{QUEUE}/actions", json=body)
    assert answer.status_code == 422, answer.text
    assert client.get(f"{QUEUE}/actions").json() == []


def test_headers_are_fetched_on_request_and_audited(
    node: QueueNode, client: TestClient, sqlite_database: Database
) -> None:
    """First the wish, then the node's answer; nothing of a message is here before."""
    wanted = client.post(f"{QUEUE}/messages/node-a/{IDS[0]}/headers")
    assert wanted.status_code == 202
    where = f"{QUEUE}/headers/{wanted.json()['id']}"
    assert client.get(where).json()["is_answered"] is False
    (wish,) = node.report().headers
    result = HeadersResult(request=wish.request, headers="Subject: x", deferrals=("b: later",))
    node.report(headers=(result,))
    shown = client.get(where).json()
    assert (shown["headers"], shown["deferrals"]) == ("Subject: x", ["b: later"])
    assert ("admin", "queue.headers", f"node-a/{IDS[0]}") in audited(sqlite_database)
    missing = client.post(f"{QUEUE}/messages/node-a/4jWm8M3632zKH9B/headers")
    assert missing.status_code == 404


def test_who_only_reads_sees_the_list_and_no_headers(
    node: QueueNode, client: TestClient, rita: dict[str, str]
) -> None:
    """The list is for everybody; headers and actions are an Operator's."""
    del node
    assert client.get(f"{QUEUE}/messages", headers=rita).json()["total"] == 3
    for path, body in (
        (f"{QUEUE}/messages/node-a/{IDS[0]}/headers", None),
        (f"{QUEUE}/actions", {"verb": "hold", "filter": {}}),
    ):
        assert client.post(path, json=body, headers=rita).status_code == 403
    assert client.get(f"{QUEUE}/headers/1", headers=rita).status_code == 403


def test_a_recovering_control_plane_asks_nothing_of_a_queue(
    node: QueueNode, client: TestClient, sqlite_database: Database
) -> None:
    """Not even what is asked for after the restore, until all nodes have reported."""
    with sqlite_database.write() as session:
        mark_restored(session)
    client.post(f"{QUEUE}/actions", json={"verb": "hold", "filter": {}})
    client.post(f"{QUEUE}/messages/node-a/{IDS[0]}/headers")
    answer = node.report()
    assert (answer.is_expected, answer.commands, answer.headers) == (True, (), ())


def test_results_count_also_when_a_batch_is_missing(node: QueueNode, client: TestClient) -> None:
    """The list begins anew; what was done was done."""
    action = client.post(f"{QUEUE}/actions", json={"verb": "hold", "filter": {}}).json()
    done = tuple(ItemResult(id=one, state=ItemState.DONE) for one in IDS)
    node.sequence += 5
    answer = node.report(results=(CommandResult(action=action["id"], items=done),))
    assert answer.is_expected is False
    assert client.get(f"{QUEUE}/actions/{action['id']}").json()["state"] == "finished"


def test_a_node_given_up_takes_its_list_along(node: QueueNode, client: TestClient) -> None:
    """What waited for it is not found, the list is empty."""
    del node
    action = client.post(f"{QUEUE}/actions", json={"verb": "hold", "filter": {}}).json()
    assert client.post("/api/v1/nodes/node-a/strike").status_code == 204
    ended = client.get(f"{QUEUE}/actions/{action['id']}").json()
    assert (ended["state"], ended["counts"]["not_found"]) == ("finished", 3)
    assert client.get(f"{QUEUE}/messages").json()["total"] == 0


def test_a_full_batch_fits_into_a_request() -> None:
    """500 messages of 20 recipients, each as long as it may be, are taken."""
    one = QueuedMessage(
        id="z" * 64,
        queue=QueueName.DEFERRED,
        arrived_at=1.0,
        size_bytes=1,
        sender="x" * 512,
        recipients=("x" * 512,) * 20,
        recipient_count=20,
        next_hop="x" * 255,
        reason="x" * 500,
    )
    assert len(one.model_dump_json()) * 500 < larger_limits(MIB)[AGENT_API["queue"]]
