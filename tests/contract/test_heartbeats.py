"""Heartbeats that share a transaction: each is answered as if it were alone, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import col

from controlplane.errors import ControlPlaneError, Forbidden, Unauthenticated, Unavailable
from controlplane.store import agents, leases
from controlplane.store.cluster_tables import NodeRow
from controlplane.store.engine import Database
from controlplane.store.facts import StoredCluster
from controlplane.store.heartbeats import Heartbeat, Heartbeats, Outcome
from controlplane.store.ownership_tables import AgentRow, LeaseRow, NodeReportRow
from nodeagent.core import contract as wire
from tests.fakes.enrolled_agent import HOST_KEY, SSH_KEY

NODES = ("node-a", "node-b", "node-c")
VIP = "198.51.100.100"
REFUSING = {
    "sqlite": "CREATE TRIGGER refuse BEFORE INSERT ON node_reports WHEN NEW.node = 'node-b' "
    "BEGIN SELECT RAISE(ABORT, 'not node-b'); END",
    "postgresql": "ALTER TABLE node_reports ADD CONSTRAINT refuse CHECK (node <> 'node-b')",
}
HUGE_PUSH = wire.PushReport.model_construct(
    peer="node-a", generation=2**70, sequence=1, age_s=1.0, messages=1, sent=1, freeze_ms=1.0
)
ALLOWING = {
    "sqlite": "DROP TRIGGER refuse",
    "postgresql": "ALTER TABLE node_reports DROP CONSTRAINT refuse",
}


@pytest.fixture
def cluster(database: Database) -> Database:
    """Give a database with three enrolled nodes that hold their leases at generation 1."""
    with database.write() as session:
        for number, name in enumerate(NODES):
            wanted = {"interface": "eth0", "vrrp_priority": 100, "cluster_mode": "slave"}
            address = f"198.51.100.{number}"
            session.add(NodeRow(name=name, address=address, ssh_user="root", ssh_port=22, **wanted))
            keys = {"ssh_public_key": SSH_KEY, "ssh_host_keys": [HOST_KEY]}
            session.add(AgentRow(name=name, public_key_pem=f"key of {name}", **keys))
            leases.ensure_lease(session, name)
            assert leases.acquire(session, name, name, 1000.0) is not None
    return database


@pytest.fixture
def beats(cluster: Database) -> Heartbeats:
    """Give what takes heartbeats in."""
    return Heartbeats(cluster, StoredCluster())


@pytest.fixture
def other(cluster: Database) -> Iterator[Database]:
    """Give the same database as another instance of the control plane has it."""
    opened = Database(cluster.engine.url.render_as_string(hide_password=False))
    yield opened
    opened.close()


def beat(node: str, **content: Any) -> Heartbeat:
    """Return a heartbeat that asks for a renewal, proved by the node's key."""
    report = wire.NodeReport(role=wire.Role.STANDBY, **content.pop("report", {}))
    asked: dict[str, Any] = {"renew": True, "generation": 1} | content
    return Heartbeat(node, wire.HeartbeatRequest(report=report, **asked), f"key of {node}")


def mirror(queue: str) -> wire.MirrorReport:
    """Return the report of a mirror."""
    return wire.MirrorReport(queue=queue, generation=1, sequence=1, messages=1)


def answered(outcome: Outcome) -> wire.HeartbeatAnswer:
    """Return an outcome that is an answer."""
    assert isinstance(outcome, wire.HeartbeatAnswer), outcome
    return outcome


def take_one(beats: Heartbeats, one: Heartbeat) -> wire.HeartbeatAnswer:
    """Take one heartbeat."""
    return answered(beats.take([one])[0])


def reporters(database: Database) -> list[str]:
    """Return whose reports are stored."""
    with database.read() as session:
        return list(
            session.execute(select(NodeReportRow.node).order_by(NodeReportRow.node)).scalars()
        )


