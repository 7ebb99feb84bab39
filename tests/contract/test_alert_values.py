"""What alerts measure of the mail policy: hooks that ask, problems they tell, edits people make."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import text

from controlplane.core.attention import find_attention
from controlplane.core.policy_drafts import BadwordDraft, ListDraft
from controlplane.core.spec import NodeSpec
from controlplane.store.alert_values import NEVER_S, measure
from controlplane.store.audit import SYSTEM, Actor
from controlplane.store.clock import read_clock_s
from controlplane.store.cluster import ClusterStore
from controlplane.store.crypto import SecretBox
from controlplane.store.engine import Database
from controlplane.store.nouns import NODES
from controlplane.store.policy_imports import FileKind, import_file
from controlplane.store.policy_items import put, put_all, remove, remove_all
from controlplane.store.policy_kinds import ALLOWLIST, BADWORDS, BLOCKLIST
from controlplane.store.policy_log_intake import take_in_parts
from controlplane.store.policy_nodes import note
from controlplane.store.policy_revision import read_revision
from controlplane.store.policy_settings import change_settings
from controlplane.store.situation import read_situation
from controlplane.store.state_files import StateFile, export_state, import_state, plan_state
from nodeagent.core.contract import NodeReport, Role
from nodeagent.policy.sync_wire import PolicySync
from tests.fakes.policy_logs import accepted, batch, blocked, limited, quarantined
from tests.fakes.reports import store_report

ANN = Actor("ann")
SOURCE = "a" * 32


@pytest.fixture
def cluster(database: Database) -> Database:
    """Give node-a, which reports, and a policy that is on."""
    store = ClusterStore(database, SecretBox(Fernet.generate_key()))
    node = NodeSpec(
        name="node-a", address="198.51.100.11", cluster_mode="master", vrrp_priority=100
    )
    store.put_item(NODES, node, SYSTEM)
    with database.write() as session:
        store_report(session, "node-a", NodeReport(role=Role.ACTIVE))
    change_settings(database, {"is_active": True}, ANN)
    return database


def reading(database: Database, rule: str) -> Any:
    """Return what one rule measures."""
    with database.read() as session:
        return measure(session)[rule]


def ask(database: Database, **said: Any) -> None:
    """Have node-a's hook ask for the policy."""
    with database.write() as session:
        note(session, "node-a", PolicySync(source=SOURCE, **said))


def newest(database: Database) -> int:
    """Return the revision that hooks should have."""
    with database.read() as session:
        return read_revision(session)


def problems_shown(database: Database) -> list[str]:
    """Return what needs attention of the nodes' hooks."""
    with database.read() as session:
        found = find_attention(read_situation(session))
    return [one.text for one in found if one.rule == "policy-problem"]


def test_a_hook_that_never_asked_is_silent_from_the_begin(cluster: Database) -> None:
    """And one that asks is not; then it counts from its last word."""
    (one,) = reading(cluster, "hook-silent")
    assert (one.key, one.value) == ("node-a", NEVER_S)
    ask(cluster, revision=1)
    (one,) = reading(cluster, "hook-silent")
    assert one.value < 60
    with cluster.write() as session:
        session.execute(text("UPDATE policy_nodes SET seen_at = seen_at - 500"))
    (one,) = reading(cluster, "hook-silent")
    assert 500 <= one.value < 560
    assert "last asked 5" in one.text


def test_of_a_policy_that_is_off_nothing_is_missing(cluster: Database) -> None:
    """Nobody has to ask for it."""
    ask(cluster, problem="The policy does not compile.")
    change_settings(cluster, {"is_active": False}, ANN)
    assert reading(cluster, "hook-silent") == ()
    assert reading(cluster, "policy-refused") == ()


def test_of_a_silent_node_its_silence_is_enough(cluster: Database) -> None:
    """It is a finding of its own."""
    ask(cluster, problem="The policy does not compile.")
    with cluster.write() as session:
        session.execute(text("UPDATE node_reports SET seen_at = seen_at - 3600"))
    assert reading(cluster, "hook-silent") == ()
    assert reading(cluster, "policy-refused") == ()


