"""Postfix's twin: new mail goes into the live queue, and deliveries take time.

The schedule, not the twin, chooses what is delivered when. A delivery that runs is a process of its
own with its file open: stopping the queue manager does not end it, only a signal does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.sim.node import Node

RETRY_S = 0.05


@dataclass(eq=False)
class Smtp:
    """One `smtp` process; `is_cut_late`: the remote says yes just before a kill."""

    name: str
    is_cut_late: bool = False
    is_alive: bool = True


class SimPostfix:
    """Postfix of one node."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.running: list[Smtp] = []
        self.waiting: list[str] = []

    @property
    def is_busy(self) -> bool:
        """Whether any delivery runs."""
        return bool(self.running)

    def accept(self, name: str) -> None:
        """Take a new message; during a freeze the client waits for its 250."""
        if self.node.guard.freeze is not None:
            self.waiting.append(name)
            return
        self.node.disk.live.add(name)
        self.node.world.truth.accepted(name, self.node.name)

    def thawed(self) -> None:
        """Take what waited for the end of a freeze."""
        waiting, self.waiting = self.waiting, []
        for name in waiting:
            self.accept(name)

    def deliverable(self) -> list[str]:
        """Return what the queue manager could hand out now."""
        if not self.node.is_running or not self.node.guard.may_deliver:
            return []
        busy = {process.name for process in self.running}
        return sorted(self.node.disk.live - busy)

    def deliver(self, name: str, duration_s: float = 0.0, *, is_cut_late: bool = False) -> None:
        """Begin to deliver a message from the live queue."""
        if name not in self.deliverable():
            raise ValueError(f"{self.node.name} cannot deliver {name} now.")
        process = Smtp(name, is_cut_late)
        self.running.append(process)
        if duration_s <= 0:
            self._end(process)
        else:
            self.node.world.clock.after(duration_s, lambda: self._end(process))

    def _end(self, process: Smtp) -> None:
        if not process.is_alive:
            return
        if self.node.is_paused or self.node.guard.freeze is not None:
            self.node.world.clock.after(RETRY_S, lambda: self._end(process))
            return
        self.running.remove(process)
        process.is_alive = False
        self.node.world.truth.delivered(process.name, self.node.name, self.node.now_s)
        self.node.disk.live.discard(process.name)

    def kill_deliveries(self) -> None:
        """End every delivery under way."""
        self._end_all()

    def _end_all(self) -> None:
        """Let all processes die; some had their yes already and nobody will know."""
        running, self.running = self.running, []
        for process in running:
            process.is_alive = False
            if process.is_cut_late:
                self.node.world.truth.delivered(
                    process.name, self.node.name, self.node.now_s, is_cut=True
                )

    def lose_power(self) -> None:
        """Everything in memory is gone; clients that waited never got a 250."""
        self.waiting.clear()
        self._end_all()
