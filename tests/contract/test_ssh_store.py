"""Keys, tests and setups as they are stored, on both databases."""

from __future__ import annotations

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import text

from controlplane.core.private_keys import read_private_key
from controlplane.errors import Conflict, NotFound
from controlplane.node_setup.installer import Cancelled
from controlplane.node_setup.recipe import SetupStep
from controlplane.store import given_keys, node_setups, node_tests, peer_tests, ssh_keys
from controlplane.store.audit import Actor
from controlplane.store.crypto import SecretBox
from controlplane.store.engine import Database
from controlplane.store.ownership_tables import AgentRow, NodeSetupRow, PeerTestRow
from nodeagent.core.contract import HeartbeatRequest, NodeReport, Role
from nodeagent.core.ssh_wire import PeerTestLine, PeerTestReport, PeerTestStep
from tests.fakes.enrolled_agent import HOST_KEY, SSH_KEY
from tests.fakes.private_keys import make_key
from tests.fakes.reports import store_report

ADMIN = Actor("admin", "192.0.2.1")
NEW_KEY = HOST_KEY
REPORT = NodeReport(role=Role.STANDBY)


@pytest.fixture
def enrolled(database: Database) -> Database:
    """Give a database that knows node-a's agent."""
    with database.write() as session:
        keys = {"public_key_pem": "pem", "ssh_public_key": SSH_KEY, "ssh_host_keys": [HOST_KEY]}
        session.add(AgentRow(name="node-a", enrolled_at=1.0, **keys))
    return database


def show(database: Database, key: str, following: str | None = None) -> None:
    """Take over what a heartbeat of node-a shows."""
    request = HeartbeatRequest(report=REPORT, ssh_public_key=key, ssh_next_public_key=following)
    with database.write() as session:
        ssh_keys.take_over(session, session.get_one(AgentRow, "node-a"), request)


def to_replace(database: Database) -> str | None:
    """Return the key that node-a is asked to replace."""
    with database.read() as session:
        return session.get_one(AgentRow, "node-a").ssh_replace


class TestRotation:
    """A wish about one key, which ends when the node shows another."""

    def test_it_is_repeated_until_another_key_is_shown(self, enrolled: Database) -> None:
        """A lost answer and a repeated heartbeat change nothing."""
        with enrolled.write() as session:
            ssh_keys.request_rotation(session, "node-a", ADMIN)
        for following in (None, NEW_KEY, NEW_KEY):
            show(enrolled, SSH_KEY, following)
            assert to_replace(enrolled) == SSH_KEY
        show(enrolled, NEW_KEY, NEW_KEY)
        assert to_replace(enrolled) is None
        show(enrolled, NEW_KEY)
        with enrolled.read() as session:
            row = session.get_one(AgentRow, "node-a")
            assert (row.ssh_public_key, row.ssh_next_public_key) == (NEW_KEY, None)
            kinds = session.execute(text("SELECT kind FROM events ORDER BY number")).scalars().all()
        assert kinds == ["ssh-rotation-requested", "ssh-rotated"]

    def test_a_heartbeat_that_shows_no_key_keeps_the_known_one(self, enrolled: Database) -> None:
        """An agent that cannot read its key is not locked out by that."""
        with enrolled.write() as session:
            row = session.get_one(AgentRow, "node-a")
            ssh_keys.take_over(session, row, HeartbeatRequest(report=REPORT))
            assert row.ssh_public_key == SSH_KEY

    def test_who_has_no_key_rotates_none(self, enrolled: Database) -> None:
        """Neither a stranger nor a node whose key was revoked."""
        with enrolled.write() as session, pytest.raises(Conflict):
            ssh_keys.request_rotation(session, "node-b", ADMIN)
        with enrolled.write() as session:
            session.get_one(AgentRow, "node-a").revoked_at = 2.0
        with enrolled.write() as session, pytest.raises(Conflict):
            ssh_keys.request_rotation(session, "node-a", ADMIN)
        assert to_replace(enrolled) is None


