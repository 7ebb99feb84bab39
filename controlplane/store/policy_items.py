"""Reads and changes the lists of the mail policy: one audited transaction, then the nodes have it.

An entry is found by its id or by what makes it unique (`Kind.unique`); putting one that is there
already changes it and keeps its id. All change functions publish before they return.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Select, bindparam, delete, func, select, update
from sqlmodel import Session

from controlplane.core.names import BadValue
from controlplane.core.policy_drafts import Draft
from controlplane.errors import Conflict, Invalid, NotFound
from controlplane.store import audit
from controlplane.store.audit import Actor
from controlplane.store.clock import read_clock_s
from controlplane.store.ended_subscriptions import remember_ended
from controlplane.store.engine import POLICY_LOCK, Database
from controlplane.store.policy_kinds import CATEGORIES, Kind
from controlplane.store.policy_publication import Place, publish, touch
from controlplane.store.policy_revision import take_numbers
from controlplane.store.policy_settings import check_new_entries
from controlplane.store.upserts import insert_rows
from nodeagent.policy.document import SectionKind

Row = Mapping[str, Any]
AT_ONCE: Final = 1000
MANY: Final = 100
NAMES_IN_AUDIT: Final = 20


@dataclass(frozen=True)
class Wanted:
    """Which entries to list, newest first; `before` is the id that the last page ended with."""

    search: str = ""
    before: int | None = None
    limit: int = 100


@dataclass(frozen=True)
class Page:
    """Some entries, and how many there are in all."""

    rows: list[Row]
    total: int
    next_before: int | None


@dataclass
class Changes:
    """What many puts or deletes did, and the sections to publish."""

    added: int = 0
    changed: int = 0
    unchanged: int = 0
    removed: int = 0
    names: list[str] = field(default_factory=list)
    places: set[Place] = field(default_factory=set)

    @property
    def counts(self) -> dict[str, int]:
        """The numbers, as they are audited and answered."""
        return {
            "added": self.added,
            "changed": self.changed,
            "unchanged": self.unchanged,
            "removed": self.removed,
        }

    def add(self, other: Changes) -> None:
        """Take in what another part of the same work did."""
        self.added += other.added
        self.changed += other.changed
        self.unchanged += other.unchanged
        self.removed += other.removed
        self.names = (self.names + other.names)[:NAMES_IN_AUDIT]
        self.places |= other.places


@dataclass(frozen=True)
class Compared:
    """Entries against the list as it is: what is new, what differs and of which id, the rest."""

    added: list[Mapping[str, Any]] = field(default_factory=list)
    changed: list[tuple[int, Mapping[str, Any]]] = field(default_factory=list)
    unchanged: list[int] = field(default_factory=list)

    def as_changes(self, kind: Kind) -> Changes:
        """Return this in numbers, with the first names that are new."""
        names = [str(values[kind.searched]) for values in self.added[:NAMES_IN_AUDIT]]
        return Changes(len(self.added), len(self.changed), len(self.unchanged), names=names)


def read_page(session: Session, kind: Kind, wanted: Wanted) -> Page:
    """Return entries, the newest first."""
    columns = kind.columns
    matches = _matches(kind, wanted.search)
    total = session.execute(select(func.count(columns.id)).where(*matches)).scalar_one()
    statement = select(*columns).where(*matches).order_by(columns.id.desc())
    if wanted.before is not None:
        statement = statement.where(columns.id < wanted.before)
    rows: list[Row] = [
        dict(row) for row in session.execute(statement.limit(wanted.limit + 1)).mappings()
    ]
    shown = rows[: wanted.limit]
    return Page(shown, total, shown[-1]["id"] if len(rows) > wanted.limit else None)


def count(session: Session, kind: Kind) -> int:
    """Return how many there are."""
    number = select(func.count(kind.columns.id)).where(*scope_of(kind))
    return int(session.execute(number).scalar_one())


def read_item(session: Session, kind: Kind, number: int) -> Row:
    """Return the entry with this id; raises NotFound."""
    found = _find(session, kind, kind.columns.id == number)
    if found is None:
        raise NotFound(f"There is no {kind.title} {number}.")
    return found


def find_item(session: Session, kind: Kind, **unique: Any) -> Row:
    """Return the entry with these unique values; raises NotFound."""
    found = _find(session, kind, *(kind.columns[name] == value for name, value in unique.items()))
    if found is None:
        shown = " ".join(str(value) for value in unique.values())
        raise NotFound(f'There is no {kind.title} "{shown}".')
    return found


def put(database: Database, kind: Kind, draft: Draft, actor: Actor) -> tuple[Row, bool]:
    """Create the entry, or change the one that is the same; True when it is new."""
    with database.write(POLICY_LOCK) as session:
        values = _values(kind, draft)
        before = _find_same(session, kind, values)
        done = put_many(session, kind, [values], actor.name)
        check_new_entries(session, kind.section, done.added)
        after = _find_same(session, kind, values)
        assert after is not None  # noqa: S101 - written above
        if before is None or done.changed:
            verb = "create" if before is None else "update"
            _audit(session, actor, f"{kind.name}.{verb}", kind, (before, after))
    publish(database, done.places)
    return after, before is None


def create(database: Database, kind: Kind, draft: Draft, actor: Actor) -> Row:
    """Create the entry; raises Conflict when there is one that is the same."""
    with database.write(POLICY_LOCK) as session:
        values = _values(kind, draft)
        if (present := _find_same(session, kind, values)) is not None:
            raise _taken(kind, present)
        done = put_many(session, kind, [values], actor.name)
        check_new_entries(session, kind.section, done.added)
        after = _find_same(session, kind, values)
        assert after is not None  # noqa: S101 - written above
        _audit(session, actor, f"{kind.name}.create", kind, (None, after))
    publish(database, done.places)
    return after


def replace_item(database: Database, kind: Kind, number: int, draft: Draft, actor: Actor) -> Row:
    """Change the entry with this id; raises NotFound, and Conflict where it becomes another's.

    Conflict also where what it shall belong to was deleted.
    """
    with database.write(POLICY_LOCK) as session:
        before = read_item(session, kind, number)
        values = {
            name: value for name, value in _values(kind, draft).items() if name not in kind.keeps
        }
        _check_owners(session, kind, [values])
        same = _find_same(session, kind, values)
        if same is not None and same["id"] != number:
            raise _taken(kind, same)
        table = kind.columns.id.table
        session.connection().execute(update(table).where(table.c.id == number).values(values))
        places = touch(session, kind.section, [number])
        after = read_item(session, kind, number)
        if after != before:
            _audit(session, actor, f"{kind.name}.update", kind, (before, after))
    publish(database, places)
    return after


def remove(database: Database, kind: Kind, number: int, actor: Actor) -> None:
    """Delete the entry with this id; raises NotFound."""
    with database.write(POLICY_LOCK) as session:
        before = read_item(session, kind, number)
        places = remove_rows(session, kind, [number])
        _audit(session, actor, f"{kind.name}.delete", kind, (before, None))
    publish(database, places)


def put_all(database: Database, kind: Kind, drafts: Sequence[Draft], actor: Actor) -> Changes:
    """Create or change many entries as one audited change."""
    with database.write(POLICY_LOCK) as session:
        values = [_values(kind, draft) for draft in drafts]
        done = put_many(session, kind, values, actor.name)
        check_new_entries(session, kind.section, done.added)
        audit_bulk(session, actor, kind, "bulk", done)
    publish(database, done.places)
    return done


def remove_all(
    database: Database, kind: Kind, numbers: Iterable[int], keys: Iterable[str], actor: Actor
) -> Changes:
    """Delete many entries, by id or by value, as one audited change; who is gone stays so."""
    columns = kind.columns
    with database.write(POLICY_LOCK) as session:
        found: dict[int, str] = {}
        for column, wanted in (
            (columns.id, sorted(set(numbers))),
            (columns[kind.searched], sorted(set(keys))),
        ):
            statement = select(columns.id, columns[kind.searched])
            for start in range(0, len(wanted), AT_ONCE):
                matching = column.in_(wanted[start : start + AT_ONCE])
                rows = session.execute(statement.where(*scope_of(kind), matching))
                found.update((row[0], row[1]) for row in rows)
        done = Changes(removed=len(found), names=list(found.values())[:NAMES_IN_AUDIT])
        done.places = remove_rows(session, kind, list(found))
        audit_bulk(session, actor, kind, "bulk-delete", done)
    publish(database, done.places)
    return done


def compare(session: Session, kind: Kind, wanted: Iterable[Mapping[str, Any]]) -> Compared:
    """Return what putting entries would do; of two that are the same the later one counts."""
    by_key = {kind.key_of(values): values for values in wanted}
    present = _find_present(session, kind, list(by_key.values()))
    found = Compared()
    for key, values in by_key.items():
        row = present.get(key)
        if row is None:
            found.added.append(values)
        elif differs(kind, row, values):
            found.changed.append((row["id"], values))
        else:
            found.unchanged.append(row["id"])
    return found


def put_many(
    session: Session, kind: Kind, wanted: Sequence[Mapping[str, Any]], origin: str
) -> Changes:
    """Write entries in the caller's transaction; of two that are the same the later one counts."""
    _check_owners(session, kind, wanted)
    found = compare(session, kind, wanted)
    added, changed = found.added, found.changed
    connection = session.connection()
    table = kind.columns.id.table
    new = range(0)
    if added:
        first = take_numbers(session, kind.section.value, len(added))
        new = range(first, first + len(added))
        now_s = read_clock_s(session)
        rows = [
            {**values, "id": number, "origin": origin[:64], "created_at": now_s}
            for number, values in zip(new, added, strict=True)
        ]
        insert_rows(connection, table, rows)
    if changed:
        names = [name for name in changed[0][1] if name not in kind.keeps]
        statement = update(table).where(table.c.id == bindparam("id_"))
        rows = [
            {"id_": number, **{f"{name}_": values[name] for name in names}}
            for number, values in changed
        ]
        connection.execute(statement.values({name: bindparam(f"{name}_") for name in names}), rows)
    done = found.as_changes(kind)
    done.places = touch(session, kind.section, [*new, *(number for number, _ in changed)])
    return done


