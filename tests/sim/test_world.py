"""The simulator itself: its clock, its physics, and that it refuses impossible worlds."""

from __future__ import annotations

import pytest

from nodeagent.errors import Refused
from tests.sim import faults
from tests.sim.clock import Clock
from tests.sim.traces import cut_off, start
from tests.sim.truth import Committed, Placed, Truth
from tests.sim.world import World


@pytest.fixture
def world():
    """Give two healthy nodes."""
    with World() as made:
        yield made


@pytest.fixture
def truth():
    """Give a record in which every receipt is on file."""
    made = Truth(lambda _receipt: True)
    made.accepted("m1", "a")
    return made


def receipt(holder="b", queue="a", number=1, ids=("m1",)):
    """Return a committed receipt."""
    return Committed(queue, 2, holder, number, frozenset(ids))


class TestClock:
    """Time passes in `advance` only, and in one order."""

    def test_events_run_in_the_order_of_their_time(self):
        """Equal times run in the order in which they were asked for."""
        clock, seen = Clock(), []
        for name, delay_s in (("late", 2.0), ("first", 1.0), ("second", 1.0)):
            clock.after(delay_s, lambda name=name: seen.append(name))
        clock.advance(5.0)
        assert seen == ["first", "second", "late"]

    def test_nothing_happens_in_the_past(self):
        """A negative delay is a mistake of the schedule."""
        with pytest.raises(ValueError, match="past"):
            Clock().after(-1.0, list)

    def test_a_cancelled_event_never_runs(self):
        """A timer that was given up is gone."""
        clock, seen = Clock(), []
        clock.after(1.0, lambda: seen.append(1)).cancel()
        clock.advance(2.0)
        assert seen == []

    def test_two_calls_may_sleep_at_once_and_wake_in_any_order(self):
        """Who fell asleep first need not wake last: any two processes can be held up."""
        clock, seen = Clock(), []

        def sleeper(name, seconds):
            clock.sleep_until(clock.now_s + seconds)
            seen.append(name)

        clock.start(lambda: sleeper("short", 1.0))
        clock.start(lambda: sleeper("long", 3.0))
        clock.start(lambda: sleeper("middle", 2.0))
        clock.advance(5.0)
        assert seen == ["short", "middle", "long"]

    def test_an_error_in_a_sleeping_call_reaches_the_test(self):
        """A broken twin is not swallowed by a thread."""
        clock = Clock()

        def fails():
            clock.sleep_until(clock.now_s + 1.0)
            raise KeyError("broken twin")

        clock.start(fails)
        with pytest.raises(KeyError):
            clock.advance(2.0)

    def test_only_what_was_started_can_sleep(self):
        """The schedule itself never waits for time that nobody else could bring."""
        with pytest.raises(ValueError, match="sleep"):
            Clock().sleep_until(5.0)


class TestImpossibleWorlds:
    """A schedule that cannot be is refused, not played."""

    @pytest.mark.parametrize("names", [(), ("a", "a"), ("a", "cp")])
    def test_nodes_need_names_of_their_own(self, names):
        """And `cp` is the control plane."""
        with pytest.raises(ValueError, match="name"):
            World(names)

    @pytest.mark.parametrize("pair", [("a", "a"), ("a", "z")])
    def test_a_link_has_two_known_ends(self, world, pair):
        """Only what is there can be cut."""
        with pytest.raises(ValueError, match="no link"):
            world.cut(*pair)

    def test_a_point_belongs_to_a_known_node(self, world):
        """A fault for nobody would silently test nothing."""
        with pytest.raises(ValueError, match="no node"):
            world.arm("z", "placed", faults.kill())

    def test_mail_that_is_not_there_is_not_delivered(self, world):
        """Postfix delivers from its live queue."""
        with pytest.raises(ValueError, match="cannot deliver"):
            world.node("a").postfix.deliver("nothing")

    def test_there_is_no_restore_without_a_backup(self, world):
        """A copy has to be made first."""
        with pytest.raises(ValueError, match="backup"):
            world.control_plane.restore()

    def test_a_live_host_is_not_confirmed_dead(self, world):
        """Section 4.10: the prompt says so, and here it is checked."""
        with pytest.raises(ValueError, match="not off"):
            world.confirm_dead("a")


