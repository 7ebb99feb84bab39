"""Exports the whole state as one file and imports such a file: looked at first, then at once.

Theory of operation. An import replaces the settings and every list. It is planned in one snapshot,
checked as a whole, and written in one transaction if nobody changed anything meanwhile. A node that
is enrolled is not removed by a file: its key, its lease and its mail are not in it, so the node has
to be removed by name first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from pydantic import Field
from sqlmodel import Session

from controlplane.core.render import render
from controlplane.core.spec import ClusterSpec, Spec
from controlplane.core.state_file import FORMAT, StateLists
from controlplane.errors import Conflict, Invalid
from controlplane.store import agents
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
from controlplane.store.list_imports import (
    ListPlan,
    first_names,
    keep_password,
    plan_list,
    write_plan,
)
from controlplane.store.nouns import ALL_NOUNS
from controlplane.store.spec_problems import find_problems

VERSION: Literal[1] = 1


class StateFile(Spec):
    """The file's content; `version` is raised when an older program could misread it."""

    format: Literal["mail-relay-ha-state"] = FORMAT
    version: Literal[1] = VERSION
    exported_at: datetime = Field(default_factory=utc_now)
    settings: ClusterSettings
    lists: StateLists


@dataclass(frozen=True)
class StateImport:
    """What importing a file changes; `files` are the rendered ones without and with it."""

    revision: int
    before: ClusterSettings
    after: ClusterSettings
    plans: tuple[ListPlan, ...]
    problems: Mapping[str, str]
    files_before: Files
    files_after: Files

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing changes."""
        return self.before == self.after and all(plan.is_empty for plan in self.plans)

    @property
    def changed_settings(self) -> dict[str, tuple[Any, Any]]:
        """The settings that change, by their dotted names, before and after."""
        old = _flat(self.before.model_dump(mode="json"))
        new = _flat(self.after.model_dump(mode="json"))
        return {name: (old[name], new[name]) for name in new if old.get(name) != new[name]}


def export_state(store: ClusterStore) -> StateFile:
    """Return the whole state as it is now, without secrets."""
    with store.database.read() as session:
        spec = store.read_spec(session)
        settings = read_settings(session)
    lists = {noun.field: getattr(spec, noun.field) for noun in ALL_NOUNS}
    lists["routes"] = [route.model_dump(exclude={"password"}) for route in spec.routes]
    return StateFile(settings=settings, lists=StateLists(**lists))


def plan_state(store: ClusterStore, file: StateFile) -> StateImport:
    """Return what importing a file would change, and its problems; nothing is changed."""
    with store.database.read() as session:
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
    return StateImport(
        revision=revision,
        before=before,
        after=file.settings,
        plans=plans,
        problems=problems,
        files_before=_rendered(present),
        files_after={} if problems else _rendered(wanted),
    )


def import_state(
    store: ClusterStore, planned: StateImport, actor: Actor, expected_revision: int | None = None
) -> None:
    """Carry out an import as one audited change; raises Invalid, Conflict."""
    if planned.problems:
        raise Invalid("The file has problems; nothing was changed.", planned.problems)
    if expected_revision not in {None, planned.revision}:
        raise Conflict("The settings were changed since you looked; look at the preview again.")
    if planned.is_empty:
        return
    with store.database.write() as session:
        if read_revision(session) != planned.revision:
            raise Conflict("Somebody changed the settings meanwhile; look at the preview again.")
        for plan in planned.plans:
            write_plan(store, session, plan)
        row = cluster_row(session)
        row.settings = planned.after.model_dump(mode="json")
        session.add(row)
        if planned.after.domain != planned.before.domain:
            store.follow_domain(session, planned.after.domain)
        _audit(store, session, planned, actor)


def _audit(store: ClusterStore, session: Session, planned: StateImport, actor: Actor) -> None:
    settings = planned.changed_settings
    before = {"settings": {name: values[0] for name, values in settings.items()}}
    after = {
        "settings": {name: values[1] for name, values in settings.items()},
        "lists": {
            plan.noun.field: {"counts": plan.counts, "names": first_names(plan)}
            for plan in planned.plans
            if not plan.is_empty
        },
    }
    store.finish(session, actor, "cluster.import", planned.after.name, before=before, after=after)


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
