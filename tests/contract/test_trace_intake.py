"""Batches of the trace in any order, repeated, in pieces, hostile: the same story comes out."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete
from sqlmodel import select

from controlplane.core.trace import TraceStatus
from controlplane.store.engine import TRACE_LOCK, Database
from controlplane.store.log_search import Cursor
from controlplane.store.pruning import prune_trace
from controlplane.store.trace_intake import take_batch, take_in_parts
from controlplane.store.trace_search import (
    MOST_DELIVERIES,
    MOST_STEPS,
    TraceFilter,
    find_messages,
    read_timeline,
)
from controlplane.store.trace_tables import (
    TraceDeliveryRow,
    TraceMessageRow,
    TraceStepRow,
    TraceStreamRow,
)
from nodeagent.core.stream_wire import pack
from nodeagent.core.trace_wire import NumberedEntry, TraceBatch, TraceEntry, TraceKind, unpack
from tests.fakes.postfix_queue import queue_id
from tests.fakes.traces import START_S, STREAM, accepted, batch, entry, removed, tried

ONE, TWO = queue_id(1), queue_id(2)
TABLES = (TraceMessageRow, TraceDeliveryRow, TraceStepRow, TraceStreamRow)
FIXTURE_STAYS = [HealthCheck.function_scoped_fixture]


def empty(database: Database) -> None:
    """Forget everything that was traced."""
    with database.write(TRACE_LOCK) as session:
        for table in TABLES:
            session.execute(delete(table))


def take(database: Database, taken: TraceBatch, node: str = "node-a") -> int:
    """Store a batch as its node; return what is acknowledged."""
    with database.write(TRACE_LOCK) as session:
        return take_batch(session, node, taken).acknowledged


def story(database: Database) -> list[Any]:
    """Return what is known of every message, without the numbers that it was given."""
    told = []
    with database.read() as session:
        for found in find_messages(session, TraceFilter(), 100, recipients=100):
            timeline = read_timeline(session, found.message.number or 0)
            assert timeline is not None
            values = found.message.model_dump(exclude={"number"})
            tries = [one.model_dump(exclude={"message"}) for one in found.deliveries]
            told.append((values, tries, [vars(step) for step in timeline.steps]))
    return told


ADOPTED: Sequence[tuple[str, TraceEntry]] = (
    *(("node-a", entry(n, line)) for n, line in enumerate((
        f"smtpd[1]: {ONE}: client=mx.x.test[192.0.2.7]",
        f"cleanup[1]: {ONE}: message-id=<1@x.test>",
        f"qmgr[1]: {ONE}: from=<a@x.test>, size=300, nrcpt=2 (queue active)",
    ))),
    ("node-a", tried(ONE, 4, "deferred", "b@y.test")),
    ("node-a", tried(ONE, 5, "sent", "c@y.test")),
    ("node-b", entry(6, f"qmgr[1]: {ONE}: from=<a@x.test>, size=300, nrcpt=1 (queue active)")),
    ("node-b", tried(ONE, 7, "sent", "b@y.test")),
    ("node-b", removed(ONE, 8)),
)  # fmt: skip
"""A message that node-a began to deliver and node-b adopted, no two lines of one second."""


@settings(max_examples=10, suppress_health_check=FIXTURE_STAYS, deadline=None)
@given(
    pieces=st.lists(
        st.tuples(st.sampled_from(["node-a", "node-b"]), st.integers(0, 5), st.integers(1, 5)),
        max_size=5,
    )
)
def test_the_story_does_not_depend_on_how_it_arrived(
    database: Database, pieces: list[tuple[str, int, int]]
) -> None:
    """Two nodes' batches interleaved and cut anywhere, each sent again at any time later."""
    whole = {node: [line for of, line in ADOPTED if of == node] for node in ("node-a", "node-b")}
    told = []
    for order in ([], pieces):
        empty(database)
        sent = dict.fromkeys(whole, 0)
        for node, first, length in (*order, ("node-b", 0, 9), ("node-a", 0, 9)):
            start = min(first, sent[node], len(whole[node]) - 1)
            lines = whole[node][start : start + length]
            sent[node] = max(sent[node], start + len(lines))
            assert take(database, batch(lines, first=start + 1), node) == sent[node]
        told.append(story(database))
    assert told[0] == told[1]
    assert told[0][0][0]["status"] == TraceStatus.DELIVERED.value


