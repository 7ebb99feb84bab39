"""The policy log in the database: each entry once, counted once, found, and gone in time."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, event, func, inspect, text
from sqlmodel import col, select

from controlplane.errors import Invalid
from controlplane.store.clock import SECONDS_A_DAY, read_clock_s
from controlplane.store.engine import POLICY_LOG_LOCK, Database
from controlplane.store.log_search import Cursor
from controlplane.store.ownership_tables import EventRow
from controlplane.store.policy_log_counts import (
    DAY_S,
    FINE_KEEP_S,
    HOUR_S,
    Counts,
    What,
    count_recent,
    prune_counts,
    read_trends,
)
from controlplane.store.policy_log_intake import ENTRIES_AT_ONCE, take_batch, take_in_parts
from controlplane.store.policy_log_search import (
    MOST_COUNTED,
    ConnectionFilter,
    LogFilter,
    ThreatFilter,
    count_threats,
    find_arrived,
    find_arrived_connections,
    find_connections,
    find_messages,
    find_threats,
    find_threats_after,
    read_message,
)
from controlplane.store.policy_log_tables import (
    PolicyConnectionRow,
    PolicyCountRow,
    PolicyMessageRow,
    PolicyQuarantineRow,
    PolicyStreamRow,
    PolicyThreatRow,
)
from controlplane.store.policy_partitions import (
    DAYS_AHEAD,
    PARTITION_NAME,
    PARTITIONED,
    drop_days_before,
    ensure_partitions,
    partition_name,
    today,
)
from nodeagent.policy.log_wire import Door, LogBatch, LogEntry, NumberedLogEntry
from nodeagent.policy.model import RuleKind, Severity, Stage, Verdict
from tests.fakes.policy_logs import (
    START_S,
    accepted,
    batch,
    blocked,
    connection,
    fired,
    gap,
    limited,
    quarantined,
)
from tests.fakes.postfix_queue import queue_id

ONE, TWO = queue_id(1), queue_id(2)
TABLES = (
    *PARTITIONED,
    *(PolicyCountRow, PolicyQuarantineRow, PolicyStreamRow),
)


def take(database: Database, taken: LogBatch, node: str = "node-a") -> int:
    """Store a batch as its node; return what is acknowledged."""
    with database.write(POLICY_LOG_LOCK) as session:
        return take_batch(session, node, taken).acknowledged


def clock_s(database: Database) -> float:
    """Return the database's time."""
    with database.read() as session:
        return read_clock_s(session)


def empty(database: Database) -> None:
    """Forget everything that was logged."""
    with database.write(POLICY_LOG_LOCK) as session:
        for table in TABLES:
            session.execute(delete(table))


def sizes(database: Database) -> dict[str, int]:
    """Return how many rows there are, by table."""
    with database.read() as session:
        return {
            str(table.__tablename__): session.execute(
                select(func.count()).select_from(table)
            ).scalar_one()
            for table in PARTITIONED
        }


def day_counts(database: Database) -> Counts:
    """Return the numbers of the last day."""
    with database.read() as session:
        return count_recent(session)


def threats(database: Database, **wanted: Any) -> list[str]:
    """Return the rules that a search of the threat log finds."""
    with database.read() as session:
        return [row.rule for row in find_threats(session, ThreatFilter(**wanted), 100)]


def found(database: Database, **wanted: Any) -> list[str]:
    """Return the verdicts that a search of the log finds."""
    with database.read() as session:
        return [row.verdict for row in find_messages(session, LogFilter(**wanted), 100)]


ALL = ("accept", "reject", "tempfail", "quarantine")


def day_of_entries(now_s: float) -> list[LogEntry]:
    """Return a bit of everything, a second between."""
    return [
        connection(now_s - 5),
        accepted(now_s - 4),
        blocked(now_s - 3),
        limited(now_s - 2),
        quarantined(ONE, now_s - 1),
    ]