class TestGroup:
    """What members of a group have in common, and what they have not."""

    def test_each_has_its_own_answer(self, beats: Heartbeats, cluster: Database) -> None:
        """Its view, its renewal, its events; in the order in which they were given."""
        event = wire.EventReport(id="1", at="2026-01-01T00:00:00Z", kind="role", text="Text.")
        outcomes = beats.take(
            [beat("node-c", events=(event,)), beat("node-a", generation=0), beat("node-b")]
        )
        answers = [answered(outcome) for outcome in outcomes]
        assert [answer.view.node for answer in answers] == ["node-c", "node-a", "node-b"]
        assert [answer.renewed for answer in answers] == [True, False, True]
        assert [answer.acknowledged_events for answer in answers] == [("1",), (), ()]
        assert [peer.name for peer in answers[0].view.peers] == ["node-a", "node-b"]
        assert reporters(cluster) == list(NODES)

    def test_nobody_elses_lease_is_renewed(self, beats: Heartbeats, cluster: Database) -> None:
        """Only who asks, holds it unexpired, at that generation, ungranted."""
        with cluster.write() as session:
            held_until = update(LeaseRow).values(expires_at=col(LeaseRow.expires_at) - 990)
            session.execute(held_until)
            claim = leases.Claim("node-b", "node-b", 1)
            assert leases.grant(session, claim, "node-a", 5.0) is not None
            run_out = update(LeaseRow).where(col(LeaseRow.queue) == "node-c")
            session.execute(run_out.values(expires_at=1.0))
        outcomes = beats.take([beat("node-a"), beat("node-b"), beat("node-c")])
        assert [answered(outcome).renewed for outcome in outcomes] == [True, False, False]
        left = {one.queue: one.remaining_s for one in answered(outcomes[0]).view.leases}
        assert left["node-a"] > 10
        assert 0 < left["node-b"] <= 5
        assert left["node-c"] < 0

    def test_who_reports_twice_is_renewed_for_the_right_generation(self, beats: Heartbeats) -> None:
        """A repeated heartbeat may meet the first one in a group."""
        outcomes = beats.take([beat("node-a", generation=0), beat("node-a")])
        assert [answered(outcome).renewed for outcome in outcomes] == [False, True]

    def test_what_the_database_refuses_is_refused_alone(
        self, beats: Heartbeats, cluster: Database
    ) -> None:
        """The others are renewed and stored, and nothing of the refused one is."""
        kind = cluster.engine.dialect.name
        with cluster.write() as session:
            session.execute(text(REFUSING[kind]))
        try:
            first, refused, last = beats.take([beat("node-a"), beat("node-b"), beat("node-c")])
        finally:
            with cluster.write() as session:
                session.execute(text(ALLOWING[kind]))
        assert answered(first).renewed
        assert answered(last).renewed
        assert isinstance(refused, IntegrityError | Unavailable)
        assert reporters(cluster) == ["node-a", "node-c"]

    def test_what_no_driver_can_express_is_refused_alone(
        self, beats: Heartbeats, cluster: Database
    ) -> None:
        """Drivers say so with errors of Python's own; the wire lets no such value through."""
        huge = beat("node-b", generation=1)
        report = huge.request.report.model_copy(update={"pushes": (HUGE_PUSH,)})
        request = huge.request.model_copy(update={"report": report})
        outcomes = beats.take([beat("node-a"), replace(huge, request=request), beat("node-c")])
        assert answered(outcomes[0]).renewed
        assert isinstance(outcomes[1], Exception)
        assert answered(outcomes[2]).renewed
        assert reporters(cluster) == ["node-a", "node-c"]

    def test_who_is_revoked_is_refused_alone(self, beats: Heartbeats, cluster: Database) -> None:
        """Nothing of it is stored, though its token was found good before."""
        with cluster.write() as session:
            agents.revoke(session, "node-b")
        first, refused = beats.take([beat("node-a"), beat("node-b")])
        assert answered(first).renewed
        assert isinstance(refused, Forbidden)
        assert reporters(cluster) == ["node-a"]

    def test_another_key_than_the_present_one_proves_nothing(
        self, beats: Heartbeats, cluster: Database
    ) -> None:
        """Who enrolled anew has another key, on whatever instance that was."""
        with cluster.write() as session:
            session.get_one(AgentRow, "node-a").public_key_pem = "a new key"
        (refused,) = beats.take([beat("node-a")])
        assert isinstance(refused, Unauthenticated)
        assert reporters(cluster) == []

    def test_a_group_of_refused_ones_is_no_trouble(self, beats: Heartbeats) -> None:
        """Strangers are told so, each by name."""
        outcomes = beats.take([beat("node-x"), beat("node-y")])
        assert all(isinstance(outcome, ControlPlaneError) for outcome in outcomes)
        assert "node-y" in str(outcomes[1])


