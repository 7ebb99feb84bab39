"""Reads and changes what administrators want: one validated, audited transaction a change.

Theory of operation. Every change reads the spec, puts the change into it, and asks the validation
what the *result* would be like; only then are rows written, the revision raised and the audit row
added, all in the one writing transaction. A change is refused for the problems that it brings, not
for those that were there before, so that a cluster can be built up and repaired in any order; a
config version is made of a spec without any problem.

Recipient domains do not depend on each other or on anything else, and there may be 100,000: they
are left out of the spec that a single change is checked with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import select
from sqlmodel import Session, col

from controlplane.core.spec import ClusterSpec, TlsSpec
from controlplane.errors import Invalid, NotFound
from controlplane.store import audit
from controlplane.store.audit import SYSTEM, Actor
from controlplane.store.certificates import (
    StoredCertificate,
    make_own,
    read_certificate,
    store_certificate,
)
from controlplane.store.cluster_settings import NOT_RENDERED, ClusterSettings
from controlplane.store.cluster_tables import CLUSTER_ID, CertificateRow, ClusterRow, NodeRow
from controlplane.store.crypto import SecretBox
from controlplane.store.engine import Database
from controlplane.store.nouns import ALL_NOUNS, DOMAINS, ItemT, Noun
from controlplane.store.policy_tables import CategoryRow
from controlplane.store.spec_problems import new_problems
from nodeagent.policy.engine.values import domain_of


class ClusterStore:
    """The cluster as stored in one database, its secrets sealed with one key."""

    def __init__(self, database: Database, box: SecretBox) -> None:
        self.database = database
        self.box = box

    def items(self, noun: Noun[ItemT]) -> list[ItemT]:
        """Return one list as it is now."""
        with self.database.read() as session:
            return self.read_items(session, noun)

    def item(self, noun: Noun[ItemT], key: str) -> ItemT:
        """Return one item as it is now; raises NotFound."""
        with self.database.read() as session:
            return self.read_item(session, noun, key)

    def read_items(self, session: Session, noun: Noun[ItemT]) -> list[ItemT]:
        """Return one list, in the order of its keys."""
        table = _columns_of(noun)
        rows = session.execute(select(table).order_by(table.c[noun.key])).mappings()
        return [noun.from_row(dict(row), self.box) for row in rows]

    def read_item(self, session: Session, noun: Noun[ItemT], key: str) -> ItemT:
        """Return one item; raises NotFound."""
        item = self._find(session, noun, noun.normalise_key(key))
        if item is None:
            raise NotFound(f"There is no {noun.name} {key}.")
        return item

    def read_spec(self, session: Session, *, with_domains: bool = True) -> ClusterSpec:
        """Return the whole spec, secrets opened."""
        lists = {
            noun.field: tuple(self.read_items(session, noun))
            for noun in ALL_NOUNS
            if with_domains or noun is not DOMAINS
        }
        shared = read_settings(session).model_dump(exclude=set(NOT_RENDERED))
        categories = _category_domains(session) if with_domains else ()
        tls = self.read_tls(session)
        return ClusterSpec(**shared, **lists, category_domains=categories, tls=tls)

    def read_tls(self, session: Session) -> TlsSpec | None:
        """Return the certificate of SMTP with its key."""
        stored = read_certificate(session, self.box)
        return stored.tls if stored is not None else None

    def put_item(self, noun: Noun[ItemT], item: ItemT, actor: Actor) -> bool:
        """Create or replace one item; True when it is new. Raises Invalid."""
        with self.database.write() as session:
            return self.put_in(session, noun, item, actor)

    def put_in(self, session: Session, noun: Noun[ItemT], item: ItemT, actor: Actor) -> bool:
        """Do the same within the caller's transaction."""
        key = noun.key_of(item)
        before = self._find(session, noun, key)
        self._check(session, lambda spec: _with_item(spec, noun, item, key), noun, key)
        self._store(session, noun, key, noun.to_values(item, self.box))
        verb = "create" if before is None else "update"
        shown = noun.show(before) if before is not None else None
        self.finish(session, actor, f"{noun.name}.{verb}", key, before=shown, after=noun.show(item))
        return before is None

    def delete_item(self, noun: Noun[ItemT], key: str, actor: Actor) -> None:
        """Remove one item; raises NotFound, and Invalid when others depend on it."""
        key = noun.normalise_key(key)
        with self.database.write() as session:
            self.delete_in(session, noun, key, actor)

    def delete_in(self, session: Session, noun: Noun[ItemT], key: str, actor: Actor) -> None:
        """Remove one item within the caller's writing transaction."""
        before = self.read_item(session, noun, key)
        self._check(session, lambda spec: _without_item(spec, noun, key), noun, key)
        session.delete(session.get_one(noun.table, key))
        self.finish(session, actor, f"{noun.name}.delete", key, before=noun.show(before))

    def change_settings(
        self, change: Callable[[ClusterSettings], ClusterSettings], actor: Actor
    ) -> ClusterSettings:
        """Replace the shared settings by what `change` makes of them."""
        with self.database.write() as session:
            before = read_settings(session)
            after = change(before)
            shared = after.model_dump(exclude=set(NOT_RENDERED))
            self._check(session, lambda spec: ClusterSpec(**{**dict(spec), **shared}))
            row = cluster_row(session)
            row.settings = after.model_dump(mode="json")
            session.add(row)
            if after.domain != before.domain:
                self.follow_domain(session, after.domain)
            old, new = before.model_dump(mode="json"), after.model_dump(mode="json")
            self.finish(session, actor, "cluster.update", after.name, before=old, after=new)
        return after

    def put_certificate(self, tls: TlsSpec, actor: Actor, shown: Mapping[str, Any]) -> None:
        """Store an uploaded certificate; `shown` is what the audit log may say of it."""
        with self.database.write() as session:
            self._check(session, lambda spec: spec.model_copy(update={"tls": tls}))
            store_certificate(session, self.box, StoredCertificate(tls, is_own=False))
            self.finish(session, actor, "certificate.update", after=shown)

    def delete_certificate(self, actor: Actor) -> None:
        """Replace an uploaded certificate by one of our own; raises NotFound without one."""
        with self.database.write() as session:
            stored = read_certificate(session, self.box)
            if stored is None or stored.is_own:
                raise NotFound("No certificate was uploaded.")
            self._store_own(session, read_settings(session).domain)
            self.finish(session, actor, "certificate.delete")

    def ensure_certificate(self) -> bool:
        """Make a certificate when there is none; True when made. Safe when instances race."""
        with self.database.read() as session:
            if session.get(CertificateRow, CLUSTER_ID) is not None:
                return False
        with self.database.write() as session:
            if session.get(CertificateRow, CLUSTER_ID) is not None:
                return False
            self._store_own(session, read_settings(session).domain)
            self.finish(session, SYSTEM, "certificate.create")
        return True

    def _store_own(self, session: Session, domain: str) -> None:
        store_certificate(session, self.box, make_own(domain))

    def follow_domain(self, session: Session, domain: str) -> None:
        """Name the new domain in a certificate of our own; an uploaded one stays."""
        stored = read_certificate(session, self.box)
        if stored is not None and stored.is_own:
            self._store_own(session, domain)

    def finish(
        self,
        session: Session,
        actor: Actor,
        action: str,
        target: str = "",
        *,
        before: Mapping[str, Any] | None = None,
        after: Mapping[str, Any] | None = None,
    ) -> None:
        """Raise the revision and write the audit row of one change."""
        row = cluster_row(session)
        row.revision += 1
        session.add(row)
        audit.record(session, actor, action, target, before=before, after=after)

    def _find(self, session: Session, noun: Noun[ItemT], key: str) -> ItemT | None:
        table = _columns_of(noun)
        row = session.execute(select(table).where(table.c[noun.key] == key)).mappings().first()
        return None if row is None else noun.from_row(dict(row), self.box)

    def _store(
        self, session: Session, noun: Noun[ItemT], key: str, values: Mapping[str, Any]
    ) -> None:
        row = session.get(noun.table, key)
        if row is None:
            row = noun.table(**{**values, noun.key: key})
        else:
            row.sqlmodel_update({**values, noun.key: key})
        session.add(row)

    def _check(
        self,
        session: Session,
        change: Callable[[ClusterSpec], ClusterSpec],
        noun: Noun[Any] | None = None,
        key: str = "",
    ) -> None:
        """Refuse a change for every problem that the spec does not have without it."""
        present = self.read_spec(session, with_domains=False)
        found = new_problems(present, change(present), noun, key)
        if found:
            raise Invalid(" ".join(dict.fromkeys(found.values())), found)


