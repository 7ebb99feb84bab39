"""One state machine drives the twin and a real database; they must never answer differently."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from controlplane.errors import ControlPlaneError
from controlplane.store.engine import Database
from controlplane.store.leases import read_leases
from controlplane.store.schema import migrate
from nodeagent.core import contract as wire
from nodeagent.core.brief import KnownPeers
from tests.fakes.ownership_worlds import DURATION_S, NODES, RealWorld, TwinWorld
from tests.fakes.postgres import PostgresServer

SLACK_S = 60.0
IDS = tuple(f"4fQ1x{number}Bcdfgz{number}" for number in range(6))
nodes = st.sampled_from(NODES)
vips = st.sampled_from(("198.51.100.100", "198.51.100.101"))
some_ids = st.lists(st.sampled_from(IDS), unique=True, max_size=4).map(tuple)
offsets = st.sampled_from((0,) * 10 + (-1, 1))
strangers = st.sampled_from((None,) * 5 + NODES)
steps = st.sampled_from((100.0, 400.0, 1000.0))


def comparable(answer: Any) -> Any:
    """Reduce an answer to what both sides must agree on."""
    if not isinstance(answer, wire.Wire):
        return answer
    content = answer.model_dump()
    return _reduced(content)


def _reduced(value: Any) -> Any:
    if isinstance(value, dict):
        left_out = {"instance_id", "last_seen_s", "peers_tag"}
        return {
            name: _reduced_field(name, item) for name, item in value.items() if name not in left_out
        }
    if isinstance(value, tuple | list):
        reduced = [_reduced(item) for item in value]
        return sorted(reduced, key=repr)
    return value


def _reduced_field(name: str, value: Any) -> Any:
    if name == "reason":
        return bool(value)
    if name == "remaining_s":
        return round((value + SLACK_S / 2) / 100) if value > 0 else "run out"
    return _reduced(value)


class OwnershipMachine(RuleBasedStateMachine):
    """Plays any order of calls, with time, operators and restores, on both sides."""

    make_database: Callable[[], Database]

    def __init__(self) -> None:
        super().__init__()
        self.database = type(self).make_database()
        self.real = RealWorld(self.database)
        self.twin = TwinWorld()
        self.backups: tuple[Any, Any] | None = None
        self.is_restored = False
        self.generations: dict[str, int] = {}
        self.known = {
            world: {node: KnownPeers() for node in NODES} for world in (self.real, self.twin)
        }

    def teardown(self) -> None:
        """Close this run's connections."""
        self.database.close()

    @initialize()
    def enrol_all(self) -> None:
        """Start with three enrolled nodes."""
        for node in NODES:
            self.real.enrol(node)
            self.twin.enrol(node)
            self.both("reconcile", node, wire.ReconcileRequest())

    def both(self, call: str, *arguments: Any) -> Any:
        """Make one call on both sides and compare what comes back, refusals too."""
        real = self._outcome(getattr(self.real.calls, call), *arguments)
        twin = self._outcome(getattr(self.twin.calls, call), *arguments)
        assert comparable(real) == comparable(twin), (call, arguments, real, twin)
        return twin

    @staticmethod
    def _outcome(call: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except ControlPlaneError as error:
            return type(error).__name__

    def generation(self, queue: str) -> int:
        """Return the generation that the queue is at."""
        return self.twin.twin.state.leases[queue].generation

    def holder(self, queue: str, stranger: str | None) -> str:
        """Return who holds the queue's lease, or now and then a stranger."""
        return stranger or self.twin.twin.state.leases[queue].holder

    @rule(node=nodes, renew=st.booleans(), offset=offsets)
    def heartbeat(self, node: str, renew: bool, offset: int) -> None:
        """Report, perhaps renew, seldom with a wrong generation."""
        report = wire.NodeReport(role=wire.Role.STANDBY)
        request = wire.HeartbeatRequest(
            report=report, renew=renew, generation=self.generation(node) + offset
        )
        self.both("heartbeat", node, request)

    @rule(node=nodes, renew=st.booleans(), mirrored=st.sets(nodes), vips=st.sets(vips))
    def heartbeat_briefly(self, node: str, renew: bool, mirrored: set[str], vips: set[str]) -> None:
        """Report as agents do, who are told only what is new to them or acted on."""
        report = wire.NodeReport(
            role=wire.Role.ACTIVE,
            holds_vips=tuple(sorted(vips)),
            mirrors=tuple(
                wire.MirrorReport(queue=queue, generation=0, sequence=0, messages=0)
                for queue in sorted(mirrored)
            ),
        )
        answers = []
        for world, known in self.known.items():
            request = wire.HeartbeatRequest(
                report=report,
                renew=renew,
                generation=self.generation(node),
                known_peers=known[node].tag,
            )
            answer = world.calls.heartbeat(node, request)
            answers.append((answer, known[node].complete(answer)))
        assert comparable(answers[0][0]) == comparable(answers[1][0])
        assert comparable(answers[0][1]) == comparable(answers[1][1])

    @rule(node=nodes)
    def reconcile(self, node: str) -> None:
        """Take the own lease and ask about all mail there is."""
        self.both("reconcile", node, wire.ReconcileRequest(pending_ids=IDS))

    @rule(node=nodes, queue=nodes)
    def acquire(self, node: str, queue: str) -> None:
        """Try for any lease."""
        self.both("acquire", node, wire.LeaseRequest(queue=queue))

    @rule(queue=nodes, to=nodes, offset=offsets, stranger=strangers)
    def grant(self, queue: str, to: str, offset: int, stranger: str | None) -> None:
        """Grant a lease to anybody; the peer then tries to take it up, the owner to keep it."""
        generation = self.generation(queue) + offset
        request = wire.LeaseRequest(queue=queue, generation=generation, to=to)
        self.both("grant", stranger or queue, request)

    @rule(queue=nodes, offset=offsets, stranger=strangers)
    def release(self, queue: str, offset: int, stranger: str | None) -> None:
        """Release a lease, mostly as its holder."""
        generation = self.generation(queue) + offset
        request = wire.LeaseRequest(queue=queue, generation=generation)
        self.both("release", self.holder(queue, stranger), request)

    @rule(queue=nodes, offset=offsets, ids=some_ids, stranger=strangers)
    def commit(self, queue: str, offset: int, ids: tuple[str, ...], stranger: str | None) -> None:
        """Commit a receipt, mostly as the lease's holder."""
        generation = max(1, self.generation(queue) + offset)
        request = wire.ReceiptRequest(queue=queue, generation=generation, ids=ids)
        self.both("commit_receipt", self.holder(queue, stranger), request)

    @rule(queue=nodes, node=nodes, ids=some_ids, is_in_time=st.booleans())
    def adopt(self, queue: str, node: str, ids: tuple[str, ...], is_in_time: bool) -> None:
        """Let a peer wait for the lease, take it, commit in time or not, ask, end."""
        self.advance(DURATION_S)
        self.both("acquire", node, wire.LeaseRequest(queue=queue))
        generation = self.generation(queue)
        if not is_in_time:
            self.advance(DURATION_S)
        request = wire.ReceiptRequest(queue=queue, generation=generation, ids=ids)
        self.both("commit_receipt", node, request)
        question = wire.ReceiptQuestion(queue=queue, generation=generation)
        self.both("receipt_state", node, question)
        if not is_in_time:
            self.both("acquire", node, wire.LeaseRequest(queue=queue))
        self.both("commit_receipt", node, request)
        self.both("finish_receipt", node, question)

    @rule(queue=nodes, to=nodes, is_used=st.booleans())
    def switch_over(self, queue: str, to: str, is_used: bool) -> None:
        """Take the lease, grant it, try to go back on it; the peer takes it or not."""
        self.both("reconcile", queue, wire.ReconcileRequest(pending_ids=IDS))
        generation = self.generation(queue)
        request = wire.LeaseRequest(queue=queue, generation=generation, to=to)
        self.both("grant", queue, request)
        report = wire.NodeReport(role=wire.Role.ACTIVE)
        renewal = wire.HeartbeatRequest(report=report, renew=True, generation=generation)
        self.both("heartbeat", queue, renewal)
        self.both("reconcile", queue, wire.ReconcileRequest())
        if is_used:
            self.both("acquire", to, wire.LeaseRequest(queue=queue))

    @rule(node=nodes, queue=nodes, offset=offsets, is_done=st.booleans())
    def ask(self, node: str, queue: str, offset: int, is_done: bool) -> None:
        """Ask about a receipt or close it."""
        generation = max(1, self.generation(queue) + offset)
        question = wire.ReceiptQuestion(queue=queue, generation=generation)
        self.both("finish_receipt" if is_done else "receipt_state", node, question)

    @rule(seconds=steps)
    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.real.advance(seconds)
        self.twin.advance(seconds)

    @rule(queue=nodes)
    def confirm_dead(self, queue: str) -> None:
        """Vouch that a host is off."""
        assert self.real.confirm_dead(queue) == self.twin.confirm_dead(queue)

    @rule()
    def back_up(self) -> None:
        """Take a backup."""
        self.backups = (self.real.backup(), self.twin.backup())

    @rule(is_meant=st.sampled_from((False, False, True)))
    def restore(self, is_meant: bool) -> None:
        """Restore the last backup, at most once in a run."""
        if self.backups is None or self.is_restored or not is_meant:
            return
        self.is_restored = True
        self.generations = {}
        self.real.restore(self.backups[0])
        self.twin.restore(self.backups[1])

    @rule()
    def lose_power_and_recover(self) -> None:
        """Restore the last backup and let every node report what it has seen."""
        if self.backups is None or self.is_restored:
            return
        reported = {queue: self.generation(queue) for queue in NODES}
        self.restore(is_meant=True)
        for node in NODES:
            self.both("reconcile", node, wire.ReconcileRequest())
            self.recover_as(node, reported, ())

    @rule(node=nodes, generation=st.integers(0, 6), ids=some_ids, number=st.integers(1, 3))
    def recover(self, node: str, generation: int, ids: tuple[str, ...], number: int) -> None:
        """Report what a node remembers."""
        receipt = wire.RememberedReceipt(
            number=number, queue="node-a", generation=1, holder="node-b", ids=ids
        )
        receipts = (receipt,) if node == "node-b" else ()
        self.recover_as(node, {node: generation, "node-a": 1}, receipts)
        assert self.real.missing_nodes() == self.twin.missing_nodes()

    def recover_as(
        self,
        node: str,
        generations: dict[str, int],
        receipts: tuple[wire.RememberedReceipt, ...],
    ) -> None:
        """Report to both sides, to each under the id of its own instance."""
        for world in (self.real, self.twin):
            request = wire.RecoveryRequest(
                instance_id=world.instance_id(), generations=generations, receipts=receipts
            )
            world.calls.recover(node, request)

    @invariant()
    def generations_only_rise(self) -> None:
        """See that no generation falls, but by a restore."""
        for queue, lease in self.twin.twin.state.leases.items():
            assert lease.generation >= self.generations.get(queue, 0)
            self.generations[queue] = lease.generation

    @invariant()
    def the_rows_are_equal(self) -> None:
        """After every step both sides hold the same leases."""
        with self.database.read() as session:
            real = [comparable(lease) for lease in read_leases(session)]
        leases = self.twin.twin.state.leases
        twin = [comparable(self.twin.twin._lease_view(leases[queue])) for queue in sorted(leases)]
        assert real == twin


def run_machine(make_database: Callable[[], Database], examples: int) -> None:
    """Run the machine over databases of one kind."""

    class Machine(OwnershipMachine):
        """The machine over this kind of database."""

    Machine.make_database = staticmethod(make_database)
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )


def _emptied(database: Database) -> Database:
    with database.write() as session:
        for table in (
            "leases",
            "receipts",
            "receipt_ids",
            "agents",
            "instance",
            "events",
            "node_reports",
            "recovery_reports",
        ):
            session.connection().exec_driver_sql(f"DELETE FROM {table}")
    return database


def test_sqlite_and_the_twin_agree(tmp_path: Path) -> None:
    """Whatever is asked in whatever order, SQLite and the twin answer alike."""
    url = f"sqlite:///{Path(tempfile.mkdtemp(dir=tmp_path)) / 'relay.db'}"
    migrate(Database(url))
    run_machine(lambda: _emptied(Database(url)), examples=50)


@pytest.mark.parametrize("examples", [12])
def test_postgresql_and_the_twin_agree(postgres: PostgresServer, examples: int) -> None:
    """Whatever is asked in whatever order, PostgreSQL and the twin answer alike."""
    url = postgres.create_database()
    migrate(Database(url))
    run_machine(lambda: _emptied(Database(url)), examples=examples)
