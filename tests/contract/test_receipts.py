"""Receipts: ownership passes once, in one order, to whoever holds the lease (section 4.3)."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.errors import Conflict, Recovering
from controlplane.store.engine import Database
from nodeagent.core import contract as wire
from nodeagent.core.contract import ReceiptState, Timings
from tests.fakes.ownership_worlds import DURATION_S, NODES, RealWorld, TwinWorld, World

M1, M2, M3 = "4fQ1x1BcdfgzB", "4fQ1x2BcdfgzC", "4fQ1x3BcdfgzD"
MANY = 100_000


@pytest.fixture(params=["twin", "sqlite", "postgres"])
def world(request: pytest.FixtureRequest) -> World:
    """Give a control plane with three enrolled nodes that hold their own leases."""
    if request.param == "twin":
        made: World = TwinWorld()
    else:
        made = RealWorld(request.getfixturevalue(f"{request.param}_database"))
    for node in NODES:
        made.enrol(node)
        made.calls.reconcile(node, wire.ReconcileRequest())
    return made


def take(world: World, node: str, queue: str) -> int:
    """Acquire the lease of a dead node's queue; return the generation."""
    world.advance(DURATION_S + 1)
    lease = world.calls.acquire(node, wire.LeaseRequest(queue=queue)).lease
    assert lease is not None
    return lease.generation


def commit(world: World, node: str, queue: str, generation: int, *ids: str) -> wire.ReceiptAnswer:
    """Commit a receipt for `ids`."""
    request = wire.ReceiptRequest(queue=queue, generation=generation, ids=ids)
    return world.calls.commit_receipt(node, request)


def adopt(world: World, node: str, queue: str, *ids: str) -> wire.ReceiptAnswer:
    """Play a whole adoption."""
    generation = take(world, node, queue)
    answer = commit(world, node, queue, generation, *ids)
    question = wire.ReceiptQuestion(queue=queue, generation=generation)
    world.calls.finish_receipt(node, question)
    world.calls.release(node, wire.LeaseRequest(queue=queue, generation=generation))
    return answer


def elsewhere(world: World, node: str, *ids: str) -> dict[str, tuple[int, str]]:
    """Take the own lease back and return who owns what of the pending mail."""
    answer = world.calls.reconcile(node, wire.ReconcileRequest(pending_ids=ids))
    assert answer.lease is not None, answer.reason
    return {one.id: (one.receipt, one.owner) for one in answer.elsewhere}


def test_a_receipt_passes_ownership(world: World) -> None:
    """The returning node learns that its message belongs to the adopter, the others to itself."""
    assert adopt(world, "node-b", "node-a", M1).number == 1
    assert elsewhere(world, "node-a", M1, M2) == {M1: (1, "node-b")}


def test_an_adopter_keeps_what_it_adopted(world: World) -> None:
    """The adopter's own reconcile does not name what its own receipt gave it."""
    adopt(world, "node-b", "node-a", M1)
    assert elsewhere(world, "node-b", M1) == {}


def test_the_last_receipt_of_any_queue_decides(world: World) -> None:
    """A message adopted there and back belongs to the node that adopted it last."""
    adopt(world, "node-b", "node-a", M1, M2)
    adopt(world, "node-a", "node-b", M1)
    assert elsewhere(world, "node-a", M1, M2) == {M2: (1, "node-b")}
    assert elsewhere(world, "node-b", M1, M2) == {M1: (2, "node-a")}


def test_a_third_node_sees_the_same_owner(world: World) -> None:
    """Whoever asks, the last receipt that names the id gives one answer."""
    adopt(world, "node-b", "node-a", M1)
    adopt(world, "node-c", "node-b", M1)
    assert elsewhere(world, "node-a", M1) == {M1: (2, "node-c")}
    assert elsewhere(world, "node-b", M1) == {M1: (2, "node-c")}


def test_committing_again_gives_the_same_number(world: World) -> None:
    """A repeated request is answered, not carried out twice; the order of ids is no matter."""
    generation = take(world, "node-b", "node-a")
    first = commit(world, "node-b", "node-a", generation, M1, M2)
    again = commit(world, "node-b", "node-a", generation, M2, M1)
    assert first == again
    assert first.state is ReceiptState.COMMITTED


