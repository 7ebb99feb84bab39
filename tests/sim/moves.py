"""Everything that a random schedule may do to a world: time, mail, faults, operators.

A move is a name and its arguments, so that Hypothesis, a seeded search and a log can all hold it.
Moves that make no sense at the moment do nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Final

from tests.sim import faults
from tests.sim.world import World

Move = tuple[str, tuple[Any, ...]]
SHORT_S: Final = (0.3, 2.0)
LONG_S: Final = (7.0, 17.0, 17.0, 30.0)
PAUSES_S: Final = (3.0, 9.0, 14.0, 20.0, 45.0)
DELAYS_S: Final = (1.0, 4.0, 12.0, 30.0)
DELIVERIES_S: Final = (0.0, 0.0, 1.0, 4.0, 30.0)
FAULT_KINDS: Final = ("kill", "crash", "pause", "pause-job", "pause-host")
LOSS_KINDS: Final = ("lose-message", "lose-answer", "late", "twice")


def deliver(world: World, name: str, which: int, duration_s: float, is_cut_late: bool) -> None:
    """Have a node begin to deliver one of its messages."""
    names = world.node(name).postfix.deliverable()
    if names:
        chosen = names[which % len(names)]
        world.node(name).postfix.deliver(chosen, duration_s, is_cut_late=is_cut_late)


def stop_process(world: World, name: str, seconds: float) -> None:
    """Stop a node's agent for a while, wherever it is."""
    agent = world.node(name).agent
    if agent is not None:
        agent.pause(seconds)


def set_control_plane(world: World, is_up: bool) -> None:
    """Switch the control plane off or on."""
    world.control_plane.is_up = is_up


def restore(world: World) -> None:
    """Put an old copy of the database back, if there is one."""
    if world.control_plane.backup is not None:
        world.control_plane.restore()


def confirm_dead(world: World, name: str) -> None:
    """Confirm the death of a host that is really off."""
    if not world.node(name).is_up:
        world.confirm_dead(name)


def mend_all(world: World) -> None:
    """Let all packets pass, and disarm what has not happened."""
    world.cuts.clear()
    world.disarm()
    world.vrrp_changed()


def arm_fault(world: World, name: str, point: str, kind: str, seconds: float) -> None:
    """Have something happen to a node's agent at a point."""
    effects = {
        "kill": faults.kill(seconds / 4),
        "crash": faults.crash(seconds),
        "pause": faults.pause(seconds),
        "pause-job": faults.pause_job(seconds),
        "pause-host": faults.pause_host(seconds),
    }
    world.arm(name, point, effects[kind])


def arm_loss(world: World, name: str, point: str, kind: str, seconds: float) -> None:
    """Have a message of a node go astray."""
    effects = {
        "lose-message": faults.lose_message(),
        "lose-answer": faults.lose_answer(),
        "late": faults.arrive_late(seconds),
        "twice": faults.arrive_twice(seconds),
    }
    world.arm(name, point, effects[kind])


def kill_keepalived(world: World, name: str) -> None:
    """Kill keepalived: the VIP stays where it is."""
    world.node(name).is_keepalived_running = False
    world.vrrp_changed()


def start_keepalived(world: World, name: str) -> None:
    """Start keepalived again."""
    world.node(name).is_keepalived_running = True
    world.vrrp_changed()


