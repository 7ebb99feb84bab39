"""One simulated host: disk, /run, guard, Postfix, keepalived's view, and perhaps an agent."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from tests.sim.agent_process import AgentProcess
from tests.sim.guard_twin import SimGuard
from tests.sim.postfix_twin import SimPostfix
from tests.sim.storage import Disk, Run

if TYPE_CHECKING:
    from tests.sim.world import World

LATENESS_S: Final = 1e-6
"""A timer never fires early, whatever the rounding."""


class Node:
    """A host; `clock_rate` is how fast its own clock runs against true time."""

    def __init__(self, world: World, name: str, priority: int, clock_rate: float) -> None:
        self.world, self.name, self.priority = world, name, priority
        self.clock_rate = clock_rate
        self.disk = Disk()
        self.run = Run(boot_id=f"{name}-boot-0")
        self.guard: SimGuard = world.bugs.guard(self)
        self.postfix: SimPostfix = self.world.bugs.postfix(self)
        self.agent: AgentProcess | None = None
        self.is_up = False
        self.holds_vip = False
        self.is_keepalived_running = True
        self.paused_until_s = 0.0
        self.booted_at_s = world.clock.now_s
        self.boots = 0
        self.agents = 0

    @property
    def now_s(self) -> float:
        """True time."""
        return self.world.clock.now_s

    @property
    def is_paused(self) -> bool:
        """Whether the whole host stands still; its clock goes on."""
        return self.now_s < self.paused_until_s

    @property
    def is_running(self) -> bool:
        """Whether anything can happen on this host."""
        return self.is_up and not self.is_paused

    def boot_time_s(self) -> float:
        """Return the host's own CLOCK_BOOTTIME."""
        return (self.now_s - self.booted_at_s) * self.clock_rate

    def on_own_clock(self, seconds: float, run: Callable[[], None]) -> None:
        """Run something after `seconds` of this host's clock, if it is still the same boot."""
        boot_id = self.run.boot_id

        def unless_rebooted() -> None:
            if self.is_up and self.run.boot_id == boot_id:
                run()

        self.world.clock.after(seconds / self.clock_rate + LATENESS_S, unless_rebooted)

    def note(self, kind: str, text: str) -> None:
        """Write a line into the run's trace."""
        self.world.trace.append(f"{self.now_s - 1000:8.2f} {self.name} {kind}: {text}")

    def boot(self) -> None:
        """Switch the host on: the guard first, then everything else, keepalived and agent too."""
        if self.is_up:
            return
        self.boots += 1
        self.run = Run(boot_id=f"{self.name}-boot-{self.boots}")
        self.booted_at_s = self.now_s
        self.paused_until_s = 0.0
        self.is_up, self.is_keepalived_running = True, True
        self.guard = self.world.bugs.guard(self)
        self.postfix = self.world.bugs.postfix(self)
        self.note("host", "boots")
        self.guard.start()
        self.disk.has_stopped_cleanly = False
        self.start_agent()
        self.world.vrrp_changed()

    def crash(self) -> None:
        """Cut the power: the disk stays."""
        if not self.is_up:
            return
        self.note("host", "crashes")
        self.is_up, self.holds_vip, self.agent = False, False, None
        self.paused_until_s = 0.0
        self.postfix.lose_power()
        self.world.vrrp_changed()

    def shut_down(self) -> None:
        """Stop the host in good order."""
        if self.is_up:
            self.disk.has_stopped_cleanly = True
            self.crash()

    def pause(self, seconds: float) -> None:
        """Let the whole host stand still for a while."""
        if not self.is_up:
            return
        self.note("host", f"stands still for {seconds:g} s")
        self.paused_until_s = max(self.paused_until_s, self.now_s + seconds)
        self.world.clock.after(self.paused_until_s - self.now_s, self._go_on)
        self.world.vrrp_changed()

    def _go_on(self) -> None:
        if self.is_up and not self.is_paused:
            self.guard.resumed()
            self.world.vrrp_changed()

    def start_agent(self) -> None:
        """Start the agent unless it runs."""
        if self.is_up and self.agent is None:
            self.agents += 1
            self.note("agent", "starts")
            self.agent = AgentProcess(self, self.agents)

    def kill_agent(self) -> None:
        """Kill the agent; the guard sees its connections end."""
        if self.agent is not None:
            self.note("agent", "is killed")
            self.agent = None
            self.guard.agent_gone()

    def restart_guard(self) -> None:
        """Kill the guard; its supervisor starts it again at once."""
        if self.is_running:
            self.note("guard", "is restarted")
            self.postfix.thawed()
            self.guard = self.world.bugs.guard(self)
            self.guard.start()

    def tick(self) -> None:
        """Have the agent take its turn, if there is one."""
        if self.agent is not None:
            self.agent.tick()
