"""The built-in threat rules with what administrators changed of them; the others have no row."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlmodel import Session

from controlplane.core.policy_drafts import ThreatDraft
from controlplane.errors import NotFound
from controlplane.store import audit
from controlplane.store.audit import Actor
from controlplane.store.engine import POLICY_LOCK, Database
from controlplane.store.policy_publication import publish, touch
from controlplane.store.policy_tables import ThreatSettingRow
from nodeagent.policy.document import SectionKind
from nodeagent.policy.engine.threats import THREAT_RULES, ThreatRule

_ONLY_SECTION = (0,)


@dataclass(frozen=True)
class ThreatState:
    """One rule as it counts now; `is_changed`: not as it was built."""

    rule: ThreatRule
    is_enabled: bool
    score: float
    is_changed: bool


def read_threats(session: Session) -> list[ThreatState]:
    """Return all rules, in the order in which they were built."""
    rows = {row.rule: row for row in session.execute(select(ThreatSettingRow)).scalars()}
    return [_state(rule, rows.get(rule.name)) for rule in THREAT_RULES]


def read_threat(session: Session, name: str) -> ThreatState:
    """Return one rule; raises NotFound."""
    return _state(_rule(name), session.get(ThreatSettingRow, name))


def change_threat(
    database: Database, name: str, draft: ThreatDraft | None, actor: Actor
) -> ThreatState:
    """Switch or score a rule, None: as it was built again; raises NotFound."""
    rule = _rule(name)
    with database.write(POLICY_LOCK) as session:
        row = session.get(ThreatSettingRow, name)
        before = _state(rule, row)
        if draft is None and row is not None:
            session.delete(row)
        elif draft is not None:
            row = row or ThreatSettingRow(rule=name)
            row.is_enabled, row.score = draft.is_enabled, draft.score
            session.add(row)
        after = _state(rule, row if draft is not None else None)
        places = touch(session, SectionKind.THREATS, _ONLY_SECTION) if after != before else set()
        if after != before:
            old, new = _shown(before), _shown(after)
            audit.record(session, actor, "threat-rule.update", name, before=old, after=new)
    publish(database, places)
    return after


def _rule(name: str) -> ThreatRule:
    for rule in THREAT_RULES:
        if rule.name == name:
            return rule
    raise NotFound(f'There is no threat rule "{name}".')


def _state(rule: ThreatRule, row: ThreatSettingRow | None) -> ThreatState:
    if row is None:
        return ThreatState(rule, is_enabled=True, score=rule.score, is_changed=False)
    score = rule.score if row.score is None else row.score
    return ThreatState(rule, row.is_enabled, score, is_changed=True)


def _shown(state: ThreatState) -> dict[str, bool | float]:
    return {"is_enabled": state.is_enabled, "score": state.score}
