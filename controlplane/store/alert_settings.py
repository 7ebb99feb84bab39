"""What administrators set for alerts: each rule's threshold, and how often anything is said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import select
from sqlmodel import Session

from controlplane.core.alert_rules import RULES, AlertRule, Pace, RuleState, Threshold
from controlplane.errors import NotFound
from controlplane.store import audit
from controlplane.store.alert_tables import (
    SETTINGS_ID,
    AlertRuleRow,
    AlertSettingsRow,
    AlertStateRow,
)
from controlplane.store.audit import Actor

COOL_DOWN_MINUTES: Final = 30
SECONDS_A_MINUTE: Final = 60


@dataclass(frozen=True)
class SetRule:
    """A rule and what is set for it."""

    rule: AlertRule
    threshold: Threshold


def read_thresholds(session: Session) -> dict[str, Threshold]:
    """Return, by rule, what is set, or else what the program says."""
    rows = session.execute(select(AlertRuleRow)).scalars()
    stored = {row.rule: Threshold(row.is_enabled, row.threshold) for row in rows}
    return {rule.name: stored.get(rule.name) or rule.default for rule in RULES}


def read_states(session: Session) -> dict[str, RuleState]:
    """Return what is remembered of each rule."""
    rows = session.execute(select(AlertStateRow)).scalars()
    return {
        row.rule: RuleState(tuple(row.announced), row.notified_at, row.calm_since) for row in rows
    }


def list_rules(session: Session) -> list[SetRule]:
    """Return all rules in the order of the table."""
    thresholds = read_thresholds(session)
    return [SetRule(rule, thresholds[rule.name]) for rule in RULES]


def set_rule(session: Session, name: str, wanted: Threshold, actor: Actor) -> SetRule:
    """Set a rule's threshold; raises NotFound."""
    rule = next((rule for rule in RULES if rule.name == name), None)
    if rule is None:
        raise NotFound(f"There is no alert rule {name}.")
    before = read_thresholds(session)[name]
    if wanted != before:
        row = session.get(AlertRuleRow, name)
        row = row or AlertRuleRow(rule=name, is_enabled=True, threshold=rule.threshold)
        row.is_enabled, row.threshold = wanted.is_enabled, wanted.value
        session.add(row)
        audit.record(
            session, actor, "alert-rule.update", name, before=_facts(before), after=_facts(wanted)
        )
    return SetRule(rule, wanted)


def settings_row(session: Session) -> AlertSettingsRow:
    """Return the settings as stored, or as they are before anybody set them."""
    row = session.get(AlertSettingsRow, SETTINGS_ID)
    return row or AlertSettingsRow(cool_down_minutes=COOL_DOWN_MINUTES, tells_end=True)


def set_pace(session: Session, cool_down_minutes: int, actor: Actor, *, tells_end: bool) -> None:
    """Set how often a rule says something new, and whether it says its end."""
    row = settings_row(session)
    before = _pace_facts(row)
    row.cool_down_minutes, row.tells_end = cool_down_minutes, tells_end
    if before != _pace_facts(row):
        audit.record(session, actor, "alerts.update", before=before, after=_pace_facts(row))
    session.add(row)


def pace_of(row: AlertSettingsRow) -> Pace:
    """Return the settings as the rules take them."""
    return Pace(
        cool_down_s=float(row.cool_down_minutes * SECONDS_A_MINUTE), tells_end=row.tells_end
    )


def _facts(threshold: Threshold) -> dict[str, object]:
    return {"is_enabled": threshold.is_enabled, "threshold": threshold.value}


def _pace_facts(row: AlertSettingsRow) -> dict[str, object]:
    return {"cool_down_minutes": row.cool_down_minutes, "tells_end": row.tells_end}
