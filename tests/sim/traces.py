"""The counterexamples of the ownership protocol as scripts, one function a trace.

Each is the shortest way into trouble when one clause is left out; with the clause the same moves
do no harm. "S" is the beginning of all: A accepts m1, and a push brings it to B.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tests.sim import faults
from tests.sim.world import World


def start(world: World) -> str:
    """S: both nodes own their queues, A has the VIP and m1, and B a copy of m1."""
    a, b = world.node("a"), world.node("b")
    world.run(18.0)
    name = world.send("a")
    assert name is not None
    assert a.guard.is_proven
    assert b.guard.is_proven
    assert world.run_until(lambda: name in b.disk.mirror("a").ids)
    return name


def cut_off(world: World, name: str) -> None:
    """Cut a node from everybody."""
    for other in (*world.names, "cp"):
        if other != name:
            world.cut(name, other)


def b_has(world: World, name: str) -> Callable[[], bool]:
    """Return the question whether B has adopted a message into its live queue."""
    return lambda: name in world.node("b").disk.live


def acquire_before_reading(world: World) -> None:
    """1: B decides to adopt; A boots and reads receipts; B adopts; A acquires."""
    m1 = start(world)
    a = world.node("a")
    world.arm("b", "adoption-decided", faults.both(faults.call(a.boot), faults.pause(3.0)))
    world.arm("a", "receipts-read", faults.pause(9.0))
    a.crash()
    world.run_until(b_has(world, m1), 40.0)
    world.deliver_all()
    world.run(10.0)
    world.deliver_all()


def pending_on_every_loss(world: World) -> None:
    """2: A is cut off, B adopts, delivers and releases; A comes back."""
    m1 = start(world)
    cut_off(world, "a")
    assert world.run_until(b_has(world, m1))
    world.node("b").postfix.deliver(m1)
    world.run(5.0)


def pending_after_a_clean_stop(world: World) -> None:
    """3: A stops in good order and boots; B adopts."""
    m1 = start(world)
    world.node("a").shut_down()
    world.run(2.0)
    world.arm("a", "decided", faults.pause(60.0))
    world.node("a").boot()
    assert world.run_until(b_has(world, m1))
    world.deliver_all()


def guard_outside_the_agent(world: World) -> None:
    """4: A's agent is killed and Postfix runs on; B adopts."""
    m1 = start(world)
    world.node("a").kill_agent()
    assert world.run_until(b_has(world, m1))
    world.deliver_all()


def grant_survives_the_thaw(world: World) -> None:
    """5: A grants its lease in a switchover and its agent is killed."""
    m1 = start(world)
    world.arm("a", "switchover-granted", faults.kill())
    world.control_plane.wish_switchover("a", "b")
    assert world.run_until(b_has(world, m1))
    world.deliver_all()


def stop_all_delivery(world: World) -> None:
    """6: an smtp process that began before the fence lives on while B adopts."""
    m1 = start(world)
    world.node("a").postfix.deliver(m1, 40.0)
    cut_off(world, "a")
    assert world.run_until(b_has(world, m1), 35.0)
    world.run(40.0)


def no_push_under_a_receipt(world: World) -> None:
    """7: B commits and is cut from the control plane; A returns and pushes before B renames."""
    start(world)
    world.arm(
        "b",
        "adoption-committed",
        faults.both(faults.call(lambda: world.cut("b", "cp")), faults.pause(60.0)),
    )
    world.node("a").crash()
    world.run(25.0)
    world.node("a").boot()
    world.run(1.0)
    world.move_vip("a")
    world.run(40.0)


def last_receipt_decides(world: World) -> None:
    """8: m1 goes from A to B and back to A; then A crashes again."""
    m1 = start(world)
    a, b = world.node("a"), world.node("b")
    a.crash()
    assert world.run_until(b_has(world, m1))
    a.boot()
    assert world.run_until(lambda: m1 in a.disk.mirror("b").ids)
    b.crash()
    assert world.run_until(lambda: m1 in a.disk.live)
    a.crash()
    world.run(2.0)
    a.boot()
    world.run(30.0)


def adoption_raises_the_generation(world: World) -> None:
    """9: a push of A arrives when B has adopted and reported done."""
    m1 = start(world)
    a, b = world.node("a"), world.node("b")
    world.send("a")
    a.kill_agent()
    world.arm("a", "push-commit", faults.arrive_late(45.0))
    a.start_agent()
    world.run(4.0)
    a.crash()
    assert world.run_until(b_has(world, m1), 40.0)
    b.postfix.deliver(m1)
    world.run(4.0)
    world.stop_keepalived("b")
    world.run(40.0)


def check_again_under_the_lock(world: World) -> None:
    """10, 11: an orphan push arrives after a newer one, then B adopts."""
    m1 = start(world)
    a, b = world.node("a"), world.node("b")
    world.arm("a", "push-commit", faults.arrive_late(22.0))
    a.kill_agent()
    a.start_agent()
    world.run(2.0)
    a.kill_agent()
    a.start_agent()
    a.postfix.deliver(m1)
    assert world.run_until(lambda: m1 not in b.disk.mirror("a").ids, 5.0)
    world.run_until(lambda: m1 in b.disk.mirror("a").ids, 25.0)
    a.crash()
    world.run(30.0)


