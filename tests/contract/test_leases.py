"""The lease's promises, each on the twin, on SQLite and on PostgreSQL (section 4.8)."""

from __future__ import annotations

import threading

import pytest

from controlplane.errors import Forbidden, Invalid
from controlplane.store.engine import Database
from controlplane.store.leases import read_lease
from controlplane.store.ownership import Ownership
from nodeagent.core import contract as wire
from tests.fakes.ownership_worlds import DURATION_S, NODES, RealWorld, StaticFacts, TwinWorld, World

SLACK_S = 60.0


@pytest.fixture(params=["twin", "sqlite", "postgres"])
def world(request: pytest.FixtureRequest) -> World:
    """Give a control plane with three enrolled nodes."""
    if request.param == "twin":
        made: World = TwinWorld()
    else:
        database = request.getfixturevalue(f"{request.param}_database")
        made = RealWorld(database)
    for node in NODES:
        made.enrol(node)
    return made


def reconcile(world: World, node: str = "node-a") -> wire.LeaseView | None:
    """Take the own lease."""
    return world.calls.reconcile(node, wire.ReconcileRequest()).lease


def renew(world: World, node: str = "node-a", generation: int = 1) -> bool:
    """Heartbeat with a renewal."""
    report = wire.NodeReport(role=wire.Role.ACTIVE)
    request = wire.HeartbeatRequest(report=report, renew=True, generation=generation)
    return world.calls.heartbeat(node, request).renewed


def lease_of(world: World, queue: str = "node-a") -> wire.LeaseView:
    """Look at a lease without touching it."""
    report = wire.NodeReport(role=wire.Role.STANDBY)
    view = world.calls.heartbeat("node-c", wire.HeartbeatRequest(report=report)).view
    return next(lease for lease in view.leases if lease.queue == queue)


def acquire(world: World, node: str, queue: str = "node-a") -> wire.LeaseView | None:
    """Try for a peer's lease."""
    return world.calls.acquire(node, wire.LeaseRequest(queue=queue)).lease


def grant(world: World, to: str, generation: int = 1, node: str = "node-a") -> wire.LeaseAnswer:
    """Grant the own lease."""
    request = wire.LeaseRequest(queue="node-a", generation=generation, to=to)
    return world.calls.grant(node, request)


def release(world: World, node: str, generation: int) -> wire.LeaseView | None:
    """Give node-a's lease back."""
    request = wire.LeaseRequest(queue="node-a", generation=generation)
    return world.calls.release(node, request).lease


def test_a_new_node_holds_an_expired_lease_of_its_own(world: World) -> None:
    """Enrolment proves nothing: the lease belongs to its node and has run out."""
    lease = lease_of(world)
    assert (lease.holder, lease.generation) == ("node-a", 0)
    assert lease.remaining_s <= 0


def test_reconcile_gives_one_whole_duration(world: World) -> None:
    """A taken lease lasts the configured duration and keeps its generation for the same holder."""
    lease = reconcile(world)
    assert lease is not None
    assert lease.generation == 1
    assert DURATION_S - SLACK_S < lease.remaining_s <= DURATION_S


def test_renewal_extends_an_unexpired_lease(world: World) -> None:
    """A renewal counts a whole duration from now."""
    reconcile(world)
    world.advance(600)
    assert renew(world)
    assert lease_of(world).remaining_s > DURATION_S - SLACK_S


def test_an_expired_lease_cannot_be_renewed(world: World) -> None:
    """A node whose lease ran out goes through reconcile, even if nobody took it."""
    reconcile(world)
    world.advance(DURATION_S + 1)
    assert not renew(world)
    assert lease_of(world).remaining_s < 0


@pytest.mark.parametrize("generation", [0, 2])
def test_renewal_at_another_generation_is_refused(world: World, generation: int) -> None:
    """Only the generation that the row has is renewed, and a refusal extends nothing."""
    reconcile(world)
    world.advance(600)
    assert not renew(world, generation=generation)
    assert lease_of(world).remaining_s < 600


def test_a_held_lease_cannot_be_acquired_and_is_not_extended(world: World) -> None:
    """A failed acquire changes nothing and says who holds the lease."""
    reconcile(world)
    world.advance(600)
    answer = world.calls.acquire("node-b", wire.LeaseRequest(queue="node-a"))
    assert answer.lease is None
    assert answer.reason
    after = lease_of(world)
    assert (after.holder, after.generation) == ("node-a", 1)
    assert after.remaining_s < 600


