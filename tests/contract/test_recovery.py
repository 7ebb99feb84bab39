"""A control plane restored from a backup asks everybody before it grants anything (section 4.9)."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from controlplane.errors import Conflict
from controlplane.store.engine import Database
from controlplane.store.ownership_tables import RecoveryReportRow
from controlplane.store.receipts import ids_of
from nodeagent.core import contract as wire
from tests.fakes.ownership_worlds import DURATION_S, NODES, RealWorld, TwinWorld, World

M1, M2 = "4fQ1x1BcdfgzB", "4fQ1x2BcdfgzC"
SLACK_S = 60.0


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


def report(
    world: World,
    node: str,
    generations: dict[str, int] | None = None,
    *receipts: wire.RememberedReceipt,
) -> None:
    """Let a node tell what it remembers."""
    memory = wire.RecoveryRequest(
        instance_id=world.instance_id(), generations=generations or {}, receipts=receipts
    )
    world.calls.recover(node, memory)


def view(world: World, node: str = "node-a") -> wire.ClusterView:
    """Look at the cluster."""
    request = wire.HeartbeatRequest(report=wire.NodeReport(role=wire.Role.STANDBY))
    return world.calls.heartbeat(node, request).view


def adoption(number: int, *ids: str, holder: str = "node-b") -> wire.RememberedReceipt:
    """Remember that `holder` adopted messages of node-a."""
    return wire.RememberedReceipt(
        number=number, queue="node-a", generation=2, holder=holder, ids=ids
    )


def restored(world: World) -> World:
    """Restore a backup taken now."""
    world.restore(world.backup())
    return world


def test_a_restore_gives_a_new_instance_that_is_recovering(world: World) -> None:
    """Agents can tell that this is not the database they knew."""
    before = world.instance_id()
    restored(world)
    assert world.instance_id() != before
    assert view(world).is_recovering


def test_nothing_is_granted_or_renewed_while_recovering(world: World) -> None:
    """No lease moves, by whatever call, until everybody has reported."""
    restored(world)
    request = wire.HeartbeatRequest(
        report=wire.NodeReport(role=wire.Role.ACTIVE), renew=True, generation=1
    )
    assert not world.calls.heartbeat("node-a", request).renewed
    assert world.calls.reconcile("node-a", wire.ReconcileRequest()).lease is None
    world.advance(DURATION_S + 1)
    assert world.calls.acquire("node-b", wire.LeaseRequest(queue="node-a")).lease is None
    assert not world.confirm_dead("node-a")


def test_recovery_waits_for_every_node(world: World) -> None:
    """One missing report keeps everything closed."""
    restored(world)
    report(world, "node-a")
    report(world, "node-b")
    assert world.missing_nodes() == ["node-c"]
    assert view(world).is_recovering
    report(world, "node-c")
    assert not view(world).is_recovering


def test_a_node_known_only_from_a_report_is_waited_for(world: World) -> None:
    """A node enrolled after the backup was taken must not be forgotten."""
    restored(world)
    report(world, "node-a", {"node-d": 4})
    report(world, "node-b")
    report(world, "node-c")
    assert world.missing_nodes() == ["node-d"]
    world.strike_off("node-d")
    assert not view(world).is_recovering


def test_a_struck_off_node_is_not_waited_for(world: World) -> None:
    """An operator can give up a node that is gone for good."""
    restored(world)
    report(world, "node-a")
    report(world, "node-b")
    world.strike_off("node-c")
    assert not view(world).is_recovering


def test_rows_start_above_every_generation_seen(world: World) -> None:
    """Each lease is its own node's for one whole duration, above the highest generation."""
    restored(world)
    report(world, "node-a", {"node-a": 7, "node-b": 1})
    report(world, "node-b", {"node-a": 9})
    report(world, "node-c")
    rows = {lease.queue: lease for lease in view(world).leases}
    assert [rows[node].holder for node in NODES] == list(NODES)
    assert [rows[node].generation for node in NODES] == [10, 2, 2]
    for node in NODES:
        assert rows[node].remaining_s > DURATION_S - SLACK_S
    assert world.calls.acquire("node-b", wire.LeaseRequest(queue="node-a")).lease is None


def test_a_remembered_receipt_raises_the_generation_too(world: World) -> None:
    """An adoption at generation 2 means that generation 2 was reached."""
    restored(world)
    report(world, "node-a")
    report(world, "node-b", {}, adoption(1, M1))
    report(world, "node-c")
    rows = {lease.queue: lease.generation for lease in view(world).leases}
    assert rows["node-a"] == 3


