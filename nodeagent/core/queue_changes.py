"""Which changes of the queue the control plane has not been told yet.

Theory of operation. Each look at the queue gives a `Stamp` for every message; what differs from the
last look is noted as changed or gone. A batch takes some of it away. Only names and stamps are
kept: what a message is about is read when its batch is made. Before anything was sent, everything
is a change.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from nodeagent.core.queue_contract import MOST_REMOVALS, MOST_UPSERTS, QueueName


class Stamp(NamedTuple):
    """What changes whenever a listed fact of a message does: each deferral sets a new mtime."""

    queue: QueueName
    path: str
    mtime_ns: int
    size: int


class Batch(NamedTuple):
    """Some changes, and whether these were all."""

    changed: dict[str, Stamp]
    gone: tuple[str, ...]
    is_last: bool


class QueueChanges:
    """The difference between what was seen and what was sent."""

    def __init__(self) -> None:
        self._seen: dict[str, Stamp] = {}
        self._changed: dict[str, None] = {}
        self._gone: dict[str, None] = {}

    def note(self, found: Mapping[str, Stamp]) -> None:
        """Take in one whole look at the queue."""
        for name, stamp in found.items():
            if self._seen.get(name) != stamp:
                self._changed[name] = None
                self._gone.pop(name, None)
        for name in self._seen.keys() - found.keys():
            self._changed.pop(name, None)
            self._gone[name] = None
        self._seen = dict(found)

    def take(self) -> Batch:
        """Return the next batch; what it holds counts as sent."""
        changed = _take(self._changed, MOST_UPSERTS)
        gone = _take(self._gone, MOST_REMOVALS)
        stamps = {name: self._seen[name] for name in changed}
        return Batch(stamps, gone, not self._changed and not self._gone)

    def forget(self) -> None:
        """Begin anew: everything that was seen is to be sent, and nothing is gone."""
        self._changed = dict.fromkeys(self._seen)
        self._gone = {}

    def is_empty(self) -> bool:
        """Tell whether there is nothing to send."""
        return not self._changed and not self._gone


def _take(names: dict[str, None], most: int) -> tuple[str, ...]:
    taken = tuple(name for name, _ in zip(names, range(most), strict=False))
    for name in taken:
        del names[name]
    return taken
