"""The periodic jobs: what is old goes, a changed certificate is shown, a failure is tried again."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from queue import Queue

import pytest
from apscheduler.events import EVENT_JOB_EXECUTED, EVENT_JOB_MISSED, JobExecutionEvent
from cryptography import x509
from pydantic import SecretStr
from sqlalchemy import select, update
from sqlmodel import Session, col

from controlplane.core.spec import NodeSpec, TlsSpec
from controlplane.errors import Conflict, NotFound, Unavailable
from controlplane.jobs.policy_cleanup import clean_up_policy
from controlplane.jobs.scheduler import CertificateWatch, Tools, guarded, prune, start_jobs
from controlplane.settings import Settings
from controlplane.store import config_versions, switchovers
from controlplane.store.audit import SYSTEM, AuditFilter, list_entries
from controlplane.store.cluster import ClusterStore
from controlplane.store.cluster_tables import ConfigFilesRow, NodeRow
from controlplane.store.columns import utc_now
from controlplane.store.crypto import SecretBox
from controlplane.store.engine import POLICY_LOG_LOCK, Database
from controlplane.store.facts import StoredFacts
from controlplane.store.leases import ensure_lease
from controlplane.store.nouns import NODES
from controlplane.store.ownership import Ownership
from controlplane.store.ownership_tables import EventRow, ReceiptRow
from controlplane.store.policy_log_intake import take_batch
from controlplane.store.policy_partitions import PARTITIONED, ensure_partitions, today
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
from tests.fakes.policy_logs import batch, connection, quarantined
from tests.fakes.postfix_queue import queue_id
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


@pytest.mark.parametrize(
    ("schedule", "sentence"),
    [
        ("0 2 * * 0", "weekdays are named"),
        ("0 2 * *", "five fields"),
        ("0 25 * * *", "is no schedule"),
        ("0 2 * * someday", "is no schedule"),
        ("", "five fields"),
    ],
)
def test_a_schedule_that_is_none_is_refused(schedule: str, sentence: str) -> None:
    """At the start, with the reason, and not at two at night."""
    with pytest.raises(ValueError, match=sentence):
        Settings(cleanup_schedule=schedule)
    assert Settings(cleanup_schedule="30 3 * * sun").cleanup_schedule == "30 3 * * sun"


def test_the_policy_log_is_cleaned_up(database: Database, tmp_path: Path) -> None:
    """Decisions and connections after 30 days, threats after 90, by the day of their arrival."""
    entries = [quarantined(queue_id(1)), connection()]
    with database.write(POLICY_LOG_LOCK) as session:
        present = today(session)
        for number, age_days in enumerate((29, 31, 89, 91)):
            ensure_partitions(session, present - age_days)
            take_batch(session, "node-a", batch(entries, first=10 * number + 1))
            for table in PARTITIONED:
                newest = update(table).where(col(table.day) >= present)
                session.execute(newest.values(day=present - age_days))
    clean_up_policy(database, tools_of(database, tmp_path).settings)
    with database.read() as session:
        left = {
            str(table.__tablename__): {
                present - day for day in session.execute(select(col(table.day))).scalars()
            }
            for table in PARTITIONED
        }
    assert left == {
        "policy_log_messages": {29},
        "policy_log_connections": {29},
        "policy_log_threats": {29, 31, 89},
    }


class Busy(Database):
    """A database whose n-th writing transaction is refused; those before and after it are not."""

    def __init__(self, url: str, refused: int) -> None:
        super().__init__(url)
        self.refused = refused
        self.done = 0

    @contextmanager
    def write(self, *args: int, **kwargs: bool) -> Iterator[Session]:
        """Give the transaction, or say that the database is busy."""
        self.done += 1
        if self.done == self.refused:
            raise Unavailable("The database is busy.")
        with super().write(*args, **kwargs) as session:
            yield session


def days_left(database: Database) -> dict[str, int]:
    """Return how many days each table of the policy log has."""
    with database.read() as session:
        return {
            str(table.__tablename__): len(set(session.execute(select(col(table.day))).scalars()))
            for table in PARTITIONED
        }


def test_a_kind_that_cannot_be_cleaned_up_keeps_no_other_from_it(
    database: Database, tmp_path: Path
) -> None:
    """Whichever it is, the job says that it failed when all others are done."""
    url = database.engine.url.render_as_string(hide_password=False)
    settings = tools_of(database, tmp_path).settings
    old = dict.fromkeys((str(table.__tablename__) for table in PARTITIONED), 1)
    refusals = 0
    while True:
        with database.write(POLICY_LOG_LOCK) as session:
            ago = today(session) - 100
            ensure_partitions(session, ago)
            number = 10 * refusals + 1
            take_batch(
                session, "node-a", batch([quarantined(queue_id(1)), connection()], first=number)
            )
            for table in PARTITIONED:
                session.execute(update(table).values(day=ago))
        assert days_left(database) == old
        busy = Busy(url, refusals + 1)
        try:
            clean_up_policy(busy, settings)
        except Unavailable:
            refusals += 1
            left = days_left(database)
            assert sum(left.values()) <= 1, f"refusal {refusals} stopped others: {left}"
            clean_up_policy(database, settings)
        else:
            break
        finally:
            busy.close()
            assert sum(days_left(database).values()) == 0
    assert refusals >= 6, "partitions ahead and five kinds"


def test_what_is_old_goes_also_when_one_kind_of_it_cannot(
    database: Database, tmp_path: Path
) -> None:
    """Events are the first kind of many."""
    with database.write() as session:
        session.add(AuditRow(actor="ann", action="old", at=utc_now() - timedelta(days=401)))
    tools = tools_of(database, tmp_path)
    busy = Busy(database.engine.url.render_as_string(hide_password=False), 1)
    try:
        with pytest.raises(Unavailable, match="busy"):
            prune(replace(tools, database=busy))
    finally:
        busy.close()
    with database.read() as session:
        assert list_entries(session, AuditFilter()) == []


@pytest.mark.parametrize(("late_m", "event"), [(55, EVENT_JOB_EXECUTED), (65, EVENT_JOB_MISSED)])
def test_a_clean_up_whose_time_has_just_passed_is_made_up_for(
    sqlite_database: Database, tmp_path: Path, late_m: int, event: int
) -> None:
    """The control plane was busy or asleep at two at night; hours later it is left to the next."""
    present = utc_now()
    tools = tools_of(sqlite_database, tmp_path)
    far = f"0 {(present.hour + 12) % 24} * * *"
    scheduler = start_jobs(replace(tools, settings=Settings(cleanup_schedule=far)))
    happened: Queue[int] = Queue()

    def note(said: JobExecutionEvent) -> None:
        if said.job_id == "policy-clean-up":
            happened.put(said.code)

    try:
        scheduler.add_listener(note, EVENT_JOB_EXECUTED | EVENT_JOB_MISSED)
        due = present - timedelta(minutes=late_m)
        scheduler.modify_job("policy-clean-up", next_run_time=due)
        assert happened.get(timeout=120) == event
    finally:
        scheduler.shutdown()


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
        triggers = {job.id: job.trigger for job in scheduler.get_jobs()}
        assert str(triggers.pop("policy-clean-up")) == (
            "cron[month='*', day='*', day_of_week='*', hour='2', minute='0']"
        )
        every_s = {name: one.interval.total_seconds() for name, one in triggers.items()}
        assert every_s == {
            "certificate": 2,
            "prune": 6 * 3600,
            "queue-headers": 5 * 60,
            "policy": 15,
            "alerts": 30,
            "renew": 24 * 3600,
            "sample": 10,
        }
        noted = {job.name: job for job in tools.log.jobs()}
        assert set(noted) == {*every_s, "policy-clean-up"}
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