class TestPhysics:
    """Power, clocks, and the VIP behave as on real hosts."""

    def test_the_same_seed_lives_the_same_life(self):
        """A finding can be looked at again."""
        traces = []
        for _ in range(2):
            with World(clock_rates=(0.96, 1.04)) as made:
                start(made)
                made.node("a").crash()
                made.settle()
                traces.append(made.trace)
        assert traces[0] == traces[1]

    def test_a_partition_leaves_the_vip_on_both_sides(self, world):
        """VRRP has no quorum."""
        world.run(2.0)
        world.cut("a", "b")
        world.run(1.0)
        assert [node.holds_vip for node in world.nodes.values()] == [True, True]
        world.mend("a", "b")
        world.run(1.0)
        assert [node.holds_vip for node in world.nodes.values()] == [True, False]

    def test_the_vip_does_not_go_back_by_itself(self, world):
        """`nopreempt`: a returning host stands by."""
        world.run(2.0)
        world.node("a").crash()
        world.run(1.0)
        world.node("a").boot()
        world.run(5.0)
        assert [node.holds_vip for node in world.nodes.values()] == [False, True]

    def test_new_mail_is_taken_within_a_second_of_a_crash(self, world):
        """P1: no lock and no control plane is asked."""
        world.run(2.0)
        world.control_plane.is_up = False
        world.node("a").crash()
        world.run(0.9)
        assert world.send() in world.node("b").disk.live

    def test_new_mail_is_taken_by_a_fenced_owner(self, world):
        """P5: what is fenced is old mail only."""
        start(world)
        cut_off(world, "a")
        world.run(40.0)
        assert not world.node("a").guard.is_proven
        assert world.send("a") in world.node("a").disk.live

    def test_a_clock_runs_at_its_own_rate(self):
        """Deadlines are counted on the host's own clock."""
        with World(clock_rates=(0.5, 1.0)) as made:
            made.run(10.0)
            assert made.node("a").boot_time_s() == pytest.approx(5.0)

    def test_a_crash_loses_run_and_keeps_the_disk(self, world):
        """guard.json is on a tmpfs, the queue is not."""
        name = start(world)
        node = world.node("a")
        node.crash()
        node.boot()
        assert node.guard.state.generation == 0
        assert name in node.disk.pending

    def test_an_agents_death_keeps_run(self, world):
        """The guard goes on with the proof it has."""
        start(world)
        world.node("a").kill_agent()
        assert world.node("a").guard.is_proven

    def test_a_killed_process_does_nothing_more(self, world):
        """A call that was under way when its process died never returns."""
        start(world)
        world.arm("a", "push-decided", faults.pause(30.0))
        world.run(8.0)
        world.node("a").kill_agent()
        pushes = sum("of a in place" in line for line in world.trace)
        world.run(60.0)
        assert sum("of a in place" in line for line in world.trace) == pushes

    def test_a_job_that_waits_does_not_stop_the_heartbeat(self, world):
        """Jobs run beside the ticks: a push that hangs costs no lease."""
        start(world)
        world.arm("a", "push-staged", faults.pause_job(40.0))
        world.run(40.0)
        assert world.node("a").guard.is_proven


