"""What the mail policy needs done now and then: entries expire, counts grow old.

Any number of instances may do it at the same time: what one has done the next does not find.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import select

from controlplane.store.audit import SYSTEM
from controlplane.store.clock import read_clock_s
from controlplane.store.engine import POLICY_LOCK, RATES_LOCK, Database
from controlplane.store.policy_counts import prune_rate_counts
from controlplane.store.policy_items import NAMES_IN_AUDIT, Changes, audit_bulk, remove_rows
from controlplane.store.policy_kinds import ALLOWLIST, BLOCKLIST, Kind
from controlplane.store.policy_publication import publish

EXPIRED_AT_ONCE: Final = 1000


def drop_expired(database: Database) -> int:
    """Delete entries whose time is over, some at once; one audit row each list; return how many."""
    return sum(_drop_of(database, kind) for kind in (BLOCKLIST, ALLOWLIST))


def drop_old_counts(database: Database) -> int:
    """Delete counts that no rate looks at any more; return how many."""
    deleted = 0
    while True:
        with database.write(RATES_LOCK, is_urgent=False) as session:
            now = prune_rate_counts(session)
        deleted += now
        if not now:
            return deleted


def _drop_of(database: Database, kind: Kind) -> int:
    done = Changes()
    while some := _drop_some(database, kind):
        done.add(some)
    if done.removed:
        with database.write(POLICY_LOCK, is_urgent=False) as session:
            audit_bulk(session, SYSTEM, kind, "expire", done)
        publish(database, done.places)
    return done.removed


def _drop_some(database: Database, kind: Kind) -> Changes | None:
    columns = kind.columns
    is_listed = [columns[name] == value for name, value in kind.scope.items()]
    wanted = select(columns.id, columns.value).where(*is_listed).limit(EXPIRED_AT_ONCE)
    with database.read() as session:
        if not session.execute(wanted.where(columns.expires_at <= read_clock_s(session))).first():
            return None
    with database.write(POLICY_LOCK, is_urgent=False) as session:
        is_over = columns.expires_at <= read_clock_s(session)
        found = session.execute(wanted.where(is_over)).all()
        done = Changes(removed=len(found), names=[name for _, name in found][:NAMES_IN_AUDIT])
        done.places = remove_rows(session, kind, [number for number, _ in found])
    return done if found else None
