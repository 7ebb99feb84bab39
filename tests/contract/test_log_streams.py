"""What many stores stand on: rows put or added up, streams taken once, problems by their keys."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection
from sqlmodel import Session, col, select

from controlplane.core.policy_drafts import ThreatDraft
from controlplane.core.spec import ClusterSpec, RecipientDomain, SenderRoute, VipSpec
from controlplane.errors import NotFound
from controlplane.store.audit import Actor, AuditFilter, list_entries
from controlplane.store.engine import POLICY_LOG_LOCK, RATES_LOCK, Database
from controlplane.store.last_made import LastMade
from controlplane.store.log_streams import in_parts, note_gaps, take_new
from controlplane.store.nouns import ALL_NOUNS, DOMAINS, NODES, ROUTES
from controlplane.store.ownership_tables import EventRow
from controlplane.store.policy_log_tables import PolicyStreamRow
from controlplane.store.policy_revision import read_revision
from controlplane.store.policy_tables import RateCountRow, ThreatSettingRow
from controlplane.store.policy_threats import change_threat, read_threat, read_threats
from controlplane.store.spec_problems import find_problems, index_problems, new_problems
from controlplane.store.upserts import add_up, insert_rows, upsert
from nodeagent.core.stream_wire import Batch, StreamAnswer
from nodeagent.policy.engine.threats import THREAT_RULES
from nodeagent.policy.log_wire import LogEntry, LogKind
from tests.render.specs import NODE_A, NODE_B

KEYS = ("source", "window", "bucket", "key")
ONE, TWO = 32 * "1", 32 * "2"
WHO = Actor("olga")
Counts = dict[tuple[str, int], tuple[int, int]]


def row(key: str, bucket: int, count: int, change: int) -> dict[str, Any]:
    """Return the columns of a count."""
    return {
        "source": ONE,
        "window": "hour",
        "bucket": bucket,
        "key": key,
        "count": count,
        "change": change,
    }


def counts(session: Session) -> Counts:
    """Return what is stored."""
    rows = session.exec(select(RateCountRow)).all()
    return {(one.key, one.bucket): (one.count, one.change) for one in rows}


@pytest.mark.parametrize(
    ("put", "after"),
    [
        (upsert, {("a", 1): (7, 3), ("a", 2): (1, 2), ("b", 1): (5, 4)}),
        (add_up, {("a", 1): (12, 4), ("a", 2): (1, 2), ("b", 1): (5, 4)}),
    ],
    ids=["upsert", "add up"],
)
def test_rows_are_put_whether_or_not_they_were_there(
    database: Database, put: Any, after: Counts
) -> None:
    """Some new, some not, in one statement; a row of another key stays."""
    with database.write(RATES_LOCK) as session:
        put(session, RateCountRow, KEYS, [row("a", 1, 5, 1), row("a", 2, 1, 2)])
        put(session, RateCountRow, KEYS, [row("a", 1, 7, 3), row("b", 1, 5, 4)])
        put(session, RateCountRow, KEYS, [])
    with database.read() as session:
        assert counts(session) == after


def put_fast(connection: Connection, rows: list[dict[str, Any]]) -> None:
    """Insert counts."""
    insert_rows(connection, RateCountRow.metadata.tables["policy_rate_counts"], rows)


def test_rows_that_go_in_fast_are_what_was_given(database: Database) -> None:
    """In whatever order the columns of the first row stand; signs that a driver knows are texts."""
    rows = [
        dict(reversed(row("%s", 1, 5, 1).items())),
        row(":key", 2, 2**53, 2),
        row("'\"?;--", 3, 0, 3),
    ]
    with database.write(RATES_LOCK) as session:
        put_fast(session.connection(), rows)
    with database.read() as session:
        assert counts(session) == {
            ("%s", 1): (5, 1),
            (":key", 2): (2**53, 2),
            ("'\"?;--", 3): (0, 3),
        }


def test_a_column_of_json_goes_in_as_json(database: Database) -> None:
    """Such a table takes the slower way."""
    event = {"node": "node-a", "kind": "role", "text": "%s", "happened_at": 1.0, "received_at": 2.0}
    rows = [{**event, "event_id": str(at), "data": {"at": [at, None, "%"]}} for at in (1, 2)]
    with database.write() as session:
        insert_rows(session.connection(), EventRow.metadata.tables["events"], rows)
    with database.read() as session:
        found = session.exec(select(EventRow).order_by(col(EventRow.number))).all()
        assert [one.data for one in found] == [{"at": [1, None, "%"]}, {"at": [2, None, "%"]}]
        assert {one.text for one in found} == {"%s"}


def batch(*numbers: int, stream: str = ONE, gaps: tuple[int, ...] = ()) -> Batch[LogEntry]:
    """Return a batch; a gap lost as many entries as its number says."""
    entries = []
    for number in numbers:
        is_gap = number in gaps
        entry = {
            "at": 1000.0 + number,
            "kind": LogKind.GAP if is_gap else LogKind.MESSAGE,
            "text": f"entry {number}",
            "lost": number if is_gap else None,
        }
        entries.append({"number": number, "entry": entry})
    return Batch[LogEntry].model_validate({"stream": stream, "entries": entries})


def take(database: Database, node: str, one: Batch[LogEntry]) -> tuple[list[str], int]:
    """Take a batch in; return the texts of what was new, and what is acknowledged."""
    with database.write(POLICY_LOG_LOCK) as session:
        new, answer = take_new(session, PolicyStreamRow, node, one)
        return [entry.text for entry in new], answer.acknowledged


def test_a_batch_that_comes_again_brings_nothing(database: Database) -> None:
    """Nor does its beginning; numbers that were left out are no reason to wait."""
    assert take(database, "node-a", batch(1, 2)) == (["entry 1", "entry 2"], 2)
    assert take(database, "node-a", batch(1, 2)) == ([], 2)
    assert take(database, "node-a", batch(2, 3, 7)) == (["entry 3", "entry 7"], 7)
    assert take(database, "node-a", batch(5)) == ([], 7)


def test_streams_are_counted_by_themselves(database: Database) -> None:
    """Another node's, and another spool of the same node after its disk was lost."""
    assert take(database, "node-a", batch(9)) == (["entry 9"], 9)
    assert take(database, "node-b", batch(1)) == (["entry 1"], 1)
    assert take(database, "node-a", batch(1, stream=TWO)) == (["entry 1"], 1)
    assert take(database, "node-a", batch(9)) == ([], 9)


