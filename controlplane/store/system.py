"""What is known of the database and of the nodes' hosts, for whoever looks after the system."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from alembic.runtime.migration import MigrationContext
from sqlalchemy import select, text
from sqlmodel import Session

from controlplane.core.situation import KnownDisk
from controlplane.store.cluster import node_names
from controlplane.store.ownership_tables import NodeReportRow
from nodeagent.core.contract import NodeReport

SQLITE: Final = ("SQLite", "SELECT sqlite_version()", "SELECT page_count * page_size FROM {}")
PRAGMAS: Final = "pragma_page_count(), pragma_page_size()"
POSTGRESQL: Final = ("PostgreSQL", "SHOW server_version", "SELECT pg_database_size({})")


@dataclass(frozen=True)
class DatabaseFacts:
    """One database as it describes itself."""

    kind: str
    version: str
    size_bytes: int
    migration: str | None


@dataclass(frozen=True)
class HostFacts:
    """What a node said last of its host; None is what it did not say, or never said.

    `clock_offset_s` is how far the node's clock was ahead of the database's when its report came
    in: the time that the report took is part of it.
    """

    node: str
    seen_at_s: float | None = None
    agent_version: str | None = None
    clock_offset_s: float | None = None
    disk: KnownDisk = field(default_factory=KnownDisk)


def read_database(session: Session) -> DatabaseFacts:
    """Return what the database says of itself; without the files beside it, as SQLite's log."""
    connection = session.connection()
    is_sqlite = connection.dialect.name == "sqlite"
    kind, version, size = SQLITE if is_sqlite else POSTGRESQL
    size = size.format(PRAGMAS if is_sqlite else "current_database()")
    return DatabaseFacts(
        kind=kind,
        version=str(connection.execute(text(version)).scalar_one()),
        size_bytes=int(connection.execute(text(size)).scalar_one()),
        migration=MigrationContext.configure(connection).get_current_revision(),
    )


def read_hosts(session: Session) -> list[HostFacts]:
    """Return all nodes by name."""
    reports = {row.node: row for row in session.execute(select(NodeReportRow)).scalars()}
    return [_host(name, reports.get(name)) for name in node_names(session)]


def _host(name: str, row: NodeReportRow | None) -> HostFacts:
    if row is None:
        return HostFacts(name)
    report = NodeReport.model_validate(row.report)
    return HostFacts(
        node=name,
        seen_at_s=row.seen_at,
        agent_version=report.agent_version or None,
        clock_offset_s=clock_offset_s(report, row.seen_at),
        disk=disk_of(report),
    )


def clock_offset_s(report: NodeReport, seen_at_s: float) -> float | None:
    """Return how far the node's clock was ahead of the database's when the report came in."""
    return None if report.clock is None else report.clock.timestamp() - seen_at_s


def disk_of(report: NodeReport) -> KnownDisk:
    """Return what the report says of the file system that the queue is on."""
    nothing = (None, None)
    return KnownDisk(*(report.disk_space_bytes or nothing), *(report.disk_inodes or nothing))
