"""SSH by the API: fingerprints, rotation from the wish to the new key, tests of peers."""

from __future__ import annotations

import os
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from controlplane.store.engine import Database
from nodeagent.adapters.peer_test import PeerTester
from nodeagent.adapters.ssh_key import SshKey
from nodeagent.core.contract import (
    EventReport,
)
from nodeagent.core.event_kinds import SSH_ROTATION_WAITS
from nodeagent.core.ssh_wire import (
    PeerTestLine,
    PeerTestQuestion,
    PeerTestReport,
    PeerTestStep,
    PeerTestWish,
    fingerprint,
)
from nodeagent.errands import peer_errand
from nodeagent.errors import Unreachable
from tests.fakes.cluster_agents import enrol_agents
from tests.fakes.enrolled_agent import HOST_KEY, SSH_KEY, EnrolledAgent
from tests.fakes.ssh_peer import LIMIT_S, Peer, Rotating, beat, shown

SSH = "/api/v1/ssh"
NEXT = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINextNextNextNextNextNextNextNextNextNextNex"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="sshd lets root in only as root")


def kinds(client: TestClient) -> list[str]:
    """Return the kinds of all events."""
    return [event["kind"] for event in client.get("/api/v1/events").json()]


def waits(reason: str) -> EventReport:
    """Return the event of a rotation that is held up."""
    now = datetime.now(UTC)
    return EventReport(id=str(uuid4()), at=now, kind=SSH_ROTATION_WAITS, text=reason)


def rotations(client: TestClient) -> dict[str, str]:
    """Return what needs attention of rotations, by rule."""
    found = client.get("/api/v1/attention").json()
    return {one["rule"]: one["text"] for one in found if one["rule"].startswith("rotation")}


def ago(database: Database, update: str, node: str, column: str = "name") -> None:
    """Change moments of one node."""
    with database.write() as session:
        session.execute(text(f"{update} WHERE {column} = :node"), {"node": node})


class TestFingerprints:
    """What an operator compares."""

    def test_of_both_keys_and_unknown_before_enrolment(
        self, pair: TestClient, sqlite_database: Database
    ) -> None:
        """Nothing is made up for a node that never showed a key."""
        before = shown(pair)
        assert (before["client_key"], before["host_keys"]) == (None, [])
        assert before["is_enrolled"] is False
        enrol_agents(pair, sqlite_database, "node-a")
        after = shown(pair)
        assert after["client_key"]["fingerprint"] == fingerprint(SSH_KEY)
        assert after["host_keys"] == [{"type": "ssh-ed25519", "fingerprint": fingerprint(HOST_KEY)}]
        assert (after["address"], after["ssh_user"], after["ssh_port"]) == (
            "198.51.100.11",
            "root",
            22,
        )

    def test_a_revoked_node_shows_none(
        self, pair: TestClient, agents: dict[str, EnrolledAgent]
    ) -> None:
        """Its keys are trusted by nobody any more."""
        assert agents
        pair.post("/api/v1/nodes/node-a/revoke-key")
        assert (shown(pair)["is_enrolled"], shown(pair)["client_key"]) == (False, None)


