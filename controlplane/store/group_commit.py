"""Group commit: what comes while a transaction runs shares the next one.

Theory of operation. One thread does the work, group after group. A group is open until the thread
takes it up: alone when nothing else is under way, larger the longer the one before it takes. So one
commit serves many when many come, and nobody waits on purpose for others to come.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

LARGEST_GROUP: Final = 100
"""Others who want to write wait for a whole group; this many take well under a second."""


@dataclass
class _Group(Generic[Item, Outcome]):
    items: list[Item] = field(default_factory=list)
    done: Future[Sequence[Outcome]] = field(default_factory=Future)


class GroupCommit(Generic[Item, Outcome]):
    """Gathers items from any event loop; `work` gets groups and returns one outcome for each item.

    What `work` raises, all of its group raise.
    """

    def __init__(
        self, work: Callable[[Sequence[Item]], Sequence[Outcome]], largest: int = LARGEST_GROUP
    ) -> None:
        self._work = work
        self._largest = largest
        self._lock = threading.Lock()
        self._open: _Group[Item, Outcome] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="group-commit")

    async def join(self, item: Item) -> Outcome:
        """Have the item worked on with others; who stops waiting stops nobody's work."""
        with self._lock:
            group = self._open
            if group is None or len(group.items) >= self._largest:
                self._open = group = _Group()
                group.done = self._thread.submit(self._run, group)
            place = len(group.items)
            group.items.append(item)
        outcomes = await asyncio.shield(asyncio.wrap_future(group.done))
        return outcomes[place]

    def _run(self, group: _Group[Item, Outcome]) -> Sequence[Outcome]:
        with self._lock:
            if self._open is group:
                self._open = None
        return self._work(group.items)