def cluster_row(session: Session) -> ClusterRow:
    """Return the single row of the cluster; a new database gets it now."""
    row = session.get(ClusterRow, CLUSTER_ID)
    if row is None:
        row = ClusterRow(settings=ClusterSettings().model_dump(mode="json"))
        session.add(row)
    return row


def read_settings(session: Session) -> ClusterSettings:
    """Return the settings that all nodes share; defaults before the first change."""
    row = session.get(ClusterRow, CLUSTER_ID)
    return ClusterSettings() if row is None else ClusterSettings.model_validate(row.settings)


def read_revision(session: Session) -> int:
    """Return how many changes there have been."""
    row = session.get(ClusterRow, CLUSTER_ID)
    return 0 if row is None else row.revision


def node_names(session: Session) -> list[str]:
    """Return the names of all nodes, in their order."""
    return list(session.execute(select(col(NodeRow.name)).order_by(col(NodeRow.name))).scalars())


def _category_domains(session: Session) -> tuple[str, ...]:
    addresses = session.execute(select(col(CategoryRow.address))).scalars()
    return tuple(sorted({domain_of(address) for address in addresses}))


def _columns_of(noun: Noun[Any]) -> Any:
    return noun.table.metadata.tables[str(noun.table.__tablename__)]


def _without_item(spec: ClusterSpec, noun: Noun[Any], key: str) -> ClusterSpec:
    kept = tuple(item for item in getattr(spec, noun.field) if noun.key_of(item) != key)
    return spec.model_copy(update={noun.field: kept})


def _with_item(spec: ClusterSpec, noun: Noun[Any], item: Any, key: str) -> ClusterSpec:
    items = list(getattr(spec, noun.field))
    places = [index for index, old in enumerate(items) if noun.key_of(old) == key]
    if places:
        items[places[0]] = item
    else:
        items.append(item)
    return spec.model_copy(update={noun.field: tuple(items)})
