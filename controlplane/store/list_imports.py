"""Replaces or extends whole lists: what would change, then all of it in one audited change.

Theory of operation. A `ListPlan` says what is new, changed or gone against the rows as they are;
putting the same list twice plans nothing. An import that somebody looked at first is planned and
validated outside of any writing transaction, because 100,000 lines take seconds, and written only
if nobody changed anything meanwhile (`revision`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import bindparam, delete, insert, update
from sqlmodel import Session

from controlplane.core.csv_lists import (
    DOMAINS_CSV,
    NETWORKS_CSV,
    POLICIES_CSV,
    ROUTES_CSV,
    CsvList,
    read_csv,
    write_csv,
)
from controlplane.core.spec import ClusterSpec, SenderRoute
from controlplane.errors import Conflict, Invalid
from controlplane.store.audit import Actor
from controlplane.store.cluster import ClusterStore, read_revision
from controlplane.store.nouns import DOMAINS, NETWORKS, POLICIES, ROUTES, Noun
from controlplane.store.spec_problems import index_problems

KEYS_PER_STATEMENT: Final = 500
NAMES_IN_AUDIT: Final = 50
MAX_SENTENCES: Final = 20
CSV_LISTS: Final[Mapping[str, tuple[Noun[Any], CsvList]]] = {
    "recipient-domains": (DOMAINS, DOMAINS_CSV),
    "sender-policies": (POLICIES, POLICIES_CSV),
    "routes": (ROUTES, ROUTES_CSV),
    "trusted-networks": (NETWORKS, NETWORKS_CSV),
}
"""The lists that go in and out as CSV, by the name of their API."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What putting a list changes, by key; `present` is how many there are now."""

    added: Mapping[str, Any]
    changed: Mapping[str, Any]
    removed: tuple[str, ...]
    present: int

    @property
    def total(self) -> int:
        """How many there are afterwards."""
        return self.present + len(self.added) - len(self.removed)

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing changes."""
        return not (self.added or self.changed or self.removed)

    @property
    def counts(self) -> dict[str, int]:
        """The plan in numbers."""
        return {
            "added": len(self.added),
            "changed": len(self.changed),
            "removed": len(self.removed),
            "total": self.total,
        }


@dataclass(frozen=True, kw_only=True)
class ListPlan(Plan):
    """The plan of one of the cluster's lists."""

    noun: Noun[Any]


@dataclass(frozen=True)
class CsvImport:
    """A CSV text that can be used, as a plan for the settings of `revision`."""

    plan: ListPlan
    revision: int


def plan_list(
    present: Sequence[Any], noun: Noun[Any], wanted: Sequence[Any], *, replace: bool
) -> ListPlan:
    """Return what makes `present` hold `wanted`; with `replace` nothing else stays."""
    before = {noun.key_of(item): item for item in present}
    after = {}
    for item in wanted:
        key = noun.key_of(item)
        after[key] = key if isinstance(item, str) else item.model_copy(update={noun.key: key})
    return ListPlan(
        noun=noun,
        added={key: item for key, item in after.items() if key not in before},
        changed={key: item for key, item in after.items() if key in before and before[key] != item},
        removed=tuple(sorted(set(before) - set(after))) if replace else (),
        present=len(before),
    )


def write_plan(store: ClusterStore, session: Session, plan: ListPlan) -> None:
    """Write a plan's rows; the caller audits and commits."""
    noun = plan.noun
    table = noun.table.metadata.tables[str(noun.table.__tablename__)]
    connection = session.connection()
    key_column = table.c[noun.key]
    for start in range(0, len(plan.removed), KEYS_PER_STATEMENT):
        keys = plan.removed[start : start + KEYS_PER_STATEMENT]
        connection.execute(delete(table).where(key_column.in_(keys)))
    changed = _rows(store, noun, plan.changed)
    if changed:
        names = [name for name in changed[0] if name != noun.key]
        by_key = update(table).where(key_column == bindparam("key_"))
        values: dict[str, Any] = {name: bindparam(f"{name}_") for name in names}
        if values:
            rows = [
                {"key_": row[noun.key], **{f"{name}_": row[name] for name in names}}
                for row in changed
            ]
            connection.execute(by_key.values(values), rows)
    added = _rows(store, noun, plan.added)
    if added:
        connection.execute(insert(table), added)


