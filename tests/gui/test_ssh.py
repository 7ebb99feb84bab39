"""The SSH pages: fingerprints, rotation, a test that grows step by step, and for whom."""

from __future__ import annotations

import html
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from controlplane.core.permissions import UserRole
from controlplane.store.engine import Database
from controlplane.store.ownership_tables import AgentRow
from controlplane.store.peer_tests import take_report
from nodeagent.core.ssh_wire import PeerTestLine, PeerTestReport, PeerTestStep, fingerprint
from tests.fakes.cluster_agents import enrol_agents
from tests.fakes.enrolled_agent import HOST_KEY, SSH_KEY
from tests.fakes.private_keys import body_of, make_key
from tests.gui.conftest import HOSTILE, HTMX, open_as, post

ROTATE, KEEP = "/ssh/node-a/rotation", "/ssh/node-a/rotation/cancel"
HOST_KEYS = "/ssh/known-hosts"
OWN_KEY = "/ssh/node-a/key"
TEST = "/ssh/node-a/tests/node-b"


@pytest.fixture
def enrolled(watched: TestClient, sqlite_database: Database) -> TestClient:
    """Give a browser of the Admin, with node-a enrolled and node-b not."""
    enrol_agents(watched, sqlite_database, "node-a")
    return watched


def agent_row(database: Database) -> AgentRow:
    """Return what is stored of node-a."""
    with database.read() as session:
        return session.get_one(AgentRow, "node-a")


def test_fingerprints_are_shown_and_nothing_is_made_up(enrolled: TestClient) -> None:
    """Of the node that showed keys; the other says unknown."""
    page = enrolled.get("/ssh").text
    for key in (SSH_KEY, HOST_KEY):
        assert str(fingerprint(key)) in page
    assert "root@198.51.100.11 port 22" in page
    assert page.count("not enrolled") == 1
    assert page.count(">unknown<") == 2
    assert TEST in page
    assert "/ssh/node-b/tests/node-a" not in page


def test_a_key_is_replaced_by_a_button_and_kept_by_another(
    enrolled: TestClient, sqlite_database: Database
) -> None:
    """While it is under way the page looks again by itself."""
    assert 'hx-get="/ssh"' not in enrolled.get("/ssh").text
    asked = post(enrolled, ROTATE)
    assert (asked.status_code, asked.headers["location"]) == (303, "/ssh")
    page = enrolled.get("/ssh").text
    assert "node-a was asked for a new key." in page
    assert 'hx-get="/ssh"' in page
    assert "not made yet" in page
    part = enrolled.get("/ssh", headers=HTMX)
    assert (part.status_code, part.text.lstrip().startswith("<section")) == (200, True)
    assert str(fingerprint(SSH_KEY)) in part.text
    assert agent_row(sqlite_database).ssh_replace == SSH_KEY
    assert post(enrolled, KEEP).status_code == 303
    assert agent_row(sqlite_database).ssh_replace is None
    late = post(enrolled, KEEP)
    assert late.status_code == 404
    assert "No rotation of the SSH key of node-a is under way." in late.text


def test_a_node_without_a_key_has_none_to_replace(enrolled: TestClient) -> None:
    """One sentence above the list."""
    refused = post(enrolled, "/ssh/node-b/rotation")
    assert refused.status_code == 409
    assert "node-b is not enrolled, so it has no SSH key." in refused.text
    assert "root@198.51.100.12" in refused.text


def test_a_key_of_the_users_own_is_given_and_never_shown_again(
    enrolled: TestClient, sqlite_database: Database
) -> None:
    """A refusal keeps nothing of what was pasted; afterwards there is the fingerprint, and who."""
    private, public = make_key(passphrase="open it")
    assert OWN_KEY in enrolled.get("/ssh").text
    assert "erased here" in enrolled.get(OWN_KEY).text
    for typed, words in (
        ({"private_key": private, "passphrase": "no"}, "The passphrase does not open"),
        ({"private_key": public, "passphrase": ""}, "This is a public key"),
        ({"private_key": "", "passphrase": ""}, "Paste a private key"),
    ):
        refused = post(enrolled, OWN_KEY, **typed)
        assert (refused.status_code, words in refused.text) == (422, True), refused.text
        assert not any(line in refused.text for line in body_of(private))
    assert agent_row(sqlite_database).ssh_replace is None
    given = post(enrolled, OWN_KEY, private_key=private, passphrase="open it")
    assert (given.status_code, given.headers["location"]) == (303, "/ssh")
    page = enrolled.get("/ssh").text
    assert "node-a was given the key." in page
    assert str(fingerprint(public)) in page
    assert "given by admin" in page
    assert OWN_KEY not in page
    assert not any(line in page for line in body_of(private))
    assert agent_row(sqlite_database).ssh_replace == SSH_KEY
    busy = post(enrolled, OWN_KEY, private_key=make_key()[0])
    assert (busy.status_code, "is being replaced already" in busy.text) == (409, True)
    assert enrolled.get("/ssh/node-c/key").status_code == 404