def test_an_expired_lease_passes_to_the_peer_at_the_next_generation(world: World) -> None:
    """Each change of holder raises the generation."""
    reconcile(world)
    world.advance(DURATION_S + 1)
    lease = acquire(world, "node-b")
    assert lease is not None
    assert (lease.holder, lease.generation) == ("node-b", 2)


def test_the_own_node_waits_while_a_peer_holds_its_lease(world: World) -> None:
    """A returning host gets its lease back only after the peer's ended, at a new generation."""
    acquire(world, "node-b")
    assert reconcile(world) is None
    assert not renew(world, generation=1)
    release(world, "node-b", 1)
    back = reconcile(world)
    assert back is not None
    assert (back.holder, back.generation) == ("node-a", 2)


def test_every_reconcile_begins_a_generation(world: World) -> None:
    """A grant still on its way when the node takes its mail back finds another generation."""
    reconcile(world)
    back = reconcile(world)
    assert back is not None
    assert back.generation == 2
    assert grant(world, "node-b", generation=1).lease is None
    assert lease_of(world).granted_to is None


def test_an_adopting_peer_extends_by_acquiring_again(world: World) -> None:
    """While it runs on, the same holder keeps its generation."""
    acquire(world, "node-b")
    world.advance(600)
    again = acquire(world, "node-b")
    assert again is not None
    assert again.generation == 1
    assert again.remaining_s > DURATION_S - SLACK_S


def test_a_peer_that_let_the_lease_run_out_gets_a_new_generation(world: World) -> None:
    """What was refused because the lease had run out can never be committed later."""
    acquire(world, "node-b")
    world.advance(DURATION_S + 1)
    again = acquire(world, "node-b")
    assert again is not None
    assert again.generation == 2


def test_a_renewal_never_touches_a_peers_lease(world: World) -> None:
    """The heartbeat of an adopter does not keep the adopted lease alive."""
    acquire(world, "node-b")
    reconcile(world, "node-b")
    world.advance(600)
    renew(world, "node-b")
    assert lease_of(world).remaining_s < 600


def test_a_grant_lets_only_the_named_peer_take_over(world: World) -> None:
    """The granted lease goes to its receiver at once and to nobody else."""
    reconcile(world)
    granted = grant(world, "node-b").lease
    assert granted is not None
    assert granted.granted_to == "node-b"
    assert acquire(world, "node-c") is None
    taken = acquire(world, "node-b")
    assert taken is not None
    assert (taken.holder, taken.generation, taken.granted_to) == ("node-b", 2, None)


def test_a_granted_lease_is_neither_renewed_nor_taken_back(world: World) -> None:
    """After a grant the old holder has nothing until the grant has run out."""
    reconcile(world)
    grant(world, "node-b")
    assert not renew(world)
    assert reconcile(world) is None


def test_an_unused_grant_runs_out_as_any_lease(world: World) -> None:
    """The old holder gets its lease back after one duration."""
    reconcile(world)
    grant(world, "node-b")
    world.advance(DURATION_S + 1)
    back = reconcile(world)
    assert back is not None
    assert (back.holder, back.generation, back.granted_to) == ("node-a", 2, None)


def test_a_grant_gives_the_peer_one_whole_duration(world: World) -> None:
    """However little was left, the peer has time to take the lease up."""
    reconcile(world)
    world.advance(900)
    granted = grant(world, "node-b").lease
    assert granted is not None
    assert granted.remaining_s > DURATION_S - SLACK_S


def test_an_expired_lease_cannot_be_granted(world: World) -> None:
    """Whoever holds nothing can give nothing."""
    reconcile(world)
    world.advance(DURATION_S + 1)
    answer = grant(world, "node-b")
    assert answer.lease is None
    assert answer.reason


def test_a_grant_to_a_stranger_is_refused(world: World) -> None:
    """Only an enrolled node can receive a lease."""
    reconcile(world)
    assert grant(world, "node-x").lease is None


def test_a_node_grants_its_own_lease_only(world: World) -> None:
    """Another node's lease, or a grant to oneself, is refused outright."""
    reconcile(world)
    with pytest.raises(Forbidden):
        grant(world, "node-c", node="node-b")
    with pytest.raises(Invalid):
        grant(world, "node-a")


