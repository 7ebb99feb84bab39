"""What SQLite and PostgreSQL say of themselves, and filters that must mean the same on both."""

from __future__ import annotations

import pytest

from controlplane.api.events import EventFilter, find_events
from controlplane.core.attention import Severity
from controlplane.core.event_severity import severity_of
from controlplane.core.spec import ClusterMode, NodeSpec
from controlplane.store.audit import SYSTEM, AuditFilter, known_actions, list_entries, record
from controlplane.store.cluster import ClusterStore
from controlplane.store.crypto import SecretBox
from controlplane.store.engine import Database
from controlplane.store.nouns import NODES
from controlplane.store.reports import add_event
from controlplane.store.schema import newest_migration
from controlplane.store.system import HostFacts, read_database, read_hosts
from nodeagent.core.actions import failure_kinds
from nodeagent.core.contract import NodeReport, Role
from nodeagent.core.event_kinds import CONTROL_PLANE_KINDS, NODE_KINDS
from tests.fakes.reports import store_report

BOX = SecretBox(b"MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")


def test_a_database_describes_itself(database: Database) -> None:
    """Kind and version, its size, and the schema that it has."""
    with database.read() as session:
        facts = read_database(session)
    assert facts.kind == ("SQLite" if database.is_sqlite else "PostgreSQL")
    assert facts.version[0].isdigit()
    assert facts.size_bytes > 4096
    assert facts.migration == newest_migration()


def test_a_node_without_a_report_is_listed(database: Database) -> None:
    """With nothing that it has not said; an agent of before says no clock and no disk."""
    store = ClusterStore(database, BOX)
    for name, last, mode in (
        ("node-a", 12, ClusterMode.MASTER),
        ("node-b", 11, ClusterMode.SLAVE),
    ):
        node = NodeSpec(
            name=name,
            address=f"198.51.100.{last}",
            vrrp_priority=last,
            cluster_mode=mode,
        )
        store.put_item(NODES, node, SYSTEM)
    with database.write() as session:
        store_report(session, "node-b", NodeReport(role=Role.ACTIVE, agent_version="0.0.1"))
    with database.read() as session:
        a, b = read_hosts(session)
    assert a == HostFacts("node-a")
    assert b.seen_at_s is not None
    assert b == HostFacts("node-b", b.seen_at_s, "0.0.1")


@pytest.mark.parametrize("severity", list(Severity))
def test_events_of_one_severity(database: Database, severity: Severity) -> None:
    """Of every kind that there is, and of one that no version has reported yet."""
    kinds = {*NODE_KINDS, *CONTROL_PLANE_KINDS, *failure_kinds(), "new-kind", "new-failed"}
    with database.write() as session:
        for kind in kinds:
            add_event(session, kind, "text")
    with database.read() as session:
        found = find_events(session, EventFilter(severity=severity, limit=1000))
    assert {one.kind for one in found} == {kind for kind in kinds if severity_of(kind) is severity}


@pytest.mark.parametrize(
    ("text", "count"), [("NODE", 2), ("50%", 1), ("_", 1), ("\\", 1), ("nothing", 0), ("É", 0)]
)
def test_a_text_is_found_as_it_is(database: Database, text: str, count: int) -> None:
    """Small or capital letters, and no letter that means another."""
    with database.write() as session:
        for said in ("node-a at 50%", "Node-b_c", "back\\slash"):
            add_event(session, "config", said)
    with database.read() as session:
        assert len(find_events(session, EventFilter(text=text))) == count


def test_audit_is_filtered_by_beginnings(database: Database) -> None:
    """A star at the end alone stands for anything; every action is known once."""
    with database.write() as session:
        for action, target in (("vip.create", "a_1"), ("vip.update", "ab1"), ("vip.update", "a*")):
            record(session, SYSTEM, action, target)
    with database.read() as session:
        for wanted, targets in (
            (AuditFilter(target="a_*"), ["a_1"]),
            (AuditFilter(target="a*"), ["a*", "ab1", "a_1"]),
            (AuditFilter(action="vip.u*"), ["a*", "ab1"]),
            (AuditFilter(action="vip.*", target="ab1"), ["ab1"]),
            (AuditFilter(actor="sys*", action="*.update"), []),
        ):
            assert [row.target for row in list_entries(session, wanted)] == targets
        assert known_actions(session) == ["vip.create", "vip.update"]