def test_a_hook_that_says_why_it_has_no_newer_policy_is_told_of(cluster: Database) -> None:
    """In its own words, until it has it; that is the revision of the policy and the cluster."""
    ask(cluster, revision=1, problem="Section 3 cannot be read.")
    (one,) = reading(cluster, "policy-refused")
    assert (one.key, one.value) == ("node-a", 1.0)
    assert one.text == "node-a: Section 3 cannot be read."
    ask(cluster, problem="Section 3 cannot be read.")
    assert len(reading(cluster, "policy-refused")) == 1, "none at all is in force"
    ask(cluster, revision=newest(cluster))
    assert reading(cluster, "policy-refused") == ()


def test_a_hook_with_the_newest_policy_and_a_problem_needs_attention_alone(
    cluster: Database,
) -> None:
    """A port that is taken keeps no policy from being in force; the next edit may be refused."""
    taken = "The HTTP hook cannot listen at 127.0.0.1, port 3002: in use."
    ask(cluster, revision=newest(cluster), problem=taken)
    assert reading(cluster, "policy-refused") == ()
    assert problems_shown(cluster) == [f"The policy hook of node-a has a problem: {taken}"]
    put(cluster, BLOCKLIST, ListDraft(value="192.0.2.1"), ANN)
    (one,) = reading(cluster, "policy-refused")
    assert one.text == f"node-a: {taken}"
    ask(cluster, revision=newest(cluster))
    assert reading(cluster, "policy-refused") == ()
    assert problems_shown(cluster) == []


def test_what_a_hook_said_long_ago_is_not_its_present_problem(cluster: Database) -> None:
    """Nor is what it says of a policy that is off."""
    ask(cluster, revision=newest(cluster), problem="The port is taken.")
    with cluster.write() as session:
        session.execute(text("UPDATE policy_nodes SET seen_at = seen_at - 59"))
    assert len(problems_shown(cluster)) == 1
    with cluster.write() as session:
        session.execute(text("UPDATE policy_nodes SET seen_at = seen_at - 2"))
    assert problems_shown(cluster) == []
    ask(cluster, revision=newest(cluster), problem="The port is taken.")
    assert len(problems_shown(cluster)) == 1
    change_settings(cluster, {"is_active": False}, ANN)
    assert problems_shown(cluster) == []


def test_new_bad_words_are_counted_by_who_wrote_them(cluster: Database) -> None:
    """One by one and many at once; what goes is not new, and no word stands in an alert."""
    put(cluster, BADWORDS, BadwordDraft(pattern="hunter2"), ANN)
    put_all(cluster, BADWORDS, [BadwordDraft(pattern=f"word{n}") for n in range(5)], Actor("bob"))
    remove_all(cluster, BADWORDS, [], ["word1"], ANN)
    found = reading(cluster, "new-badwords")
    assert [(one.value, one.text) for one in found] == [
        (5.0, "bob: 5, bulk."),
        (1.0, "ann: 1, create."),
    ]


def test_threats_and_what_was_blocked_are_counted_as_the_status_page_does(
    cluster: Database,
) -> None:
    """The last hour and the last day; an accepted mail is neither."""
    with cluster.read() as session:
        now_s = read_clock_s(session)
    recent = [blocked(now_s), limited(now_s), accepted(now_s), quarantined("4fQ1x1Bcdfgz1", now_s)]
    take_in_parts(cluster, "node-a", batch([*recent, blocked(now_s - 10_000)]))
    (found,) = reading(cluster, "threats")
    assert (found.value, found.text) == (5.0, "5 within the last hour.")
    (refused,) = reading(cluster, "blocked")
    assert refused.value == 3.0


def test_changes_of_the_blocklist_are_counted(cluster: Database) -> None:
    """Also removals; what expires by itself is nobody's change."""
    entry, _ = put(cluster, BLOCKLIST, ListDraft(value="spammer@example.com"), ANN)
    put(cluster, BLOCKLIST, ListDraft(value="spammer@example.com", reason="again"), ANN)
    remove(cluster, BLOCKLIST, entry["id"], ANN)
    put(cluster, BLOCKLIST, ListDraft(value="192.0.2.1"), SYSTEM)
    found = reading(cluster, "blocklist-changes")
    assert [one.text for one in found] == ["ann: 1, delete.", "ann: 1, update.", "ann: 1, create."]
    assert "spammer" not in str(found)
    with cluster.write() as session:
        session.execute(text("DELETE FROM audit"))
    assert reading(cluster, "blocklist-changes") == ()


