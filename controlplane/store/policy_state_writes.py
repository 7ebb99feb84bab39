"""Writes what was planned of a state file's mail policy, in the transaction of the import."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import select
from sqlmodel import Session

from controlplane.core.policy_lists import PolicyList
from controlplane.errors import Conflict
from controlplane.store.audit import Actor
from controlplane.store.list_imports import Plan
from controlplane.store.policy_items import AT_ONCE, put_many, remove_rows
from controlplane.store.policy_kinds import CATEGORIES
from controlplane.store.policy_publication import Place, held_kinds, publish_within, touch
from controlplane.store.policy_revision import read_edits
from controlplane.store.policy_settings import write_settings
from controlplane.store.policy_state import KINDS, PolicyPlan, Values
from controlplane.store.policy_tables import ThreatSettingRow
from nodeagent.policy.document import SectionKind


def write_policy(session: Session, planned: PolicyPlan, actor: Actor) -> None:
    """Write a plan and publish it; raises Conflict where the policy is another one by now.

    The transaction holds POLICY_LOCK; the caller audits and raises the cluster's revision, of
    which the policy's is made.
    """
    if read_edits(session) != planned.edits:
        raise Conflict("Somebody changed the mail policy meanwhile; look at the preview again.")
    places: set[Place] = set()
    for name, kind in KINDS.items():
        plan = planned.lists.get(name)
        if plan is None or plan.is_empty:
            continue
        places |= remove_rows(session, kind, plan.numbers)
        values = [*plan.added.values(), *plan.changed.values()]
        if name is PolicyList.SUBSCRIPTIONS:
            values = _with_numbers(session, values)
        if values:
            places |= put_many(session, kind, values, f"import:{actor.name}").places
    if not planned.threat_rules.is_empty:
        places |= _write_rules(session, planned.threat_rules)
    if planned.after != planned.before:
        write_settings(session, planned.after)
    if held_kinds(session) & {kind for kind, _ in places}:
        raise Conflict("A list is being imported at this moment; try again when that is done.")
    publish_within(session, places)


def _write_rules(session: Session, plan: Plan) -> set[Place]:
    for name in plan.removed:
        session.delete(session.get_one(ThreatSettingRow, name))
    for name, draft in (*plan.added.items(), *plan.changed.items()):
        row = session.get(ThreatSettingRow, name) or ThreatSettingRow(rule=name)
        row.is_enabled, row.score = draft.is_enabled, draft.score
        session.add(row)
    return touch(session, SectionKind.THREATS, (0,))


def _with_numbers(session: Session, subscriptions: Iterable[Values]) -> list[dict[str, Any]]:
    """Return subscriptions with the ids of their categories, all of which are there by now."""
    wanted = list(subscriptions)
    columns = CATEGORIES.columns
    named = sorted({values["category"] for values in wanted})
    numbers: dict[str, int] = {}
    for start in range(0, len(named), AT_ONCE):
        some = columns.address.in_(named[start : start + AT_ONCE])
        rows = session.execute(select(columns.address, columns.id).where(some))
        numbers.update((address, number) for address, number in rows)
    return [{**values, "category": numbers[values["category"]]} for values in wanted]
