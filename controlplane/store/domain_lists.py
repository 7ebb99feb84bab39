"""Changes many recipient domains at once: 100,000 of them in seconds, as one audited change.

Pages of them are read by name, so that the last page costs as much as the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlmodel import Session, col

from controlplane.core.spec import RecipientDomain
from controlplane.store.audit import Actor
from controlplane.store.cluster import ClusterStore
from controlplane.store.cluster_tables import RecipientDomainRow
from controlplane.store.list_imports import ListPlan, finish_plan, plan_list
from controlplane.store.nouns import DOMAINS

_COLUMNS = (
    col(RecipientDomainRow.name),
    col(RecipientDomainRow.next_hop),
    col(RecipientDomainRow.port),
    col(RecipientDomainRow.tls_mode),
)


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
) -> ListPlan:
    """Add or change `domains`, which are valid; with `replace` remove all others."""
    with store.database.write() as session:
        present = store.read_items(session, DOMAINS)
        plan = plan_list(present, DOMAINS, domains, replace=replace)
        finish_plan(store, session, plan, actor)
    return plan
