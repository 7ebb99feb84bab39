"""Measures what the rules of alerts look at: one small function a rule, each of one snapshot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, cast

from sqlalchemy import or_, select
from sqlmodel import Session, col

from controlplane.core.alert_rules import RULES, Reading, RuleState, Subject, counted_since_s
from controlplane.core.attention import Severity, find_attention
from controlplane.core.policy_lists import PolicyList
from controlplane.core.situation import Situation
from controlplane.store.alert_settings import pace_of, read_states, settings_row
from controlplane.store.audit import SYSTEM
from controlplane.store.ownership_tables import EventRow
from controlplane.store.policy_log_counts import HOUR_S, count_recent
from controlplane.store.policy_nodes import read_nodes
from controlplane.store.policy_revision import read_revision
from controlplane.store.policy_settings import read_policy_settings
from controlplane.store.policy_state import KINDS
from controlplane.store.queue_tables import QueueListRow, QueueMessageRow
from controlplane.store.situation import read_situation
from controlplane.store.state_files import STATE_IMPORT
from controlplane.store.user_tables import AuditRow

ROLE: Final = "role"
IN_DELIVERY: Final = ("incoming", "active", "deferred")
SECONDS_A_MINUTE: Final = 60.0
LIST_IS_OLD_S: Final = 300.0
"""A node that has not reported its list for so long says nothing of the present."""
MOST_EVENTS: Final = 50
MOST_EDITS: Final = 500
NEVER_S: Final = 1e9
KEY_VALUES: Final = ("node", "vip", "peer", "nodes")
"""What tells one finding of a rule from another; numbers that change do not."""


def measure(session: Session) -> dict[str, Reading]:
    """Return what every rule measures now."""
    situation = read_situation(session)
    states, pace = read_states(session), pace_of(settings_row(session))
    readings: dict[str, Reading] = {}
    for rule in RULES:
        state = states.get(rule.name, RuleState())
        since_s = counted_since_s(rule, state, situation.now_s, pace)
        readings[rule.name] = READERS[rule.name](session, situation, since_s)
    return readings


def attention(session: Session, situation: Situation, since_s: float) -> Reading:
    """Return what the overview shows as bad, one by one."""
    del session, since_s
    return tuple(
        Subject(_key(one.rule, one.values), 1.0, one.text)
        for one in find_attention(situation)
        if one.severity is Severity.BAD
    )


def role_changes(session: Session, situation: Situation, since_s: float) -> Reading:
    """Return the events that say that a node has another role."""
    del situation
    rows = session.execute(
        select(col(EventRow.number), col(EventRow.node), col(EventRow.text))
        .where(col(EventRow.kind) == ROLE, col(EventRow.received_at) > since_s)
        .order_by(col(EventRow.number).desc())
        .limit(MOST_EVENTS)
    )
    return tuple(
        Subject(str(number), 1.0, f"{node or 'control plane'}: {text}")
        for number, node, text in rows
    )


def queue_size(session: Session, situation: Situation, since_s: float) -> Reading:
    """Return how many messages wait on each node that says so; None when none does."""
    del session, since_s
    counted = {
        node.name: node.present.waiting
        for node in situation.nodes
        if node.present is not None and node.present.waiting is not None
    }
    if not counted:
        return None
    return tuple(
        Subject(node, float(count or 0), f"{node}: {count} messages wait.")
        for node, count in counted.items()
    )


def queue_age(session: Session, situation: Situation, since_s: float) -> Reading:
    """Return, in minutes, how old the oldest message in delivery on each node is."""
    del since_s
    limit_s = situation.now_s - LIST_IS_OLD_S
    node = col(QueueListRow.node)
    lists = select(node).where(
        col(QueueListRow.is_complete), col(QueueListRow.reported_at) >= limit_s
    )
    fresh = list(session.execute(lists.order_by(node)).scalars())
    if not fresh:
        return None
    return tuple(
        Subject(name, minutes, f"{name}: the oldest message has waited for {int(minutes)} minutes.")
        for name in fresh
        for minutes in (_oldest_minutes(session, name, situation.now_s),)
    )


def push_age(session: Session, situation: Situation, since_s: float) -> Reading:
    """Return, in seconds, how old the newest copy of each active node's queue is."""
    del session, since_s
    readings = []
    for node in situation.nodes:
        report = node.present
        if report is None or not report.holds_vips or not report.pushes:
            continue
        newest = max(report.pushes, key=lambda push: push.at_s)
        age_s = max(0.0, situation.now_s - newest.at_s)
        text = f"{node.name}: the newest copy, on {newest.peer}, is {int(age_s)} seconds old."
        readings.append(Subject(node.name, age_s, text))
    return tuple(readings)


