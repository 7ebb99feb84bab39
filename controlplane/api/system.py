"""The system's own health: database, jobs, certificates, agents' hosts, disk."""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from sqlmodel import Session

from controlplane import __version__
from controlplane.api.permissions import READ
from controlplane.api.user_auth import SettingsDep
from controlplane.job_log import JobLog, KnownJob
from controlplane.store.clock import read_clock_s
from controlplane.store.cluster_tables import CLUSTER_ID, CertificateRow
from controlplane.store.columns import utc_now
from controlplane.store.engine import ReadSession
from controlplane.store.schema import newest_migration
from controlplane.store.system import HostFacts, read_database, read_hosts
from controlplane.tls import AGENT_FILE, CA_FILE, SELF_SIGNED_FILE

router = APIRouter(prefix="/api/v1/system", tags=["system"])

DAY_S: Final = 86_400


class DatabaseView(BaseModel):
    """The database as it describes itself."""

    kind: str = Field(examples=["SQLite", "PostgreSQL"])
    version: str
    size_bytes: int = Field(description="Without SQLite's write-ahead log.")
    migration: str | None = Field(description="The schema's number; null: not migrated.")
    newest_migration: str = Field(description="The schema that this program is made for.")
    latency_ms: float = Field(description="What one small query took just now.")
    clock_offset_s: float = Field(
        description="How far its clock is ahead of this process's; half the latency may be lost."
    )


class JobView(BaseModel):
    """A periodic job of the process that answers; null: it has not run yet."""

    name: str
    last_began_at: datetime | None
    last_took_s: float | None
    last_error: str | None = Field(description="Null with a last run: it went well.")
    next_at: datetime | None


class CertificateDays(BaseModel):
    """A certificate and when it ends."""

    name: str = Field(description="smtp, gui, agents or ca.")
    ends_at: datetime
    days_left: float


class HostView(BaseModel):
    """What a node said last of its host; null: it has not said."""

    node: str
    seen_at: datetime | None
    agent_version: str | None
    is_our_version: bool | None = Field(description="The agent's version is the control plane's.")
    clock_offset_s: float | None = Field(
        description="How far its clock was ahead of the database's; the report's way is part of it."
    )
    disk_free_bytes: int | None = Field(description="Where its queue is.")
    disk_size_bytes: int | None
    disk_free_inodes: int | None = Field(description="Null too where inodes are not counted.")
    disk_inodes: int | None


class SystemView(BaseModel):
    """The system's own health, as the process that answers sees it."""

    version: str
    host: str = Field(description="The name of the host whose process answers.")
    process_id: int = Field(description="Of several that share one database, the one that answers.")
    database: DatabaseView
    jobs: list[JobView] = Field(description="As that process ran them; each one runs its own.")
    certificates: list[CertificateDays]
    nodes: list[HostView]
    disk_free_bytes: int | None = Field(description="Where the control plane's state is.")
    disk_size_bytes: int | None


@router.get("", dependencies=[READ])
def read_system(request: Request, session: ReadSession, settings: SettingsDep) -> SystemView:
    """Show how the control plane and the nodes' hosts are."""
    return system_view(request, session, settings.state_dir)


def system_view(request: Request, session: Session, state_dir: Path) -> SystemView:
    """Return what is known now."""
    job_log: JobLog = request.app.state.job_log
    disk_free_bytes, disk_size_bytes = _disk(state_dir)
    return SystemView(
        version=__version__,
        host=platform.node(),
        process_id=os.getpid(),
        database=_database(session),
        jobs=[_job(one) for one in job_log.jobs()],
        certificates=list(_certificates(session, state_dir)),
        nodes=[_host(one) for one in read_hosts(session)],
        disk_free_bytes=disk_free_bytes,
        disk_size_bytes=disk_size_bytes,
    )


def _database(session: Session) -> DatabaseView:
    facts = read_database(session)
    began_s = time.perf_counter()
    clock_s = read_clock_s(session)
    now_s, latency_s = time.time(), time.perf_counter() - began_s
    return DatabaseView(
        **vars(facts),
        newest_migration=newest_migration(),
        latency_ms=latency_s * 1000,
        clock_offset_s=clock_s - now_s,
    )


def _job(job: KnownJob) -> JobView:
    last = job.last
    return JobView(
        name=job.name,
        last_began_at=None if last is None else last.began_at,
        last_took_s=None if last is None else last.took_s,
        last_error=None if last is None else last.error,
        next_at=job.next_at,
    )


def _certificates(session: Session, state_dir: Path) -> Iterator[CertificateDays]:
    stored = session.get(CertificateRow, CLUSTER_ID)
    pems: dict[str, str | None] = {"smtp": None if stored is None else stored.certificate_pem}
    is_uploaded = stored is not None and not stored.is_own
    pems["gui"] = pems["smtp"] if is_uploaded else _text(state_dir / SELF_SIGNED_FILE)
    pems["agents"], pems["ca"] = _text(state_dir / AGENT_FILE), _text(state_dir / CA_FILE)
    for name, pem in pems.items():
        if pem is not None:
            ends_at = x509.load_pem_x509_certificate(pem.encode()).not_valid_after_utc
            days_left = (ends_at - utc_now()).total_seconds() / DAY_S
            yield CertificateDays(name=name, ends_at=ends_at, days_left=days_left)


def _text(path: Path) -> str | None:
    try:
        return path.read_text()
    except FileNotFoundError:
        return None


def _host(facts: HostFacts) -> HostView:
    seen_at = None if facts.seen_at_s is None else datetime.fromtimestamp(facts.seen_at_s, UTC)
    version = facts.agent_version
    return HostView(
        node=facts.node,
        seen_at=seen_at,
        agent_version=version,
        is_our_version=None if version is None else version == __version__,
        clock_offset_s=facts.clock_offset_s,
        disk_free_bytes=facts.disk.free_bytes,
        disk_size_bytes=facts.disk.size_bytes,
        disk_free_inodes=facts.disk.free_inodes,
        disk_inodes=facts.disk.inodes,
    )


def _disk(path: Path) -> tuple[int | None, int | None]:
    try:
        usage = shutil.disk_usage(path)
    except OSError:
        return None, None
    return usage.free, usage.total
