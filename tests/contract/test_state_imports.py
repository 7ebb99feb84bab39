"""The state file and CSV imports on both databases: doubles, races, and the way there and back."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr

from controlplane.core.spec import NodeSpec, RecipientDomain, SenderRoute, VipSpec
from controlplane.errors import Conflict, Invalid
from controlplane.store.audit import Actor, AuditFilter, list_entries
from controlplane.store.cluster import ClusterStore, read_revision
from controlplane.store.crypto import SecretBox
from controlplane.store.engine import Database
from controlplane.store.list_imports import CSV_LISTS, export_csv, import_csv, plan_csv
from controlplane.store.nouns import DOMAINS, NETWORKS, NODES, ROUTES, VIPS
from controlplane.store.state_files import StateFile, export_state, import_state, plan_state

OLGA = Actor("olga", "198.51.100.40")
INSTANCES = 3


@pytest.fixture
def store(database: Database) -> ClusterStore:
    """Give a cluster with a node, a VIP, a domain, a network and a route with a password."""
    made = ClusterStore(database, SecretBox(Fernet.generate_key()))
    node = NodeSpec(name="node-a", address="198.51.100.11", cluster_mode="master")
    route = SenderRoute(
        sender="@a.tld", next_hop="mx.tld", username="u", password=SecretStr("hunter22")
    )
    made.put_item(NODES, node, OLGA)
    made.put_item(VIPS, VipSpec(address="198.51.100.100", virtual_router_id=51), OLGA)
    made.put_item(DOMAINS, RecipientDomain(name="a.tld"), OLGA)
    made.put_item(NETWORKS, "203.0.113.0/24", OLGA)
    made.put_item(ROUTES, route, OLGA)
    return made


def changed(file: StateFile, **lists: Any) -> StateFile:
    """Return a file with other lists, as somebody edits it by hand."""
    content = file.model_dump(mode="json")
    content["lists"] |= lists
    return StateFile.model_validate(content)


def revision(store: ClusterStore) -> int:
    """Return how many changes there have been."""
    with store.database.read() as session:
        return read_revision(session)


@pytest.mark.parametrize(
    ("field", "items"),
    [
        ("recipient_domains", [{"name": "b.tld"}, {"name": "B.TLD"}]),
        ("trusted_networks", ["203.0.113.0/24", "203.0.113.0/24"]),
        ("sender_policies", [{"domain": d, "action": "blocked"} for d in ("b.tld", "B.tld")]),
        ("routes", [{"sender": s, "next_hop": "mx.tld"} for s in ("@b.tld", "@B.tld")]),
        ("vips", [{"address": "2001:db8::1", "virtual_router_id": 7}] * 2),
        ("nodes", [{"name": "node-a", "address": f"198.51.100.{n}"} for n in (11, 12)]),
    ],
)
def test_a_file_that_names_something_twice_is_refused(
    store: ClusterStore, field: str, items: list[Any]
) -> None:
    """Also in another spelling: which of the two was meant is not guessed, nothing is changed."""
    before = export_state(store).lists
    planned = plan_state(store, changed(export_state(store), **{field: items}))
    assert any(name.startswith(field) for name in planned.problems), planned.problems
    with pytest.raises(Invalid, match="nothing was changed"):
        import_state(store, planned, OLGA)
    assert export_state(store).lists == before


def test_a_state_goes_into_an_empty_control_plane(
    store: ClusterStore, sqlite_database: Database
) -> None:
    """What was exported is what is there afterwards; a password has to be given again."""
    file = export_state(store)
    fresh = ClusterStore(sqlite_database, SecretBox(Fernet.generate_key()))
    if store.database.is_sqlite:
        with fresh.database.write() as session:
            session.delete(session.get_one(ROUTES.table, "@a.tld"))
    refused = plan_state(fresh, file)
    assert refused.problems == {"routes.@a.tld.password": "A username needs a password."}
    routes = [{"sender": "@a.tld", "next_hop": "mx.tld", "username": "u", "password": "again-22"}]
    import_state(fresh, plan_state(fresh, changed(file, routes=routes)), OLGA)
    assert export_state(fresh).lists == file.lists
    assert fresh.item(ROUTES, "@a.tld").password == SecretStr("again-22")


def test_one_of_several_imports_at_once_is_done(store: ClusterStore) -> None:
    """The others are told to look again: each had looked at what was there before."""
    plans = [
        plan_state(store, changed(export_state(store), recipient_domains=[{"name": f"{n}.tld"}]))
        for n in range(INSTANCES)
    ]
    before = revision(store)

    def carry_out(number: int) -> str:
        try:
            import_state(store, plans[number], OLGA)
        except Conflict as error:
            return error.detail
        return f"{number}.tld"

    with ThreadPoolExecutor(INSTANCES) as pool:
        said = list(pool.map(carry_out, range(INSTANCES)))
    refused = "Somebody changed the settings meanwhile; look at the preview again."
    assert said.count(refused) == INSTANCES - 1
    (done,) = set(said) - {refused}
    assert [one.name for one in store.items(DOMAINS)] == [done]
    assert revision(store) == before + 1


def test_a_csv_import_planned_before_a_change_is_not_carried_out(store: ClusterStore) -> None:
    """The plan says what was there; a domain that came meanwhile would be overlooked."""
    planned = plan_csv(store, "recipient-domains", "name\nb.tld\n", replace=True)
    store.put_item(DOMAINS, RecipientDomain(name="c.tld"), OLGA)
    with pytest.raises(Conflict, match="look at the preview again"):
        import_csv(store, planned, OLGA)
    with pytest.raises(Conflict, match="look at the preview again"):
        import_csv(store, planned, OLGA, revision(store))
    assert [one.name for one in store.items(DOMAINS)] == ["a.tld", "c.tld"]


@pytest.mark.parametrize("name", CSV_LISTS)
def test_the_export_of_a_list_changes_nothing(store: ClusterStore, name: str) -> None:
    """No revision, no audit row; the route keeps its password."""
    before = revision(store)
    planned = plan_csv(store, name, export_csv(store, name), replace=True)
    assert planned.plan.is_empty
    import_csv(store, planned, OLGA)
    assert revision(store) == before
    assert store.item(ROUTES, "@a.tld").password == SecretStr("hunter22")


def test_an_import_of_many_changes_adds_and_removes_at_once(store: ClusterStore) -> None:
    """More keys than one statement takes; the audit log names the first of each kind."""
    first = "name\n" + "".join(f"d{n:04}.tld\n" for n in range(1200))
    import_csv(store, plan_csv(store, "recipient-domains", first, replace=True), OLGA)
    second = "name,next_hop,port\n" + "".join(f"d{n:04}.tld,mx.tld,26\n" for n in range(600, 1800))
    planned = plan_csv(store, "recipient-domains", second, replace=True)
    assert planned.plan.counts == {"added": 600, "changed": 600, "removed": 600, "total": 1200}
    import_csv(store, planned, OLGA)
    stored = store.items(DOMAINS)
    assert [one.name for one in stored] == [f"d{n:04}.tld" for n in range(600, 1800)]
    assert {one.port for one in stored} == {26}
    with store.database.read() as session:
        entry = list_entries(session, AuditFilter(action="recipient-domain.import", limit=1))[0]
    assert entry.after is not None
    assert entry.after["counts"] == planned.plan.counts
    assert entry.after["names"]["removed"] == [f"d{n:04}.tld" for n in range(50)]


def test_an_import_of_a_rename_follows_the_certificate(store: ClusterStore) -> None:
    """Our own certificate names the new domain, as it does after any change of it."""
    store.ensure_certificate()
    with store.database.read() as session:
        old = store.read_tls(session)
    content = export_state(store).model_dump(mode="json")
    content["settings"]["domain"] = "other.example"
    planned = plan_state(store, StateFile.model_validate(content))
    assert planned.problems == {}
    import_state(store, planned, OLGA)
    with store.database.read() as session:
        new = store.read_tls(session)
    assert old is not None
    assert new is not None
    assert new.cert_pem != old.cert_pem
    assert "domain" in planned.changed_settings
