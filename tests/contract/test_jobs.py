"""The periodic jobs: what is old goes, a changed certificate is shown, a failure is tried again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from pydantic import SecretStr
from sqlalchemy import select, update
from sqlmodel import col

from controlplane.core.spec import NodeSpec, TlsSpec
from controlplane.errors import Conflict, NotFound, Unavailable
from controlplane.jobs.scheduler import CertificateWatch, Tools, guarded, prune, start_jobs
from controlplane.settings import Settings
from controlplane.store import config_versions, switchovers
from controlplane.store.audit import SYSTEM, AuditFilter, list_entries
from controlplane.store.cluster import ClusterStore
from controlplane.store.cluster_tables import ConfigFilesRow, NodeRow
from controlplane.store.columns import utc_now
from controlplane.store.crypto import SecretBox
from controlplane.store.engine import Database
from controlplane.store.facts import StoredFacts
from controlplane.store.leases import ensure_lease
from controlplane.store.nouns import NODES
from controlplane.store.ownership import Ownership
from controlplane.store.ownership_tables import EventRow, ReceiptRow
from controlplane.store.receipts import owned_elsewhere
from controlplane.store.reports import add_event
from controlplane.store.user_tables import AuditRow
from controlplane.tls import UPLOADED_FILE, ServerTls
from nodeagent.core.contract import (
    LeaseRequest,
    NodeReport,
    ReceiptQuestion,
    ReceiptRequest,
    Role,
    SwitchoverResult,
)
from tests.fakes.certificates import make_pair
from tests.fakes.reports import store_report

DAY_S = 86400.0
MESSAGE = "4fQ1x1BcdfgzB"


def tools_of(database: Database, state_dir: Path) -> Tools:
    """Return what the jobs work on."""
    settings = Settings(
        state_dir=state_dir, event_keep_days=30, audit_keep_days=400, config_keep_versions=3
    )
    return Tools(settings, database, SecretBox.load(state_dir), ServerTls(state_dir))


def test_old_events_are_pruned(database: Database, tmp_path: Path) -> None:
    """Events older than `event_keep_days` go, newer ones stay."""
    with database.write() as session:
        for kind in ("old", "new"):
            add_event(session, kind, "Something happened.")
        age = update(EventRow).where(col(EventRow.kind) == "old")
        session.execute(age.values(received_at=col(EventRow.received_at) - 31 * DAY_S))
    prune(tools_of(database, tmp_path))
    with database.read() as session:
        assert session.execute(select(col(EventRow.kind))).scalars().all() == ["new"]


def test_old_audit_rows_are_pruned(database: Database, tmp_path: Path) -> None:
    """Rows older than `audit_keep_days` go, newer ones stay."""
    with database.write() as session:
        for days, action in ((401, "old.update"), (399, "new.update")):
            session.add(AuditRow(actor="ann", action=action, at=utc_now() - timedelta(days=days)))
    prune(tools_of(database, tmp_path))
    with database.read() as session:
        assert [row.action for row in list_entries(session, AuditFilter())] == ["new.update"]


def cluster_with_versions(tools: Tools, count: int) -> ClusterStore:
    """Return a cluster of two nodes with that many config versions, the last one assigned."""
    store = ClusterStore(tools.database, tools.box)
    for name, mode, last in (("node-a", "master", 11), ("node-b", "slave", 12)):
        node = NodeSpec(
            name=name, address=f"198.51.100.{last}", cluster_mode=mode, vrrp_priority=200 - last
        )
        store.put_item(NODES, node, SYSTEM)
    config_versions.apply(store, config_versions.render_present(store), SYSTEM, "")
    for _ in range(count - 1):
        config_versions.roll_back(store, 1, SYSTEM, "")
    return store


def numbers(store: ClusterStore) -> list[int]:
    """Return the versions that are left; each has its files, and no other files are left."""
    with store.database.read() as session:
        left = sorted(row.number for row in config_versions.list_versions(session))
        files = set(session.execute(select(col(ConfigFilesRow.version))).scalars())
        assert files == set(left)
    return left


def test_the_newest_versions_are_kept(database: Database, tmp_path: Path) -> None:
    """More old ones than go in one transaction; the next version gets the next number."""
    tools = tools_of(database, tmp_path)
    store = cluster_with_versions(tools, 25)
    prune(tools)
    assert numbers(store) == [23, 24, 25]
    assert config_versions.roll_back(store, 23, SYSTEM, "").number == 26
    with pytest.raises(NotFound, match="no config version 1"):
        config_versions.roll_back(store, 1, SYSTEM, "")


def test_a_version_that_a_node_needs_is_kept(database: Database, tmp_path: Path) -> None:
    """Assigned to a node, or live on one that has not reported for long: both can be fetched."""
    tools = tools_of(database, tmp_path)
    store = cluster_with_versions(tools, 9)
    with database.write() as session:
        session.get_one(NodeRow, "node-a").assigned_version = 2
        live = NodeReport(role=Role.STANDBY, config_version=4)
        store_report(session, "node-b", live)
        store_report(session, "node-c", NodeReport(role=Role.STANDBY))
    prune(tools)
    assert numbers(store) == [2, 4, 7, 8, 9]
    with database.read() as session:
        assert StoredFacts(tools.box).bundle(session, "node-a").version == 2


def test_instances_that_prune_together_delete_the_same(database: Database, tmp_path: Path) -> None:
    """None fails because another was faster."""
    tools = tools_of(database, tmp_path)
    store = cluster_with_versions(tools, 25)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: prune(tools), range(3)))
    assert numbers(store) == [23, 24, 25]


def test_a_receipt_outlives_everything(database: Database, tmp_path: Path) -> None:
    """Done for ten years, and still the birth node is told who owns the message."""
    with database.write() as session:
        for node in ("node-a", "node-b"):
            ensure_lease(session, node)
    calls = Ownership(database, StoredFacts(SecretBox.load(tmp_path)))
    lease = calls.acquire("node-b", LeaseRequest(queue="node-a")).lease
    assert lease is not None
    question = ReceiptQuestion(queue="node-a", generation=lease.generation)
    calls.commit_receipt("node-b", ReceiptRequest(**question.model_dump(), ids=(MESSAGE,)))
    calls.finish_receipt("node-b", question)
    with database.write() as session:
        ago_s = col(ReceiptRow.committed_at) - 3650 * DAY_S
        session.execute(update(ReceiptRow).values(committed_at=ago_s, done_at=ago_s))
    prune(tools_of(database, tmp_path))
    with database.read() as session:
        (owned,) = owned_elsewhere(session, "node-a", [MESSAGE])
    assert owned.owner == "node-b"


def test_a_changed_certificate_is_put_in_place_once(
    sqlite_database: Database, tmp_path: Path
) -> None:
    """A new one is written, an unchanged one is left alone."""
    tools = tools_of(sqlite_database, tmp_path)
    watch = CertificateWatch(tools)
    store = ClusterStore(sqlite_database, tools.box)
    store.ensure_certificate()
    watch.check()
    assert not (tmp_path / UPLOADED_FILE).exists()
    certificate, key = make_pair()
    store.put_certificate(TlsSpec(cert_pem=certificate, key_pem=SecretStr(key)), SYSTEM, {})
    watch.check()
    first = (tmp_path / UPLOADED_FILE).stat()
    shown = x509.load_pem_x509_certificate((tmp_path / UPLOADED_FILE).read_bytes())
    assert shown == x509.load_pem_x509_certificate(certificate.encode())
    watch.check()
    assert (tmp_path / UPLOADED_FILE).stat().st_ino == first.st_ino


def test_every_job_is_scheduled_and_the_certificate_is_shown_at_once(
    sqlite_database: Database, tmp_path: Path
) -> None:
    """A server that has just started shows the uploaded certificate to its first client."""
    tools = tools_of(sqlite_database, tmp_path)
    certificate, key = make_pair()
    uploaded = TlsSpec(cert_pem=certificate, key_pem=SecretStr(key))
    ClusterStore(sqlite_database, tools.box).put_certificate(uploaded, SYSTEM, {})
    scheduler = start_jobs(tools)
    try:
        every_s = {job.id: job.trigger.interval.total_seconds() for job in scheduler.get_jobs()}
        assert every_s == {
            "certificate": 2,
            "prune": 6 * 3600,
            "queue-headers": 5 * 60,
            "renew": 24 * 3600,
            "sample": 10,
        }
        noted = {job.name: job for job in tools.log.jobs()}
        assert set(noted) == set(every_s)
        assert all(job.next_at is not None for job in noted.values())
        assert noted["certificate"].last is not None
        assert (tmp_path / UPLOADED_FILE).exists()
    finally:
        scheduler.shutdown()


def test_a_removed_certificate_gives_way_to_the_self_signed_one(
    sqlite_database: Database, tmp_path: Path
) -> None:
    """The GUI shows its own again, as it did before the upload."""
    tools = tools_of(sqlite_database, tmp_path)
    store = ClusterStore(sqlite_database, tools.box)
    watch = CertificateWatch(tools)
    before = tools.tls._browsers
    certificate, key = make_pair()
    store.put_certificate(TlsSpec(cert_pem=certificate, key_pem=SecretStr(key)), SYSTEM, {})
    watch.check()
    uploaded = tools.tls._browsers
    store.delete_certificate(SYSTEM)
    watch.check()
    assert tools.tls._browsers not in {before, uploaded}


def test_a_failing_job_does_not_end_the_others() -> None:
    """Our own errors are logged; anything else is a defect and is not hidden."""

    def fail() -> None:
        raise Unavailable

    def break_down() -> None:
        raise ZeroDivisionError

    guarded("fails", fail)()
    with pytest.raises(ZeroDivisionError):
        guarded("breaks", break_down)()


def test_one_switchover_at_a_time(database: Database) -> None:
    """A second wish is refused until the first has ended."""
    with database.write() as session:
        first = switchovers.request_switchover(session, "node-a", "node-b", "admin")
        with pytest.raises(Conflict, match="under way"):
            switchovers.request_switchover(session, "node-b", "node-a", "admin")
        assert first.id is not None
        result = SwitchoverResult(id=first.id, ok=False, text="The peer did not answer.")
        switchovers.finish_switchover(session, "node-a", result)
        switchovers.request_switchover(session, "node-b", "node-a", "admin")
        assert len(switchovers.list_switchovers(session)) == 2
        texts = session.execute(select(col(EventRow.text))).scalars().all()
    assert texts == ["The switchover from node-a to node-b was not done: The peer did not answer."]


def test_a_wish_can_be_withdrawn(database: Database) -> None:
    """A dead source reports nothing, so an operator ends the wish."""
    with database.write() as session:
        wish = switchovers.request_switchover(session, "node-a", "node-b", "admin")
        assert wish.id is not None
        switchovers.cancel_switchover(session, wish.id, "node-a is dead")
        assert switchovers.current_switchover(session) is None
        with pytest.raises(NotFound):
            switchovers.cancel_switchover(session, wish.id + 1, "no such wish")


def test_a_node_cannot_hand_over_to_itself(database: Database) -> None:
    """Source and destination differ."""
    with pytest.raises(Conflict, match="itself"), database.write() as session:
        switchovers.request_switchover(session, "node-a", "node-a", "admin")
