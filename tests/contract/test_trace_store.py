"""The message trace in the database: each entry once, in whatever order the nodes bring them."""

from __future__ import annotations

import pytest
from sqlmodel import select

from controlplane.core.trace import TraceStatus
from controlplane.store.engine import TRACE_LOCK, Database
from controlplane.store.log_search import Cursor
from controlplane.store.ownership_tables import EventRow, ReceiptIdRow, ReceiptRow
from controlplane.store.pruning import prune_trace
from controlplane.store.trace_intake import take_batch
from controlplane.store.trace_search import TraceFilter, find_messages, read_timeline
from controlplane.store.trace_tables import TraceDeliveryRow, TraceMessageRow, TraceStepRow
from nodeagent.core.trace_wire import TraceBatch, TraceEntry, TraceKind
from tests.fakes.postfix_queue import queue_id
from tests.fakes.traces import START_S, accepted, batch, entry, removed, tried

ONE, TWO = queue_id(1), queue_id(2)


def take(database: Database, taken: TraceBatch, node: str = "node-a") -> int:
    """Store a batch as its node; return what is acknowledged."""
    with database.write(TRACE_LOCK) as session:
        return take_batch(session, node, taken).acknowledged


def find(database: Database, **wanted: object) -> list[str | None]:
    """Return the queue ids that a search finds."""
    with database.read() as session:
        found = find_messages(session, TraceFilter(**wanted), 100)  # type: ignore[arg-type]
        return [one.message.queue_id for one in found]


def status(database: Database, wanted: str) -> str:
    """Return what has become of a message."""
    with database.read() as session:
        found = find_messages(session, TraceFilter(queue_id=wanted), 2)
        assert len(found) == 1
        return found[0].message.status


def test_a_batch_is_stored_once_however_often_it_comes(database: Database) -> None:
    """An answer that was lost has the node send again; what is new in it is taken."""
    lines = [*accepted(ONE), tried(ONE, 1, "deferred")]
    assert take(database, batch(lines)) == 4
    assert take(database, batch(lines)) == 4
    assert take(database, batch([*lines, tried(ONE, 2, "sent")])) == 5
    with database.read() as session:
        steps = session.exec(select(TraceStepRow)).all()
        delivery = session.exec(select(TraceDeliveryRow)).one()
    assert len(steps) == 5
    assert (delivery.tries, delivery.sent, delivery.status) == (2, 1, "sent")
    assert (delivery.relay, delivery.dsn, delivery.reply) == (
        "mx[192.0.2.9]:25",
        "2.0.0",
        "said sent",
    )


def test_another_stream_counts_for_itself(database: Database) -> None:
    """A node whose disk was replaced begins at 1 again."""
    take(database, batch(accepted(ONE), first=1000))
    assert take(database, batch(accepted(TWO), stream="1" * 32)) == 3
    assert set(find(database)) == {ONE, TWO}


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([entry(0, f"smtpd[1]: {ONE}: client=x[192.0.2.7]")], TraceStatus.OPEN),
        (accepted(ONE), TraceStatus.QUEUED),
        ([*accepted(ONE), tried(ONE, 1, "deferred")], TraceStatus.DEFERRED),
        ([*accepted(ONE), tried(ONE, 1, "sent")], TraceStatus.DELIVERED),
        ([*accepted(ONE), tried(ONE, 1, "bounced"), removed(ONE, 2)], TraceStatus.BOUNCED),
        ([*accepted(ONE), entry(1, f"postsuper[1]: {ONE}: removed")], TraceStatus.DELETED),
        (
            [
                *accepted(ONE),
                entry(1, f"qmgr[1]: {ONE}: from=<a@x.test>, status=expired, returned to sender"),
                removed(ONE, 2),
            ],
            TraceStatus.EXPIRED,
        ),
        (
            [entry(0, f"cleanup[1]: {ONE}: milter-reject: END-OF-MESSAGE from x[192.0.2.7]: 5 no")],
            TraceStatus.REJECTED,
        ),
    ],
)
def test_what_has_become_of_a_message(
    database: Database, lines: list[TraceEntry], expected: TraceStatus
) -> None:
    """The status follows from the lines, also when they come one by one."""
    for number, line in enumerate(lines):
        take(database, batch([line], first=number + 1))
    assert status(database, ONE) == expected


def test_an_old_node_that_comes_back_does_not_undo_what_is_newer(database: Database) -> None:
    """Late lines join in at their time; the last word is the latest, not the last to arrive."""
    take(database, batch([tried(ONE, 60, "sent"), removed(ONE, 61)]), "node-b")
    take(database, batch([*accepted(ONE), tried(ONE, 5, "deferred")]), "node-a")
    assert status(database, ONE) == "delivered"
    with database.read() as session:
        message = session.exec(select(TraceMessageRow)).one()
        found = read_timeline(session, message.number or 0)
    assert (message.first_at, message.last_at, message.node) == (START_S, START_S + 61, "node-b")
    assert found is not None
    assert [step.node for step in found.steps] == ["node-a"] * 4 + ["node-b"] * 2
    assert found.deliveries[0].first_at == START_S