def test_a_batch_is_stored_and_counted_once_however_often_it_comes(database: Database) -> None:
    """An answer that was lost has the node send again; what is new in it is taken."""
    entries = day_of_entries(clock_s(database))
    assert take(database, batch(entries)) == 5
    assert take(database, batch(entries)) == 5
    assert take(database, batch([*entries, accepted(clock_s(database))])) == 6
    assert sizes(database) == {
        "policy_log_messages": 5,
        "policy_log_threats": 5,
        "policy_log_connections": 1,
    }
    counts = day_counts(database)
    assert counts == Counts(
        threats=5, blocked=2, rate_blocks=1, quarantined=1, accepted=2, connections=1
    )


def test_a_batch_is_taken_in_parts(database: Database) -> None:
    """More entries than one transaction takes; the answer is that of the last part."""
    entries = [connection(START_S + n) for n in range(ENTRIES_AT_ONCE + 3)]
    assert take_in_parts(database, "node-a", batch(entries)).acknowledged == len(entries)
    assert take_in_parts(database, "node-a", batch(entries)).acknowledged == len(entries)
    assert sizes(database)["policy_log_connections"] == len(entries)


def test_streams_and_nodes_count_for_themselves(database: Database) -> None:
    """A node whose disk was replaced begins at 1 again, and so does every node."""
    take(database, batch([accepted()], first=1000))
    assert take(database, batch([accepted()], stream="b" * 32)) == 1
    assert take(database, batch([accepted()]), "node-b") == 1
    assert sizes(database)["policy_log_messages"] == 3


def test_no_number_is_given_twice(database: Database) -> None:
    """Decisions and threats share one row of numbers, also after all of it was deleted."""
    take(database, batch([quarantined(ONE), blocked()]))
    with database.read() as session:
        before = list(session.execute(select(col(PolicyMessageRow.number))).scalars())
        before += session.execute(select(col(PolicyThreatRow.number))).scalars()
    assert len(set(before)) == 5
    with database.write(POLICY_LOG_LOCK) as session:
        session.execute(delete(PolicyMessageRow))
    take(database, batch([accepted()], first=10))
    with database.read() as session:
        assert session.exec(select(PolicyMessageRow)).one().number > max(before)


def test_a_decision_is_kept_whole(database: Database) -> None:
    """What came is what is shown, with every rule, also the harmless ones."""
    entry = quarantined(ONE, START_S, login="ann", text="held")
    take(database, batch([entry]))
    with database.read() as session:
        row = session.exec(select(PolicyMessageRow)).one()
        assert read_message(session, row.number) == row
        assert read_message(session, row.number + 1000) is None
    assert (row.at, row.node, row.verdict, row.stage) == (START_S, "node-a", "quarantine", "data")
    assert (row.sender, row.sender_key, row.sender_domain) == ("Ann@X.test", "ann@x.test", "x.test")
    assert (row.recipients, row.recipient_count, row.login) == (["bob@y.test"], 1, "ann")
    assert [one["rule"] for one in row.fired] == ["allow:1", "badword:17", "threat:sql-union"]


def test_the_threat_log_has_what_weighs(database: Database) -> None:
    """The allowlist and rules that only noted something are no threats; a score alone is one."""
    noted = fired(RuleKind.AUTHENTICATION, "spf", Verdict.ACCEPT)
    allowed = fired(RuleKind.ALLOWLIST, "allow:9", Verdict.ACCEPT, severity=Severity.LOW)
    mild = fired(RuleKind.BADWORD, "badword:1", Verdict.ACCEPT, severity=Severity.LOW)
    take(database, batch([accepted(fired=(noted, allowed, mild)), quarantined(ONE)]))
    with database.read() as session:
        rows = session.exec(select(PolicyThreatRow).order_by(col(PolicyThreatRow.number))).all()
        message = session.exec(
            select(PolicyMessageRow).where(col(PolicyMessageRow.verdict) == "quarantine")
        ).one()
    assert [(row.rule, row.severity, row.verdict) for row in rows] == [
        ("badword:1", "low", "accept"),
        ("badword:17", "high", "quarantine"),
        ("threat:sql-union", None, "quarantine"),
    ]
    assert {row.message for row in rows[1:]} == {message.number}
    assert (rows[1].matched, rows[1].client, rows[1].sender) == (
        *("casino", "192.0.2.66"),
        "Ann@X.test",
    )


