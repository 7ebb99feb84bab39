"""Recipient domains in bulk: replaced, added, paged, refused as a whole."""

from __future__ import annotations

import pytest
from cryptography.fernet import Fernet
from fastapi.testclient import TestClient

from controlplane.core.spec import RecipientDomain, TlsMode
from controlplane.store.audit import SYSTEM
from controlplane.store.cluster import ClusterStore
from controlplane.store.crypto import SecretBox
from controlplane.store.domain_lists import put_domains, read_page
from controlplane.store.engine import Database
from controlplane.store.nouns import DOMAINS

DOMAINS_URL = "/api/v1/recipient-domains"
MANY = 100_000
"""Far above what it takes (3 s), for slow machines; a row at a time would take minutes."""


@pytest.fixture
def store(database: Database) -> ClusterStore:
    """Give the store over both kinds of database."""
    return ClusterStore(database, SecretBox(Fernet.generate_key()))


def test_a_list_replaces_the_list(client: TestClient) -> None:
    """What the new list does not name is gone, what it has in other words is changed."""
    first = {"domains": ["a.tld", "b.tld", {"name": "c.tld", "next_hop": "mx.c.tld"}]}
    assert client.put(DOMAINS_URL, json=first).json() == {
        "added": 3,
        "changed": 0,
        "removed": 0,
        "total": 3,
    }
    second = {"domains": ["b.tld", {"name": "c.tld", "next_hop": "mx2.c.tld"}, "d.tld"]}
    assert client.put(DOMAINS_URL, json=second).json() == {
        "added": 1,
        "changed": 1,
        "removed": 1,
        "total": 3,
    }
    listed = client.get(DOMAINS_URL).json()["items"]
    assert [one["name"] for one in listed] == ["b.tld", "c.tld", "d.tld"]
    assert listed[1]["next_hop"] == "mx2.c.tld"


def test_a_list_can_be_added_to(client: TestClient) -> None:
    """POST leaves the others alone."""
    client.put(DOMAINS_URL, json={"domains": ["a.tld"]})
    assert client.post(DOMAINS_URL, json={"domains": ["b.tld"]}).json()["total"] == 2


def test_one_bad_entry_refuses_the_whole_list(client: TestClient) -> None:
    """The sentence names the entry by its place; nothing of the list is stored."""
    body = {"domains": ["a.tld", "two words.tld", "a.tld"]}
    answer = client.post(DOMAINS_URL, json=body)
    assert answer.status_code == 422
    fields = answer.json()["fields"]
    assert "space" in fields["domains.1.name"]
    assert "already used" in fields["domains.2.name"]
    assert client.get(DOMAINS_URL).json()["total"] == 0


def test_a_thousand_bad_entries_give_a_short_answer(client: TestClient) -> None:
    """The count is told, the first twenty are shown."""
    body = {"domains": [f"bad {number}.tld" for number in range(1000)]}
    answer = client.post(DOMAINS_URL, json=body).json()
    assert answer["detail"].startswith("1000 entries")
    assert len(answer["fields"]) == 20


def test_the_import_is_one_audited_change(client: TestClient) -> None:
    """The log says how many and shows the first names; the same list again changes nothing."""
    body = {"domains": [f"d{number}.tld" for number in range(60)]}
    client.put(DOMAINS_URL, json=body)
    revision = client.get("/api/v1/cluster").json()["revision"]
    client.put(DOMAINS_URL, json=body)
    assert client.get("/api/v1/cluster").json()["revision"] == revision
    entries = client.get("/api/v1/audit", params={"action": "recipient-domain.import"}).json()
    assert len(entries) == 1
    assert entries[0]["after"]["counts"]["added"] == 60
    assert len(entries[0]["after"]["names"]["added"]) == 50


def test_pages_follow_each_other(client: TestClient) -> None:
    """Each page says where the next one starts; the last one says that it is the last."""
    client.put(DOMAINS_URL, json={"domains": [f"d{number}.tld" for number in range(5)]})
    names: list[str] = []
    after: str | None = ""
    while after is not None:
        page = client.get(DOMAINS_URL, params={"after": after, "limit": 2}).json()
        names += [one["name"] for one in page["items"]]
        after = page["next_after"]
    assert names == [f"d{number}.tld" for number in range(5)]


def test_searching_takes_wildcards_literally(client: TestClient) -> None:
    """A percent sign is a character, not a pattern."""
    client.put(DOMAINS_URL, json={"domains": ["one.tld", "two.tld"]})
    found = client.get(DOMAINS_URL, params={"search": "TWO"}).json()
    assert [one["name"] for one in found["items"]] == ["two.tld"]
    assert client.get(DOMAINS_URL, params={"search": "%"}).json()["total"] == 0


def test_a_hundred_thousand_domains_are_one_list(store: ClusterStore) -> None:
    """Import, change of all, and replacement by few, on both databases."""
    names = [f"d{number}.example" for number in range(MANY)]
    plain = [RecipientDomain(name=name) for name in names]
    assert put_domains(store, plain, SYSTEM, replace=True).counts["added"] == MANY
    assert put_domains(store, plain, SYSTEM, replace=True).counts["changed"] == 0
    changed = [RecipientDomain(name=name, tls_mode=TlsMode.ENCRYPT) for name in names[:5000]]
    assert put_domains(store, changed, SYSTEM, replace=False).counts["changed"] == 5000
    assert put_domains(store, plain[:10], SYSTEM, replace=True).counts["removed"] == MANY - 10
    with store.database.read() as session:
        assert read_page(session, "", "", 100).total == 10
        kept = store.read_item(session, DOMAINS, "d3.example")
    assert kept.tls_mode is TlsMode.MAY