class TestRotation:
    """The wish, what the peers are told meanwhile, and its end."""

    def test_peers_let_in_both_until_the_new_key_is_shown(
        self, pair: TestClient, agents: dict[str, EnrolledAgent]
    ) -> None:
        """Asked twice it is one rotation; audited and an event, as is its end."""
        for _ in range(2):
            assert pair.post(f"{SSH}/node-a/rotation").json()["is_rotating"] is True
        assert kinds(pair).count("ssh-rotation-requested") == 1
        assert beat(agents["node-a"], ssh_public_key=SSH_KEY).ssh_replace == SSH_KEY
        beat(agents["node-a"], ssh_public_key=SSH_KEY, ssh_next_public_key=NEXT)
        assert shown(pair)["next_key"]["fingerprint"] == fingerprint(NEXT)
        (peer,) = beat(agents["node-b"]).view.peers
        assert (peer.ssh_public_key, peer.ssh_next_public_key) == (SSH_KEY, NEXT)
        assert beat(agents["node-a"], ssh_public_key=NEXT).ssh_replace is None
        (peer,) = beat(agents["node-b"]).view.peers
        assert (peer.ssh_public_key, peer.ssh_next_public_key) == (NEXT, None)
        now = shown(pair)
        assert (now["is_rotating"], now["next_key"]) == (False, None)
        assert kinds(pair).count("ssh-rotated") == 1
        audited = [row["action"] for row in pair.get("/api/v1/audit").json()]
        assert audited.count("ssh.rotate") == 1

    def test_it_can_be_cancelled(self, pair: TestClient, agents: dict[str, EnrolledAgent]) -> None:
        """The node is told no longer; a next key that it still shows stays let in."""
        assert pair.delete(f"{SSH}/node-a/rotation").status_code == 404
        pair.post(f"{SSH}/node-a/rotation")
        beat(agents["node-a"], ssh_public_key=SSH_KEY, ssh_next_public_key=NEXT)
        assert pair.delete(f"{SSH}/node-a/rotation").json()["is_rotating"] is False
        answer = beat(agents["node-a"], ssh_public_key=SSH_KEY, ssh_next_public_key=NEXT)
        assert answer.ssh_replace is None
        assert beat(agents["node-b"]).view.peers[0].ssh_next_public_key == NEXT
        beat(agents["node-a"], ssh_public_key=SSH_KEY)
        assert beat(agents["node-b"]).view.peers[0].ssh_next_public_key is None

    def test_a_bad_next_key_reaches_no_peer(
        self, pair: TestClient, agents: dict[str, EnrolledAgent]
    ) -> None:
        """A line with options or a break would be written into authorized_keys."""
        pair.post(f"{SSH}/node-a/rotation")
        for bad in (f'command="sh" {NEXT}', f"{NEXT}\n{NEXT}", "no key"):
            beat(agents["node-a"], ssh_public_key=SSH_KEY, ssh_next_public_key=bad)
            assert beat(agents["node-b"]).view.peers[0].ssh_next_public_key is None

    def test_one_that_is_held_up_needs_attention(
        self, pair: TestClient, agents: dict[str, EnrolledAgent], sqlite_database: Database
    ) -> None:
        """With the silent peer's name, else what the node said of it since it was asked."""
        beat(agents["node-a"], events=(waits("of an earlier one"),))
        pair.post(f"{SSH}/node-a/rotation")
        beat(agents["node-b"])
        assert rotations(pair) == {}
        ago(sqlite_database, "UPDATE agents SET ssh_replace_at = ssh_replace_at - 300", "node-a")
        ago(sqlite_database, "UPDATE events SET received_at = received_at - 900", "node-a", "node")
        assert rotations(pair)["rotation-waits"].endswith("that it shall replace: -")
        beat(agents["node-a"], events=(waits("node-b lets nobody in."),))
        assert rotations(pair)["rotation-waits"].endswith("replace: node-b lets nobody in.")
        ago(sqlite_database, "UPDATE node_reports SET seen_at = seen_at - 900", "node-b", "node")
        found = rotations(pair)
        assert list(found) == ["rotation-needs-peer"]
        assert "node-a waits for node-b, which is silent" in found["rotation-needs-peer"]
        pair.delete(f"{SSH}/node-a/rotation")
        assert rotations(pair) == {}

    def test_who_and_what_is_refused(self, team: TestClient, pair: TestClient) -> None:
        """A node that is not there or not enrolled."""
        assert team
        assert pair.post(f"{SSH}/node-c/rotation").status_code == 404
        refused = pair.post(f"{SSH}/node-a/rotation")
        assert (refused.status_code, refused.json()["detail"]) == (
            409,
            "node-a is not enrolled, so it has no SSH key.",
        )


