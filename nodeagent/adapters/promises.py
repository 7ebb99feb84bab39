"""The ledger of promises and decisions to adopt, shared by the agent and its receiver sessions.

One JSON file under one lock; every change is on disk before anybody hears of it. What may be
promised and decided is `core.promise_rules`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Final

from nodeagent.adapters.clock import boot_time_s
from nodeagent.adapters.durable import read_json, write_durably
from nodeagent.adapters.locks import locked
from nodeagent.core import promise_rules as rules
from nodeagent.core.promise_rules import Promise, PromiseState
from nodeagent.errors import BrokenState, Refused

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class Promises:
    """The ledger; any number of instances and processes may share the file."""

    def __init__(
        self,
        path: Path,
        *,
        clock_s: Callable[[], float] = boot_time_s,
        boot_id: str | None = None,
    ) -> None:
        self._path = path
        self._lock = path.with_name(path.name + ".lock")
        self._clock_s = clock_s
        self._boot_id = boot_id or BOOT_ID.read_text().strip()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _read(self) -> PromiseState:
        content = read_json(self._path)
        if content is None:
            return PromiseState()
        try:
            adopting = frozenset(content.pop("adopting"))
            return PromiseState(**content, adopting=adopting)
        except (KeyError, TypeError) as error:
            raise BrokenState(f"{self._path} is not a ledger of promises.") from error

    def _write(self, state: PromiseState) -> None:
        content = {**asdict(state), "adopting": sorted(state.adopting)}
        write_durably(self._path, json.dumps(content).encode())

    @contextmanager
    def _state(self) -> Iterator[PromiseState]:
        with locked(self._lock):
            yield self._read()

    def start(self, promise_s: float) -> None:
        """Begin the waiting after a start; the agent calls it once, before its first tick."""
        with self._state() as state:
            self._write(rules.on_start(state, self._boot_id, self._clock_s(), promise_s))

    def note_length(self, promise_s: float) -> None:
        """Use a promise length that the control plane has changed."""
        with self._state() as state:
            if state.promise_s != promise_s:
                self._write(rules.on_length(state, promise_s))

    def promise(self, queue: str, asked_s: float) -> Promise:
        """Promise not to adopt `queue`; the answer says for how long, or why not."""
        with self._state() as state:
            after, given = rules.promise(state, self._boot_id, self._clock_s(), queue, asked_s)
            if after != state:
                self._write(after)
        return given

    def decide_to_adopt(self, queue: str, *, skip_waiting: bool = False) -> None:
        """Refuse promises for `queue` from now on; raises `Refused` while one is open."""
        with self._state() as state:
            after, refusal = rules.decide(
                state, self._boot_id, self._clock_s(), queue, skip_waiting=skip_waiting
            )
            if refusal:
                raise Refused(refusal)
            if after != state:
                self._write(after)

    def end_adoption(self, queue: str) -> None:
        """Allow promises for `queue` again: its adoption is finished or dropped."""
        with self._state() as state:
            if queue in state.adopting:
                self._write(rules.end(state, queue))

    def keep_decision(self, queue: str | None) -> None:
        """End every decision but that of the adoption under way, of `queue` if there is one.

        A kill between ledger and promises leaves one behind, and its queue's owner would be
        refused every promise. Not while an adoption is being decided on.
        """
        with self._state() as state:
            if state.adopting - {queue}:
                self._write(rules.end_others(state, queue))

    def promised_s(self, queue: str) -> float:
        """Return how long this node has still promised not to adopt `queue`."""
        return rules.promised_s(self._read(), self._boot_id, self._clock_s(), queue)

    def start_grace_s(self) -> float:
        """Return what is left of the waiting after the start."""
        return rules.grace_s(self._read(), self._boot_id, self._clock_s())