HOSTILE = {
    "nul": "a\x00b",
    "quotes": "'; DROP TABLE trace_messages; --",
    "longer in lower case": "\u0130" * 255,
    "emoji": "\U0001f4a9" * 255,
    "last character": "\U0010ffff" * 10,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_strangers_text_is_stored_in_every_field(database: Database, text: str) -> None:
    """A batch that is refused is repeated for ever, and nothing behind it would arrive."""
    entries = [
        TraceEntry(
            at=START_S + place,
            kind=kind,
            service=text,
            text=text,
            queue_id=ONE,
            sender=text,
            recipient=text,
            client_name=text,
            client_address=text,
            helo=text,
            login=text,
            message_id=text,
            relay=text,
            status="sent" if kind is TraceKind.DELIVERY else None,
        )
        for place, kind in enumerate(TraceKind)
    ]
    assert take(database, unpack(pack(batch(entries)))) == len(entries)
    shown = text.replace("\x00", "\ufffd")
    ((message, (delivery,), steps),) = story(database)
    assert (message["sender"], message["helo"], delivery["recipient"]) == (shown,) * 3
    assert {step["text"] for step in steps} == {shown}
    for wanted in ({"sender": shown}, {"recipient": shown}, {"client": shown}):
        if len(shown.lower()) <= 255:
            with database.read() as session:
                assert len(find_messages(session, TraceFilter(**wanted), 2)) == 1, wanted


def test_numbers_may_be_left_out_and_in_any_order(database: Database) -> None:
    """What was dropped on the node leaves a hole; a batch is judged by its highest number."""
    lines = accepted(ONE)
    jumbled = tuple(
        NumberedEntry(number=number, entry=line)
        for number, line in zip((9, 3, 2**53), lines, strict=True)
    )
    assert take(database, TraceBatch(stream=STREAM, entries=jumbled)) == 2**53
    assert take(database, batch(accepted(TWO), first=10)) == 2**53
    with database.read() as session:
        found = find_messages(session, TraceFilter(), 10)
        assert [one.message.queue_id for one in found] == [ONE]


def test_the_same_stream_name_of_two_nodes_is_two_streams(database: Database) -> None:
    """A cloned disk brings the same name twice; neither hides the other's lines."""
    take(database, batch(accepted(ONE)), "node-a")
    assert take(database, batch(accepted(TWO)), "node-b") == 3
    with database.read() as session:
        found = find_messages(session, TraceFilter(), 10)
        assert {(one.message.queue_id, one.message.node) for one in found} == {
            (ONE, "node-a"),
            (TWO, "node-b"),
        }


def test_batches_of_two_nodes_at_once_lose_no_line(database: Database) -> None:
    """Both speak of one message for the first time, on two instances."""
    nodes = [f"node-{letter}" for letter in "abcd"]
    lines = {node: [tried(ONE, n, "sent", f"{node}@y.test")] for n, node in enumerate(nodes)}

    def bring(node: str) -> int:
        return take(database, batch(lines[node]), node)

    with ThreadPoolExecutor(len(nodes)) as pool:
        assert list(pool.map(bring, nodes)) == [1] * len(nodes)
    ((message, deliveries, steps),) = story(database)
    assert message["queue_id"] == ONE
    assert sorted(one["recipient"] for one in deliveries) == [f"{node}@y.test" for node in nodes]
    assert len(steps) == len(nodes)


def test_a_doubled_delivery_is_counted_and_shown(database: Database) -> None:
    """Sent by the old owner after its last push, and by the adopter: P7 counts it."""
    take(database, batch([*accepted(ONE), tried(ONE, 5, "sent")]), "node-a")
    take(database, batch([tried(ONE, 9, "sent"), removed(ONE, 10)]), "node-b")
    ((_message, (delivery,), _steps),) = story(database)
    assert (delivery["sent"], delivery["tries"], delivery["node"]) == (2, 2, "node-b")


def test_an_address_probe_is_no_delivery(database: Database) -> None:
    """verify(8) asks whether a recipient would be taken; no mail was sent to it."""
    probe = entry(
        1,
        f"smtp[1]: {ONE}: to=<b@y.test>, relay=mx[192.0.2.9]:25, delay=1, delays=0/0/0/1, "
        "dsn=2.1.5, status=deliverable (250 2.1.5 Ok)",
    )
    take(database, batch([probe]))
    ((message, deliveries, steps),) = story(database)
    assert (deliveries, len(steps)) == ([], 1)
    assert message["status"] != TraceStatus.DELIVERED.value


def test_recipients_in_another_case_are_one_recipient(database: Database) -> None:
    """Postfix logs the address as it was written; the second try is of the same mailbox."""
    lines = [
        *accepted(ONE),
        tried(ONE, 1, "deferred", "B@Y.Test"),
        tried(ONE, 2, "sent", "b@y.test"),
    ]
    take(database, batch(lines))
    ((message, (delivery,), _steps),) = story(database)
    assert (delivery["recipient"], delivery["tries"]) == ("B@Y.Test", 2)
    assert message["status"] == TraceStatus.DELIVERED.value


def test_a_message_with_more_than_is_shown_says_so(database: Database) -> None:
    """Neither its recipients nor its lines are shown without end, and nobody thinks it is all."""
    take(database, batch(accepted(ONE)))
    for start in range(0, MOST_STEPS, 250):
        tries = [tried(ONE, 1 + n, "sent", f"r{n % 199}@y.test") for n in range(start, start + 250)]
        take(database, batch(tries, first=start + 4))
    with database.read() as session:
        found = read_timeline(session, session.exec(select(TraceMessageRow)).one().number or 0)
    assert found is not None
    assert (len(found.steps), len(found.deliveries), found.is_cut) == (MOST_STEPS, 199, True)


def test_as_many_recipients_as_are_shown_are_not_cut(database: Database) -> None:
    """One more is."""
    lines = [tried(ONE, 1, "sent", f"r{n}@y.test") for n in range(MOST_DELIVERIES)]
    take(database, batch(lines))
    for more, is_cut in ((0, False), (1, True)):
        if more:
            take(database, batch([tried(ONE, 2, "sent", "more@y.test")], first=1000))
        with database.read() as session:
            number = session.exec(select(TraceMessageRow)).one().number
            found = read_timeline(session, number or 0)
        assert found is not None
        assert (len(found.deliveries), found.is_cut) == (MOST_DELIVERIES, is_cut)


def test_a_trace_that_was_pruned_begins_anew_with_a_late_line(database: Database) -> None:
    """What is older stays away: its numbers were acknowledged, and only the new line is told."""
    take(database, batch([*accepted(ONE), tried(ONE, 1, "deferred")]))
    with database.write(TRACE_LOCK) as session:
        session.exec(select(TraceMessageRow)).one().last_at = 1.0
    with database.write(TRACE_LOCK) as session:
        assert prune_trace(session, 1) == 1
    take(database, batch([*accepted(ONE), tried(ONE, 1, "deferred"), tried(ONE, 60, "sent")]))
    ((message, (delivery,), steps),) = story(database)
    assert (len(steps), delivery["tries"], message["first_at"]) == (1, 1, START_S + 60)


@pytest.mark.parametrize(
    "at", [0.0, 0.000001, 1.5, START_S + 0.123456, 8_589_934_591.0, 8_589_934_591.999999]
)
def test_the_place_of_any_message_is_a_page_of_its_own(database: Database, at: float) -> None:
    """A host that started without a clock logs 1970; a page behind its mail still goes on."""
    lines = [
        TraceEntry(at=at, kind=TraceKind.NOTE, queue_id=queue_id(n), text="x") for n in range(3)
    ]
    take(database, batch(lines))
    seen: list[str | None] = []
    after: Cursor | None = None
    with database.read() as session:
        while found := find_messages(session, TraceFilter(), 1, after):
            (one,) = found
            seen.append(one.message.queue_id)
            after = Cursor.read(Cursor(one.message.first_at, one.message.number or 0).text())
    assert seen == [queue_id(2), queue_id(1), queue_id(0)]


def test_filters_take_stars_and_signs_for_themselves(database: Database) -> None:
    """Only a star at the end stands for anything; LIKE's signs and quotes are letters."""
    senders = ("a%b@x.test", "a_b@x.test", "a*b@x.test", "a'b@x.test", "acb@x.test")
    for place, sender in enumerate(senders):
        ident = queue_id(place)
        take(database, batch(accepted(ident, sender=sender), first=place * 3 + 1))
    for wanted, count in (
        ("a%b@x.test", 1),
        ("a_b@x.test", 1),
        ("a*b@x.test", 1),
        ("a'b@x.test", 1),
        ("a*", 5),
        ("*", 5),
        ("**", 0),
        ("a%*", 1),
        ("%", 0),
        ("@x.test", 5),
        ("@x*", 5),
        ("@*", 5),
        ("@", 0),
        ("  A_B@X.TEST ", 1),
    ):
        with database.read() as session:
            assert len(find_messages(session, TraceFilter(sender=wanted), 9)) == count, wanted


def test_a_client_is_found_by_any_spelling_of_its_address(database: Database) -> None:
    """IPv6 has many; a beginning is compared as it is written."""
    line = f"smtpd[1]: {ONE}: client=mx.x.test[2001:db8::1]"
    take(database, batch([entry(0, line)]))
    for wanted, is_found in (
        ("2001:db8::1", True),
        ("2001:0DB8:0:0:0:0:0:1", True),
        ("2001:db8:*", True),
        ("2001:db8::2", False),
        ("mx.x.*", True),
        ("x.test", False),
    ):
        with database.read() as session:
            found = find_messages(session, TraceFilter(client=wanted), 9)
        assert bool(found) is is_found, wanted


def test_a_long_batch_lets_others_in_between(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its parts are transactions of their own; what a failure cut off is brought again, once."""
    monkeypatch.setattr("controlplane.store.trace_intake.ENTRIES_AT_ONCE", 3)
    whole = batch([line for number in range(5) for line in accepted(queue_id(number), number)])
    torn = whole.model_copy(update={"entries": (*whole.entries[:7], None)})
    with pytest.raises(AttributeError):
        take_in_parts(database, "node-a", torn)
    assert len(story(database)) == 2
    assert take_in_parts(database, "node-a", whole).acknowledged == whole.entries[-1].number
    assert len(story(database)) == 5
