"""What can happen to an agent at one of its points: it dies, waits, or its message goes astray."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from controlplane.errors import ControlPlaneError
from nodeagent.errors import Unreachable

if TYPE_CHECKING:
    from tests.sim.agent_process import AgentProcess

Resend = Callable[[], Any] | None
Effect = Callable[["AgentProcess", Resend], None]

POINTS: Final = (
    "reconciled",
    "proof-brought",
    "taking-back",
    "adoption-decided",
    "lease-acquired",
    "adoption-leased",
    "receipt-written",
    "adoption-listed",
    "receipt-committed",
    "adoption-committed",
    "placing",
    "placed",
    "adoption-placed",
    "receipt-done",
    "receipt-closed",
    "adoption-ended",
    "switchover-pushed",
    "switchover-granted",
    "decided",
    "push-decided",
    "frozen",
    "snapshot-taken",
    "push-staged",
    "push-answered",
    "begin-DecideAdoption",
    "before-promise",
    "after-promise",
    "before-heartbeat",
    "after-heartbeat",
    "after-reconcile",
)
"""Where an agent may die or be held up."""

MESSAGES: Final = (
    "before-heartbeat",
    "before-reconcile",
    "before-acquire",
    "before-grant",
    "before-release",
    "before-commit",
    "before-finish",
    "before-recover",
    "push-commit",
)
"""Where a message leaves an agent."""


def kill(restart_after_s: float | None = None) -> Effect:
    """Kill the agent here; its supervisor may start it again."""

    def effect(process: AgentProcess, _resend: Resend) -> None:
        process.node.kill_agent()
        if restart_after_s is not None:
            process.world.clock.after(restart_after_s, process.node.start_agent)

    return effect


def crash(boot_after_s: float | None = None) -> Effect:
    """Cut the host's power here."""

    def effect(process: AgentProcess, _resend: Resend) -> None:
        process.node.crash()
        if boot_after_s is not None:
            process.world.clock.after(boot_after_s, process.node.boot)

    return effect


def pause(seconds: float) -> Effect:
    """Stop the agent here; the rest of the host goes on."""
    return lambda process, _resend: process.pause(seconds)


def pause_job(seconds: float) -> Effect:
    """Hold up only this call; the agent's other turns go on."""
    return lambda process, _resend: process.wait_until(process.world.clock.now_s + seconds)


def pause_host(seconds: float) -> Effect:
    """Let the whole host stand still here."""
    return lambda process, _resend: process.node.pause(seconds)


def call(run: Callable[[], Any]) -> Effect:
    """Do something to the world here."""
    return lambda _process, _resend: run()


def both(first: Effect, second: Effect) -> Effect:
    """Let two things happen at the same point."""

    def effect(process: AgentProcess, resend: Resend) -> None:
        first(process, resend)
        second(process, resend)

    return effect


def lose_message() -> Effect:
    """Let the message get lost before it arrives."""

    def effect(_process: AgentProcess, resend: Resend) -> None:
        if resend is not None:
            raise Unreachable("The message was lost.")

    return effect


def lose_answer() -> Effect:
    """Let the message arrive and its answer get lost."""

    def effect(process: AgentProcess, resend: Resend) -> None:
        if resend is not None:
            _arrive(process, resend)
            raise Unreachable("The answer was lost.")

    return effect


def arrive_late(seconds: float) -> Effect:
    """Let the sender give up now, and the message arrive later all the same."""

    def effect(process: AgentProcess, resend: Resend) -> None:
        if resend is not None:
            process.world.clock.after(seconds, lambda: _arrive(process, resend))
            raise Unreachable("No answer came in time.")

    return effect


def arrive_twice(seconds: float) -> Effect:
    """Let the message arrive now, and once more later."""

    def effect(process: AgentProcess, resend: Resend) -> None:
        if resend is not None:
            process.world.clock.after(seconds, lambda: _arrive(process, resend))

    return effect


def _arrive(process: AgentProcess, resend: Callable[[], Any]) -> None:
    if not process.world.control_plane.is_up:
        return
    try:
        resend()
    except ControlPlaneError as error:
        process.node.note("late", str(error))
