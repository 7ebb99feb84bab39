"""The promise ledger's twin: `adapters.promises.Promises` over the simulated disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodeagent.core import promise_rules as rules
from nodeagent.core.promise_rules import Promise, PromiseState
from nodeagent.errors import Refused

if TYPE_CHECKING:
    from tests.sim.node import Node


class SimPromises:
    """The ledger of one node; the agent and its receiver share it."""

    def __init__(self, node: Node) -> None:
        self.node = node

    @property
    def _state(self) -> PromiseState:
        return self.node.disk.promises

    def start(self, promise_s: float) -> None:
        """Begin the waiting after a start."""
        now_s = self.node.boot_time_s()
        self.node.disk.promises = rules.on_start(self._state, self.boot_id, now_s, promise_s)

    @property
    def boot_id(self) -> str:
        """What tells this boot from others."""
        return self.node.run.boot_id

    def note_length(self, promise_s: float) -> None:
        """Use a promise length that the control plane has changed."""
        self.node.disk.promises = rules.on_length(self._state, promise_s)

    def promise(self, queue: str, asked_s: float) -> Promise:
        """Promise not to adopt `queue`, or say why not."""
        now_s = self.node.boot_time_s()
        state, given = rules.promise(self._state, self.boot_id, now_s, queue, asked_s)
        self.node.disk.promises = state
        return given

    def decide_to_adopt(self, queue: str, *, skip_waiting: bool = False) -> None:
        """Refuse promises for `queue` from now on."""
        now_s = self.node.boot_time_s()
        state, refusal = rules.decide(
            self._state, self.boot_id, now_s, queue, skip_waiting=skip_waiting
        )
        if refusal:
            raise Refused(refusal)
        self.node.disk.promises = state

    def end_adoption(self, queue: str) -> None:
        """Allow promises for `queue` again."""
        self.node.disk.promises = rules.end(self._state, queue)

    def keep_decision(self, queue: str | None) -> None:
        """End every decision but this one."""
        for stray in self._state.adopting - {queue}:
            self.end_adoption(stray)

    def promised_s(self, queue: str) -> float:
        """Return how long this node has still promised not to adopt `queue`."""
        return rules.promised_s(self._state, self.boot_id, self.node.boot_time_s(), queue)

    def start_grace_s(self) -> float:
        """Return what is left of the waiting after the start."""
        return rules.grace_s(self._state, self.boot_id, self.node.boot_time_s())