def test_forgotten_receipts_bind_again(world: World) -> None:
    """What was adopted after the backup still belongs to the adopter."""
    backup = world.backup()
    world.advance(DURATION_S + 1)
    world.calls.acquire("node-b", wire.LeaseRequest(queue="node-a"))
    request = wire.ReceiptRequest(queue="node-a", generation=2, ids=(M1,))
    number = world.calls.commit_receipt("node-b", request).number
    assert number == 1
    world.restore(backup)
    report(world, "node-a")
    report(world, "node-b", {"node-a": 2}, adoption(1, M1))
    report(world, "node-c")
    answer = world.calls.reconcile("node-a", wire.ReconcileRequest(pending_ids=(M1, M2)))
    assert [(one.id, one.owner) for one in answer.elsewhere] == [(M1, "node-b")]


def test_reports_of_one_receipt_are_merged(world: World) -> None:
    """The adopter and the node that retired know different parts of one receipt."""
    restored(world)
    report(world, "node-a", {}, adoption(1, M2))
    report(world, "node-b", {}, adoption(1, M1))
    report(world, "node-c")
    answer = world.calls.reconcile("node-a", wire.ReconcileRequest(pending_ids=(M1, M2)))
    assert {one.id for one in answer.elsewhere} == {M1, M2}


def test_new_receipts_are_numbered_after_the_remembered(world: World) -> None:
    """The one order of all receipts goes on after the highest number known to anybody."""
    restored(world)
    report(world, "node-a")
    report(world, "node-b", {}, adoption(17, M1))
    report(world, "node-c")
    world.advance(DURATION_S + 1)
    lease = world.calls.acquire("node-c", wire.LeaseRequest(queue="node-b")).lease
    assert lease is not None
    request = wire.ReceiptRequest(queue="node-b", generation=lease.generation, ids=(M2,))
    assert world.calls.commit_receipt("node-c", request).number == 18


def test_a_late_report_still_adds_receipts(world: World) -> None:
    """A node that was struck off and came back tells of adoptions nobody knew."""
    restored(world)
    report(world, "node-a")
    report(world, "node-c")
    world.strike_off("node-b")
    world.enrol("node-b")
    report(world, "node-b", {}, adoption(1, M1))
    answer = world.calls.reconcile("node-a", wire.ReconcileRequest(pending_ids=(M1,)))
    assert [one.owner for one in answer.elsewhere] == ["node-b"]


def test_a_report_for_another_instance_is_refused(world: World) -> None:
    """A message from before the restore cannot end a recovery."""
    old = wire.RecoveryRequest(instance_id="another", generations={})
    restored(world)
    with pytest.raises(Conflict):
        world.calls.recover("node-a", old)
    assert "node-a" in world.missing_nodes()


def test_reporting_twice_keeps_the_newer_report(world: World) -> None:
    """An agent may repeat its report; the last one counts."""
    restored(world)
    report(world, "node-a", {"node-a": 3})
    report(world, "node-a", {"node-a": 5})
    report(world, "node-b")
    report(world, "node-c")
    rows = {lease.queue: lease.generation for lease in view(world).leases}
    assert rows["node-a"] == 6


def test_a_second_restore_starts_over(world: World) -> None:
    """Reports to the first restored instance do not count for the second."""
    restored(world)
    report(world, "node-a")
    restored(world)
    assert "node-a" in world.missing_nodes()


def test_receipts_that_contradict_each_other_are_shown(database: Database) -> None:
    """Two adopters under one number cannot both be right: the first stays, an event says so."""
    world = RealWorld(database)
    for node in NODES:
        world.enrol(node)
    restored(world)
    report(world, "node-a")
    report(world, "node-b", {}, adoption(1, M1))
    report(world, "node-c", {}, adoption(1, M2, holder="node-c"))
    kinds = [event.kind for event in world.events()]
    assert kinds.count("receipt-conflict") == 1
    assert [receipt.holder for receipt in world.receipts()] == ["node-b"]


def test_restore_and_recovery_are_events(database: Database) -> None:
    """Operators see when the waiting began, who was given up, and when it ended."""
    world = RealWorld(database)
    world.enrol("node-a")
    restored(world)
    world.strike_off("node-c")
    report(world, "node-a")
    kinds = [event.kind for event in world.events()]
    assert kinds[0] == "restored"
    assert kinds[-2:] == ["struck-off", "recovered"]


def test_reports_are_dropped_once_they_are_merged(database: Database) -> None:
    """They name every message that was ever adopted, a second time."""
    world = RealWorld(database)
    world.enrol("node-a")
    world.enrol("node-b")
    restored(world)
    report(world, "node-a", None, adoption(3, M1))
    with database.read() as session:
        assert len(session.execute(select(RecoveryReportRow)).all()) == 1
    report(world, "node-b")
    with database.read() as session:
        assert session.execute(select(RecoveryReportRow)).all() == []
        assert ids_of(session, 3) == {M1}