def remove_rows(session: Session, kind: Kind, numbers: Sequence[int]) -> set[Place]:
    """Delete entries by id in the caller's transaction, with all that they own."""
    table = kind.columns.id.table
    places: set[Place] = set()
    for start in range(0, len(numbers), AT_ONCE):
        some = numbers[start : start + AT_ONCE]
        if kind.section is SectionKind.SUBSCRIPTIONS:
            remember_ended(session, some)
        session.connection().execute(delete(table).where(table.c.id.in_(some)))
        if kind.owns is not None:
            owned = kind.owns.columns
            statement = select(owned.id).where(owned[kind.owns.owner].in_(some))
            theirs = session.execute(statement).scalars().all()
            places |= remove_rows(session, kind.owns, theirs)
    return places | touch(session, kind.section, numbers)


def audit_bulk(session: Session, actor: Actor, kind: Kind, verb: str, done: Changes) -> None:
    """Write one row for many changes; one that changed nothing leaves no trace."""
    if done.added or done.changed or done.removed:
        after = {"counts": done.counts, "names": done.names}
        audit.record(session, actor, f"{kind.name}.{verb}", after=after)


def _audit(
    session: Session, actor: Actor, action: str, kind: Kind, rows: tuple[Row | None, Row | None]
) -> None:
    before, after = (None if row is None else _shown(kind, row) for row in rows)
    target = str((rows[1] or rows[0] or {})[kind.searched])
    audit.record(session, actor, action, target, before=before, after=after)


