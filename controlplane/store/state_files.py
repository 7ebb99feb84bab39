"""Exports the whole state as one file and imports such a file: looked at first, then at once.

Theory of operation. An import replaces the settings and every list. It is planned in one snapshot,
checked as a whole, and written in one transaction if nobody changed anything meanwhile. A node that
is enrolled is not removed by a file: its key, its lease and its mail are not in it, so the node has
to be removed by name first.

The mail policy and the alerts are parts of the file. What of them a file does not name stays as it
is, so that a file from before there was one, or without a list that is too long for it, takes
nothing away.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from pydantic import Field
from sqlmodel import Session

from controlplane.core.alert_state import AlertsState
from controlplane.core.policy_lists import PolicyList
from controlplane.core.policy_state import PolicyState
from controlplane.core.render import render
from controlplane.core.spec import ClusterSpec, Spec
from controlplane.core.state_file import FORMAT, StateLists
from controlplane.errors import Conflict, Invalid
from controlplane.store import agents, alert_state
from controlplane.store.alert_state import AlertsPlan
from controlplane.store.audit import Actor
from controlplane.store.cluster import (
    ClusterStore,
    cluster_row,
    read_revision,
    read_settings,
)
from controlplane.store.cluster_settings import NOT_RENDERED, ClusterSettings
from controlplane.store.columns import utc_now
from controlplane.store.config_versions import Files
from controlplane.store.engine import POLICY_LOCK, WRITE_LOCK
from controlplane.store.list_imports import (
    ListPlan,
    Plan,
    first_names,
    keep_password,
    plan_list,
    write_plan,
)
from controlplane.store.nouns import ALL_NOUNS
from controlplane.store.policy_settings import shown
from controlplane.store.policy_state import PolicyPlan, check_policy, plan_policy, read_policy
from controlplane.store.policy_state_writes import write_policy
from controlplane.store.spec_problems import find_problems

VERSION: Literal[1] = 1
STATE_IMPORT: Final = "cluster.import"
"""The action under which an import is audited."""


class StateFile(Spec):
    """The file's content; `version` is raised when an older program could misread it."""

    format: Literal["mail-relay-ha-state"] = FORMAT
    version: Literal[1] = VERSION
    exported_at: datetime = Field(default_factory=utc_now)
    settings: ClusterSettings
    lists: StateLists
    policy: PolicyState | None = Field(
        default=None, description="The mail policy; null or not there: it stays as it is."
    )
    alerts: AlertsState | None = Field(
        default=None, description="The alerts; null or not there: they stay as they are."
    )

    @property
    def untouched(self) -> tuple[str, ...]:
        """The parts of the mail policy and of the alerts that the file does not name."""
        policy = ("settings", "threat_rules", *PolicyList)
        return (
            *_not_named("policy", self.policy, policy),
            *_not_named("alerts", self.alerts, alert_state.PARTS),
        )


