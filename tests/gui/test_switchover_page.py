"""The switchover page: asked for, followed step by step, withdrawn, refused with reasons."""

from __future__ import annotations

import re
from typing import Any

import pytest
from fastapi.testclient import TestClient

from controlplane.core.permissions import UserRole
from controlplane.core.switchover_steps import StepName, StepState
from controlplane.gui.switchover import STATES, STEPS, TOPICS, read_state
from controlplane.store.cluster import ClusterStore
from controlplane.store.engine import Database
from controlplane.store.leases import Claim, acquire, grant, read_lease
from controlplane.store.switchovers import finish_switchover
from nodeagent.core.contract import Role, SwitchoverResult
from tests.fakes.reports import enrol_owners, report_as
from tests.gui.conftest import HOSTILE, open_as, post

STEP = re.compile(r'id="step-(\w+)" data-state="(\w+)"')
VIP = "198.51.100.100"


@pytest.fixture
def running(watched: TestClient, sqlite_database: Database) -> TestClient:
    """Give a browser at a cluster whose node-a is active and whose node-b stands by."""
    enrol_owners(sqlite_database, "node-a", "node-b")
    report_as(sqlite_database, "node-a", role=Role.ACTIVE, holds_vips=(VIP,))
    report_as(sqlite_database, "node-b", holds_vips=())
    return watched


def _steps(client: TestClient) -> str:
    return " ".join(state for _name, state in STEP.findall(client.get("/switchover").text))


def test_a_switchover_is_asked_for_and_followed(
    running: TestClient, sqlite_database: Database
) -> None:
    """Each step shows as soon as it was seen, in the words of the page."""
    assert "There was none yet." in running.get("/switchover").text
    asked = post(running, "/switchover", destination="node-b", source="")
    assert (asked.status_code, asked.headers["location"]) == (303, "/switchover")
    page = running.get("/switchover").text
    assert "From node-a to node-b" in page
    assert 'hx-post="/switchover/withdraw"' in page
    assert _steps(running) == "done running waiting waiting waiting"
    with sqlite_database.write() as session:
        lease = read_lease(session, "node-a")
        assert lease is not None
        claim = Claim("node-a", "node-a", lease.generation)
        assert grant(session, claim, "node-b", 600.0) is not None
    assert _steps(running) == "done done done running running"
    report_as(sqlite_database, "node-a", holds_vips=())
    report_as(sqlite_database, "node-b", role=Role.ACTIVE, holds_vips=(VIP,))
    assert _steps(running) == "done done done running done"
    with sqlite_database.write() as session:
        finish_switchover(session, "node-a", SwitchoverResult(id=1, ok=True, text="Moved."))
    page = running.get("/switchover").text
    assert "It was done." in page
    assert "/switchover/withdraw" not in page


def test_a_failed_one_says_why(running: TestClient, sqlite_database: Database) -> None:
    """The source's own sentence, as text."""
    post(running, "/switchover", destination="node-b", source="")
    with sqlite_database.write() as session:
        finish_switchover(session, "node-a", SwitchoverResult(id=1, ok=False, text=HOSTILE))
    page = running.get("/switchover").text
    assert "&lt;script&gt;alert" in page
    assert "<script>alert" not in page
    assert _steps(running) == "done failed missed missed missed"


def test_one_is_withdrawn(running: TestClient) -> None:
    """By whoever may; a second time there is nothing to withdraw, which is no error."""
    post(running, "/switchover", destination="node-b", source="")
    assert post(running, "/switchover/withdraw").headers["location"] == "/switchover"
    page = running.get("/switchover").text
    assert "The switchover is withdrawn." in page
    assert "Withdrawn by admin." in page
    assert post(running, "/switchover/withdraw").status_code == 303
    assert "The switchover is withdrawn." not in running.get("/switchover").text


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"destination": "node-a"}, 409, "node-a is active already."),
        ({"destination": "node-z"}, 404, "There is no node node-z."),
        ({"destination": ""}, 422, "valid string"),
        ({"destination": "UPPER"}, 422, "match pattern"),
        ({"destination": "node-b", "source": "node-b"}, 409, "node-b is active already."),
    ],
)
def test_what_cannot_be_done_is_refused_with_its_reason(
    running: TestClient, fields: dict[str, str], status: int, words: str
) -> None:
    """The form comes back as it was sent, and nothing was asked of anybody."""
    answer = post(running, "/switchover", **{"source": "", **fields})
    assert answer.status_code == status
    assert words in answer.text
    assert running.get("/api/v1/switchover").json()["history"] == []


def test_a_silent_destination_is_refused(pair: TestClient, watched: TestClient) -> None:
    """Nobody enrolled it."""
    del pair
    answer = post(watched, "/switchover", destination="node-b", source="node-a")
    assert answer.status_code == 409
    assert "node-a is not enrolled." in answer.text


def test_a_link_names_the_destination(running: TestClient) -> None:
    """From a node's page the form shows that node."""
    page = running.get("/switchover?destination=node-b").text
    assert (
        'value="node-b" selected'
        in page.partition('id="f-destination"')[2].partition("</select>")[0]
    )


def test_readers_follow_and_change_nothing(running: TestClient, sqlite_database: Database) -> None:
    """They see the steps without the form and without the button."""
    post(running, "/switchover", destination="node-b", source="")
    viewer = open_as(running, sqlite_database, UserRole.READ_ONLY)
    page = viewer.get("/switchover").text
    assert "From node-a to node-b" in page
    for words in ("hx-post", "f-destination"):
        assert words not in page.partition('id="content"')[2]
    assert 'href="/switchover"' not in viewer.get("/nodes").text.partition('id="content"')[2]
    for path in ("", "/withdraw"):
        assert post(viewer, f"/switchover{path}", destination="node-b").status_code == 403


def test_what_is_followed_is_equal_while_nothing_happens(
    running: TestClient, sqlite_database: Database
) -> None:
    """A heartbeat that says the same wakes nobody; operators have a topic of their own."""
    app: Any = running.app
    store = ClusterStore(sqlite_database, app.state.secret_box)
    post(running, "/switchover", destination="node-b", source="")
    before = TOPICS[True].read(store)
    report_as(sqlite_database, "node-b", holds_vips=())
    assert TOPICS[True].read(store) == before
    assert read_state(store, may_operate=False).may_operate is False
    assert TOPICS[True].name != TOPICS[False].name
    with sqlite_database.write() as session:
        assert acquire(session, "node-b", "node-b", 60.0) is not None
    assert TOPICS[True].read(store) == before


def test_every_step_and_every_state_has_its_words() -> None:
    """None can be added without."""
    assert set(STEPS) == set(StepName)
    assert set(STATES) == set(StepState)