def _taken(kind: Kind, present: Row) -> Conflict:
    name, number = present[kind.searched], present["id"]
    return Conflict(f'The {kind.title} "{name}" is there already, as number {number}.')


def _shown(kind: Kind, row: Row) -> dict[str, Any]:
    hidden = {"digest", "created_at", *kind.keeps}
    return {name: value for name, value in row.items() if name not in hidden}


def _values(kind: Kind, draft: Draft) -> dict[str, Any]:
    try:
        return {**kind.to_values(draft), **kind.scope}
    except BadValue as bad:
        raise Invalid(str(bad)) from bad


def scope_of(kind: Kind) -> list[Any]:
    """Return the conditions that hold for the rows of this list and no others."""
    return [kind.columns[name] == value for name, value in kind.scope.items()]


def _matches(kind: Kind, search: str) -> list[Any]:
    if not search:
        return scope_of(kind)
    column = kind.columns[kind.searched]
    return [*scope_of(kind), column.icontains(search, autoescape=True)]


def _find(session: Session, kind: Kind, *conditions: Any) -> Row | None:
    statement = select(*kind.columns).where(*scope_of(kind), *conditions)
    row = session.execute(statement).mappings().first()
    return None if row is None else dict(row)


def _find_same(session: Session, kind: Kind, values: Mapping[str, Any]) -> Row | None:
    return _find_present(session, kind, [values]).get(kind.key_of(values))


def _find_present(
    session: Session, kind: Kind, wanted: Sequence[Mapping[str, Any]]
) -> dict[tuple[Any, ...], Row]:
    """Return the entries that are there, by what makes them unique."""
    last = kind.columns[kind.unique[-1]]
    statement = select(*kind.columns).where(*scope_of(kind))
    names = sorted({values[kind.unique[-1]] for values in wanted})
    if len(names) >= MANY and kind.is_ordered:  # a part of a sorted file: few others are between
        is_between = last.between(names[0], names[-1])
        rows = _rows(session, statement.where(is_between).limit(2 * len(names) + 1))
        if len(rows) <= 2 * len(names):
            return {kind.key_of(row): row for row in rows}
    found: dict[tuple[Any, ...], Row] = {}
    for start in range(0, len(names), AT_ONCE):
        some = last.in_(names[start : start + AT_ONCE])
        found.update((kind.key_of(row), row) for row in _rows(session, statement.where(some)))
    return found


def _rows(session: Session, statement: Select[Any]) -> list[Row]:
    result = session.execute(statement)
    names = tuple(result.keys())
    return [dict(zip(names, row, strict=True)) for row in result]


def _check_owners(session: Session, kind: Kind, wanted: Sequence[Mapping[str, Any]]) -> None:
    """Refuse entries whose owner was deleted since it was looked up."""
    if len(with_owners(session, kind, wanted)) < len(wanted):
        raise Conflict("The category was deleted meanwhile.")


def with_owners(
    session: Session, kind: Kind, wanted: Sequence[Mapping[str, Any]]
) -> Sequence[Mapping[str, Any]]:
    """Return the entries whose owner is there."""
    if not kind.owner:
        return wanted
    owners = CATEGORIES.columns.id
    named = {values[kind.owner] for values in wanted}
    found = set(session.execute(select(owners).where(owners.in_(named))).scalars())
    return [values for values in wanted if values[kind.owner] in found]


def differs(kind: Kind, present: Row, values: Mapping[str, Any]) -> bool:
    """Tell whether putting these values would change the entry that is there."""
    return any(present[name] != value for name, value in values.items() if name not in kind.keeps)
