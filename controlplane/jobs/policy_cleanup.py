"""Cleans the policy log up by its schedule, a piece at a time, and makes partitions ahead."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from sqlmodel import Session

from controlplane.jobs.pruning import prune_each
from controlplane.settings import Settings
from controlplane.store.engine import POLICY_LOG_LOCK, Database
from controlplane.store.policy_log_counts import prune_counts
from controlplane.store.policy_log_tables import (
    PolicyConnectionRow,
    PolicyMessageRow,
    PolicyThreatRow,
)
from controlplane.store.policy_partitions import (
    DAYS_AHEAD,
    drop_days_before,
    ensure_partitions,
    today,
)
from controlplane.store.policy_quarantine import prune_quarantine

PAUSE_S: Final = 0.05
"""Between two pieces, so that SQLite's one writer is free for heartbeats."""
Job = Callable[[Session], int]


def clean_up_policy(database: Database, settings: Settings) -> None:
    """Delete what is older than the settings say, each kind in transactions of its own.

    Raises in the end what failed first.
    """
    log_days, threat_days = settings.policy_log_keep_days, settings.policy_threat_keep_days
    jobs: dict[str, Job] = {
        "policy-partitions": _make_partitions,
        "policy-messages": _older_than(PolicyMessageRow, log_days),
        "policy-connections": _older_than(PolicyConnectionRow, log_days),
        "policy-threats": _older_than(PolicyThreatRow, threat_days),
        "policy-counts": lambda session: prune_counts(session, threat_days),
        "policy-quarantine": prune_quarantine,
    }
    prune_each((kind, partial(_in_pieces, database, job)) for kind, job in jobs.items())


def _make_partitions(session: Session) -> int:
    """Make those of the next days; nothing is deleted."""
    ensure_partitions(session, today(session), DAYS_AHEAD)
    return 0


def _older_than(table: Any, days: int) -> Job:
    return lambda session: drop_days_before(session, table, today(session) - days)


def _in_pieces(database: Database, job: Job) -> int:
    deleted = 0
    while True:
        with database.write(POLICY_LOG_LOCK, is_urgent=False) as session:
            now = job(session)
        if not now:
            return deleted
        deleted += now
        time.sleep(PAUSE_S)
