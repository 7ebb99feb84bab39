"""All mirrors of this node as the executor's `MirrorsPort`, each call under that mirror's lock."""

from __future__ import annotations

from pathlib import Path

from nodeagent.adapters.event_spool import EventSpool
from nodeagent.adapters.mirror import Mirror
from nodeagent.core.contract import MirrorReport
from nodeagent.core.names import is_node_name
from nodeagent.core.push_rules import MirrorState
from nodeagent.errors import BrokenState


class Mirrors:
    """The mirrors below one directory, made when the first push of a queue comes in."""

    def __init__(self, root: Path, events: EventSpool) -> None:
        self._root = root
        self._events = events
        self._broken: set[str] = set()  # each is reported once a process

    def _mirror(self, queue: str) -> Mirror:
        return Mirror(self._root, queue, events=self._events)

    def write_receipt(self, queue: str, generation: int) -> tuple[str, ...]:
        """Raise the lowest generation, then list every whole message; the list is on disk."""
        with self._mirror(queue).locked() as mirror:
            return mirror.write_receipt(generation)

    def receipt(self, queue: str) -> tuple[int, tuple[str, ...]] | None:
        """Return the unfinished receipt as (generation, ids)."""
        with self._mirror(queue).locked() as mirror:
            receipt = mirror.receipt()
        return None if receipt is None else (receipt.generation, receipt.ids)

    def narrow_receipt(self, queue: str, excluded: tuple[str, ...]) -> None:
        """Take ids that are another node's by now out of the receipt and out of the mirror."""
        with self._mirror(queue).locked() as mirror:
            mirror.narrow_receipt(frozenset(excluded))

    def drop_receipt(self, queue: str) -> None:
        """Forget a receipt that was never committed."""
        with self._mirror(queue).locked() as mirror:
            mirror.drop_receipt()

    def finish_receipt(self, queue: str) -> None:
        """Forget a receipt whose files are all in the live queue."""
        with self._mirror(queue).locked() as mirror:
            mirror.finish_receipt()

    def _read_state(self, name: str) -> MirrorState | None:
        try:
            return self._mirror(name).read_state()
        except BrokenState as error:
            if name not in self._broken:
                self._broken.add(name)
                self._events.append("mirror-broken", f"The mirror of {name} is not used: {error}")
            return None

    def reports(self) -> tuple[MirrorReport, ...]:
        """Return what each mirror holds, without waiting for a lock.

        One whose state cannot be read is left out: nobody knows what it holds.
        """
        names = sorted(path.name for path in self._root.glob("*") if is_node_name(path.name))
        states = (state for name in names if (state := self._read_state(name)) is not None)
        return tuple(
            MirrorReport(
                queue=state.queue,
                generation=state.floor_generation,
                sequence=state.sequence,
                messages=state.messages,
            )
            for state in states
        )
