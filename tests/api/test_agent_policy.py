"""What policy hooks ask of the control plane: the revision, the policy, and what others counted."""

from __future__ import annotations

import time

import pytest
from fastapi.testclient import TestClient
from sqlmodel import select

from controlplane.store import policy_manifests
from controlplane.store.engine import Database
from controlplane.store.policy_nodes import read_nodes
from controlplane.store.policy_settings import ensure_policy
from controlplane.store.policy_tables import PolicyNodeRow, RateCountRow
from nodeagent.policy.document import Manifest, RateWindow
from nodeagent.policy.engine.sections import read_section
from nodeagent.policy.sync_wire import (
    MOST_COUNTS,
    PolicyAnswer,
    PolicySync,
    RateCount,
    SectionQuestion,
)
from tests.fakes.enrolled_agent import EnrolledAgent

BLOCK = "/api/v1/mail-security/blocklist"
ONE, TWO = "1" * 32, "2" * 32


@pytest.fixture
def a(agents: dict[str, EnrolledAgent]) -> EnrolledAgent:
    """Give the first node."""
    return agents["node-a"]


@pytest.fixture
def b(agents: dict[str, EnrolledAgent]) -> EnrolledAgent:
    """Give the second node."""
    return agents["node-b"]


def sync(agent: EnrolledAgent, source: str = ONE, **said: object) -> PolicyAnswer:
    """Ask as a hook does."""
    answer = agent.post("policy", PolicySync(source=source, **said))  # type: ignore[arg-type]
    assert answer.status_code == 200, answer.text
    return PolicyAnswer.model_validate(answer.json())


def counted(number: int, count: int) -> RateCount:
    """Return a count of this hour."""
    bucket = int(time.time()) // 3600
    return RateCount(window=RateWindow.HOUR, bucket=bucket, key=f"{number:032x}", count=count)


def manifest(agent: EnrolledAgent) -> Manifest:
    """Fetch the manifest."""
    answer = agent.get("policy_manifest")
    assert answer.status_code == 200, answer.text
    return Manifest.model_validate(answer.json())


def test_an_edit_raises_the_revision_and_one_section_changes(
    a: EnrolledAgent, pair: TestClient
) -> None:
    """A node that has the other sections fetches this one alone."""
    before = sync(a).revision
    assert manifest(a).revision == before
    pair.post(BLOCK, json={"value": "example.com"})
    pair.post("/api/v1/mail-security/badwords", json={"pattern": "casino"})
    first = manifest(a)
    assert sync(a).revision == first.revision > before
    pair.post(BLOCK, json={"value": "example.org"})
    second = manifest(a)
    assert second.revision > first.revision
    same = {one.sha256 for one in first.sections} & {one.sha256 for one in second.sections}
    assert len(first.sections) == len(second.sections) == 2
    assert len(same) == 1
    (changed,) = [one for one in second.sections if one.sha256 not in same]
    answer = a.post("policy_section", SectionQuestion(sha256=changed.sha256))
    assert answer.headers["content-type"] == "application/gzip"
    values = [one.value for one in read_section(changed, answer.content)]  # type: ignore[union-attr]
    assert values == ["example.com", "example.org"]


def test_a_section_that_was_replaced_is_not_there_any_more(
    a: EnrolledAgent, pair: TestClient
) -> None:
    """The node then asks for the manifest again."""
    pair.post(BLOCK, json={"value": "example.com"})
    (old,) = manifest(a).sections
    pair.post(BLOCK, json={"value": "example.org"})
    answer = a.post("policy_section", SectionQuestion(sha256=old.sha256))
    assert answer.status_code == 404
    assert answer.json()["detail"] == (
        "There is no such section any more; fetch the manifest anew."
    )


def test_the_manifest_has_what_the_cluster_brings(
    a: EnrolledAgent, pair: TestClient, sqlite_database: Database
) -> None:
    """Trusted networks, domains and nodes: each change of them raises the revision."""
    ensure_policy(sqlite_database, pair.app.state.secret_box)  # type: ignore[attr-defined]
    before = sync(a).revision
    pair.put("/api/v1/trusted-networks/192.0.2.0%2F24")
    pair.put("/api/v1/recipient-domains/.example.com", json={})
    after = manifest(a)
    assert after.revision == sync(a).revision > before
    assert after.settings.trusted_networks == ("127.0.0.0/8", "::1/128", "192.0.2.0/24")
    assert after.settings.own_domains == (".example.com",)
    assert after.settings.own_names == ("node-a.relay.internal", "node-b.relay.internal")
    assert after.settings.pseudonym_key is not None
    assert manifest(a).settings.pseudonym_key == after.settings.pseudonym_key


def test_what_one_counted_the_others_are_told(a: EnrolledAgent, b: EnrolledAgent) -> None:
    """Once each, and not whose it is; what grew comes again."""
    sync(a, ONE, counts=(counted(1, 5), counted(2, 7)))
    first = sync(b, TWO)
    assert {(one.source, one.count) for one in first.counts} == {(ONE, 5), (ONE, 7)}
    assert sync(b, TWO, seen=first.seen).counts == ()
    assert sync(a, ONE).counts == ()
    sync(a, ONE, counts=(counted(1, 6), counted(2, 7)))
    second = sync(b, TWO, seen=first.seen)
    assert [(one.key, one.count) for one in second.counts] == [(f"{1:032x}", 6)]