@as_root
def test_a_key_is_replaced_and_no_login_fails_meanwhile(
    pair: TestClient, loopback: dict[str, EnrolledAgent], peer: Peer, tmp_path: Path
) -> None:
    """With a real sshd: at every moment the key in use is let in, in the end the old is not."""
    node = Rotating(loopback["node-a"], peer, tmp_path / "a")
    key, old = node.key, tmp_path / "old"
    first = key.public_key()
    shutil.copy(key.file, old)
    peer.follow(loopback["node-b"])
    pair.post(f"{SSH}/node-a/rotation")
    node.rotate(pair, loopback["node-b"])
    assert key.public_key() != first
    assert shown(pair)["client_key"]["fingerprint"] == fingerprint(key.public_key())
    peer.follow(loopback["node-b"])
    peer.ping(key.file)
    with pytest.raises(Unreachable, match="Permission denied"):
        peer.ping(old)


@as_root
def test_a_peer_that_does_not_let_it_in_holds_the_rotation_up(
    pair: TestClient, loopback: dict[str, EnrolledAgent], peer: Peer, tmp_path: Path
) -> None:
    """The old key stays in use, the reason is noted; cancelled, the new one is thrown away."""
    node = Rotating(loopback["node-a"], peer, tmp_path / "a")
    key, notes, rotation = node.key, node.notes, node.rotation
    first = key.public_key()
    peer.follow(loopback["node-b"])
    pair.post(f"{SSH}/node-a/rotation")
    until_s = time.monotonic() + LIMIT_S
    while not notes:
        assert time.monotonic() < until_s
        answer = beat(loopback["node-a"], ssh_public_key=key.public_key())  # the next: never shown
        rotation.follow(answer.ssh_replace, answer.ssh_replace_by, answer.view.peers)
        peer.follow(loopback["node-b"])
    assert notes[0][0] == "ssh-rotation-waits"
    assert "node-b" in notes[0][1]
    assert key.public_key() == first
    pair.delete(f"{SSH}/node-a/rotation")
    while key.next_file.exists():
        assert time.monotonic() < until_s
        answer = beat(loopback["node-a"], ssh_public_key=key.public_key())
        rotation.follow(answer.ssh_replace, answer.ssh_replace_by, answer.view.peers)
    rotation.stop()
    assert key.public_key() == first
    peer.ping(key.file)


class Calls:
    """The agent's calls of a peer test over a test client."""

    def __init__(self, agent: EnrolledAgent) -> None:
        self.agent = agent
        self.reports: list[PeerTestReport] = []

    def peer_test(self, question: PeerTestQuestion) -> PeerTestWish:
        """Fetch which peer is meant."""
        answer = self.agent.post("peer_test", question)
        return PeerTestWish.model_validate_json(answer.content)

    def report_peer_test(self, report: PeerTestReport) -> None:
        """Report the steps so far."""
        assert self.agent.post("peer_test_done", report).status_code == 204
        self.reports.append(report)