def test_a_batch_whose_transaction_failed_is_new_again(database: Database) -> None:
    """What is acknowledged is stored with what it acknowledges, or not at all."""

    def fail(session: Session, part: Batch[LogEntry]) -> StreamAnswer:
        take_new(session, PolicyStreamRow, "node-a", part)
        session.flush()
        raise RuntimeError

    with pytest.raises(RuntimeError):
        in_parts(database, POLICY_LOG_LOCK, batch(1, 2), 2, fail)
    assert take(database, "node-a", batch(1, 2)) == (["entry 1", "entry 2"], 2)


def test_a_gap_becomes_an_event_and_no_entry(database: Database) -> None:
    """It says whose, how many, and since when."""
    one = batch(1, 2, 3, gaps=(2,))
    with database.write() as session:
        kept = note_gaps(session, "node-a", "log-gap", [each.entry for each in one.entries])
    assert [entry.text for entry in kept] == ["entry 1", "entry 3"]
    with database.read() as session:
        (event,) = session.exec(select(EventRow)).all()
        assert (event.kind, event.node, event.text) == ("log-gap", "node-a", "node-a: entry 2")
        assert event.data == {"lost": 2, "at": 1002.0}


@pytest.mark.parametrize(
    ("at_once", "parts"),
    [(1, [[1], [2], [3], [4], [5]]), (2, [[1, 2], [3, 4], [5]]), (5, [[1, 2, 3, 4, 5]])],
)
def test_a_batch_is_stored_part_by_part(
    database: Database, at_once: int, parts: list[list[int]]
) -> None:
    """In order, each part in a transaction of its own, which the next one sees."""
    taken: list[list[int]] = []

    def keep(session: Session, part: Batch[LogEntry]) -> StreamAnswer:
        stored = session.get(PolicyStreamRow, ("node-a", ONE))
        assert (stored.acknowledged if stored is not None else 0) == sum(map(len, taken))
        taken.append([one.number for one in part.entries])
        return take_new(session, PolicyStreamRow, "node-a", part)[1]

    answer = in_parts(database, POLICY_LOG_LOCK, batch(1, 2, 3, 4, 5), at_once, keep)
    assert taken == parts
    assert answer == StreamAnswer(acknowledged=5)


def test_what_was_stored_before_a_part_failed_stays(database: Database) -> None:
    """The node sends all again, and none of it is taken twice."""

    def keep(session: Session, part: Batch[LogEntry]) -> StreamAnswer:
        answer = take_new(session, PolicyStreamRow, "node-a", part)[1]
        if part.entries[0].number == 3:
            raise RuntimeError
        return answer

    with pytest.raises(RuntimeError):
        in_parts(database, POLICY_LOG_LOCK, batch(1, 2, 3, 4), 2, keep)
    assert take(database, "node-a", batch(1, 2, 3, 4)) == (["entry 3", "entry 4"], 4)


RULE = THREAT_RULES[0]


def audited(database: Database) -> list[tuple[Any, Any]]:
    """Return what was noted of threat rules, oldest first."""
    with database.read() as session:
        rows = list_entries(session, AuditFilter(action="threat-rule.update"))
        return [(one.before, one.after) for one in reversed(rows)]


def test_a_rule_without_a_score_of_its_own_has_the_built_one(database: Database) -> None:
    """Switched off and on it keeps it; and it is told apart from one that nobody touched."""
    change_threat(database, RULE.name, ThreatDraft(is_enabled=False), WHO)
    with database.read() as session:
        state = read_threat(session, RULE.name)
        assert (state.is_enabled, state.score, state.is_changed) == (False, RULE.score, True)
        others = [one for one in read_threats(session) if one.rule is not RULE]
        assert len(others) == len(THREAT_RULES) - 1
        assert not any(one.is_changed for one in others)
    scored = change_threat(database, RULE.name, ThreatDraft(score=0), WHO)
    assert (scored.is_enabled, scored.score) == (True, 0)
    back = change_threat(database, RULE.name, None, WHO)
    assert (back.is_enabled, back.score, back.is_changed) == (True, RULE.score, False)
    with database.read() as session:
        assert session.exec(select(ThreatSettingRow)).all() == []


