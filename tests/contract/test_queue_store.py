"""The nodes' lists and the actions on them, on both databases."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cryptography.fernet import Fernet
from sqlmodel import select

from controlplane.errors import Conflict, Invalid, NotFound
from controlplane.store import queue_actions as actions
from controlplane.store.crypto import SecretBox
from controlplane.store.engine import Database
from controlplane.store.instance import mark_restored
from controlplane.store.ownership_tables import ReceiptRow
from controlplane.store.queue_actions import ActionState
from controlplane.store.queue_headers import (
    ask_for_headers,
    prune_headers,
    read_headers,
    take_headers,
    wishes_for,
)
from controlplane.store.queue_lists import forget_list
from controlplane.store.queue_search import QueueFilter, find_messages, list_states
from controlplane.store.queue_tables import (
    QueueActionItemRow,
    QueueActionRow,
    QueueHeadersRow,
)
from controlplane.store.receipts import add_ids
from nodeagent.core.queue_contract import (
    CommandResult,
    HeadersResult,
    ItemResult,
    ItemState,
    QueueName,
    QueueVerb,
)
from tests.fakes.queue_lists import (
    NOW_S,
    batch,
    finish,
    ids,
    lines,
    message,
    outcome,
    queue_id,
    start,
    store,
    work,
)


def test_batches_follow_one_another(database: Database) -> None:
    """A repeated one changes nothing; a gap is refused; only the last makes the list whole."""
    first = batch(message(1), is_complete=False)
    assert store(database, "node-a", first)
    assert store(database, "node-a", first)
    assert not store(database, "node-a", batch(message(3), sequence=3))
    assert not store(database, "node-b", batch(message(3), sequence=2))
    with database.read() as session:
        assert [one.is_complete for one in list_states(session)] == [False]
    assert store(database, "node-a", batch(message(2), sequence=2))
    assert ids(database) == lines(1, 2)
    assert store(database, "node-a", batch(sequence=3, removals=(queue_id(1),)))
    assert ids(database) == lines(2)
    with database.read() as session:
        (state,) = list_states(session)
    assert (state.messages, state.is_complete) == (1, True)
    assert state.listed_age_s is not None
    assert state.listed_age_s >= 1.0


def test_a_new_session_replaces_the_list_when_it_is_through(database: Database) -> None:
    """Until then the old lines stay: a restarted agent makes no queue look empty."""
    store(database, "node-a", batch(message(1), message(2)))
    store(database, "node-a", batch(message(2), session="two", is_complete=False))
    assert ids(database) == lines(1, 2)
    store(database, "node-a", batch(session="two", sequence=2))
    assert ids(database) == lines(2)


def test_each_filter_finds_what_it_names(database: Database) -> None:
    """Parts of texts in any case, whole domains, ages, and nothing by a wildcard."""
    store(
        database,
        "node-a",
        batch(
            message(1, sender="", queue=QueueName.HOLD),
            message(2, recipients=("x@Deep.Example", "y@other.test"), recipient_count=2),
            message(3, reason="Connection refused 100%", next_hop="MX.example"),
        ),
    )
    store(database, "node-b", batch(message(4, sender="under_score@from.test")))
    for wanted, found in (
        ({"node": "node-b"}, lines(4, node="node-b")),
        ({"queue": "hold"}, lines(1)),
        ({"sender": ""}, lines(1)),
        ({"sender": "R_S"}, lines(4, node="node-b")),
        ({"recipient": "X@deep"}, lines(2)),
        ({"domain": "deep.example"}, lines(2)),
        ({"domain": "example"}, []),
        ({"domain": "mx.example"}, lines(3)),
        ({"reason": "REFUSED 100%"}, lines(3)),
        ({"reason": "%"}, lines(3)),
        ({"queue_id": queue_id(2)}, lines(2)),
        ({"older_than_s": 0}, lines(1, 2, 3) + lines(4, node="node-b")),
        ({"younger_than_s": 1e8, "reason": "refused"}, lines(3)),
        ({"sender": "\x00"}, []),
    ):
        assert ids(database, **wanted) == found, wanted


def test_pages_follow_one_another_in_both_directions(database: Database) -> None:
    """Every message once, also where many arrived in the same second."""
    store(database, "node-a", batch(*(message(n, arrived_at=NOW_S + n % 3) for n in range(20))))
    for is_oldest_first in (False, True):
        seen: list[str] = []
        after: str | None = None
        for _ in range(3):
            with database.read() as session:
                page = find_messages(
                    session,
                    QueueFilter(),
                    after=after,
                    limit=7,
                    is_oldest_first=is_oldest_first,
                )
            seen += [row.queue_id for row in page.rows]
            after = page.after
        assert sorted(seen) == sorted(queue_id(number) for number in range(20))
        assert after is None


@pytest.mark.parametrize("after", ["", "x/y/z", "1", "1/node-a", "\x00"])
def test_a_place_of_nobodys_making_is_refused(sqlite_database: Database, after: str) -> None:
    """One sentence, no error of the database."""
    with sqlite_database.read() as session, pytest.raises(Invalid, match="no place"):
        find_messages(session, QueueFilter(), after=after, limit=1, is_oldest_first=False)


def adopt(database: Database, number: int, queue: str, holder: str, *names: int) -> None:
    """Commit a receipt."""
    with database.write() as session:
        session.add(
            ReceiptRow(
                number=number,
                queue=queue,
                generation=number,
                holder=holder,
                messages=len(names),
                committed_at=NOW_S,
            )
        )
        session.flush()
        add_ids(session, number, [queue_id(name) for name in names])


def test_an_adopted_message_has_one_line_and_its_action_follows(database: Database) -> None:
    """What waits for the dead node is done by the adopter, once; a late list changes nothing."""
    store(database, "node-a", batch(message(1), message(2)))
    action = start(database, QueueVerb.HOLD)
    assert work(database, "node-a") == [(action, "hold", (queue_id(1), queue_id(2)))]
    adopt(database, 1, "node-a", "node-b", 1)
    store(database, "node-b", batch(message(1)))
    assert ids(database) == lines(1, node="node-b") + lines(2)
    assert work(database, "node-b") == [(action, "hold", (queue_id(1),))]
    assert work(database, "node-a") == [(action, "hold", (queue_id(2),))]
    store(database, "node-a", batch(message(1), sequence=2))
    assert ids(database) == lines(1, node="node-b") + lines(2)
    finish(database, "node-a", action, ItemState.DONE, 1, 2)
    finish(database, "node-b", action, ItemState.DONE, 1)
    finish(database, "node-b", action, ItemState.NOT_FOUND, 1)
    assert outcome(database, action) == (
        "finished",
        {"node-a": {"done": 1}, "node-b": {"done": 1}},
    )


def test_a_message_that_came_back_belongs_to_who_has_it(database: Database) -> None:
    """The last receipt decides, whoever reports later."""
    store(database, "node-b", batch(message(1)))
    adopt(database, 1, "node-a", "node-b", 1)
    adopt(database, 2, "node-b", "node-a", 1)
    store(database, "node-a", batch(message(1)))
    store(database, "node-b", batch(message(1), sequence=2))
    assert ids(database) == lines(1)


def test_short_ids_are_no_names_beyond_their_node(database: Database) -> None:
    """Mail from before the relay may have the same short id on two hosts."""
    for node in ("node-a", "node-b"):
        store(database, node, batch(message(1, id="ABCDEF123")))
    assert ids(database) == ["node-a/ABCDEF123", "node-b/ABCDEF123"]


def test_a_delete_waits_for_its_count(database: Database) -> None:
    """Nothing is handed out before, nor with another count, nor twice."""
    store(database, "node-a", batch(message(1), message(2)))
    action = start(database, QueueVerb.DELETE)
    assert work(database, "node-a") == []
    with database.write() as session:
        with pytest.raises(Conflict, match="2 messages selected, not 3"):
            actions.confirm_action(session, action, 3)
        actions.confirm_action(session, action, 2)
        with pytest.raises(Conflict, match="nothing to confirm"):
            actions.confirm_action(session, action, 2)
    assert len(work(database, "node-a")) == 1
    finish(database, "node-a", action, ItemState.DONE, 1)
    assert outcome(database, action)[0] == "running"
    finish(database, "node-a", action, ItemState.NOT_FOUND, 2)
    assert outcome(database, action) == ("finished", {"node-a": {"done": 1, "not-found": 1}})
    assert work(database, "node-a") == []


def test_mail_that_arrived_later_is_not_selected(database: Database) -> None:
    """An operator acts on what was there."""
    store(database, "node-a", batch(message(1), message(2, arrived_at=4_000_000_000)))
    action = start(database, QueueVerb.HOLD)
    assert work(database, "node-a") == [(action, "hold", (queue_id(1),))]


def test_named_messages_are_selected_where_they_are_listed(database: Database) -> None:
    """A name that no list has is left out of the count."""
    store(database, "node-a", batch(message(1)))
    with database.write() as session:
        action = actions.begin_action(session, QueueVerb.FLUSH, {}, "olga")
        named = [("node-a", queue_id(1)), ("node-b", queue_id(1)), ("node-a", queue_id(2))]
        actions.select_named(session, action, named)
        assert actions.end_selection(session, action).total == 1
        nothing = actions.begin_action(session, QueueVerb.FLUSH, {}, "olga")
        assert actions.end_selection(session, nothing).state == ActionState.FINISHED.value


def test_a_big_selection_is_handed_out_in_pieces(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few thousand a transaction, at most 500 a command, every message once."""
    monkeypatch.setattr(actions, "SELECTED_AT_ONCE", 300)
    for first in (0, 500):
        messages = (message(number) for number in range(first, first + 500))
        store(database, "node-a", batch(*messages, sequence=first // 500 + 1))
    with database.write() as session:
        action = actions.begin_action(session, QueueVerb.HOLD, {}, "olga")
    place, rounds = None, 0
    while rounds == 0 or place is not None:
        with database.write() as session:
            place = actions.select_matching(session, action, QueueFilter(), place)
        rounds += 1
    with database.write() as session:
        assert actions.end_selection(session, action).total == 1000
    assert rounds == 4
    handed: set[str] = set()
    while commands := work(database, "node-a"):
        ((_action, _verb, some),) = commands
        assert len(some) == 500
        assert not handed & set(some)
        handed |= set(some)
        with database.write() as session:
            items = tuple(ItemResult(id=one, state=ItemState.DONE) for one in some)
            actions.take_results(session, "node-a", [CommandResult(action=action, items=items)])
    assert outcome(database, action) == ("finished", {"node-a": {"done": 1000}})


def test_a_withdrawn_action_hands_out_nothing_more(database: Database) -> None:
    """What was done stays counted; a late result changes nothing."""
    store(database, "node-a", batch(message(1), message(2)))
    action = start(database, QueueVerb.HOLD)
    finish(database, "node-a", action, ItemState.DONE, 1)
    with database.write() as session:
        actions.cancel_action(session, action, "Withdrawn by olga.")
        with pytest.raises(Conflict, match="cancelled already"):
            actions.cancel_action(session, action, "again")
    finish(database, "node-a", action, ItemState.DONE, 2)
    assert outcome(database, action) == ("cancelled", {"node-a": {"done": 1, "withdrawn": 1}})
    assert work(database, "node-a") == []


def test_a_restored_database_acts_on_no_queue(database: Database) -> None:
    """A backup's wishes may have been carried out, and undone, since."""
    store(database, "node-a", batch(message(1)))
    action = start(database, QueueVerb.HOLD)
    with database.write() as session:
        mark_restored(session)
    assert work(database, "node-a") == []
    assert outcome(database, action)[0] == "cancelled"


def test_a_node_given_up_ends_what_waits_for_it(database: Database) -> None:
    """Its messages are not found, and its list is gone."""
    store(database, "node-a", batch(message(1)))
    action = start(database, QueueVerb.HOLD)
    with database.write() as session:
        forget_list(session, "node-a")
        actions.give_up_node(session, "node-a")
    assert outcome(database, action) == ("finished", {"node-a": {"not-found": 1}})
    assert ids(database) == []


def test_old_actions_are_pruned_with_their_items(database: Database) -> None:
    """What ended long ago, and what nobody confirmed; a running one stays."""
    store(database, "node-a", batch(message(1)))
    ended, running = start(database, QueueVerb.HOLD), start(database, QueueVerb.FLUSH)
    unconfirmed = start(database, QueueVerb.DELETE)
    finish(database, "node-a", ended, ItemState.DONE, 1)
    with database.write() as session:
        session.get_one(QueueActionRow, ended).finished_at = NOW_S / 2
        session.get_one(QueueActionRow, unconfirmed).requested_at = NOW_S / 2
        session.get_one(QueueActionRow, running).requested_at = NOW_S / 2
    with database.write() as session:
        assert [actions.prune_actions(session, 30) for _ in range(3)] == [1, 1, 0]
        assert {one.action for one in session.exec(select(QueueActionItemRow))} == {running}
        assert [row.id for row in actions.list_actions(session, 10)] == [running]


@pytest.fixture
def box() -> Iterator[SecretBox]:
    """Give a key."""
    return SecretBox(Fernet.generate_key())


def test_headers_are_sealed_and_for_who_asked(database: Database, box: SecretBox) -> None:
    """Once answered nobody overwrites them, nobody else reads them, and they go."""
    with database.write() as session:
        wanted = ask_for_headers(session, "node-a", queue_id(1), "olga")
        assert [one.id for one in wishes_for(session, "node-a")] == [queue_id(1)]
        assert not read_headers(session, wanted, "olga", box).is_answered
        answer = HeadersResult(request=wanted, headers="Subject: secret", deferrals=("later",))
        take_headers(session, "node-b", [answer], box)
        assert wishes_for(session, "node-a") != ()
        take_headers(session, "node-a", [answer], box)
        take_headers(session, "node-a", [HeadersResult(request=wanted, headers="x")], box)
        assert wishes_for(session, "node-a") == ()
        found = read_headers(session, wanted, "olga", box)
        assert (found.text, found.deferrals) == ("Subject: secret", ("later",))
        assert "secret" not in str(session.get_one(QueueHeadersRow, wanted).content_sealed)
        with pytest.raises(NotFound):
            read_headers(session, wanted, "rita", box)
        assert prune_headers(session) == 0
        session.get_one(QueueHeadersRow, wanted).requested_at = NOW_S / 2
        session.flush()
        with pytest.raises(NotFound):
            read_headers(session, wanted, "olga", box)
        assert prune_headers(session) == 1


def test_a_strangers_text_breaks_no_line(database: Database) -> None:
    """PostgreSQL takes no NUL; a line break in an address makes no second recipient."""
    odd = message(1, sender="a\x00\nb", recipients=("c@to.test\nd@to.test",), reason="x\x00\r\ny")
    assert store(database, "node-a", batch(odd))
    assert ids(database, recipient="c@to.test d@") == lines(1)