class TestBriefAnswers:
    """What is left out, and when it is told again."""

    def test_known_peers_are_not_told_again(self, beats: Heartbeats) -> None:
        """Nor are leases that the node does not act on."""
        whole = take_one(beats, beat("node-a", known_peers=""))
        assert [peer.name for peer in whole.view.peers] == ["node-b", "node-c"]
        assert whole.view.peers[0].ssh_public_key == SSH_KEY
        assert not whole.is_brief
        again = take_one(beats, beat("node-a", known_peers=whole.peers_tag))
        assert (again.view.peers, again.is_brief) == ((), True)
        assert [lease.queue for lease in again.view.leases] == ["node-a"]

    def test_an_agent_that_names_no_peers_is_told_everything(self, beats: Heartbeats) -> None:
        """As the version before did, in one group with others."""
        tag = take_one(beats, beat("node-b")).peers_tag
        old, new = beats.take([beat("node-a"), beat("node-b", known_peers=tag)])
        assert len(answered(old).view.peers) == 2
        assert len(answered(old).view.leases) == 3
        assert len(answered(new).view.leases) == 1

    def test_whom_it_mirrors_is_told_with_signs_of_life(self, beats: Heartbeats) -> None:
        """The lease and the silence of a mirror's node decide on an adoption."""
        tag = take_one(beats, beat("node-b")).peers_tag
        report = {"mirrors": (mirror("node-b"), mirror("node-c"))}
        answer = take_one(beats, beat("node-a", known_peers=tag, report=report))
        assert [lease.queue for lease in answer.view.leases] == list(NODES)
        (told,) = answer.view.peers  # node-c never reported: known without signs of life
        assert told.name == "node-b"
        assert told.last_seen_s is not None

    def test_the_holder_of_a_vip_is_told_who_else_holds_it(self, beats: Heartbeats) -> None:
        """It drops the VIP when keepalived does not run any more."""
        tag = take_one(beats, beat("node-b", report={"holds_vips": (VIP,)})).peers_tag
        active, standby = beats.take(
            [
                beat("node-a", known_peers=tag, report={"holds_vips": (VIP,)}),
                beat("node-c", known_peers=tag, report={"holds_vips": ()}),
            ]
        )
        assert [peer.holds_vips for peer in answered(active).view.peers] == [(VIP,)]
        assert answered(standby).view.peers == ()

    @pytest.mark.parametrize(
        "change",
        [
            update(NodeRow).where(col(NodeRow.name) == "node-b").values(address="203.0.113.1"),
            update(AgentRow).where(col(AgentRow.name) == "node-b").values(ssh_public_key="other"),
            update(AgentRow).where(col(AgentRow.name) == "node-b").values(revoked_at=1.0),
            update(AgentRow).where(col(AgentRow.name) == "node-b").values(struck_off_at=1.0),
        ],
        ids=["address", "key", "revoked", "struck-off"],
    )
    def test_a_change_by_another_instance_is_told_with_the_next_answer(
        self, beats: Heartbeats, other: Database, change: Any
    ) -> None:
        """Nothing is taken for unchanged without a look at the database."""
        before = take_one(beats, beat("node-a", known_peers=""))
        with other.write() as session:
            session.execute(change)
        after = take_one(beats, beat("node-a", known_peers=before.peers_tag))
        assert not after.is_brief
        assert after.view.peers != before.view.peers
        assert after.peers_tag != before.peers_tag
        fresh = Heartbeats(other, StoredCluster())
        assert take_one(fresh, beat("node-a", known_peers=after.peers_tag)).is_brief

    def test_what_another_instance_wishes_is_told_with_the_next_answer(
        self, beats: Heartbeats, other: Database
    ) -> None:
        """Maintenance, a config version and a lease are of this moment."""
        tag = take_one(beats, beat("node-a", known_peers="")).peers_tag
        with other.write() as session:
            row = session.get_one(NodeRow, "node-a")
            row.is_maintenance = True
            assert leases.acquire(session, "node-b", "node-b", 1000.0) is not None
            assert leases.grant(session, leases.Claim("node-b", "node-b", 2), "node-a", 50.0)
        answer = take_one(beats, beat("node-a", known_peers=tag))
        assert answer.is_brief
        assert answer.view.is_maintenance
        assert [lease.granted_to for lease in answer.view.leases] == [None, "node-a"]