class TestGuardTwin:
    """Freeze, fence and thaw as the real guard has them."""

    def test_a_freeze_ends_half_a_second_after_its_agent_hangs(self, world):
        """P3: a freeze cannot outlive its agent."""
        start(world)
        guard = world.node("a").guard
        world.arm("a", "frozen", faults.pause(20.0))
        assert world.run_until(lambda: guard.freeze is not None)
        world.send("a")
        world.run(0.6)
        assert guard.freeze is None
        assert world.node("a").disk.live

    def test_a_freeze_ends_with_its_agent(self, world):
        """Its connection is closed by its death."""
        start(world)
        world.arm("a", "frozen", faults.kill())
        world.run(8.0)
        assert world.node("a").agent is None
        assert world.node("a").guard.freeze is None

    def test_a_snapshot_whose_freeze_was_cut_short_is_refused(self, world):
        """What is not frozen all the while is no snapshot."""
        start(world)
        world.arm("a", "frozen", faults.pause(2.0))
        world.run(8.0)
        assert any("freeze ended" in line for line in world.trace)

    def test_two_freezes_at_once_are_refused(self, world):
        """One snapshot at a time."""
        start(world)
        guard = world.node("a").guard
        guard.begin_freeze()
        with pytest.raises(Refused, match="already"):
            guard.begin_freeze()

    def test_a_delivery_may_end_within_the_drain_limit(self, world):
        """The fence at the deadline waits for what runs, but not for long."""
        name = start(world)
        cut_off(world, "a")
        guard = world.node("a").guard
        world.run_until(lambda: guard.state.deadline_s - world.node("a").boot_time_s() < 0.5)
        world.node("a").postfix.deliver(name, 1.0)
        world.run(2.5)
        assert world.truth.is_delivered(name)
        assert not world.node("a").disk.pending

    def test_a_delivery_that_takes_longer_is_killed(self, world):
        """Its message stays, and becomes pending."""
        name = start(world)
        world.node("a").postfix.deliver(name, 60.0)
        cut_off(world, "a")
        world.run(16.0)
        assert world.node("a").disk.pending == {name}
        assert not world.truth.is_delivered(name)

    def test_a_host_that_stood_still_past_the_deadline_delivers_nothing_more(self, world):
        """Section 4.11: its guard looks before anything else, and no drain is granted then."""
        name = start(world)
        world.node("a").postfix.deliver(name, 41.0)
        world.node("a").pause(40.0)
        world.run(50.0)
        assert not world.truth.is_delivered(name)
        world.settle()
        assert world.truth.violations == []


class TestTruth:
    """What counts as a broken promise."""

    def test_a_delivery_by_anybody_else_is_a_hard_double(self, truth):
        """The last committed receipt decides who may deliver."""
        truth.committed(receipt())
        truth.delivered("m1", "a", 1.0)
        assert truth.violations == ["P2: a delivered m1, which belongs to b"]

    def test_a_copy_of_delivered_mail_is_a_soft_double(self, truth):
        """Delivered after the last push, then adopted: counted and allowed."""
        truth.delivered("m1", "a", 1.0)
        truth.committed(receipt())
        truth.delivered("m1", "b", 2.0)
        assert (truth.violations, truth.soft_doubles) == ([], 1)

    def test_the_same_node_delivers_a_message_once(self, truth):
        """Twice from one node is nobody's last push."""
        truth.delivered("m1", "a", 1.0)
        truth.delivered("m1", "a", 2.0)
        assert truth.violations == ["P2: a delivered m1 twice"]

    def test_a_delivery_cut_off_after_its_yes_may_come_again(self, truth):
        """The node never heard it."""
        truth.delivered("m1", "a", 1.0, is_cut=True)
        truth.delivered("m1", "a", 2.0)
        assert (truth.violations, truth.soft_doubles) == ([], 1)

    def test_a_receipt_nobody_remembers_never_took_effect(self):
        """A restored control plane may have forgotten what only it knew."""
        truth = Truth(lambda _receipt: False)
        truth.accepted("m1", "a")
        truth.committed(receipt())
        assert truth.owner("m1") == "a"

    def test_what_a_push_removed_is_not_adopted(self, truth):
        """The mirror had been told that it was delivered."""
        truth.delivered("m1", "a", 1.0)
        truth.pushed(Placed("a", "b", 2.0), {"m1"}, set())
        truth.committed(receipt())
        assert truth.violations == ["P2: b adopted m1 though it was removed"]

    def test_a_push_never_deletes_the_other_copy_of_undelivered_mail(self, truth):
        """P4: what its owner still has to deliver stays in the mirror."""
        truth.pushed(Placed("a", "b", 2.0), {"m1"}, set())
        assert truth.violations == ["P4: a push of a deleted the other copy of m1"]

    def test_adopting_what_is_owned_already_is_a_double_adoption(self, truth):
        """Each message is adopted once."""
        truth.committed(receipt())
        truth.committed(receipt(number=2))
        assert truth.violations == ["P2: b adopted m1, which it owns already"]

    def test_mail_that_its_owner_does_not_have_is_lost(self, world):
        """P7 is checked at every moment, not only at the end."""
        name = start(world)
        world.node("a").disk.live.discard(name)
        world.check()
        assert world.truth.violations == [f"P7: a owns {name} and does not have it"]
