"""The cluster's store on both databases: what goes in comes out, and every change is whole."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr

from controlplane.core.spec import (
    ClusterMode,
    NodeSpec,
    RecipientDomain,
    SenderAction,
    SenderPolicy,
    SenderRoute,
    TlsMode,
    VipSpec,
)
from controlplane.errors import Conflict, Invalid, NotFound, SetupFailed
from controlplane.store import config_versions
from controlplane.store.audit import Actor, AuditFilter, list_entries
from controlplane.store.cluster import ClusterStore, read_revision, read_settings
from controlplane.store.cluster_settings import merge_settings
from controlplane.store.crypto import SecretBox
from controlplane.store.engine import Database
from controlplane.store.nouns import (
    DOMAINS,
    NETWORKS,
    NODES,
    POLICIES,
    ROUTES,
    VIPS,
    Noun,
)
from nodeagent.core.config_plan import files_sha256
from nodeagent.core.contract import ConfigFile

ANN = Actor("ann", "198.51.100.30")
NODE_A = NodeSpec(
    name="node-a",
    address="198.51.100.11",
    vrrp_priority=150,
    cluster_mode=ClusterMode.MASTER,
    hostname="mx1.example.com",
)
NODE_B = NodeSpec(
    name="node-b", address="198.51.100.12", cluster_mode=ClusterMode.SLAVE, prefix_len=24
)
ITEMS: list[tuple[Noun[Any], Any]] = [
    (NODES, NODE_A),
    (VIPS, VipSpec(address="2001:db8::1", virtual_router_id=7, prefix_len=64, interface="eth1")),
    (DOMAINS, RecipientDomain(name="example.com", next_hop="mx.example.com", port=2525)),
    (POLICIES, SenderPolicy(domain=".b.tld", action=SenderAction.BLOCKED, reply_text="No")),
    (
        ROUTES,
        SenderRoute(
            sender="me@example.org",
            next_hop="smtp.example.net",
            tls_mode=TlsMode.VERIFY,
            username="me",
            password=SecretStr("s3cret-word"),
        ),
    ),
    (NETWORKS, "198.51.100.0/24"),
]


@pytest.fixture
def store(database: Database) -> ClusterStore:
    """Give the store over both kinds of database."""
    return ClusterStore(database, SecretBox(Fernet.generate_key()))


@pytest.fixture
def pair(store: ClusterStore) -> ClusterStore:
    """Give the store of a cluster of two nodes."""
    store.put_item(NODES, NODE_A, ANN)
    store.put_item(NODES, NODE_B, ANN)
    return store


@pytest.mark.parametrize(("noun", "item"), ITEMS, ids=[noun.name for noun, _ in ITEMS])
def test_what_goes_in_comes_out(store: ClusterStore, noun: Noun[Any], item: Any) -> None:
    """Every field of every noun survives the database, secrets included."""
    assert store.put_item(noun, item, ANN) is True
    assert store.put_item(noun, item, ANN) is False
    with store.database.read() as session:
        assert store.read_items(session, noun) == [item]
        assert store.read_item(session, noun, noun.key_of(item)) == item
    store.delete_item(noun, noun.key_of(item), ANN)
    with store.database.read() as session, pytest.raises(NotFound):
        store.read_item(session, noun, noun.key_of(item))
    with pytest.raises(NotFound):
        store.delete_item(noun, noun.key_of(item), ANN)


def test_another_key_opens_no_secret(store: ClusterStore) -> None:
    """A stolen database without the key file is worth little."""
    store.put_item(ROUTES, ITEMS[4][1], ANN)
    thief = ClusterStore(store.database, SecretBox(Fernet.generate_key()))
    with store.database.read() as session, pytest.raises(SetupFailed):
        thief.read_items(session, ROUTES)


def test_a_refused_change_leaves_no_trace(pair: ClusterStore) -> None:
    """Neither row nor revision nor audit entry."""
    with pair.database.read() as session:
        before = (pair.read_spec(session), read_revision(session))
        audited = len(list_entries(session, AuditFilter()))
    bad = NODE_B.model_copy(update={"vrrp_priority": 150})
    with pytest.raises(Invalid) as refused:
        pair.put_item(NODES, bad, ANN)
    assert set(refused.value.fields) == {"vrrp_priority"}
    with pair.database.read() as session:
        assert (pair.read_spec(session), read_revision(session)) == before
        assert len(list_entries(session, AuditFilter())) == audited


def test_two_changes_that_exclude_each_other_are_not_both_made(pair: ClusterStore) -> None:
    """Ten at once want the same router id on different addresses: one gets it."""

    def put(number: int) -> bool:
        vip = VipSpec(address=f"198.51.100.{100 + number}", virtual_router_id=51)
        try:
            return pair.put_item(VIPS, vip, ANN)
        except Invalid:
            return False

    with ThreadPoolExecutor(5) as pool:
        made = list(pool.map(put, range(10)))
    assert made.count(True) == 1
    with pair.database.read() as session:
        assert len(pair.read_items(session, VIPS)) == 1


def test_settings_are_kept(store: ClusterStore) -> None:
    """What was changed is read back, the rest has its default."""
    change = {"vrrp": {"advert_int_s": 0.1}, "name": "mail"}
    after = store.change_settings(lambda settings: merge_settings(settings, change), ANN)
    with store.database.read() as session:
        assert read_settings(session) == after
        assert store.read_spec(session).vrrp.advert_int_s == 0.1


def test_versions_are_numbered_without_gaps_or_doubles(pair: ClusterStore) -> None:
    """Roll-backs at the same time each get a number of their own."""
    first = config_versions.apply(pair, config_versions.render_present(pair), ANN, "one")
    assert (first.version.number, first.is_new) == (1, True)
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: config_versions.roll_back(pair, 1, ANN, ""), range(4)))
    assert sorted(row.number for row in made) == [2, 3, 4, 5]
    assert {row.sha256 for row in made} == {first.version.sha256}


def test_a_version_never_changes(pair: ClusterStore) -> None:
    """Its files are the same after the settings and the next versions have moved on."""
    config_versions.apply(pair, config_versions.render_present(pair), ANN, "")
    with pair.database.read() as session:
        before = config_versions.read_files(pair, session, 1)
    pair.put_item(DOMAINS, RecipientDomain(name="example.com"), ANN)
    config_versions.apply(pair, config_versions.render_present(pair), ANN, "")
    with pair.database.read() as session:
        assert config_versions.read_files(pair, session, 1) == before
        assert config_versions.read_files(pair, session, 2) != before
        assert config_versions.newest_version(session) == 2
        listed = [row.number for row in config_versions.list_versions(session)]
    assert listed == [2, 1]


def test_without_nodes_no_version_is_made(store: ClusterStore) -> None:
    """An empty cluster has nothing to apply."""
    with pytest.raises(Conflict):
        config_versions.apply(store, config_versions.render_present(store), ANN, "")


def test_the_hash_of_a_version_depends_on_every_node() -> None:
    """Other files on one node, or the same files on another node, are another version."""
    one = files_sha256([ConfigFile(path="/a", content="x")])
    two = files_sha256([ConfigFile(path="/a", content="y")])
    base = config_versions.version_sha256({"node-a": one, "node-b": two})
    assert base == config_versions.version_sha256({"node-b": two, "node-a": one})
    assert base != config_versions.version_sha256({"node-a": two, "node-b": one})
    assert base != config_versions.version_sha256({"node-a": one})