def test_committing_other_messages_again_is_a_conflict(world: World) -> None:
    """One generation has one receipt for each holder."""
    generation = take(world, "node-b", "node-a")
    commit(world, "node-b", "node-a", generation, M1)
    with pytest.raises(Conflict):
        commit(world, "node-b", "node-a", generation, M2)


def test_a_receipt_leaves_out_what_it_does_not_name(world: World) -> None:
    """Asked again with more, after a restore for instance, the rest is excluded, not added."""
    generation = take(world, "node-b", "node-a")
    commit(world, "node-b", "node-a", generation, M1)
    again = commit(world, "node-b", "node-a", generation, M1, M2)
    assert again.state is ReceiptState.COMMITTED
    assert again.excluded == (M2,)


def test_a_committed_receipt_binds_after_the_lease_has_gone(world: World) -> None:
    """The answer to a repeated commit is the receipt, though the lease has run out since."""
    generation = take(world, "node-b", "node-a")
    commit(world, "node-b", "node-a", generation, M1)
    world.advance(DURATION_S + 1)
    elsewhere(world, "node-a")
    assert commit(world, "node-b", "node-a", generation, M1).number == 1


def test_nobody_commits_without_the_lease(world: World) -> None:
    """A node that holds nothing is refused with a reason, and nothing is written."""
    answer = commit(world, "node-b", "node-a", 1, M1)
    assert (answer.state, answer.number) == (ReceiptState.UNKNOWN, None)
    assert answer.reason
    assert elsewhere(world, "node-a", M1) == {}


def test_a_late_commit_is_refused_for_good(world: World) -> None:
    """Refused because the lease had run out, it is refused also after the lease was taken anew."""
    generation = take(world, "node-b", "node-a")
    world.advance(DURATION_S + 1)
    assert commit(world, "node-b", "node-a", generation, M1).reason
    newer = take(world, "node-b", "node-a")
    assert commit(world, "node-b", "node-a", generation, M1).reason
    assert commit(world, "node-b", "node-a", newer, M1).number == 1


def test_nobody_adopts_its_own_queue(world: World) -> None:
    """A receipt for the own queue is refused."""
    assert commit(world, "node-a", "node-a", 1, M1).reason


def test_unknown_is_final_only_with_a_reason(world: World) -> None:
    """While the lease is held a commit may still be on its way, so the answer gives no reason."""
    generation = take(world, "node-b", "node-a")
    question = wire.ReceiptQuestion(queue="node-a", generation=generation)
    open_answer = world.calls.receipt_state("node-b", question)
    assert (open_answer.state, open_answer.reason) == (ReceiptState.UNKNOWN, "")
    world.advance(DURATION_S + 1)
    assert world.calls.receipt_state("node-b", question).reason


def test_done_is_remembered_and_repeatable(world: World) -> None:
    """A receipt goes from committed to done and stays there."""
    generation = take(world, "node-b", "node-a")
    question = wire.ReceiptQuestion(queue="node-a", generation=generation)
    commit(world, "node-b", "node-a", generation, M1)
    assert world.calls.receipt_state("node-b", question).state is ReceiptState.COMMITTED
    for _ in range(2):
        done = world.calls.finish_receipt("node-b", question)
        assert (done.state, done.number) == (ReceiptState.DONE, 1)


def test_done_without_a_receipt_is_unknown(world: World) -> None:
    """Nothing is made up for a receipt that was never committed."""
    question = wire.ReceiptQuestion(queue="node-a", generation=1)
    answer = world.calls.finish_receipt("node-b", question)
    assert answer.state is ReceiptState.UNKNOWN


KEEP_S = Timings().retired_keep_days * 86400.0


def removable(world: World, *keys: wire.ReceiptKey) -> tuple[int, ...]:
    """Ask as node-a which of these receipts' mail may be removed."""
    report = wire.NodeReport(role=wire.Role.STANDBY)
    request = wire.HeartbeatRequest(report=report, kept_receipts=keys)
    return world.calls.heartbeat("node-a", request).removable_receipts