def finish_plan(store: ClusterStore, session: Session, plan: ListPlan, actor: Actor) -> None:
    """Write a plan as one audited change; one that changes nothing leaves no trace."""
    if plan.is_empty:
        return
    write_plan(store, session, plan)
    after = {"counts": plan.counts, "names": first_names(plan)}
    before = {"total": plan.present}
    store.finish(session, actor, f"{plan.noun.name}.import", before=before, after=after)


def first_names(plan: Plan) -> dict[str, list[str]]:
    """Return the first keys of each kind of change, for the audit log."""
    return {
        "added": _first(plan.added),
        "changed": _first(plan.changed),
        "removed": _first(plan.removed),
    }


def export_csv(store: ClusterStore, name: str) -> str:
    """Return a list as CSV."""
    noun, shape = CSV_LISTS[name]
    return write_csv(shape, store.items(noun))


def plan_csv(store: ClusterStore, name: str, text: str, *, replace: bool) -> CsvImport:
    """Return what importing a CSV text would change; raises Invalid with a sentence a line."""
    noun, shape = CSV_LISTS[name]
    rows = read_csv(shape, text)
    problems = dict(rows.problems)
    items = dict(rows.items)
    _drop_doubles(noun, items, problems)
    with store.database.read() as session:
        spec = store.read_spec(session, with_domains=noun is DOMAINS)
        revision = read_revision(session)
    present = getattr(spec, noun.field)
    if noun is ROUTES:
        items = {line: keep_password(present, route) for line, route in items.items()}
    given = {noun.key_of(item) for item in items.values()}
    kept = [] if replace else [item for item in present if noun.key_of(item) not in given]
    problems.update(_value_problems(spec, noun, kept, items))
    if problems:
        raise _refused(problems, len(rows.items) + len(rows.problems))
    return CsvImport(plan_list(present, noun, list(items.values()), replace=replace), revision)


def import_csv(
    store: ClusterStore, planned: CsvImport, actor: Actor, expected_revision: int | None = None
) -> ListPlan:
    """Carry out an import; raises Conflict when the settings were changed since it was planned."""
    expected = planned.revision if expected_revision is None else expected_revision
    with store.database.write() as session:
        if expected != read_revision(session) or expected != planned.revision:
            raise Conflict("The settings were changed since you looked; look at the preview again.")
        finish_plan(store, session, planned.plan, actor)
    return planned.plan


def keep_password(present: Iterable[SenderRoute], route: SenderRoute) -> SenderRoute:
    """Return the route with the password that is stored for this sender and user name."""
    if not route.username or route.password is not None:
        return route
    key = ROUTES.key_of(route)
    for stored in present:
        if ROUTES.key_of(stored) == key and stored.username == route.username:
            return route.model_copy(update={"password": stored.password})
    return route


def _drop_doubles(noun: Noun[Any], items: dict[int, Any], problems: dict[int, str]) -> None:
    lines: dict[str, int] = {}
    for line, item in list(items.items()):
        key = noun.key_of(item)
        first = lines.setdefault(key, line)
        if first != line:
            problems[line] = f"{key} is in line {first} already."
            del items[line]


def _value_problems(
    spec: ClusterSpec, noun: Noun[Any], kept: Sequence[Any], items: Mapping[int, Any]
) -> dict[int, str]:
    """Return, by line, what validation says of the items; one sentence a line."""
    lines = list(items)
    merged = (*kept, *items.values())
    found = index_problems(spec.model_copy(update={noun.field: merged}), noun)
    return {
        lines[index - len(kept)]: sentence
        for index, sentence in found.items()
        if index >= len(kept)
    }


def _refused(problems: Mapping[int, str], lines: int) -> Invalid:
    shown = {f"line {line}": problems[line] for line in sorted(problems)[:MAX_SENTENCES]}
    verb = "line cannot" if len(problems) == 1 else "lines cannot"
    return Invalid(f"{len(problems)} of {lines} {verb} be used; nothing was changed.", shown)


def _rows(store: ClusterStore, noun: Noun[Any], items: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{**noun.to_values(item, store.box), noun.key: key} for key, item in items.items()]


def _first(names: Iterable[str]) -> list[str]:
    return sorted(names)[:NAMES_IN_AUDIT]