def test_a_change_of_nothing_is_not_told(database: Database) -> None:
    """Neither to the nodes nor to the audit log."""
    change_threat(database, RULE.name, ThreatDraft(score=3), WHO)
    with database.read() as session:
        before = read_revision(session)
    change_threat(database, RULE.name, ThreatDraft(score=3), WHO)
    change_threat(database, THREAT_RULES[1].name, None, WHO)
    with database.read() as session:
        assert read_revision(session) == before
    assert audited(database) == [
        ({"is_enabled": True, "score": RULE.score}, {"is_enabled": True, "score": 3.0})
    ]
    change_threat(database, RULE.name, None, WHO)
    with database.read() as session:
        assert read_revision(session) > before


@pytest.mark.parametrize("name", ["", "no-such-rule", RULE.name.upper()])
def test_a_rule_that_is_not_there_is_not_found(sqlite_database: Database, name: str) -> None:
    """To read and to change; nothing is stored for it."""
    with sqlite_database.read() as session, pytest.raises(NotFound) as refused:
        read_threat(session, name)
    assert refused.value.detail == f'There is no threat rule "{name}".'
    with pytest.raises(NotFound, match="There is no threat rule"):
        change_threat(sqlite_database, name, ThreatDraft(), WHO)
    assert audited(sqlite_database) == []


SPEC = ClusterSpec(nodes=(NODE_A, NODE_B), vips=(VipSpec(address="::x", virtual_router_id=51),))


def with_domains(*names: str, **more: Any) -> ClusterSpec:
    """Return the cluster with recipient domains."""
    domains = tuple(RecipientDomain(name=name, **more) for name in names)
    return SPEC.model_copy(update={"recipient_domains": domains})


def test_a_problem_is_named_by_the_key_of_its_item() -> None:
    """An administrator counts no list from zero."""
    found = find_problems(with_domains("ok.tld", "bad", port=0, next_hop="mx.tld"))
    assert found["recipient_domains.bad.name"] == (
        '"bad" is not a full domain name: it has no dot.'
    )
    assert found["recipient_domains.ok.tld.port"] == "port 0 is not between 1 and 65535."
    assert found["vips.::x.address"].startswith('"::x" is not an IP address')


def test_only_what_a_change_brought_is_told() -> None:
    """In the words of the item's own fields, where it is known; by its key else."""
    before, after = with_domains("old"), with_domains("old", "new")
    sentence = '"new" is not a full domain name: it has no dot.'
    assert new_problems(before, before) == {}
    assert new_problems(before, after, DOMAINS, "new") == {"name": sentence}
    assert new_problems(before, after) == {"recipient_domains.new.name": sentence}
    assert new_problems(before, after, NODES, "node-a") == {"recipient_domains.new.name": sentence}
    assert new_problems(after, before) == {}


def test_each_item_of_a_list_has_its_first_problem() -> None:
    """By its place, as the lines of a file are counted; another list's are not among them."""
    routes = (
        SenderRoute(sender="@ok.tld", next_hop="mx.tld"),
        SenderRoute(sender="x", next_hop="", port=0),
        SenderRoute(sender="@ok.tld", next_hop="mx.tld"),
    )
    spec = with_domains("bad").model_copy(update={"routes": routes})
    assert index_problems(spec, ROUTES) == {
        1: '"x" has no @; write "@example.com" for a domain or a full address.',
        2: "@ok.tld is already used by routes.0.sender.",
    }
    assert list(index_problems(spec, DOMAINS)) == [0]


@pytest.mark.parametrize("noun", ALL_NOUNS, ids=lambda noun: noun.field)
def test_every_list_may_be_without_a_problem(noun: Any) -> None:
    """Then there is nothing to tell of it."""
    assert index_problems(ClusterSpec(nodes=(NODE_A,)), noun) == {}


@given(st.lists(st.integers(0, 2), max_size=12))
def test_a_value_is_made_anew_when_its_source_is_another(sources: list[int]) -> None:
    """Once for the same one after the other; what is returned belongs to what was asked."""
    made: list[int] = []

    def make(source: int) -> str:
        made.append(source)
        return f"made of {source}"

    memory: LastMade[int, str] = LastMade(make)
    assert [memory.of(source) for source in sources] == [f"made of {one}" for one in sources]
    changes = [one for at, one in enumerate(sources) if at == 0 or sources[at - 1] != one]
    assert made == changes


def test_a_source_that_cannot_be_made_leaves_what_was_made() -> None:
    """The next question makes it again."""
    memory: LastMade[int, float] = LastMade(lambda source: 6 / source)
    assert memory.of(2) == 3
    with pytest.raises(ZeroDivisionError):
        memory.of(0)
    assert (memory.of(2), memory.of(3)) == (3, 2)
