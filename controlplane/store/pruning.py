"""What is deleted with time: events, audit, logins, config versions, traces. Never a receipt.

Each function is one short piece of work in the caller's writing transaction, and any number of
instances may run it at the same time: what one has deleted, the next does not find.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from sqlalchemy import Delete, delete, or_, select
from sqlmodel import Session, col

from controlplane.store.clock import read_clock_s
from controlplane.store.cluster_tables import ConfigFilesRow, ConfigVersionRow, NodeRow
from controlplane.store.columns import utc_now
from controlplane.store.login_throttle import ADDRESS_KNOWN, FAILURES_KEPT
from controlplane.store.ownership_tables import EventRow, NodeReportRow
from controlplane.store.trace_tables import TraceDeliveryRow, TraceMessageRow, TraceStepRow
from controlplane.store.user_tables import (
    AuditRow,
    KnownAddressRow,
    LoginFailureRow,
    UserSessionRow,
)

SECONDS_A_DAY: Final = 86400
TRACES_AT_ONCE: Final = 500
VERSIONS_AT_ONCE: Final = 10
"""With 100,000 domains a version has megabytes a node, and every heartbeat waits for the writer."""


def prune_events(session: Session, keep_days: int) -> int:
    """Delete events that arrived more than `keep_days` ago; return how many."""
    limit_s = read_clock_s(session) - keep_days * SECONDS_A_DAY
    return _delete(session, delete(EventRow).where(col(EventRow.received_at) < limit_s))


def prune_audit(session: Session, keep_days: int) -> int:
    """Delete audit rows of more than `keep_days` ago; return how many."""
    limit = utc_now() - timedelta(days=keep_days)
    return _delete(session, delete(AuditRow).where(col(AuditRow.at) < limit))


def prune_logins(session: Session) -> int:
    """Delete ended sessions, failures that nobody waits for, and addresses no longer known."""
    now = utc_now()
    ended = (
        delete(UserSessionRow).where(
            or_(col(UserSessionRow.expires_at) <= now, col(UserSessionRow.idle_at) <= now)
        ),
        delete(LoginFailureRow).where(col(LoginFailureRow.last_at) < now - FAILURES_KEPT),
        delete(KnownAddressRow).where(col(KnownAddressRow.last_at) < now - ADDRESS_KNOWN),
    )
    return sum(_delete(session, statement) for statement in ended)


def prune_trace(session: Session, keep_days: int) -> int:
    """Delete messages whose last line is older than `keep_days`, a few at once; return how many."""
    limit_s = read_clock_s(session) - keep_days * SECONDS_A_DAY
    last_at = col(TraceMessageRow.last_at)
    oldest = select(col(TraceMessageRow.number)).where(last_at < limit_s).order_by(last_at)
    old = list(session.execute(oldest.limit(TRACES_AT_ONCE)).scalars())
    session.execute(delete(TraceStepRow).where(col(TraceStepRow.message).in_(old)))
    session.execute(delete(TraceDeliveryRow).where(col(TraceDeliveryRow.message).in_(old)))
    return _delete(session, delete(TraceMessageRow).where(col(TraceMessageRow.number).in_(old)))


def prune_versions(session: Session, keep: int) -> int:
    """Delete the oldest config versions beyond the newest `keep`, a few at once; return how many.

    What a node has assigned, or has reported as live, stays: it may have to be fetched again.
    """
    number = col(ConfigVersionRow.number)
    newest = select(number).order_by(number.desc()).limit(keep)
    kept = {*session.execute(newest).scalars(), *_versions_in_use(session)}
    rest = select(number).where(number.not_in(kept)).order_by(number).limit(VERSIONS_AT_ONCE)
    old = list(session.execute(rest).scalars())
    session.execute(delete(ConfigFilesRow).where(col(ConfigFilesRow.version).in_(old)))
    return _delete(session, delete(ConfigVersionRow).where(number.in_(old)))


def _versions_in_use(session: Session) -> set[int]:
    assigned = session.execute(select(col(NodeRow.assigned_version))).scalars()
    reports = session.execute(select(col(NodeReportRow.report))).scalars()
    found = {*assigned, *(report.get("config_version") for report in reports)}
    return {number for number in found if number is not None}


def _delete(session: Session, statement: Delete) -> int:
    return session.connection().execute(statement).rowcount