def test_redacted_entries_stay_redacted(database: Database) -> None:
    """What the node did not tell is null, and finds nothing."""
    nothing: dict[str, Any] = dict.fromkeys(("client", "helo", "sender", "message_id"))
    take(database, batch([accepted(**nothing, recipients=()), accepted(sender="")]))
    with database.read() as session:
        row = session.exec(select(PolicyMessageRow).order_by(col(PolicyMessageRow.number))).first()
    assert row is not None
    assert (row.client, row.sender, row.sender_key, row.sender_domain) == (None, None, None, None)
    assert found(database, sender="<>") == ["accept"]


def test_a_gap_is_an_event_and_no_entry(database: Database) -> None:
    """What a node could not keep is said where people look."""
    assert take(database, batch([gap(12), accepted()])) == 2
    with database.read() as session:
        event = session.exec(select(EventRow)).one()
    assert (event.kind, event.node, event.data["lost"]) == ("policy-log-gap", "node-a", 12)
    assert event.text == "node-a: The disk was full."
    assert sizes(database)["policy_log_messages"] == 1


def test_nul_is_no_reason_to_repeat_for_ever(database: Database) -> None:
    """PostgreSQL takes no NUL in any text; it is shown as a character that is none."""
    rule = fired(RuleKind.BADWORD, "bad\0word", Verdict.QUARANTINE, matched="a\0b")
    odd = quarantined(
        ONE, fired=(rule,), subject="x\0y", recipients=("a\0@x.test",), helo="\0", reply="\0"
    )
    assert take(database, batch([odd, connection(helo="a\0b", client="\0")])) == 2
    with database.read() as session:
        message = session.exec(select(PolicyMessageRow)).one()
        threat = session.exec(select(PolicyThreatRow)).one()
        held = session.exec(select(PolicyQuarantineRow)).one()
    assert (message.subject, message.recipients) == ("x\ufffdy", ["a\ufffd@x.test"])
    assert (threat.rule, threat.matched) == ("bad\ufffdword", "a\ufffdb")
    assert held.fired[0]["rule"] == "bad\ufffdword"


def test_each_filter_of_the_log_finds_its_decisions(database: Database) -> None:
    """Verdict, stage, node, sender in any case, domain, beginnings, client, ids, time."""
    take(
        database,
        batch(
            [
                accepted(START_S, message_id="<2@x.test>"),
                blocked(START_S + 1, client="2001:DB8::1", sender="olga@mail.test"),
                limited(START_S + 2, sender="", door="http"),
            ]
        ),
    )
    take(database, batch([quarantined(ONE, START_S + 3)]), "node-b")
    newest = list(reversed(ALL))
    for wanted, expected in (
        ({}, newest),
        ({"verdict": Verdict.REJECT}, ["reject"]),
        ({"stage": Stage.MAIL}, ["tempfail"]),
        ({"door": "http"}, ["tempfail"]),
        ({"node": "node-b"}, ["quarantine"]),
        ({"sender": "ANN@x.TEST"}, ["quarantine", "accept"]),
        ({"sender": "@mail.test"}, ["reject"]),
        ({"sender": "ol*"}, ["reject"]),
        ({"sender": "<>"}, ["tempfail"]),
        ({"client": "2001:db8:0::1"}, ["reject"]),
        ({"client": "192.0.*"}, ["quarantine", "tempfail", "accept"]),
        ({"queue_id": ONE}, ["quarantine"]),
        ({"message_id": "2@x.test"}, ["accept"]),
        ({"since_s": START_S + 2}, ["quarantine", "tempfail"]),
        ({"until_s": START_S + 1}, ["accept"]),
    ):
        assert found(database, **wanted) == expected, wanted


