"""Bulk actions while something else happens: a withdrawal, a dead node, a second instance."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from controlplane.errors import Conflict
from controlplane.store import queue_actions as actions
from controlplane.store.engine import Database
from controlplane.store.queue_actions import ActionState
from controlplane.store.queue_lists import forget_list
from controlplane.store.queue_search import QueueFilter
from controlplane.store.queue_tables import QueueActionRow
from nodeagent.core.queue_contract import (
    CommandResult,
    ItemResult,
    ItemState,
    QueueVerb,
)
from tests.fakes.queue_lists import (
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

INSTANCES = 4


@pytest.fixture
def listed(database: Database) -> Database:
    """Give a database with two messages on each of two nodes."""
    store(database, "node-a", batch(message(1), message(2)))
    store(database, "node-b", batch(message(3), message(4)))
    return database


@pytest.fixture
def one_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every message selected in a transaction of its own."""
    monkeypatch.setattr(actions, "SELECTED_AT_ONCE", 1)


def select_some(database: Database, action: int, rounds: int) -> tuple[str, str] | None:
    """Go on with the selection of everything for a few transactions."""
    place: tuple[str, str] | None = None
    for _ in range(rounds):
        with database.write() as session:
            place = actions.select_matching(session, action, QueueFilter(), place)
    return place


def begin(database: Database, verb: QueueVerb = QueueVerb.HOLD) -> int:
    """Ask for an action with nothing selected yet."""
    with database.write() as session:
        return actions.begin_action(session, verb, {"filter": {}}, "olga")


def end(database: Database, action: int) -> str:
    """End the selection; return the action's state."""
    with database.write() as session:
        return actions.end_selection(session, action).state


@pytest.mark.usefixtures("one_at_once")
def test_an_action_withdrawn_while_it_is_selected_never_runs(listed: Database) -> None:
    """The rest of the selection finds nothing to add, and its end does not bring it back."""
    action = begin(listed)
    place = select_some(listed, action, 1)
    with listed.write() as session:
        actions.cancel_action(session, action, "Withdrawn by rita.")
    with listed.write() as session:
        assert actions.select_matching(session, action, QueueFilter(), place) is None
        actions.select_named(session, action, [("node-b", queue_id(3))])
    assert end(listed, action) == ActionState.CANCELLED.value
    assert work(listed, "node-a") == work(listed, "node-b") == []
    assert outcome(listed, action) == ("cancelled", {"node-a": {"withdrawn": 1}})


@pytest.mark.usefixtures("one_at_once")
def test_a_node_struck_off_during_the_selection_leaves_the_others_their_part(
    listed: Database,
) -> None:
    """What was selected of it is not found; what is selected after that is done."""
    action = begin(listed)
    place = select_some(listed, action, 2)
    with listed.write() as session:
        forget_list(session, "node-a")
        actions.give_up_node(session, "node-a")
    assert outcome(listed, action)[0] == ActionState.SELECTING.value
    while place is not None:
        with listed.write() as session:
            place = actions.select_matching(session, action, QueueFilter(), place)
    assert end(listed, action) == ActionState.RUNNING.value
    assert work(listed, "node-b") == [(action, "hold", (queue_id(3), queue_id(4)))]
    finish(listed, "node-b", action, ItemState.DONE, 3, 4)
    assert outcome(listed, action) == (
        "finished",
        {"node-a": {"not-found": 2}, "node-b": {"done": 2}},
    )


@pytest.mark.usefixtures("one_at_once")
def test_an_action_whose_only_node_was_struck_off_is_finished_at_its_end(
    listed: Database,
) -> None:
    """Nothing waits for it, so nobody has to withdraw it."""
    action = begin(listed)
    select_some(listed, action, 2)
    with listed.write() as session:
        actions.give_up_node(session, "node-a")
    assert end(listed, action) == ActionState.FINISHED.value


def test_a_delete_of_a_dead_nodes_mail_cannot_be_confirmed_any_more(listed: Database) -> None:
    """There is nothing left that it could delete."""
    action = start(listed, QueueVerb.DELETE, node="node-a")
    with listed.write() as session:
        actions.give_up_node(session, "node-a")
    refused = pytest.raises(Conflict, match="finished; there is nothing to confirm")
    with refused, listed.write() as session:
        actions.confirm_action(session, action, 2)
    assert outcome(listed, action) == ("finished", {"node-a": {"not-found": 2}})


@pytest.mark.parametrize("is_selected", [False, True])
def test_a_result_for_what_was_never_handed_out_changes_nothing(
    listed: Database, is_selected: bool
) -> None:
    """A delete that nobody confirmed is not counted as done on a node's word."""
    if is_selected:
        action = start(listed, QueueVerb.DELETE)
    else:
        action = begin(listed)
        select_some(listed, action, 1)
    before = outcome(listed, action)
    finish(listed, "node-a", action, ItemState.DONE, 1, 2, error="nothing")
    finish(listed, "node-a", 4711, ItemState.DONE, 1)
    assert outcome(listed, action) == before
    with listed.read() as session:
        assert actions.read_action(session, action).error == ""


def test_a_node_answers_for_its_own_messages_only(listed: Database) -> None:
    """One that names another's message takes nothing off the other's work."""
    action = start(listed, QueueVerb.HOLD)
    finish(listed, "node-b", action, ItemState.DONE, 1, 2, 3)
    assert outcome(listed, action)[1] == {
        "node-a": {"waiting": 2},
        "node-b": {"done": 1, "waiting": 1},
    }
    assert work(listed, "node-a") == [(action, "hold", (queue_id(1), queue_id(2)))]