def test_the_own_lease_is_never_taken_by_acquire(world: World) -> None:
    """A node's own lease comes with the receipts, by reconcile."""
    with pytest.raises(Invalid):
        acquire(world, "node-a", "node-a")


def test_release_ends_a_lease_at_once_and_is_repeatable(world: World) -> None:
    """After a release anybody may acquire; a second release changes nothing."""
    reconcile(world)
    assert release(world, "node-a", 1) is not None
    first = lease_of(world).remaining_s
    assert first <= 0
    assert release(world, "node-a", 1) is not None
    assert lease_of(world).remaining_s <= first
    assert acquire(world, "node-b") is not None


def test_only_the_holder_releases(world: World) -> None:
    """A release by another node or at another generation is refused."""
    reconcile(world)
    assert release(world, "node-b", 1) is None
    assert release(world, "node-a", 7) is None
    assert lease_of(world).remaining_s > DURATION_S - SLACK_S


def test_confirming_a_death_ends_the_lease_and_shows(world: World) -> None:
    """The peer may adopt at once and sees that an operator vouched for it."""
    reconcile(world)
    assert world.confirm_dead("node-a")
    assert lease_of(world).confirmed_dead
    taken = acquire(world, "node-b")
    assert taken is not None
    assert taken.confirmed_dead
    release(world, "node-b", 2)
    assert not lease_of(world).confirmed_dead


def test_a_node_that_lives_clears_its_confirmed_death(world: World) -> None:
    """The own node's reconcile takes the operator's word back."""
    world.confirm_dead("node-a")
    lease = reconcile(world)
    assert lease is not None
    assert not lease.confirmed_dead


def test_a_death_is_confirmed_only_of_the_own_node(world: World) -> None:
    """Once a peer holds the lease there is nothing left to skip."""
    acquire(world, "node-b")
    assert not world.confirm_dead("node-a")
    assert not world.confirm_dead("node-x")


def test_an_unknown_queue_has_no_lease(world: World) -> None:
    """A name that was never enrolled cannot be acquired, and the answer says so."""
    answer = world.calls.acquire("node-b", wire.LeaseRequest(queue="node-x"))
    assert answer.lease is None
    assert answer.reason


def test_a_generation_above_the_databases_blocks_the_lease(world: World) -> None:
    """A database older than the cluster grants nothing on that queue, and renews nothing."""
    reconcile(world)
    assert not renew(world, generation=5)
    assert not renew(world, generation=1)
    assert reconcile(world) is None
    world.advance(DURATION_S + 1)
    assert acquire(world, "node-b") is None


def test_a_generation_above_the_databases_is_shown_once(database: Database) -> None:
    """The event names the generation and what to do; repeated heartbeats add none."""
    world = RealWorld(database)
    world.enrol("node-a")
    renew(world, generation=5)
    renew(world, generation=5)
    kinds = [event.kind for event in world.events()]
    assert kinds.count("generation-below-seen") == 1


def test_a_change_of_holder_is_an_event(database: Database) -> None:
    """Operators see who took whose lease."""
    world = RealWorld(database)
    for node in NODES:
        world.enrol(node)
    acquire(world, "node-b")
    assert [event.text for event in world.events() if event.kind == "lease"] == [
        "node-b holds the lease of node-a's queue at generation 1."
    ]


def test_of_many_that_acquire_at_once_exactly_one_wins(database: Database) -> None:
    """Ten threads race for one expired lease; one gets it and the generation rises by one."""
    world = RealWorld(database)
    racers = [f"node-{number}" for number in range(10)]
    for node in ("node-a", *racers):
        world.enrol(node)
    start = threading.Barrier(len(racers))
    won: list[str] = []

    def race(node: str) -> None:
        start.wait()
        if acquire(world, node) is not None:
            won.append(node)

    threads = [threading.Thread(target=race, args=(node,)) for node in racers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    with database.read() as session:
        lease = read_lease(session, "node-a")
    assert lease is not None
    assert (lease.holder, lease.generation) == (won[0], 1)


def test_two_instances_on_one_database_agree(database: Database) -> None:
    """What one control plane granted, the other one refuses."""
    first, second = (
        RealWorld(database),
        Database(database.engine.url.render_as_string(hide_password=False)),
    )
    for node in NODES:
        first.enrol(node)
    assert acquire(first, "node-b") is not None
    other = Ownership(second, StaticFacts())
    assert other.acquire("node-c", wire.LeaseRequest(queue="node-a")).lease is None
    second.close()