def test_each_filter_of_the_threat_log_finds_its_lines(database: Database) -> None:
    """Severity, type, rule or its beginning, time."""
    take(database, batch([blocked(START_S), limited(START_S + 1), quarantined(ONE, START_S + 2)]))
    for wanted, expected in (
        ({}, ["threat:sql-union", "badword:17", "rate:2", "rate:1", "block:7"]),
        ({"severity": Severity.HIGH}, ["badword:17"]),
        ({"kind": RuleKind.RATE}, ["rate:2", "rate:1"]),
        ({"rule": "rate:1"}, ["rate:1"]),
        ({"rule": "rate:*"}, ["rate:2", "rate:1"]),
        ({"since_s": START_S + 2}, ["threat:sql-union", "badword:17"]),
        ({"until_s": START_S + 1}, ["block:7"]),
    ):
        assert threats(database, **wanted) == expected, wanted
    with database.read() as session:
        some = find_threats(session, ThreatFilter(), 2, offset=1)
        total = count_threats(session, ThreatFilter(kind=RuleKind.RATE))
    assert [row.rule for row in some] == ["badword:17", "rate:2"]
    assert (total.count, total.is_more) == (2, False)


def test_counting_ends_where_nobody_reads_on(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A total is exact up to its limit, and says when there is more."""
    assert MOST_COUNTED >= 10_000
    monkeypatch.setattr("controlplane.store.policy_log_search.MOST_COUNTED", 3)
    take(database, batch([blocked(), blocked(), blocked()]))
    with database.read() as session:
        assert vars(count_threats(session, ThreatFilter())) == {"count": 3, "is_more": False}
    take(database, batch([blocked()], first=10))
    with database.read() as session:
        assert vars(count_threats(session, ThreatFilter())) == {"count": 3, "is_more": True}


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_pages_follow_one_another(database: Database, size: int) -> None:
    """Each entry is on exactly one page, also where many have the same time."""
    entries = [*(connection(START_S + n // 3) for n in range(7)), blocked(), blocked(), blocked()]
    take(database, batch(entries))
    for find in (find_connections, find_messages, find_threats_after):
        seen: list[int] = []
        after: Cursor | None = None
        wanted: Any = {
            find_connections: ConnectionFilter(),
            find_messages: LogFilter(),
            find_threats_after: ThreatFilter(),
        }[find]
        while True:
            with database.read() as session:
                page: Any = find(session, wanted, size, after)
            seen += [row.number for row in page]
            if len(page) < size:
                break
            after = Cursor.read(Cursor(page[-1].at, page[-1].number).text())
        assert len(seen) == len(set(seen)) == (7 if find is find_connections else 3)
        assert seen == sorted(seen, reverse=True)
    with pytest.raises(Invalid):
        Cursor.read("x")


def test_connections_are_found_by_client(database: Database) -> None:
    """Whole or by the beginning, on one node or on all."""
    take(database, batch([connection(client="192.0.2.7"), connection(client="2001:db8::1")]))
    with database.read() as session:
        for wanted, count in (
            (ConnectionFilter(), 2),
            (ConnectionFilter(client="192.0.2.7"), 1),
            (ConnectionFilter(client="2001:DB8:*"), 1),
            (ConnectionFilter(node="node-b"), 0),
            (ConnectionFilter(until_s=START_S), 0),
        ):
            assert len(find_connections(session, wanted, 10)) == count, wanted


@pytest.mark.parametrize("size", [1, 3, 100])
def test_logs_are_followed_in_the_order_of_arrival(database: Database, size: int) -> None:
    """Both that can be; each entry once, however old it says it is, and those alone that fit."""
    late_s = START_S - 86_400
    first = [connection(), accepted(), connection(late_s, helo="late"), blocked(late_s)]
    take(database, batch(first))
    take(database, batch([connection(client="198.51.100.1"), limited()], first=5))
    followed: tuple[tuple[Any, Any, str, list[str | None]], ...] = (
        (find_arrived_connections, ConnectionFilter(), "helo", ["mx.x.test", "late", "mx.x.test"]),
        (find_arrived_connections, ConnectionFilter(client="192.0.2.66", until_s=START_S), "helo",
         ["late"]),
        (find_arrived_connections, ConnectionFilter(node="node-b"), "helo", []),
        (find_arrived, LogFilter(), "verdict", ["accept", "reject", "tempfail"]),
        (find_arrived, LogFilter(since_s=START_S), "verdict", ["accept", "tempfail"]),
    )  # fmt: skip
    for find, wanted, name, expected in followed:
        seen: list[str | None] = []
        last = 0
        while True:
            with database.read() as session:
                page = find(session, wanted, size, last)
            if not page:
                break
            assert len(page) <= size
            assert [row.number for row in page] == sorted(row.number for row in page)
            seen += [getattr(row, name) for row in page]
            last = page[-1].number
        assert seen == expected, wanted


def test_trends_have_a_value_for_each_step(database: Database) -> None:
    """By the hour and by the day; a time to come counts as now, an old one in its own step."""
    now_s = clock_s(database)
    take(
        database,
        batch(
            [
                accepted(now_s + 9e6),
                blocked(now_s - 2 * HOUR_S),
                blocked(now_s - 3 * DAY_S),
                limited(now_s - 40 * DAY_S),
            ]
        ),
    )
    with database.read() as session:
        day, month = read_trends(session, 24, HOUR_S), read_trends(session, 30, DAY_S)
    assert len(day.at) == 24
    assert day.at[-1] <= now_s < day.at[-1] + 2 * HOUR_S
    assert len(day.series[What.VERDICT]["accept"]) == 24
    assert sum(day.series[What.VERDICT]["accept"][-2:]) == 1
    assert sum(day.series[What.VERDICT]["reject"]) == 1
    assert day.top_rules == [("block:7", 1)]
    assert sum(month.series[What.VERDICT]["reject"]) == 2
    assert sum(month.series[What.THREAT]["blocklist"][25:27]) == 1
    assert "tempfail" not in month.series[What.VERDICT]
    assert month.top_rules == [("block:7", 2)]
    assert day_counts(database).blocked == 1


def test_counts_are_pruned_once_nobody_shows_them(database: Database) -> None:
    """Fine steps after two days, hours no sooner than trends need them."""
    now_s = clock_s(database)
    take(database, batch([blocked(now_s - age_s) for age_s in (0, FINE_KEEP_S + 600, 50 * DAY_S)]))
    with database.write(POLICY_LOG_LOCK) as session:
        assert prune_counts(session, 10) > 0
        assert prune_counts(session, 10) == 0
        rows = session.exec(select(PolicyCountRow)).all()
    assert {row.at > now_s - FINE_KEEP_S for row in rows if row.step_s != HOUR_S} == {True}
    assert len({row.at for row in rows if row.step_s == HOUR_S}) == 2


def test_old_days_go_and_the_rest_stays(database: Database) -> None:
    """A day goes once the whole of it is too old; what is new is found as before."""
    take(database, batch(day_of_entries(START_S)))
    with database.write(POLICY_LOG_LOCK) as session:
        now = today(session)
        for table in PARTITIONED:
            assert drop_days_before(session, table, now) == 0
    assert sizes(database)["policy_log_messages"] == 4
    with database.write(POLICY_LOG_LOCK) as session:
        for table in PARTITIONED:
            while drop_days_before(session, table, now + 1):
                pass
    assert set(sizes(database).values()) == {0}
    take(database, batch([accepted()], first=100))
    assert sizes(database)["policy_log_messages"] == 1


def test_partitions_are_made_ahead_where_the_database_has_them(database: Database) -> None:
    """One a day and table; SQLite has plain tables; twice makes no more."""
    with database.write(POLICY_LOG_LOCK) as session:
        first = today(session)
        for _ in range(2):
            ensure_partitions(session, first, DAYS_AHEAD)
    names = [
        name
        for name in inspect(database.engine).get_table_names()
        if PARTITION_NAME.fullmatch(name)
    ]
    assert len(names) == (0 if database.is_sqlite else DAYS_AHEAD * len(PARTITIONED))
    assert partition_name("policy_log_threats", 20_778) == "policy_log_threats_20261121"


def test_an_entry_lies_in_the_partition_of_its_arrival(database: Database) -> None:
    """Its own time may be anything: a node's clock that is wrong loses nothing."""
    take(database, batch([accepted(0.0), accepted(2.0**33 - 1)]))
    with database.read() as session:
        rows = session.exec(select(PolicyMessageRow)).all()
        day = int(read_clock_s(session) // SECONDS_A_DAY)
        if not database.is_sqlite:
            name = partition_name("policy_log_messages", day)
            inside = session.execute(text(f"SELECT count(*) FROM {name}")).scalar_one()
            assert inside == 2
    assert {row.day for row in rows} <= {day, day - 1}


def test_rows_are_pruned_a_few_at_once_where_there_are_no_partitions(
    sqlite_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the beginning of the table, so that heartbeats fit between."""
    monkeypatch.setattr("controlplane.store.policy_partitions.ROWS_AT_ONCE", 2)
    take(sqlite_database, batch([connection() for _ in range(5)]))
    with sqlite_database.write(POLICY_LOG_LOCK) as session:
        tomorrow = today(session) + 1
        counts = [drop_days_before(session, PolicyConnectionRow, tomorrow) for _ in range(4)]
    assert counts == [2, 2, 1, 0]


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), min_size=1, max_size=8))
def test_any_repetition_leaves_each_entry_once(
    database: Database, pieces: list[tuple[int, int]]
) -> None:
    """A node sends from its oldest on, again and again, and never leaves out what it has."""
    empty(database)
    entries = [blocked(START_S + n) for n in range(12)]
    reached = 0
    for first, last in pieces:
        begin, end = min(first, reached + 1), max(first, last)
        numbered = [NumberedLogEntry(number=n, entry=entries[n - 1]) for n in range(begin, end + 1)]
        taken = LogBatch(stream="c" * 32, entries=tuple(numbered))
        reached = max(reached, end)
        assert take(database, taken) == reached
    with database.read() as session:
        ats = sorted(session.execute(select(col(PolicyMessageRow.at))).scalars())
        counted = session.execute(
            select(func.sum(col(PolicyCountRow.count))).where(
                col(PolicyCountRow.what) == "verdict", col(PolicyCountRow.step_s) == HOUR_S
            )
        ).scalar_one()
    assert ats == [START_S + n for n in range(reached)]
    assert counted == reached


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (LogFilter(), "messages_at"),
        (LogFilter(verdict=Verdict.REJECT), "messages_verdict"),
        (LogFilter(sender="ann@example.org"), "messages_sender"),
        (LogFilter(sender="ann@*"), "messages_sender"),
        (LogFilter(sender="@example.org"), "messages_sender_domain"),
        (LogFilter(client="192.0.2.7"), "messages_client"),
        (LogFilter(queue_id="4fQ1x1BcdfgzB"), "messages_queue_id"),
        (LogFilter(message_id="<1@example.org>"), "messages_message_id"),
        (LogFilter(stage=Stage.AUTH), "messages_at"),
        (LogFilter(door=Door.HTTP, node="node-a"), "messages_at"),
        (ThreatFilter(), "threats_at"),
        (ThreatFilter(severity=Severity.HIGH), "threats_severity"),
        (ThreatFilter(kind=RuleKind.BADWORD), "threats_kind"),
        (ThreatFilter(rule="badword:1"), "threats_rule"),
        (ThreatFilter(rule="badword:*"), "threats_rule"),
        (ConnectionFilter(client="192.0.2.7"), "connections_client"),
        (ConnectionFilter(node="node-a"), "connections_at"),
    ],
    ids=str,
)
def test_each_filter_is_answered_from_its_index(
    sqlite_database: Database, wanted: LogFilter | ThreatFilter | ConnectionFilter, index: str
) -> None:
    """As the how-to says; where there is none of its own, entries come in the order of time."""
    asked: list[tuple[str, Any]] = []
    with sqlite_database.read() as session:
        event.listen(
            sqlite_database.engine,
            "before_cursor_execute",
            lambda _connection, _cursor, sql, values, *_: asked.append((sql, values)),
        )
        if isinstance(wanted, LogFilter):
            find_messages(session, wanted, 50)
        elif isinstance(wanted, ThreatFilter):
            find_threats(session, wanted, 50)
        else:
            find_connections(session, wanted, 50)
        sql, values = next(one for one in asked if one[0].startswith("SELECT"))
        plan = session.connection().exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values).all()
    assert plan[0][3].split(" INDEX ")[1].split(" ")[0] == f"ix_policy_log_{index}"