@dataclass(frozen=True)
class StateImport:
    """What importing a file changes; `files` are the rendered ones without and with it."""

    revision: int
    before: ClusterSettings
    after: ClusterSettings
    plans: tuple[ListPlan, ...]
    policy: PolicyPlan | None
    alerts: AlertsPlan | None
    untouched: tuple[str, ...]
    problems: Mapping[str, str]
    files_before: Files
    files_after: Files

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing changes."""
        keeps_alerts = self.alerts is None or self.alerts.is_empty
        is_same = self.before == self.after and not self.changed_lists
        return is_same and self.keeps_policy and keeps_alerts

    @property
    def keeps_policy(self) -> bool:
        """Tell whether the mail policy stays as it is."""
        return self.policy is None or self.policy.is_empty

    @property
    def changed_lists(self) -> dict[str, Plan]:
        """The lists that change, by their names, those of a part behind "policy." or "alerts."."""
        plans: dict[str, Plan] = {one.noun.field: one for one in self.plans if not one.is_empty}
        for part in (self.policy, self.alerts):
            plans |= {} if part is None else part.plans
        return plans

    @property
    def changed_settings(self) -> dict[str, tuple[Any, Any]]:
        """The settings that change, by their dotted names, before and after."""
        old = _flat(self.before.model_dump(mode="json"))
        new = _flat(self.after.model_dump(mode="json"))
        if self.policy is not None:
            old |= _flat(shown(self.policy.before), "policy.settings.")
            new |= _flat(shown(self.policy.after), "policy.settings.")
        if self.alerts is not None:
            old |= _flat(self.alerts.before.model_dump(), "alerts.settings.")
            new |= _flat(self.alerts.after.model_dump(), "alerts.settings.")
        return {name: (old[name], new[name]) for name in new if old.get(name) != new[name]}


def export_state(store: ClusterStore, *, with_subscriptions: bool = True) -> StateFile:
    """Return the whole state as it is now, without secrets."""
    with store.database.read() as session:
        spec = store.read_spec(session)
        settings = read_settings(session)
        policy = read_policy(session, with_subscriptions=with_subscriptions)
        alerts = alert_state.read_alerts(session)
    lists = {noun.field: getattr(spec, noun.field) for noun in ALL_NOUNS}
    lists["routes"] = [route.model_dump(exclude={"password"}) for route in spec.routes]
    return StateFile(settings=settings, lists=StateLists(**lists), policy=policy, alerts=alerts)


def plan_state(store: ClusterStore, file: StateFile) -> StateImport:
    """Return what importing a file would change, and its problems; nothing is changed."""
    checked = None if file.policy is None else check_policy(file.policy)
    with store.database.read() as session:
        policy = None if checked is None else plan_policy(session, checked)
        alerts = None if file.alerts is None else alert_state.plan_alerts(session, file.alerts)
        present = store.read_spec(session)
        before = read_settings(session)
        revision = read_revision(session)
        lists: dict[str, Any] = {one.field: file.lists.items(one.field) for one in ALL_NOUNS}
        lists["routes"] = tuple(keep_password(present.routes, one) for one in lists["routes"])
        shared = file.settings.model_dump(exclude=set(NOT_RENDERED))
        wanted = ClusterSpec(**shared, **lists, tls=present.tls)
        plans = tuple(
            plan_list(getattr(present, noun.field), noun, lists[noun.field], replace=True)
            for noun in ALL_NOUNS
        )
        problems = {**find_problems(wanted), **_enrolled_problems(session, plans)}
        for part in (policy, alerts):
            problems |= {} if part is None else part.problems
    return StateImport(
        revision=revision,
        before=before,
        after=file.settings,
        plans=plans,
        policy=policy,
        alerts=alerts,
        untouched=file.untouched,
        problems=problems,
        files_before=_rendered(present),
        files_after={} if problems else _rendered(wanted),
    )


def import_state(
    store: ClusterStore,
    planned: StateImport,
    actor: Actor,
    expected_revision: int | None = None,
    expected_edits: int | None = None,
    *,
    expected_alerts: str | None = None,
) -> None:
    """Carry out an import as one audited change; raises Invalid, Conflict."""
    if planned.problems:
        raise Invalid("The file has problems; nothing was changed.", planned.problems)
    _refuse_others(planned, expected_revision, expected_edits, expected_alerts)
    if planned.is_empty:
        return
    locks = (WRITE_LOCK,) if planned.keeps_policy else (POLICY_LOCK, WRITE_LOCK)
    with store.database.write(*locks) as session:
        if read_revision(session) != planned.revision:
            raise Conflict("Somebody changed the settings meanwhile; look at the preview again.")
        for plan in planned.plans:
            write_plan(store, session, plan)
        row = cluster_row(session)
        row.settings = planned.after.model_dump(mode="json")
        session.add(row)
        if planned.after.domain != planned.before.domain:
            store.follow_domain(session, planned.after.domain)
        if planned.policy is not None and not planned.policy.is_empty:
            write_policy(session, planned.policy, actor)
        if planned.alerts is not None and not planned.alerts.is_empty:
            alert_state.write_alerts(session, planned.alerts)
        _audit(store, session, planned, actor)


def _refuse_others(
    planned: StateImport, revision: int | None, edits: int | None, alerts: str | None
) -> None:
    """Refuse what was planned against another state than its author had seen."""
    if revision not in {None, planned.revision}:
        raise Conflict("The settings were changed since you looked; look at the preview again.")
    if planned.policy is not None and edits not in {None, planned.policy.edits}:
        raise Conflict("The mail policy was changed since you looked; look at the preview again.")
    if planned.alerts is not None and alerts not in {None, planned.alerts.digest}:
        raise Conflict("The alerts were changed since you looked; look at the preview again.")


def _not_named(name: str, part: Spec | None, fields: tuple[str, ...]) -> tuple[str, ...]:
    if part is None:
        return (name,)
    return tuple(f"{name}.{one}" for one in fields if getattr(part, one) is None)


def _audit(store: ClusterStore, session: Session, planned: StateImport, actor: Actor) -> None:
    settings = planned.changed_settings
    before = {"settings": {name: values[0] for name, values in settings.items()}}
    after = {
        "settings": {name: values[1] for name, values in settings.items()},
        "lists": {
            name: {"counts": plan.counts, "names": first_names(plan)}
            for name, plan in planned.changed_lists.items()
        },
    }
    store.finish(session, actor, STATE_IMPORT, planned.after.name, before=before, after=after)


def _enrolled_problems(session: Session, plans: tuple[ListPlan, ...]) -> dict[str, str]:
    enrolled = {row.name for row in agents.list_agents(session) if agents.is_active(row)}
    return {
        f"nodes.{name}": f"{name} is enrolled but not in the file; remove the node first."
        for plan in plans
        if plan.noun.field == "nodes"
        for name in plan.removed
        if name in enrolled
    }


def _rendered(spec: ClusterSpec) -> Files:
    if find_problems(spec):
        return {}
    return {node.name: render(spec, node.name) for node in spec.nodes}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value
    return flat
