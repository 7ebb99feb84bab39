"""Changes many recipient domains at once: 100,000 of them in seconds, as one audited change.

What is new, changed or gone is worked out against the table first, so that importing the same list
twice writes nothing, and the one writing transaction stays short.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import bindparam, delete, func, insert, select, update
from sqlmodel import Session, col

from controlplane.core.spec import RecipientDomain
from controlplane.store.audit import Actor
from controlplane.store.cluster import ClusterStore
from controlplane.store.cluster_tables import RecipientDomainRow
from controlplane.store.nouns import DOMAINS

KEYS_PER_STATEMENT: Final = 500
NAMES_IN_AUDIT: Final = 50

_COLUMNS = (
    col(RecipientDomainRow.name),
    col(RecipientDomainRow.next_hop),
    col(RecipientDomainRow.port),
    col(RecipientDomainRow.tls_mode),
)


@dataclass(frozen=True)
class ListChange:
    """What became of a list: how many were added, changed, removed, and are there now."""

    added: int
    changed: int
    removed: int
    total: int


@dataclass(frozen=True)
class DomainPage:
    """Some domains by name, and how many there are in all."""

    items: list[RecipientDomain]
    total: int
    next_after: str | None


def read_page(session: Session, search: str, after: str, limit: int) -> DomainPage:
    """Return the domains after `after` whose name contains `search`."""
    name = col(RecipientDomainRow.name)
    matches = name.contains(search.lower(), autoescape=True)
    total = session.execute(select(func.count(name)).where(matches)).scalar_one()
    statement = select(*_COLUMNS).where(matches, name > after).order_by(name).limit(limit + 1)
    rows = list(session.execute(statement).mappings())
    items = [RecipientDomain.model_validate(dict(row)) for row in rows[:limit]]
    return DomainPage(items, total, items[-1].name if len(rows) > limit else None)


def put_domains(
    store: ClusterStore, domains: Sequence[RecipientDomain], actor: Actor, *, replace: bool
) -> ListChange:
    """Add or change `domains`, which are valid; with `replace` remove all others."""
    wanted = {
        DOMAINS.key_of(domain): {**DOMAINS.to_values(domain, store.box)} for domain in domains
    }
    for key, values in wanted.items():
        values["name"] = key
    with store.database.write() as session:
        present = {row["name"]: dict(row) for row in session.execute(select(*_COLUMNS)).mappings()}
        added = [values for key, values in wanted.items() if key not in present]
        changed = [
            values for key, values in wanted.items() if key in present and present[key] != values
        ]
        removed = [key for key in present if key not in wanted] if replace else []
        _write(session, added, changed, removed)
        total = len(present) + len(added) - len(removed)
        change = ListChange(len(added), len(changed), len(removed), total)
        if added or changed or removed:
            names = {
                "added": _first(values["name"] for values in added),
                "changed": _first(values["name"] for values in changed),
                "removed": _first(removed),
            }
            after = {"counts": change.__dict__, "names": names}
            before = {"total": len(present)}
            store.finish(session, actor, "recipient-domain.import", before=before, after=after)
    return change


def _write(
    session: Session,
    added: list[dict[str, Any]],
    changed: list[dict[str, Any]],
    removed: list[str],
) -> None:
    table = DOMAINS.table.metadata.tables[RecipientDomainRow.__tablename__]
    connection = session.connection()
    for start in range(0, len(removed), KEYS_PER_STATEMENT):
        keys = removed[start : start + KEYS_PER_STATEMENT]
        connection.execute(delete(table).where(table.c.name.in_(keys)))
    if changed:
        by_name = update(table).where(table.c.name == bindparam("key"))
        values: dict[str, Any] = {
            name: bindparam(name) for name in ("next_hop", "port", "tls_mode")
        }
        rows = [{**row, "key": row["name"]} for row in changed]
        connection.execute(by_name.values(values), rows)
    if added:
        connection.execute(insert(table), added)


def _first(names: Iterable[str]) -> list[str]:
    return sorted(names)[:NAMES_IN_AUDIT]
