"""The quarantine in the database: what is in hold because the hook said so, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import update
from sqlmodel import col, select

from controlplane.errors import Invalid
from controlplane.store import queue_actions
from controlplane.store.engine import POLICY_LOG_LOCK, Database
from controlplane.store.policy_log_intake import take_batch
from controlplane.store.policy_log_tables import PolicyQuarantineRow
from controlplane.store.policy_quarantine import (
    UNLISTED_KEPT_S,
    QuarantineFilter,
    find_held,
    find_one,
    held_among,
    matching_keys,
    note_action,
    prune_quarantine,
)
from nodeagent.core.queue_contract import ItemState, QueueName, QueueVerb
from nodeagent.policy.log_wire import LogEntry
from nodeagent.policy.model import RuleKind, Severity, Verdict
from tests.fakes.policy_logs import accepted, batch, fired, quarantined
from tests.fakes.queue_lists import batch as list_of
from tests.fakes.queue_lists import finish, message, queue_id, store

HOLD = QueueName.HOLD


def decide(database: Database, *entries: LogEntry, first: int = 1, node: str = "node-a") -> None:
    """Take decisions in."""
    with database.write(POLICY_LOG_LOCK) as session:
        take_batch(session, node, batch(entries, first=first))


def held(database: Database, **wanted: Any) -> list[str]:
    """Return what is in quarantine, newest first, as node/id."""
    with database.read() as session:
        page = find_held(session, QuarantineFilter(**wanted), 100)
        assert page.total == len(page.held)
        return [f"{one.message.node}/{one.message.queue_id}" for one in page.held]


def places(*numbers: int, node: str = "node-a") -> list[str]:
    """Return how `held` shows messages."""
    return [f"{node}/{queue_id(number)}" for number in numbers]


@pytest.fixture
def filled(database: Database) -> Database:
    """Give a cluster with three messages in quarantine, and others that are not."""
    spam = fired(RuleKind.BADWORD, "badword:1", Verdict.QUARANTINE, severity=Severity.MEDIUM)
    spf = fired(RuleKind.AUTHENTICATION, "spf", Verdict.QUARANTINE)
    entries = [
        quarantined(queue_id(1)),
        quarantined(queue_id(2), fired=(spam,)),
        quarantined(queue_id(3), fired=(spf,), subject=None, client=None),
        quarantined(queue_id(4)),
        accepted(queue_id=queue_id(5)),
        quarantined("12345"),  # another MTA's id
        quarantined(queue_id(6)),
    ]
    decide(database, *entries)
    messages = [
        message(1, queue=HOLD, sender="ann@x.test"),
        message(2, queue=HOLD, sender="", recipients=("Bob@To.test",)),
        message(3, queue=HOLD),
        message(4),  # deferred: released before
        message(5, queue=HOLD),  # an operator holds it
        message(7, queue=HOLD),  # nothing was decided about it
    ]
    assert store(database, "node-a", list_of(*messages))
    return database


def test_only_what_the_hook_held_is_in_quarantine(filled: Database) -> None:
    """In hold and decided; held by an operator, released before, or on no list is not."""
    assert held(filled) == places(3, 2, 1)
    with filled.read() as session:
        one = find_one(session, "node-a", queue_id(1))
        assert find_one(session, "node-a", queue_id(5)) is None
        assert find_one(session, "node-b", queue_id(1)) is None
    assert one is not None
    assert (one.reason.subject, one.reason.severity, one.verb) == ("Win now", "high", None)
    assert [rule["rule"] for rule in one.reason.fired] == [
        *("allow:1", "badword:17"),
        "threat:sql-union",
    ]


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        ({"node": "node-a"}, (3, 2, 1)),
        ({"node": "node-b"}, ()),
        ({"queue_id": queue_id(2)}, (2,)),
        ({"sender": "ANN@"}, (1,)),
        ({"sender": ""}, (2,)),
        ({"recipient": "bob@to"}, (2,)),
        ({"rule": "badword:1"}, (2,)),
        ({"rule": "badword:1*"}, (2, 1)),
        ({"rule": "word:1"}, ()),
        ({"rule": "%"}, ()),
        ({"type": RuleKind.AUTHENTICATION}, (3,)),
        ({"type": RuleKind.THREAT, "severity": Severity.HIGH}, (1,)),
        ({"severity": Severity.MEDIUM}, (2,)),
    ],
)
def test_each_filter_finds_its_messages(
    filled: Database, wanted: dict[str, Any], numbers: tuple[int, ...]
) -> None:
    """By where it is, by its envelope, by what fired."""
    assert held(filled, **wanted) == places(*numbers)


def test_pages_follow_one_another(filled: Database) -> None:
    """Each message on one page; a cursor that is none is refused."""
    seen: list[str] = []
    after: str | None = None
    while True:
        with filled.read() as session:
            page = find_held(session, QuarantineFilter(), 2, after)
        assert page.total == 3
        seen += [one.message.queue_id for one in page.held]
        after = page.after
        if after is None:
            break
    assert seen == [queue_id(3), queue_id(2), queue_id(1)]
    with filled.read() as session, pytest.raises(Invalid):
        find_held(session, QuarantineFilter(), 2, "nonsense")


def test_the_decision_may_come_after_the_list(database: Database) -> None:
    """The two travel apart; whichever comes last completes it."""
    store(database, "node-a", list_of(message(1, queue=HOLD)))
    assert held(database) == []
    decide(database, quarantined(queue_id(1)))
    assert held(database) == places(1)


def test_an_adopted_message_stays_in_quarantine(filled: Database) -> None:
    """Its id is the same on the node that took it over; why it is held is known there, too."""
    store(filled, "node-b", list_of(message(1, queue=HOLD)))
    assert held(filled) == [*places(3, 2), *places(1, node="node-b")]


def reason(database: Database, number: int) -> tuple[str, str | None]:
    """Return who held a message, and its subject."""
    with database.read() as session:
        row = session.get_one(PolicyQuarantineRow, queue_id(number))
        return row.node, row.subject


def test_no_node_changes_why_another_holds_a_message(filled: Database) -> None:
    """Its own messages in the same batch are taken in, and it may change what it said itself."""
    forged = quarantined(queue_id(1), fired=(), subject="Harmless")
    decide(filled, forged, quarantined(queue_id(9)), forged, node="node-b")
    assert reason(filled, 1) == ("node-a", "Win now")
    assert reason(filled, 9) == ("node-b", "Win now")
    assert held(filled, rule="badword:17") == places(1)
    decide(filled, quarantined(queue_id(1), subject="Again"), first=100)
    assert reason(filled, 1) == ("node-a", "Again")


def test_whoever_adopted_a_message_changes_nothing_either(filled: Database) -> None:
    """The node that held it may tell more when it is back; its reason is shown on the other."""
    store(filled, "node-b", list_of(message(1, queue=HOLD)))
    store(filled, "node-a", list_of(message(2, queue=HOLD), sequence=2))
    decide(filled, quarantined(queue_id(1), subject="Harmless"), node="node-b")
    assert reason(filled, 1) == ("node-a", "Win now")
    decide(filled, quarantined(queue_id(1), subject="Late"), first=100)
    assert reason(filled, 1) == ("node-a", "Late")
    with filled.read() as session:
        one = find_one(session, "node-b", queue_id(1))
    assert one is not None
    assert (one.reason.node, one.reason.subject) == ("node-a", "Late")


def test_a_reason_that_comes_after_the_adoption_is_taken(database: Database) -> None:
    """A node that died before it told why tells it when it is back."""
    store(database, "node-b", list_of(message(1, queue=HOLD)))
    assert held(database) == []
    decide(database, quarantined(queue_id(1)))
    assert held(database) == places(1, node="node-b")


def act(database: Database, verb: QueueVerb, *numbers: int) -> int:
    """Have something done with messages of the quarantine; return the action."""
    with database.write() as session:
        action = queue_actions.begin_action(session, verb, {}, "olga")
        keys = held_among(session, [("node-a", queue_id(number)) for number in numbers])
        queue_actions.select_named(session, action, keys)
    with database.write(POLICY_LOG_LOCK) as session:
        note_action(session, action, [key[1] for key in keys])
    with database.write() as session:
        row = queue_actions.end_selection(session, action)
        if verb is QueueVerb.DELETE:
            queue_actions.confirm_action(session, action, row.total)
    return action


@pytest.mark.parametrize("verb", [QueueVerb.RELEASE, QueueVerb.DELETE])
def test_what_was_let_go_is_gone_before_the_next_list_says_so(
    filled: Database, verb: QueueVerb
) -> None:
    """While the node has not answered it is shown with what was asked for."""
    action = act(filled, verb, 1, 2, 5)
    with filled.read() as session:
        one = find_one(session, "node-a", queue_id(1))
        untouched = find_one(session, "node-a", queue_id(3))
    assert one is not None
    assert untouched is not None
    assert (one.reason.action, one.verb, one.item_state) == (action, verb.value, "waiting")
    assert (untouched.reason.action, untouched.item_state) == (None, None)
    finish(filled, "node-a", action, ItemState.DONE, 1)
    assert held(filled) == places(3, 2)
    finish(filled, "node-a", action, ItemState.NOT_FOUND, 2)
    assert held(filled) == places(3, 2)


def test_what_was_released_and_held_again_is_an_operators(filled: Database) -> None:
    """It is in hold for another reason then."""
    action = act(filled, QueueVerb.RELEASE, 1)
    finish(filled, "node-a", action, ItemState.DONE, 1)
    store(filled, "node-a", list_of(message(1), sequence=2))
    store(filled, "node-a", list_of(message(1, queue=HOLD), sequence=3))
    assert queue_id(1) not in "".join(held(filled))


def test_a_withdrawn_release_leaves_it_where_it_is(filled: Database) -> None:
    """The node did nothing, so it is still held."""
    action = act(filled, QueueVerb.RELEASE, 1)
    with filled.write() as session:
        queue_actions.cancel_action(session, action, "changed my mind")
    assert held(filled) == places(3, 2, 1)


def test_keys_are_given_in_pieces(filled: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of node and id, each once."""
    monkeypatch.setattr("controlplane.store.policy_quarantine.KEYS_AT_ONCE", 2)
    with filled.read() as session:
        first = matching_keys(session, QuarantineFilter(), None)
        second = matching_keys(session, QuarantineFilter(), first[-1])
        assert matching_keys(session, QuarantineFilter(), second[-1]) == []
    assert [key[1] for key in (*first, *second)] == [queue_id(1), queue_id(2), queue_id(3)]


def test_what_is_held_keeps_its_reason_however_long(filled: Database) -> None:
    """Reasons of mail that no node lists any more go after a week, the others stay."""
    with filled.write(POLICY_LOG_LOCK) as session:
        assert prune_quarantine(session) == 0
        ages = update(PolicyQuarantineRow).values(
            received_at=col(PolicyQuarantineRow.received_at) - UNLISTED_KEPT_S - 1
        )
        session.execute(ages)
        assert prune_quarantine(session) == 1
        assert prune_quarantine(session) == 0
        left = set(session.execute(select(col(PolicyQuarantineRow.queue_id))).scalars())
    assert left == {queue_id(number) for number in (1, 2, 3, 4)}
    assert held(filled) == places(3, 2, 1)


def test_a_repeated_decision_keeps_what_was_asked_for(filled: Database) -> None:
    """The hook may judge a message again after Postfix asked twice."""
    action = act(filled, QueueVerb.RELEASE, 1)
    decide(filled, quarantined(queue_id(1), subject="Other"), first=100)
    with filled.read() as session:
        one = find_one(session, "node-a", queue_id(1))
    assert one is not None
    assert (one.reason.subject, one.reason.action) == ("Other", action)