def test_counts_that_come_late_or_twice_change_nothing(
    a: EnrolledAgent, b: EnrolledAgent, sqlite_database: Database
) -> None:
    """The highest one holds, whatever the order."""
    for count in (9, 3, 9):
        sync(a, ONE, counts=(counted(1, count), counted(1, count - 1)))
    first = sync(b, TWO)
    assert [one.count for one in first.counts] == [9]
    assert first.seen == 1
    with sqlite_database.read() as session:
        assert len(session.exec(select(RateCountRow)).all()) == 1


def test_many_counts_come_in_pages(a: EnrolledAgent, b: EnrolledAgent) -> None:
    """A hook that starts gets all of them, a page at a time."""
    for start in (0, MOST_COUNTS):
        sync(a, ONE, counts=tuple(counted(start + n, 1) for n in range(MOST_COUNTS)))
    sync(a, ONE, counts=(counted(2 * MOST_COUNTS, 1),))
    keys: list[str] = []
    seen, has_more, pages = 0, True, 0
    while has_more:
        answer = sync(b, TWO, seen=seen)
        keys += [one.key for one in answer.counts]
        seen, has_more, pages = answer.seen, answer.has_more, pages + 1
    assert (pages, len(keys), len(set(keys))) == (3, 2 * MOST_COUNTS + 1, 2 * MOST_COUNTS + 1)


def test_a_node_that_has_seen_more_than_there_is_gets_everything(
    a: EnrolledAgent, b: EnrolledAgent
) -> None:
    """The database was restored from a backup: its numbers begin lower."""
    sync(a, ONE, counts=(counted(1, 5),))
    answer = sync(b, TWO, seen=1000)
    assert ([one.count for one in answer.counts], answer.seen) == ([5], 1)


def test_what_a_node_has_in_force_is_known(a: EnrolledAgent, sqlite_database: Database) -> None:
    """A node that never asked is shown as such; a problem stays until it is gone."""
    sync(a, ONE, revision=3, problem="badword 1 cannot be compiled")
    with sqlite_database.read() as session:
        first, second = read_nodes(session)
    assert (first.node, first.revision) == ("node-a", 3)
    assert first.problem == "badword 1 cannot be compiled"
    assert first.seen_s is not None
    assert (second.node, second.revision, second.seen_s) == ("node-b", None, None)
    sync(a, ONE, revision=4)
    with sqlite_database.read() as session:
        assert read_nodes(session)[0].problem == ""


def test_a_node_that_says_the_same_writes_nothing(
    a: EnrolledAgent, sqlite_database: Database
) -> None:
    """Once a second and node: it would be most of what a small machine writes."""
    sync(a, ONE, revision=1)
    with sqlite_database.write() as session:
        row = session.get_one(PolicyNodeRow, "node-a")
        row.seen_at -= 10
        noted = row.seen_at
        session.add(row)
    sync(a, ONE, revision=1)
    with sqlite_database.read() as session:
        assert session.get_one(PolicyNodeRow, "node-a").seen_at == noted
    with sqlite_database.write() as session:
        row = session.get_one(PolicyNodeRow, "node-a")
        row.seen_at -= 60
        session.add(row)
    sync(a, ONE, revision=1)
    with sqlite_database.read() as session:
        assert session.get_one(PolicyNodeRow, "node-a").seen_at > noted


def test_a_node_whose_key_was_revoked_is_refused_at_once(
    a: EnrolledAgent, pair: TestClient
) -> None:
    """Also with a token that was good a moment ago."""
    token = a.token()
    assert a.post("policy", PolicySync(source=ONE), token).status_code == 200
    pair.post("/api/v1/nodes/node-a/revoke-key")
    refused = a.post("policy", PolicySync(source=ONE), token)
    assert refused.status_code == 403
    assert a.get("policy_manifest").status_code == 403


def test_people_have_no_business_here(pair: TestClient) -> None:
    """The key of pseudonyms is for the nodes alone."""
    assert pair.get("/api/v1/agent/policy/manifest").status_code == 401


def test_the_manifest_is_made_once_a_revision(
    a: EnrolledAgent, b: EnrolledAgent, pair: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names all domains; every node asks for it after each edit, of the cluster's as well."""
    made = []
    read = policy_manifests.read_manifest

    def note(*args: object) -> Manifest:
        made.append(1)
        return read(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(policy_manifests, "read_manifest", note)
    edits = (
        ("post", BLOCK, {"value": "example.com"}),
        ("put", "/api/v1/recipient-domains/example.org", {}),
        ("patch", "/api/v1/mail-security/settings", {"is_active": True}),
    )
    for count, (method, path, body) in enumerate(edits, start=1):
        assert pair.request(method, path, json=body).is_success
        found = [manifest(agent) for agent in (a, b, a)]
        assert found[0] == found[1] == found[2]
        assert found[0].revision == sync(a).revision
        assert len(made) == count
    assert found[0].settings.own_domains == ("example.org",)
    assert (found[0].settings.is_active, len(found[0].sections)) == (True, 1)