class TestGivenKeys:
    """A key that a user brought along: sealed, then erased, on both databases."""

    @staticmethod
    def rows(database: Database) -> list[tuple[str, bool]]:
        """Return whose keys are known, and whether the private half is still there."""
        with database.read() as session:
            found = session.execute(
                text("SELECT given_by, private_sealed FROM given_ssh_keys ORDER BY given_at")
            ).all()
        return [(str(by), sealed is not None) for by, sealed in found]

    def test_it_is_sealed_until_it_is_in_use(self, enrolled: Database) -> None:
        """A heartbeat that shows it as the next one erases nothing yet."""
        box = SecretBox(Fernet.generate_key())
        key = read_private_key(make_key()[0])
        with enrolled.write() as session:
            for _ in range(2):
                ssh_keys.give_key(session, box, "node-a", key, ADMIN)
        with enrolled.read() as session:
            assert ssh_keys.to_use(session, "node-a") == key.public
            assert given_keys.private_half(session, box, "node-a", key.public) == key.private
            stored = session.execute(text("SELECT private_sealed FROM given_ssh_keys")).scalar_one()
            assert key.private not in stored
            for other in (("node-b", key.public), ("node-a", NEW_KEY)):
                with pytest.raises(NotFound):
                    given_keys.private_half(session, box, *other)
        show(enrolled, SSH_KEY, key.public)
        assert self.rows(enrolled) == [("admin", True)]
        show(enrolled, key.public)
        assert (self.rows(enrolled), to_replace(enrolled)) == ([("admin", False)], None)
        show(enrolled, NEW_KEY)
        assert self.rows(enrolled) == []

    def test_a_cancelled_one_that_its_node_still_shows_keeps_its_name(
        self, enrolled: Database
    ) -> None:
        """The node may have finished in this very moment; the private half is erased at once."""
        key = read_private_key(make_key()[0])
        with enrolled.write() as session:
            ssh_keys.give_key(session, SecretBox(Fernet.generate_key()), "node-a", key, ADMIN)
        show(enrolled, SSH_KEY, key.public)
        with enrolled.write() as session:
            ssh_keys.cancel_rotation(session, "node-a", ADMIN)
        assert self.rows(enrolled) == [("admin", False)]
        show(enrolled, SSH_KEY)
        assert self.rows(enrolled) == []

    def test_a_second_key_is_told_from_the_one_in_use(self, enrolled: Database) -> None:
        """Who brought the present one stays known until the other is in use."""
        box = SecretBox(Fernet.generate_key())
        first, second = (read_private_key(make_key()[0]) for _ in range(2))
        with enrolled.write() as session:
            ssh_keys.give_key(session, box, "node-a", first, ADMIN)
        show(enrolled, first.public)
        with enrolled.write() as session:
            ssh_keys.give_key(session, box, "node-a", second, Actor("olga"))
        assert self.rows(enrolled) == [("admin", False), ("olga", True)]
        show(enrolled, second.public)
        assert self.rows(enrolled) == [("olga", False)]


class TestPeerTests:
    """Steps that arrive in any order."""

    def test_tests_of_the_day_before_are_forgotten(self, enrolled: Database) -> None:
        """The next one removes them; those of today stay."""
        with enrolled.write() as session:
            for _ in range(2):
                row = PeerTestRow(node="node-a", peer="node-b", requested_by="a", requested_at=0.0)
                node_tests.add(session, row)
            session.execute(
                text("UPDATE peer_tests SET requested_at = requested_at - 86401 WHERE id = 1")
            )
            node_tests.add(
                session, PeerTestRow(node="node-a", peer="c", requested_by="a", requested_at=0.0)
            )
            left = session.execute(text("SELECT id FROM peer_tests ORDER BY id")).scalars().all()
        assert left == [2, 3]

    def test_steps_only_grow(self, enrolled: Database) -> None:
        """Reports are sent by one thread, and yet one may arrive twice."""
        lines = tuple(
            PeerTestLine(step=step, ok=True, text="\x00ü" * 100)
            for step in (PeerTestStep.ADDRESS, PeerTestStep.CONNECT)
        )
        with enrolled.write() as session:
            row = PeerTestRow(node="node-a", peer="node-b", requested_by="a", requested_at=0.0)
            number = node_tests.add(session, row).id
        assert number is not None
        for shown in (lines, lines[:1]):
            with enrolled.write() as session:
                report = PeerTestReport(id=number, ok=None, lines=shown)
                peer_tests.take_report(session, "node-a", report)
        with enrolled.read() as session:
            stored = node_tests.read(session, PeerTestRow, number, peer_tests.WHAT)
            assert [line["step"] for line in stored.lines] == ["address", "connect"]
            assert node_tests.waiting(session, PeerTestRow, "node-a") == number
            assert node_tests.waiting(session, PeerTestRow, "node-b") is None