def test_host_keys_are_pinned_and_a_mismatch_is_named(
    enrolled: TestClient, sqlite_database: Database
) -> None:
    """What was typed stays when it is refused; what is in use stands above it."""
    other = " ".join(make_key()[1].split()[:2])
    assert f"198.51.100.11 {HOST_KEY}" in html.unescape(enrolled.get(HOST_KEYS).text)
    wrong = post(enrolled, HOST_KEYS, known_hosts=f"192.0.2.9 {other}")
    assert wrong.status_code == 422
    assert "Line 1 names no node by its address and SSH port." in wrong.text
    assert f"192.0.2.9 {other}" in html.unescape(wrong.text)
    done = post(enrolled, HOST_KEYS, known_hosts=f"198.51.100.11 {other}")
    assert (done.status_code, done.headers["location"]) == (303, "/ssh")
    page = enrolled.get("/ssh").text
    assert str(fingerprint(other)) in page
    assert "node-a reports other host keys than those pinned" in page
    assert html.unescape(enrolled.get(HOST_KEYS).text).count(f"198.51.100.11 {other}") == 2
    assert post(enrolled, HOST_KEYS, known_hosts="").status_code == 303
    assert "node-a reports other host keys" not in enrolled.get("/ssh").text
    reader = open_as(enrolled, sqlite_database, UserRole.READ_ONLY)
    assert "Your own lines" not in reader.get(HOST_KEYS).text
    assert post(reader, HOST_KEYS, known_hosts="").status_code == 403


def report(database: Database, number: int, **values: Any) -> None:
    """Have node-a report on a test."""
    with database.write() as session:
        take_report(session, "node-a", PeerTestReport(id=number, **values))


def test_steps_appear_one_by_one(enrolled: TestClient, sqlite_database: Database) -> None:
    """The page asks again until the last one; what a host says stays text."""
    path = post(enrolled, TEST).headers["location"]
    number = int(path.rpartition("/")[2])
    waits = enrolled.get(path).text
    assert f'hx-get="{path}"' in waits
    assert waits.count("not done") == len(PeerTestStep)
    first = PeerTestLine(step=PeerTestStep.ADDRESS, ok=True, text="node-b is 198.51.100.12.")
    report(sqlite_database, number, ok=None, lines=(first,))
    grown = enrolled.get(path, headers=HTMX).text
    assert grown.lstrip().startswith("<section")
    assert grown.count("not done") == len(PeerTestStep) - 1
    assert f'hx-get="{path}"' in grown
    second = PeerTestLine(step=PeerTestStep.CONNECT, ok=False, text=HOSTILE)
    report(sqlite_database, number, ok=False, text=HOSTILE, lines=(first, second))
    ended = enrolled.get(path).text
    assert f'hx-get="{path}"' not in ended
    assert "<script>alert" not in ended
    assert ended.count("&lt;script&gt;alert") == 2
    assert "failed" in ended


def test_a_silent_node_leaves_it_unknown(enrolled: TestClient, sqlite_database: Database) -> None:
    """Neither good nor bad is made of it."""
    path = post(enrolled, TEST).headers["location"]
    busy = post(enrolled, TEST)
    assert busy.status_code == 409
    assert "node-a is testing a peer already" in busy.text
    with sqlite_database.write() as session:
        session.execute(text("UPDATE peer_tests SET requested_at = requested_at - 61"))
    page = enrolled.get(path).text
    assert "whether it reaches node-b is unknown." in page
    assert f'hx-get="{path}"' not in page


@pytest.mark.parametrize(
    ("role", "may_test"), [(UserRole.READ_ONLY, False), (UserRole.OPERATOR, True)]
)
def test_buttons_and_calls_are_for_their_roles(
    enrolled: TestClient, sqlite_database: Database, role: UserRole, *, may_test: bool
) -> None:
    """Everybody sees fingerprints; what a role may not do is neither shown nor done."""
    visitor = open_as(enrolled, sqlite_database, role)
    page = visitor.get("/ssh").text
    assert "root@198.51.100.11" in page
    assert (f'action="{TEST}"' in page) is may_test
    assert "/rotation" not in page
    assert OWN_KEY not in page
    assert visitor.get(OWN_KEY).status_code == 403
    assert post(visitor, OWN_KEY, private_key=make_key()[0]).status_code == 403
    assert post(visitor, TEST).status_code == (303 if may_test else 403)
    assert post(visitor, ROTATE).status_code == 403
    assert agent_row(sqlite_database).ssh_replace is None
