"""What the simulator found in the protocol beyond the nineteen counterexamples, as scripts."""

from __future__ import annotations

from tests.sim import faults
from tests.sim.traces import b_has, start
from tests.sim.world import World


def test_a_grant_that_arrives_late_hands_nothing_over():
    """A gives up waiting for its grant and takes its mail back; then the grant arrives."""
    with World() as world:
        m1 = start(world)
        world.arm("a", "before-grant", faults.arrive_late(4.0))
        world.control_plane.wish_switchover("a", "b")
        world.run_until(b_has(world, m1), 30.0)
        world.deliver_all()
        world.settle()
    assert world.truth.violations == [], "\n".join(world.trace)


def test_an_old_word_of_an_operator_does_not_break_a_promise():
    """B saw "confirmed dead" and stood still; A came back and relies on B's promise since."""
    with World() as world:
        m1 = start(world)
        a = world.node("a")
        world.arm("b", "begin-DecideAdoption", faults.pause(45.0))
        a.crash()
        world.run(1.0)
        world.confirm_dead("a")
        world.run(3.0)
        a.boot()
        world.run(8.0)
        world.cut("a", "cp")
        world.run_until(b_has(world, m1), 60.0)
        world.deliver_all()
        world.settle()
    assert world.truth.violations == [], "\n".join(world.trace)


def test_a_third_node_does_not_adopt_what_the_second_has_adopted():
    """B and C both have a mirror of A's queue; B adopts it, and C's copy is worth nothing now."""
    with World(("a", "b", "c")) as world:
        m1 = start(world)
        world.run(6.0)
        world.node("a").crash()
        adopters = [world.node("b"), world.node("c")]
        world.run_until(lambda: any(m1 in node.disk.live for node in adopters))
        world.run(20.0)
        world.deliver_all()
        world.settle()
    assert world.truth.violations == [], "\n".join(world.trace)
