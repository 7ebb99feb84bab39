"""Runs the small periodic jobs; each is safe when several instances run it at the same time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

import structlog
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger
from sqlmodel import Session

from controlplane.core.spec import TlsSpec
from controlplane.errors import ControlPlaneError
from controlplane.integrations.notifications import Notifier
from controlplane.job_log import JobLog
from controlplane.jobs.alerts import look_and_send
from controlplane.jobs.policy_cleanup import clean_up_policy
from controlplane.jobs.pruning import prune_each
from controlplane.settings import Settings
from controlplane.store.alert_messages import LOOK_EVERY_S, prune_messages
from controlplane.store.certificates import read_certificate
from controlplane.store.crypto import SecretBox
from controlplane.store.ended_subscriptions import prune_ended
from controlplane.store.engine import TRACE_LOCK, WRITE_LOCK, Database
from controlplane.store.policy_import_steps import resume
from controlplane.store.policy_publication import publish_abandoned
from controlplane.store.policy_upkeep import drop_expired, drop_old_counts
from controlplane.store.pruning import (
    prune_audit,
    prune_events,
    prune_logins,
    prune_trace,
    prune_versions,
)
from controlplane.store.queue_actions import prune_actions
from controlplane.store.queue_headers import prune_headers
from controlplane.store.samples import FINE_S, prune_samples, take_samples, thin_samples
from controlplane.tls import ServerTls

log = structlog.get_logger(__name__)

CERTIFICATE_EVERY_S = 2
PRUNE_EVERY_H = 6
RENEW_EVERY_H = 24
MIDDLE_OF_STEP = datetime(2026, 1, 1, second=FINE_S // 2, tzinfo=UTC)
"""Far from the steps' ends, so that a job that is a little late or early leaves no step out."""
TRACE = "trace"
TRACE_PAUSE_S = 0.05
"""Between two batches of a day's mail, so that SQLite's one writer is free for heartbeats."""
HEADERS_EVERY_M = 5
POLICY_EVERY_S = 15
GRACE_S = 3600
"""A job that is late is run once, not left out: the next run of some is a day away."""


@dataclass(frozen=True)
class Tools:
    """What the jobs work on."""

    settings: Settings
    database: Database
    box: SecretBox
    tls: ServerTls
    log: JobLog = field(default_factory=JobLog)
    notifier: Notifier = field(default_factory=Notifier)


class CertificateWatch:
    """Shows browsers the uploaded certificate, whichever instance it came to."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._shown: TlsSpec | None = None

    def check(self) -> None:
        """Put a changed certificate in place; a broken one is logged and the old one stays."""
        with self._tools.database.read() as session:
            stored = read_certificate(session, self._tools.box)
        wanted = stored.tls if stored is not None and not stored.is_own else None
        if wanted == self._shown:
            return
        self._shown = wanted
        if wanted is None:
            self._tools.tls.use_self_signed()
        else:
            key = wanted.key_pem.get_secret_value()
            self._tools.tls.replace_certificate(wanted.cert_pem, key)
        log.info("certificate", uploaded=wanted is not None)


def prune(tools: Tools) -> None:
    """Delete what is older than the settings say, each kind in transactions of its own."""
    settings = tools.settings
    jobs: dict[str, Callable[[Session], int]] = {
        "events": lambda session: prune_events(session, settings.event_keep_days),
        "audit": lambda session: prune_audit(session, settings.audit_keep_days),
        "alerts": lambda session: prune_messages(session, settings.event_keep_days),
        "logins": prune_logins,
        "ended-subscriptions": prune_ended,
        "samples": prune_samples,
        "queue-actions": lambda session: prune_actions(session, settings.event_keep_days),
        "versions": lambda session: prune_versions(session, settings.config_keep_versions),
        TRACE: lambda session: prune_trace(session, settings.trace_keep_days),
    }
    prune_each((kind, partial(_prune_all, tools.database, kind, job)) for kind, job in jobs.items())


def _prune_all(database: Database, kind: str, job: Callable[[Session], int]) -> int:
    deleted = 0
    lock = TRACE_LOCK if kind == TRACE else WRITE_LOCK
    while now := _in_transaction(database, job, lock):
        deleted += now
        if kind == TRACE:
            time.sleep(TRACE_PAUSE_S)
    return deleted


def sample(tools: Tools) -> None:
    """Write down what the nodes report now, and thin out what is older."""
    with tools.database.write() as session:
        take_samples(session)
        thin_samples(session)


def prune_queue_headers(tools: Tools) -> None:
    """Delete message headers that an operator has had time to read."""
    _in_transaction(tools.database, prune_headers, WRITE_LOCK)


def look_after_policy(tools: Tools) -> None:
    """Drop what has expired of the mail policy; finish and publish what a crash left undone."""
    done = {
        "expired": drop_expired(tools.database),
        "counts": drop_old_counts(tools.database),
        "imports": resume(tools.database),
        "published": publish_abandoned(tools.database),
    }
    if any(done.values()):
        log.info("policy", **done)


def _in_transaction(database: Database, job: Callable[[Session], int], lock: int) -> int:
    with database.write(lock, is_urgent=False) as session:
        return job(session)


def guarded(
    name: str, job: Callable[[], None], job_log: JobLog | None = None
) -> Callable[[], None]:
    """Return `job` with its runs noted and our own errors logged: the next run tries again."""
    noted = job_log or JobLog()

    def run() -> None:
        try:
            with noted.noting(name):
                job()
        except ControlPlaneError as error:
            log.warning("job failed", job=name, detail=error.detail)

    return run


def start_jobs(tools: Tools) -> BackgroundScheduler:
    """Start all jobs; the caller shuts the scheduler down."""
    scheduler = BackgroundScheduler(
        timezone="UTC",
        job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": GRACE_S},
    )
    watch = CertificateWatch(tools)
    sample_trigger = IntervalTrigger(seconds=FINE_S, start_date=MIDDLE_OF_STEP, timezone=UTC)
    jobs: tuple[tuple[str, Callable[[], None], BaseTrigger], ...] = (
        ("certificate", watch.check, IntervalTrigger(seconds=CERTIFICATE_EVERY_S)),
        ("prune", lambda: prune(tools), IntervalTrigger(hours=PRUNE_EVERY_H)),
        ("sample", lambda: sample(tools), sample_trigger),
        (
            "queue-headers",
            lambda: prune_queue_headers(tools),
            IntervalTrigger(minutes=HEADERS_EVERY_M),
        ),
        (
            "policy-clean-up",
            lambda: clean_up_policy(tools.database, tools.settings),
            CronTrigger.from_crontab(tools.settings.cleanup_schedule, timezone=UTC),
        ),
        (
            "policy",
            lambda: look_after_policy(tools),
            IntervalTrigger(seconds=POLICY_EVERY_S),
        ),
        (
            "alerts",
            lambda: look_and_send(tools.database, tools.box, tools.notifier),
            IntervalTrigger(seconds=int(LOOK_EVERY_S)),
        ),
        ("renew", tools.tls.renew_own, IntervalTrigger(hours=RENEW_EVERY_H)),
    )
    for name, job, trigger in jobs:
        scheduler.add_job(guarded(name, job, tools.log), trigger, id=name)
    guarded("certificate", watch.check, tools.log)()
    scheduler.start()
    tools.log.follow(lambda: {job.id: job.next_run_time for job in scheduler.get_jobs()})
    return scheduler