APPLY: Final[dict[str, Callable[..., object]]] = {
    "run": World.run,
    "send": World.send,
    "deliver": deliver,
    "deliver-all": World.deliver_all,
    "crash": lambda world, name: world.node(name).crash(),
    "shut-down": lambda world, name: world.node(name).shut_down(),
    "boot": lambda world, name: world.node(name).boot(),
    "kill-agent": lambda world, name: world.node(name).kill_agent(),
    "start-agent": lambda world, name: world.node(name).start_agent(),
    "stop-process": stop_process,
    "pause-host": lambda world, name, seconds: world.node(name).pause(seconds),
    "restart-guard": lambda world, name: world.node(name).restart_guard(),
    "kill-keepalived": kill_keepalived,
    "start-keepalived": start_keepalived,
    "cut": World.cut,
    "mend": World.mend,
    "mend-all": mend_all,
    "control-plane": set_control_plane,
    "backup": lambda world: world.control_plane.take_backup(),
    "restore": restore,
    "switchover": lambda world, one, other: world.control_plane.wish_switchover(one, other),
    "confirm-dead": confirm_dead,
    "arm-fault": arm_fault,
    "arm-loss": arm_loss,
}
ALWAYS: Final = {"run": 40, "send": 8, "deliver": 4, "deliver-all": 14}
FAULTS: Final = {
    "crash": 6,
    "shut-down": 2,
    "kill-agent": 4,
    "stop-process": 4,
    "pause-host": 4,
    "restart-guard": 2,
    "kill-keepalived": 2,
    "cut": 8,
    "control-plane": 4,
    "restore": 3,
    "switchover": 6,
    "confirm-dead": 4,
    "arm-fault": 14,
    "arm-loss": 12,
}
CURES: Final = {
    "crash": {"boot": 7},
    "shut-down": {"boot": 4},
    "kill-agent": {"start-agent": 5},
    "kill-keepalived": {"start-keepalived": 3},
    "cut": {"mend": 5, "mend-all": 4},
    "restore": {"backup": 5},
    "arm-fault": {"start-agent": 3, "boot": 3},
}
INCLUDED: Final = 0.25
"""How likely a life knows one kind of fault: few kinds at a time reach deeper than all at once."""


def random_weights(random: Random, kinds: tuple[str, ...] = ()) -> dict[str, int]:
    """Choose the faults that one life knows, or take `kinds`, with what ends them."""
    weights = dict(ALWAYS)
    for kind, weight in FAULTS.items():
        is_included = random.random() < INCLUDED
        if kind in kinds or (is_included and not kinds):
            weights[kind] = weight
            for cure, cure_weight in CURES.get(kind, {}).items():
                weights[cure] = max(cure_weight, weights.get(cure, 0))
    return weights


def apply(world: World, move: Move) -> None:
    """Do one move."""
    kind, arguments = move
    world.trace.append(f"{world.clock.now_s - 1000:8.2f} move: {kind} {arguments}")
    APPLY[kind](world, *arguments)


def random_move(random: Random, names: tuple[str, ...], weights: dict[str, int]) -> Move:
    """Choose a move by weight."""
    kind = random.choices(list(weights), list(weights.values()))[0]
    node = random.choice(names)
    arguments: dict[str, Callable[[], tuple[Any, ...]]] = {
        "run": lambda: (random.choice(SHORT_S + LONG_S),),
        "deliver": lambda: (
            node,
            random.randrange(3),
            random.choice(DELIVERIES_S),
            random.random() < 0.2,
        ),
        "stop-process": lambda: (node, random.choice(PAUSES_S)),
        "pause-host": lambda: (node, random.choice(PAUSES_S)),
        "cut": lambda: tuple(random.sample((*names, "cp"), 2)),
        "mend": lambda: tuple(random.sample((*names, "cp"), 2)),
        "control-plane": lambda: (random.random() < 0.6,),
        "switchover": lambda: tuple(random.sample(names, 2)),
        "arm-fault": lambda: (
            node,
            random.choice(faults.POINTS),
            random.choice(FAULT_KINDS),
            random.choice(PAUSES_S),
        ),
        "arm-loss": lambda: (
            node,
            random.choice(faults.MESSAGES),
            random.choice(LOSS_KINDS),
            random.choice(DELAYS_S),
        ),
    }
    if kind in {"send", "deliver-all", "mend-all", "backup", "restore"}:
        return kind, ()
    return kind, arguments.get(kind, lambda: (node,))()