def import_changed(database: Database, change: Callable[[dict[str, Any]], None]) -> None:
    """Have bob import the state as it is, but for what `change` does to the file."""
    store = ClusterStore(database, SecretBox(Fernet.generate_key()))
    file = export_state(store).model_dump(mode="json")
    change(file)
    import_state(store, plan_state(store, StateFile.model_validate(file)), Actor("bob"))


def test_an_imported_state_counts_what_it_changes_of_each_list(cluster: Database) -> None:
    """Words that go are not new; of a list that stays as it is nothing is said."""
    put_all(cluster, BADWORDS, [BadwordDraft(pattern=f"old{n}") for n in range(3)], ANN)
    put_all(cluster, BLOCKLIST, [ListDraft(value=f"old{n}.test") for n in range(4)], ANN)
    put(cluster, ALLOWLIST, ListDraft(value="allowed.test"), ANN)
    with cluster.write() as session:
        session.execute(text("DELETE FROM audit"))

    def change_words(file: dict[str, Any]) -> None:
        words = file["policy"]["badwords"]
        words[0]["severity"] = "critical"
        words[1:] = [{"pattern": f"new{n}"} for n in range(7)]
        file["policy"]["allowlist"] = []

    import_changed(cluster, change_words)
    (found,) = reading(cluster, "new-badwords")
    assert (found.value, found.text) == (8.0, "bob: 8, cluster.import.")
    assert reading(cluster, "blocklist-changes") == ()

    def change_list(file: dict[str, Any]) -> None:
        entries = file["policy"]["blocklist"]
        entries[0]["reason"] = "again"
        entries[1:3] = [{"value": f"new{n}.test"} for n in range(9)]

    import_changed(cluster, change_list)
    (found,) = reading(cluster, "blocklist-changes")
    assert (found.value, found.text) == (12.0, "bob: 12, cluster.import.")
    assert len(reading(cluster, "new-badwords")) == 1


def test_a_state_without_the_policy_changes_no_list(cluster: Database) -> None:
    """A file from before, and one that changes a setting alone."""
    put(cluster, BADWORDS, BadwordDraft(pattern="old"), ANN)
    with cluster.write() as session:
        session.execute(text("DELETE FROM audit"))

    def rename(file: dict[str, Any]) -> None:
        file["settings"]["name"] = "other"
        file["policy"] = None

    import_changed(cluster, rename)
    import_changed(cluster, lambda file: file["policy"]["settings"].update(is_active=False))
    assert reading(cluster, "new-badwords") == reading(cluster, "blocklist-changes") == ()


@pytest.mark.parametrize("file_kind", list(FileKind))
def test_the_file_of_a_list_is_counted_as_a_state_is(
    cluster: Database, file_kind: FileKind
) -> None:
    """By whole numbers, as often as the file names an entry once."""
    put(cluster, BADWORDS, BadwordDraft(pattern="gone"), ANN)
    put(cluster, BLOCKLIST, ListDraft(value="gone.test"), ANN)
    with cluster.write() as session:
        session.execute(text("DELETE FROM audit"))
    for kind, name in ((BADWORDS, "pattern"), (BLOCKLIST, "value")):
        rows = [f"n{number}.test" for number in range(1500)]
        body = (
            "\n".join([name, *rows])
            if file_kind is FileKind.CSV
            else json.dumps([{name: row} for row in rows])
        )
        file = io.BytesIO(body.encode())
        import_file(cluster, kind, file, file_kind, Actor("bob"), replace=True)
    (words,) = reading(cluster, "new-badwords")
    (entries,) = reading(cluster, "blocklist-changes")
    assert (words.value, entries.value) == (1500.0, 1501.0)
    assert words.text == "bob: 1500, import."