def test_the_timeline_shows_the_adoption(database: Database) -> None:
    """The receipt that names the queue id, and the loser's note, stand between the lines."""
    take(database, batch(accepted(ONE)), "node-a")
    take(database, batch([tried(ONE, 60, "sent")]), "node-b")
    with database.write() as session:
        receipt = ReceiptRow(
            number=3, queue="node-a", generation=2, holder="node-b", messages=1,
            committed_at=START_S + 30.0,
        )  # fmt: skip
        session.add_all([receipt, ReceiptIdRow(id=ONE, number=3)])
        for number, at in ((1, 20.0), (2, 90.0)):
            session.add(
                EventRow(
                    event_id=str(number), node="node-a", kind="reconciled", text=f"note {number}",
                    happened_at=START_S + at, received_at=START_S + at,
                )
            )  # fmt: skip
    with database.read() as session:
        number = session.exec(select(TraceMessageRow)).one().number
        found = read_timeline(session, number or 0)
    assert found is not None
    assert [(step.kind, step.node) for step in found.steps[3:]] == [
        ("adopted", "node-b"),
        ("delivery", "node-b"),
        ("retired", "node-a"),
    ]
    assert found.steps[-1].text == "note 2"


def test_each_filter_finds_its_messages(database: Database) -> None:
    """Whole addresses in any case, domains, beginnings, clients, ids, status and time."""
    take(database, batch([*accepted(ONE, 0, "Olga@Mail.Test"), tried(ONE, 1, "sent", "B@Y.test")]))
    take(database, batch([*accepted(TWO, 100, ""), tried(TWO, 101, "deferred")], first=100))
    both = [TWO, ONE]
    for wanted, expected in (
        ({}, both),
        ({"sender": "olga@mail.test"}, [ONE]),
        ({"sender": "<olga@mail.test>"}, [ONE]),
        ({"sender": "@MAIL.test"}, [ONE]),
        ({"sender": "ol*"}, [ONE]),
        ({"sender": "lga*"}, []),
        ({"sender": "<>"}, [TWO]),
        ({"recipient": "b@y.test"}, both),
        ({"recipient": "@y.te*", "sender": "<>"}, [TWO]),
        ({"recipient": "@y.test", "status": TraceStatus.DEFERRED}, [TWO]),
        ({"recipient": "%"}, []),
        ({"client": "192.0.2.7"}, both),
        ({"client": "192.0.2.*"}, both),
        ({"client": "192.0.2"}, []),
        ({"client": "MX.x.test"}, both),
        ({"message_id": f"<{ONE}@x.test>"}, [ONE]),
        ({"queue_id": TWO}, [TWO]),
        ({"since_s": START_S + 1.0}, [TWO]),
        ({"until_s": START_S + 100.0, "recipient": "b*"}, [ONE]),
    ):
        assert find(database, **wanted) == expected, wanted


def test_pages_join_without_a_hole_or_a_double(database: Database) -> None:
    """Messages of one second are told apart by their numbers."""
    ids = [queue_id(number) for number in range(1, 24)]
    take(database, batch([line for one in ids for line in (*accepted(one), tried(one, 1, "sent"))]))
    for wanted in (TraceFilter(), TraceFilter(recipient="@y.test")):
        seen: list[str | None] = []
        after: Cursor | None = None
        with database.read() as session:
            while found := find_messages(session, wanted, 5, after):
                seen += [one.message.queue_id for one in found]
                last = found[-1].message
                after = Cursor.read(Cursor(last.first_at, last.number or 0).text())
        assert seen == ids[::-1]


def test_a_refusal_without_a_queue_id_is_a_row_of_its_own(database: Database) -> None:
    """Two of them are two, found by sender, recipient and client."""
    line = entry(
        0,
        "smtpd[1]: NOQUEUE: reject: RCPT from u[192.0.2.66]: 554 5.7.1 no; from=<s@x.test> "
        "to=<r@z.test> proto=ESMTP helo=<h>",
    )
    take(database, batch([line, line]))
    for wanted in ({"sender": "s@x.test"}, {"recipient": "@z.test"}, {"client": "192.0.2.66"}):
        assert find(database, **wanted, status=TraceStatus.REJECTED) == [None, None]


def test_a_gap_is_an_event(database: Database) -> None:
    """What is missing is said where operators look."""
    gap = TraceEntry(at=START_S, kind=TraceKind.GAP, text="7 lines were dropped.", lost=7)
    take(database, batch([gap]))
    take(database, batch([gap]))
    with database.read() as session:
        events = session.exec(select(EventRow)).all()
    assert [(one.kind, one.node, one.data["lost"]) for one in events] == [
        ("trace-gap", "node-a", 7)
    ]


def test_what_is_old_is_pruned_whole(database: Database) -> None:
    """A message goes with its lines and recipients, by its last line; others stay."""
    take(database, batch([*accepted(ONE), tried(ONE, 1, "sent")]))
    new = TraceEntry(at=2**33 - 1, kind=TraceKind.NOTE, queue_id=TWO, text="far ahead")
    take(database, batch([new], first=100))
    with database.write(TRACE_LOCK) as session:
        others = session.exec(select(TraceMessageRow).where(TraceMessageRow.queue_id == ONE)).all()
        for one in others:
            one.last_at = 1.0
            session.add(one)
    with database.write(TRACE_LOCK) as session:
        assert prune_trace(session, 1) == 1
    assert find(database) == [TWO]
    with database.read() as session:
        assert len(session.exec(select(TraceStepRow)).all()) == 1
        assert session.exec(select(TraceDeliveryRow)).all() == []
