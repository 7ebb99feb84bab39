"""Removing nodes: what would be left behind is counted, on both databases."""

from __future__ import annotations

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import update

from controlplane.core.spec import NodeSpec
from controlplane.errors import NotFound
from controlplane.store.audit import SYSTEM
from controlplane.store.cluster import ClusterStore
from controlplane.store.crypto import SecretBox
from controlplane.store.engine import Database
from controlplane.store.node_removal import MailLeftBehind, mail_left_behind, remove_node
from controlplane.store.nouns import NODES
from controlplane.store.ownership_tables import AgentRow, NodeReportRow
from nodeagent.core.contract import NodeReport, QueueCounts, Role
from tests.fakes.reports import store_report

EMPTY = QueueCounts(incoming=0, active=0, deferred=0, hold=0, pending=0)


@pytest.fixture
def store(database: Database) -> ClusterStore:
    """Give a store with two nodes that never had a key."""
    made = ClusterStore(database, SecretBox(Fernet.generate_key()))
    for name, address in (("node-a", "198.51.100.11"), ("node-b", "198.51.100.12")):
        made.put_item(NODES, NodeSpec(name=name, address=address), SYSTEM)
    return made


@pytest.fixture
def enrolled(store: ClusterStore) -> ClusterStore:
    """Give a store whose node-a has a key."""
    with store.database.write() as session:
        key = {"public_key_pem": "k", "ssh_host_keys": []}
        session.add(AgentRow(name="node-a", enrolled_at=1.0, **key))
    return store


def say(database: Database, queue: QueueCounts) -> None:
    """Have node-a report its queue."""
    with database.write() as session:
        store_report(session, "node-a", NodeReport(role=Role.STANDBY, queue=queue))


def left(database: Database) -> int | None:
    """Count what would be left behind on node-a."""
    with database.read() as session:
        return mail_left_behind(session, "node-a")


def remove(store: ClusterStore, *, abandon_queue: bool = False) -> None:
    """Remove node-a."""
    with store.database.write() as session:
        remove_node(store, session, "node-a", SYSTEM, abandon_queue=abandon_queue)


def test_a_node_that_never_had_a_key_leaves_nothing_behind(store: ClusterStore) -> None:
    """No agent of ours has run on it."""
    assert left(store.database) == 0
    remove(store)
    with pytest.raises(NotFound):
        remove(store, abandon_queue=True)


@pytest.mark.parametrize("place", ["incoming", "active", "deferred", "hold", "pending"])
def test_mail_in_any_place_is_mail_left_behind(enrolled: ClusterStore, place: str) -> None:
    """Mail on hold and mail that was set aside are as good as any."""
    say(enrolled.database, EMPTY.model_copy(update={place: 3}))
    assert left(enrolled.database) == 3
    with pytest.raises(MailLeftBehind, match="Its queue holds 3"):
        remove(enrolled)
    assert [node.name for node in enrolled.items(NODES)] == ["node-a", "node-b"]


def test_what_nobody_knows_is_not_nothing(enrolled: ClusterStore) -> None:
    """Never reported, a place not counted, or a report that is too old."""
    assert left(enrolled.database) is None
    say(enrolled.database, EMPTY.model_copy(update={"hold": None}))
    assert left(enrolled.database) is None
    say(enrolled.database, EMPTY)
    assert left(enrolled.database) == 0
    with enrolled.database.write() as session:
        session.execute(update(NodeReportRow).values(seen_at=1.0))
    assert left(enrolled.database) is None
    with pytest.raises(MailLeftBehind, match="Its queue is unknown"):
        remove(enrolled)


def test_a_node_that_was_given_up_was_given_up_with_its_mail(enrolled: ClusterStore) -> None:
    """Striking it off has said so."""
    with enrolled.database.write() as session:
        session.execute(update(AgentRow).values(revoked_at=2.0, struck_off_at=2.0))
    assert left(enrolled.database) == 0


def test_with_its_queue_given_up_it_goes_and_its_key_is_revoked(enrolled: ClusterStore) -> None:
    """The row of its key stays, for it tells that the key is no longer taken."""
    say(enrolled.database, EMPTY.model_copy(update={"active": 1}))
    remove(enrolled, abandon_queue=True)
    assert [node.name for node in enrolled.items(NODES)] == ["node-b"]
    with enrolled.database.read() as session:
        agent = session.get(AgentRow, "node-a")
        assert agent is not None
        assert agent.revoked_at is not None