class TestPeerTests:
    """Asked for, carried out by the node, shown step by step."""

    @as_root
    def test_from_the_wish_to_the_last_step(
        self, pair: TestClient, loopback: dict[str, EnrolledAgent], peer: Peer, tmp_path: Path
    ) -> None:
        """By a real agent's errand over a real sshd."""
        key = SshKey(tmp_path / "a")
        key.make()
        beat(loopback["node-a"], ssh_public_key=key.public_key())
        peer.follow(loopback["node-b"])
        asked = pair.post(f"{SSH}/tests", json={"node": "node-a", "peer": "node-b"})
        assert asked.status_code == 201, asked.text
        calls = Calls(loopback["node-a"])
        errand = peer_errand(calls, PeerTester(peer.files(key.file)))
        errand.follow(beat(loopback["node-a"]).peer_test)
        where, until_s = f"{SSH}/tests/{asked.json()['id']}", time.monotonic() + LIMIT_S
        while (test := pair.get(where).json())["finished_at"] is None:
            assert time.monotonic() < until_s, test
            time.sleep(0.05)
        errand.stop()
        assert (test["is_ok"], len(test["lines"])) == (True, len(PeerTestStep)), test
        assert beat(loopback["node-a"]).peer_test is None

    def test_steps_grow_and_a_finished_test_stays(
        self, pair: TestClient, agents: dict[str, EnrolledAgent]
    ) -> None:
        """A late report of fewer steps takes nothing back."""
        number = pair.post(f"{SSH}/tests", json={"node": "node-a", "peer": "node-b"}).json()["id"]
        lines = tuple(
            PeerTestLine(step=step, ok=True, text="fine \x00")
            for step in (PeerTestStep.ADDRESS, PeerTestStep.CONNECT)
        )
        calls = Calls(agents["node-a"])
        calls.report_peer_test(PeerTestReport(id=number, ok=None, lines=lines))
        calls.report_peer_test(PeerTestReport(id=number, ok=None, lines=lines[:1]))
        test = pair.get(f"{SSH}/tests/{number}").json()
        assert ([line["step"] for line in test["lines"]], test["is_ok"]) == (
            ["address", "connect"],
            None,
        )
        assert test["lines"][0]["text"] == "fine \ufffd"
        calls.report_peer_test(PeerTestReport(id=number, ok=False, text="no", lines=lines))
        calls.report_peer_test(PeerTestReport(id=number, ok=True, text="yes", lines=lines))
        assert pair.get(f"{SSH}/tests/{number}").json()["text"] == "no"

    def test_another_node_neither_reads_nor_reports(
        self, pair: TestClient, agents: dict[str, EnrolledAgent]
    ) -> None:
        """A wish is for the node that was asked."""
        number = pair.post(f"{SSH}/tests", json={"node": "node-a", "peer": "node-b"}).json()["id"]
        assert beat(agents["node-b"]).peer_test is None
        assert agents["node-b"].post("peer_test", PeerTestQuestion(id=number)).status_code == 404
        report = PeerTestReport(id=number, ok=True)
        assert agents["node-b"].post("peer_test_done", report).status_code == 404

    def test_one_at_a_time_and_a_silent_node_ends_it(
        self, pair: TestClient, agents: dict[str, EnrolledAgent], sqlite_database: Database
    ) -> None:
        """After a minute nobody waits any more."""
        assert agents
        body = {"node": "node-a", "peer": "node-b"}
        number = pair.post(f"{SSH}/tests", json=body).json()["id"]
        assert pair.post(f"{SSH}/tests", json=body).status_code == 409
        with sqlite_database.write() as session:
            session.execute(text("UPDATE peer_tests SET requested_at = requested_at - 61"))
        assert pair.get(f"{SSH}/tests/{number}").json()["is_over"] is True
        assert pair.post(f"{SSH}/tests", json=body).status_code == 201

    @pytest.mark.parametrize(
        ("way", "status", "words"),
        [
            (("node-a", "node-a"), 422, "A node is not its own peer."),
            (("node-c", "node-a"), 404, "There is no node node-c."),
            (("node-a", "node-c"), 404, "There is no node node-c."),
            (("node-b", "node-a"), 409, "node-b is not enrolled, so it cannot test a peer."),
            (("..", "node-a"), 422, ""),
        ],
    )
    def test_what_cannot_be_tested_is_one_sentence(
        self,
        pair: TestClient,
        sqlite_database: Database,
        *,
        way: tuple[str, str],
        status: int,
        words: str,
    ) -> None:
        """Nothing is asked of any node."""
        enrol_agents(pair, sqlite_database, "node-a")
        answer = pair.post(f"{SSH}/tests", json=dict(zip(("node", "peer"), way, strict=True)))
        assert answer.status_code == status
        assert words in answer.text
        assert pair.get(f"{SSH}/tests/1").status_code == 404