def key(answer: wire.ReceiptAnswer, **overrides: Any) -> wire.ReceiptKey:
    """Return the key of a receipt by which node-b adopted node-a's queue first."""
    fields = {"number": answer.number, "queue": "node-a", "generation": 2, "holder": "node-b"}
    return wire.ReceiptKey(**(fields | overrides))


def test_retired_mail_is_removable_once_its_receipt_was_done_for_long(world: World) -> None:
    """Not when it is done, but `retired_keep_days` later, and only for those that were asked."""
    asked = key(adopt(world, "node-b", "node-a", M1))
    assert removable(world, asked) == ()
    world.advance(KEEP_S - 60)
    assert removable(world, asked) == ()
    world.advance(120)
    assert removable(world, asked) == (1,)
    assert removable(world) == ()


def test_mail_of_a_receipt_that_is_not_done_is_never_removable(world: World) -> None:
    """Its holder may have died between the commit and the last rename."""
    generation = take(world, "node-b", "node-a")
    asked = key(commit(world, "node-b", "node-a", generation, M1), generation=generation)
    world.advance(10 * KEEP_S)
    assert removable(world, asked) == ()


def test_another_receipt_of_the_same_number_permits_nothing(world: World) -> None:
    """After a restore a number may have been given anew; one that is unknown says nothing."""
    answer = adopt(world, "node-b", "node-a", M1)
    world.advance(KEEP_S + 60)
    assert removable(world, key(answer)) == (1,)
    for other in ({"holder": "node-c"}, {"generation": 9}, {"queue": "node-c"}, {"number": 5}):
        assert removable(world, key(answer, **other)) == ()


def test_nothing_is_removable_while_recovering(world: World) -> None:
    """A restored control plane does not know yet which receipts bind."""
    asked = key(adopt(world, "node-b", "node-a", M1))
    world.advance(KEEP_S + 60)
    assert removable(world, asked) == (1,)
    world.restore(world.backup())
    assert removable(world, asked) == ()


def test_a_receipt_may_name_nothing(world: World) -> None:
    """An empty mirror is adopted as well."""
    assert adopt(world, "node-b", "node-a").number == 1


def test_a_refused_reconcile_shows_no_receipt(world: World) -> None:
    """Receipts come with the lease or not at all."""
    generation = take(world, "node-b", "node-a")
    commit(world, "node-b", "node-a", generation, M1)
    answer = world.calls.reconcile("node-a", wire.ReconcileRequest(pending_ids=(M1,)))
    assert answer.lease is None
    assert answer.reason
    assert answer.elsewhere == ()


def test_a_heartbeat_shows_no_receipt(world: World) -> None:
    """The view has leases and peers, never who owns which message."""
    adopt(world, "node-b", "node-a", M1)
    request = wire.HeartbeatRequest(report=wire.NodeReport(role=wire.Role.STANDBY))
    assert M1 not in world.calls.heartbeat("node-a", request).model_dump_json()


def test_no_receipt_is_shown_or_taken_while_recovering(world: World) -> None:
    """A restored control plane does not know enough to answer: it says so instead of unknown."""
    adopt(world, "node-b", "node-a", M1)
    world.restore(world.backup())
    question = wire.ReceiptQuestion(queue="node-a", generation=2)
    with pytest.raises(Recovering):
        world.calls.receipt_state("node-b", question)
    with pytest.raises(Recovering):
        world.calls.finish_receipt("node-b", question)
    with pytest.raises(Recovering):
        commit(world, "node-b", "node-a", 2, M1)


def test_a_hundred_thousand_messages_are_one_receipt(database: Database) -> None:
    """A whole big queue is committed and reconciled in one call each."""
    world = RealWorld(database)
    for node in ("node-a", "node-b"):
        world.enrol(node)
    ids = tuple(f"4fQ{number:07d}zB" for number in range(MANY))
    generation = take(world, "node-b", "node-a")
    request = wire.ReceiptRequest.model_construct(queue="node-a", generation=generation, ids=ids)
    world.calls.commit_receipt("node-b", request)
    world.calls.release("node-b", wire.LeaseRequest(queue="node-a", generation=generation))
    answer = world.calls.reconcile("node-a", wire.ReconcileRequest.model_construct(pending_ids=ids))
    assert len(answer.elsewhere) == MANY