def threats(session: Session, situation: Situation, since_s: float) -> Reading:
    """Return how many lines the threat log has of the last hour, in all."""
    del situation, since_s
    count = count_recent(session, HOUR_S).threats
    return (Subject("", float(count), f"{count} within the last hour."),)


def blocked(session: Session, situation: Situation, since_s: float) -> Reading:
    """Return how often mail was refused, put off or discarded within a day."""
    del situation, since_s
    count = count_recent(session).blocked
    return (Subject("", float(count), f"{count} within the last 24 hours."),)


def hook_silent(session: Session, situation: Situation, since_s: float) -> Reading:
    """Return, in seconds, how long ago the hook of each node that is not silent itself asked."""
    del since_s
    if not read_policy_settings(session).is_active:
        return ()
    asked = {one.node: one.seen_s for one in read_nodes(session)}
    return tuple(
        _silence(node.name, asked.get(node.name))
        for node in situation.nodes
        if node.present is not None
    )


def policy_refused(session: Session, situation: Situation, since_s: float) -> Reading:
    """Return the nodes whose hook has not the policy that it should have, and says why."""
    del since_s
    if not read_policy_settings(session).is_active:
        return ()
    present = {node.name for node in situation.nodes if node.present is not None}
    newest = read_revision(session)
    return tuple(
        Subject(one.node, 1.0, f"{one.node}: {one.problem}")
        for one in read_nodes(session)
        if one.problem and one.revision != newest and one.node in present
    )


def new_badwords(session: Session, situation: Situation, since_s: float) -> Reading:
    """Return who added or changed bad words, and how many."""
    del situation
    return _edits(session, PolicyList.BADWORDS, ("added", "changed"), since_s)


def blocklist_changes(session: Session, situation: Situation, since_s: float) -> Reading:
    """Return who changed the blocklist, and by how many entries."""
    del situation
    return _edits(session, PolicyList.BLOCKLIST, ("added", "changed", "removed"), since_s)


def _silence(node: str, seen_s: float | None) -> Subject:
    if seen_s is None:
        return Subject(node, NEVER_S, f"{node}: its policy hook has never asked for the policy.")
    text = f"{node}: its policy hook last asked {int(seen_s)} seconds ago."
    return Subject(node, seen_s, text)


def _edits(session: Session, name: PolicyList, counted: tuple[str, ...], since_s: float) -> Reading:
    """Return changes by the audit log; the name of an entry may be somebody's address."""
    since = datetime.fromtimestamp(since_s, UTC)
    noun, action = KINDS[name].name, col(AuditRow.action)
    rows = session.execute(
        select(AuditRow)
        .where(or_(action.startswith(f"{noun}."), action == STATE_IMPORT))
        .where(col(AuditRow.at) > since)
        .where(col(AuditRow.actor) != SYSTEM.name)  # what has expired
        .order_by(col(AuditRow.id).desc())
        .limit(MOST_EDITS)
    ).scalars()
    found = []
    for row in rows:
        verb = row.action.removeprefix(f"{noun}.")
        counts = _counts(name, verb, row.after or {})
        changed = sum(int(counts.get(one, 0)) for one in counted)
        if changed:
            found.append(Subject(str(row.id), float(changed), f"{row.actor}: {changed}, {verb}."))
    return tuple(found)


def _counts(name: PolicyList, verb: str, after: Mapping[str, Any]) -> Mapping[str, int]:
    """Return how much of a list one audited change has changed."""
    if verb == STATE_IMPORT:
        part = after.get("lists", {}).get(f"policy.{name}", {})
        return cast("Mapping[str, int]", part.get("counts", {}))
    one = {"create": "added", "update": "changed", "delete": "removed"}.get(verb, "")
    return after.get("counts") or {one: 1}


def _oldest_minutes(session: Session, node: str, now_s: float) -> float:
    arrived_at = col(QueueMessageRow.arrived_at)
    oldest = (
        select(arrived_at)
        .where(col(QueueMessageRow.node) == node, col(QueueMessageRow.queue).in_(IN_DELIVERY))
        .order_by(arrived_at)
        .limit(1)
    )
    found = session.execute(oldest).scalar()
    return 0.0 if found is None else max(0.0, now_s - found) / SECONDS_A_MINUTE


def _key(rule: str, values: Mapping[str, object]) -> str:
    told = [str(values[name]) for name in KEY_VALUES if name in values]
    return ":".join([rule, *told])[:200]


Reader = Callable[[Session, Situation, float], Reading]
READERS: Final[Mapping[str, Reader]] = {
    "attention": attention,
    "role-changes": role_changes,
    "queue-size": queue_size,
    "queue-age": queue_age,
    "push-age": push_age,
    "threats": threats,
    "blocked": blocked,
    "hook-silent": hook_silent,
    "policy-refused": policy_refused,
    "new-badwords": new_badwords,
    "blocklist-changes": blocklist_changes,
}
