"""The alerts' part of a state file: read from one snapshot, planned against another, written."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from sqlalchemy import select
from sqlmodel import Session

from controlplane.core.alert_rules import RULE_NAMES
from controlplane.core.alert_state import (
    MOST_CHANNELS,
    AlertChannelState,
    AlertPaceState,
    AlertRuleState,
    AlertsState,
)
from controlplane.errors import Conflict
from controlplane.store.alert_channels import drop_channel, list_channels, new_channel
from controlplane.store.alert_settings import settings_row
from controlplane.store.alert_tables import AlertChannelRow, AlertRuleRow
from controlplane.store.list_imports import MAX_SENTENCES, Plan

PARTS: Final = ("settings", "rules", "channels")
Named = TypeVar("Named", AlertRuleState, AlertChannelState)


@dataclass(frozen=True)
class AlertsPlan:
    """What a file's alerts change; `present` are the alerts that it was planned against."""

    present: AlertsState
    before: AlertPaceState
    after: AlertPaceState
    rules: Plan
    channels: Plan
    problems: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def plans(self) -> dict[str, Plan]:
        """The lists that change, by their place in the file."""
        named = {"alerts.rules": self.rules, "alerts.channels": self.channels}
        return {name: plan for name, plan in named.items() if not plan.is_empty}

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing changes."""
        return self.before == self.after and not self.plans

    @property
    def digest(self) -> str:
        """What tells the alerts that it was planned against from others."""
        return hashlib.sha256(self.present.model_dump_json().encode()).hexdigest()[:16]


def read_alerts(session: Session) -> AlertsState:
    """Return the alerts as a file has them."""
    row = settings_row(session)
    rules = session.execute(select(AlertRuleRow)).scalars()
    stored = {one.rule: one for one in rules}
    return AlertsState(
        settings=AlertPaceState(cool_down_minutes=row.cool_down_minutes, tells_end=row.tells_end),
        rules=tuple(
            AlertRuleState(rule=name, is_enabled=one.is_enabled, threshold=one.threshold)
            for name in RULE_NAMES
            if (one := stored.get(name)) is not None
        ),
        channels=tuple(
            AlertChannelState(name=one.name, is_enabled=one.is_enabled)
            for one in list_channels(session)
        ),
    )


def plan_alerts(session: Session, file: AlertsState) -> AlertsPlan:
    """Return what a file's alerts would change, and its problems; nothing is changed."""
    present = read_alerts(session)
    before = present.settings or AlertPaceState()
    problems: dict[str, str] = {}
    rules = _by_name("rules", file.rules, lambda one: one.rule, problems)
    for name in [name for name in rules if name not in RULE_NAMES][:MAX_SENTENCES]:
        problems[f"alerts.rules {name}"] = f"There is no alert rule {name}."
    wanted = _by_name("channels", file.channels, lambda one: one.name, problems)
    if len(wanted) > MOST_CHANNELS:
        problems["alerts.channels"] = (
            f"It has {len(wanted)} channels, more than the {MOST_CHANNELS} that there can be."
        )
    led = {one.name for one in list_channels(session) if one.url_sealed}
    channels = {
        name: one if name in led else one.model_copy(update={"is_enabled": False})
        for name, one in wanted.items()
    }
    return AlertsPlan(
        present,
        before,
        file.settings or before,
        _plan(present.rules or (), rules, file.rules is None, lambda one: one.rule),
        _plan(present.channels or (), channels, file.channels is None, lambda one: one.name),
        problems,
        tuple(
            f"The channel {name} has no URL here, so it is switched off; give it one."
            for name in channels
            if name not in led
        ),
    )


def write_alerts(session: Session, planned: AlertsPlan) -> None:
    """Write a plan; raises Conflict where the alerts are others by now. The caller audits."""
    if read_alerts(session) != planned.present:
        raise Conflict("Somebody changed the alerts meanwhile; look at the preview again.")
    row = settings_row(session)
    row.cool_down_minutes = planned.after.cool_down_minutes
    row.tells_end = planned.after.tells_end
    session.add(row)
    for name in planned.rules.removed:
        session.delete(session.get_one(AlertRuleRow, name))
    for name, rule in (*planned.rules.added.items(), *planned.rules.changed.items()):
        stored = session.get(AlertRuleRow, name) or AlertRuleRow(
            rule=name, is_enabled=rule.is_enabled, threshold=rule.threshold
        )
        stored.is_enabled, stored.threshold = rule.is_enabled, rule.threshold
        session.add(stored)
    for name in planned.channels.removed:
        drop_channel(session, session.get_one(AlertChannelRow, name))
    for name, one in (*planned.channels.added.items(), *planned.channels.changed.items()):
        channel = session.get(AlertChannelRow, name) or new_channel(name)
        channel.is_enabled = one.is_enabled
        session.add(channel)


def _by_name(
    part: str,
    entries: Iterable[Named] | None,
    name_of: Callable[[Named], str],
    problems: dict[str, str],
) -> dict[str, Named]:
    """Return entries by their names; a name that is there twice is a problem."""
    found: dict[str, Named] = {}
    for place, one in enumerate(entries or (), 1):
        name = name_of(one)
        if name in found and len(problems) < MAX_SENTENCES:
            problems[f"alerts.{part} entry {place}"] = f'"{name}" is there already.'
        found.setdefault(name, one)
    return found


def _plan(
    present: Iterable[Named],
    wanted: Mapping[str, Named],
    is_kept: bool,
    name_of: Callable[[Named], str],
) -> Plan:
    """Return what makes a list another one; `is_kept`: the file does not name it."""
    before: dict[str, Any] = {name_of(one): one for one in present}
    if is_kept:
        return Plan(added={}, changed={}, removed=(), present=len(before))
    return Plan(
        added={name: one for name, one in wanted.items() if name not in before},
        changed={
            name: one for name, one in wanted.items() if name in before and before[name] != one
        },
        removed=tuple(sorted(before.keys() - wanted.keys())),
        present=len(before),
    )