def test_one_nodes_success_does_not_hide_anothers_trouble(listed: Database) -> None:
    """The sentence names its node, and goes when that node has none, or when all is done."""

    def error() -> str:
        with listed.read() as session:
            return actions.read_action(session, action).error

    action = start(listed, QueueVerb.HOLD)
    finish(listed, "node-a", action, ItemState.DONE, error="postsuper failed: disk full")
    finish(listed, "node-b", action, ItemState.DONE, 3)
    assert error() == "node-a: postsuper failed: disk full"
    finish(listed, "node-a", action, ItemState.DONE, 1)
    assert error() == ""
    finish(listed, "node-b", action, ItemState.DONE, error="x" * 500)
    assert error() == f"node-b: {'x' * 492}"
    finish(listed, "node-a", action, ItemState.DONE, 2)
    finish(listed, "node-b", action, ItemState.DONE, 4)
    assert (outcome(listed, action)[0], error()) == ("finished", "")


def test_the_oldest_action_is_worked_first_on_each_node(listed: Database) -> None:
    """A node that has nothing of it goes on with the next one; nobody waits for another's part."""
    first = start(listed, QueueVerb.HOLD, node="node-a")
    second = start(listed, QueueVerb.RELEASE)
    assert [one[0] for one in work(listed, "node-a")] == [first]
    assert [one[0] for one in work(listed, "node-b")] == [second]
    finish(listed, "node-a", first, ItemState.UNCHANGED, 1, 2)
    assert work(listed, "node-a") == [(second, "release", (queue_id(1), queue_id(2)))]


def test_a_message_that_left_the_queue_is_still_answered_for(listed: Database) -> None:
    """Delivered before the node saw the command: its item waits until the node says so."""
    action = start(listed, QueueVerb.DELETE, queue_id=queue_id(1))
    store(listed, "node-a", batch(sequence=2, removals=(queue_id(1),)))
    assert ids(listed, node="node-a") == lines(2)
    with listed.write() as session:
        actions.confirm_action(session, action, 1)
    assert work(listed, "node-a") == [(action, "delete", (queue_id(1),))]
    finish(listed, "node-a", action, ItemState.NOT_FOUND, 1)
    assert outcome(listed, action) == ("finished", {"node-a": {"not-found": 1}})


def test_two_operators_confirm_one_delete(listed: Database) -> None:
    """One lets it run, the others are told that there is nothing to confirm."""
    action = start(listed, QueueVerb.DELETE)

    def confirm(_: int) -> str:
        try:
            with listed.write() as session:
                return actions.confirm_action(session, action, 4).state
        except Conflict as error:
            return error.detail

    with ThreadPoolExecutor(INSTANCES) as pool:
        said = sorted(pool.map(confirm, range(INSTANCES)))
    refused = f"Action {action} is running; there is nothing to confirm."
    assert said == [refused] * (INSTANCES - 1) + ["running"]


def test_a_result_sent_to_two_instances_is_counted_once(listed: Database) -> None:
    """A node whose answer was lost says it again, perhaps to the other instance."""
    action = start(listed, QueueVerb.HOLD)
    results = [
        CommandResult(
            action=action,
            items=tuple(ItemResult(id=queue_id(one), state=state) for one in numbers),
        )
        for numbers, state in (((1, 2), ItemState.DONE), ((1, 2), ItemState.NOT_FOUND))
    ]

    def tell(number: int) -> None:
        with listed.write() as session:
            actions.take_results(session, "node-a", [results[number % 2]])

    with ThreadPoolExecutor(INSTANCES) as pool:
        list(pool.map(tell, range(INSTANCES)))
    counts = outcome(listed, action)[1]["node-a"]
    assert counts in ({"done": 2}, {"not-found": 2})


def test_instances_that_prune_together_delete_every_old_action_once(listed: Database) -> None:
    """None fails because another was faster, and a running action stays."""
    old = [start(listed, QueueVerb.DELETE) for _ in range(5)]
    running = start(listed, QueueVerb.HOLD)
    with listed.write() as session:
        for action in old:
            session.get_one(QueueActionRow, action).requested_at = 1.0

    def prune(_: int) -> int:
        deleted = 0
        while True:
            with listed.write() as session:
                now = actions.prune_actions(session, 30)
            if now == 0:
                return deleted
            deleted += now

    with ThreadPoolExecutor(INSTANCES) as pool:
        assert sum(pool.map(prune, range(INSTANCES))) == len(old)
    with listed.read() as session:
        assert [row.id for row in actions.list_actions(session, 10)] == [running]


def test_a_restarted_agent_is_asked_again_for_what_it_did_not_answer(listed: Database) -> None:
    """A new session of the list drops no work, however often the command is handed out."""
    action = start(listed, QueueVerb.HOLD, node="node-a")
    wanted = [(action, "hold", (queue_id(1), queue_id(2)))]
    assert work(listed, "node-a") == wanted
    store(listed, "node-a", batch(message(1), message(2), session="two"))
    assert work(listed, "node-a") == wanted
    finish(listed, "node-a", action, ItemState.UNKNOWN, 1)
    assert work(listed, "node-a") == [(action, "hold", (queue_id(2),))]


def test_flushes_are_handed_out_in_smaller_pieces(database: Database) -> None:
    """postqueue(1) takes one message at a time, and a heartbeat's length is the node's."""
    store(database, "node-a", batch(*(message(number) for number in range(60))))
    action = start(database, QueueVerb.FLUSH)
    ((_action, _verb, first),) = work(database, "node-a")
    assert len(first) == actions.FLUSHED_AT_ONCE
    finish(database, "node-a", action, ItemState.DONE, *range(50))
    ((_action, _verb, rest),) = work(database, "node-a")
    assert rest == tuple(queue_id(number) for number in range(50, 60))