def begin(database: Database, node: str = "node-b") -> int:
    """Note a setup; return its number."""
    place = {"address": "192.0.2.2", "port": 22, "ssh_user": "root", "host_key": "SHA256:x"}
    row = NodeSetupRow(node=node, requested_by="", requested_at=0.0, alive_at=0.0, **place)
    with database.write() as session:
        number = node_setups.begin(session, row, ADMIN).id
    assert number is not None
    return number


class TestSetups:
    """Progress that any instance shows, and its end."""

    def test_steps_are_noted_as_they_run(self, enrolled: Database) -> None:
        """What a host wrote is stored whatever it is; a failure marks its step."""
        number = begin(enrolled)
        progress = node_setups.StoredProgress(enrolled, number)
        progress.begin(SetupStep.CONNECT)
        progress.done("It is there.")
        progress.begin(SetupStep.PACKAGES)
        progress.show(["\x00 \U0001f980", "100 %"])
        progress.finish(is_ok=False, text="No.\x00")
        with enrolled.read() as session:
            row = node_tests.read(session, NodeSetupRow, number, node_setups.WHAT)
            assert row.lines == [
                {"step": "connect", "ok": True, "text": "It is there.", "output": []},
                {
                    "step": "packages",
                    "ok": False,
                    "text": "No.\ufffd",
                    "output": ["\ufffd \U0001f980", "100 %"],
                },
            ]
            assert (row.is_ok, node_setups.is_lost(session, row)) == (False, False)

    def test_one_at_a_time_and_a_lost_one_does_not_count(self, enrolled: Database) -> None:
        """Its process is gone when it was silent for a minute."""
        first = begin(enrolled)
        with pytest.raises(Conflict, match="being set up already"):
            begin(enrolled)
        assert begin(enrolled, "node-c") == first + 1
        with enrolled.write() as session:
            session.execute(text("UPDATE node_setups SET alive_at = alive_at - 61"))
        assert begin(enrolled) == first + 2
        with pytest.raises(Conflict, match="enrolled already"):
            begin(enrolled, "node-a")

    def test_a_cancelled_one_hears_of_it_at_its_next_note(self, enrolled: Database) -> None:
        """The end itself is noted all the same."""
        number = begin(enrolled)
        progress = node_setups.StoredProgress(enrolled, number)
        progress.begin(SetupStep.CONNECT)
        with enrolled.write() as session:
            assert node_setups.cancel(session, number, ADMIN).is_cancelled
        with pytest.raises(Cancelled):
            progress.show([])
        progress.finish(is_ok=False, text="Cancelled.")
        with enrolled.write() as session, pytest.raises(Conflict, match="has ended already"):
            node_setups.cancel(session, number, ADMIN)
        with enrolled.write() as session, pytest.raises(NotFound):
            node_setups.cancel(session, number + 1, ADMIN)

    def test_only_a_report_after_its_begin_counts(self, enrolled: Database) -> None:
        """What the host said in an earlier life does not."""
        with enrolled.write() as session:
            store_report(session, "node-b", REPORT)
            session.execute(text("UPDATE node_reports SET seen_at = 100"))
        assert not node_setups.has_reported_since(enrolled, "node-b", 100.0)
        assert node_setups.has_reported_since(enrolled, "node-b", 99.0)
        assert not node_setups.has_reported_since(enrolled, "node-c", 0.0)