def promises_survive_a_reboot(world: World) -> None:
    """12: B promises, reboots, and the lease runs out while A relies on the promise."""
    m1 = start(world)
    a, b = world.node("a"), world.node("b")
    world.cut("a", "cp")
    world.run_until(lambda: b.disk.promises.until_s.get("a", 0.0) > 0)
    world.run(2.0)
    world.cut("a", "b")
    b.crash()
    world.run(3.0)
    b.boot()
    world.run_until(lambda: m1 in b.disk.live or not a.guard.is_proven)
    world.deliver_all()


def decision_excludes_promise(world: World) -> None:
    """13: B decides, then A asks for promises, then B acquires."""
    m1 = start(world)

    def let_a_back() -> None:
        world.mend("a", "cp")
        world.mend("a", "b")

    world.arm("b", "adoption-decided", faults.both(faults.call(let_a_back), faults.pause(19.0)))
    world.arm("a", "taking-back", faults.call(lambda: world.cut("a", "cp")))
    world.send("a")
    cut_off(world, "a")
    world.run_until(lambda: ("b", "adoption-decided") not in world.waiting_points(), 30.0)
    world.run_until(b_has(world, m1), 40.0)
    world.deliver_all()


def take_back_in_the_guard(world: World) -> None:
    """14: A's agent is stopped between acquiring and taking back, for longer than the lease."""
    m1 = start(world)
    a = world.node("a")
    a.crash()
    world.run(2.0)
    world.arm("a", "proof-brought", faults.pause(60.0))
    a.boot()
    assert world.run_until(b_has(world, m1))
    world.node("b").postfix.deliver(m1)
    world.run(60.0)


def restored_control_plane_waits(world: World) -> None:
    """15: an old copy of the database has forgotten A's lease."""
    m1 = start(world)
    world.control_plane.take_backup()
    world.run(30.0)
    world.cut("a", "cp")
    world.control_plane.restore()
    world.run_until(b_has(world, m1), 10.0)
    world.deliver_all()


def confirm_dead_only_the_dead(world: World) -> None:
    """16: an operator calls A dead because the control plane does not see it."""
    m1 = start(world)
    world.cut("a", "cp")
    try:
        world.confirm_dead("a")
    except ValueError:
        world.node("a").crash()
        world.run(1.0)
        world.confirm_dead("a")
    assert world.run_until(b_has(world, m1), 10.0)
    world.deliver_all()


def no_push_while_pending(world: World) -> None:
    """17: A boots and acquires, and a push is due before it has taken back."""
    start(world)
    a = world.node("a")
    a.crash()
    world.run(2.0)
    world.arm("a", "proof-brought", faults.kill(1.0))
    a.boot()
    world.run(0.5)
    world.move_vip("a")
    world.run(10.0)


def guard_looks_at_the_snapshot(world: World) -> None:
    """18: a push is decided, then A is fenced, then the snapshot of the empty queue is taken."""
    start(world)
    world.cut("b", "cp")
    world.arm("a", "push-decided", faults.pause(30.0))
    world.run(40.0)


def reconcile_before_adopting(world: World) -> None:
    """19: B adopts m1 back while an old copy of m1 is still pending on B."""
    m1 = start(world)
    a, b = world.node("a"), world.node("b")
    a.crash()
    assert world.run_until(b_has(world, m1))
    a.boot()
    assert world.run_until(lambda: m1 in a.disk.mirror("b").ids)
    b.crash()
    assert world.run_until(lambda: m1 in a.disk.live)
    world.cut("b", "cp")
    b.boot()
    assert world.run_until(lambda: m1 in b.disk.mirror("a").ids)
    world.run(15.0)
    world.arm("b", "before-reconcile", *[faults.lose_message()] * 40)
    a.crash()
    world.mend("b", "cp")
    world.arm("b", "adoption-placed", faults.call(lambda: b.postfix.deliver(m1)))
    world.run(30.0)
    world.disarm()
    world.run(5.0)


TRACES: Final[dict[int, Callable[[World], None]]] = {
    1: acquire_before_reading,
    2: pending_on_every_loss,
    3: pending_after_a_clean_stop,
    4: guard_outside_the_agent,
    5: grant_survives_the_thaw,
    6: stop_all_delivery,
    7: no_push_under_a_receipt,
    8: last_receipt_decides,
    9: adoption_raises_the_generation,
    10: check_again_under_the_lock,
    11: check_again_under_the_lock,
    12: promises_survive_a_reboot,
    13: decision_excludes_promise,
    14: take_back_in_the_guard,
    15: restored_control_plane_waits,
    16: confirm_dead_only_the_dead,
    17: no_push_while_pending,
    18: guard_looks_at_the_snapshot,
    19: reconcile_before_adopting,
}
