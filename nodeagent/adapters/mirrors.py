"""All mirrors of this node as the executor's `MirrorsPort`, each call under that mirror's lock."""

from __future__ import annotations

from pathlib import Path

from nodeagent.adapters.event_spool import EventSpool
from nodeagent.adapters.mirror import Mirror
from nodeagent.core.contract import MirrorReport
from nodeagent.core.names import is_node_name


class Mirrors:
    """The mirrors below one directory, made when the first push of a queue comes in."""

    def __init__(self, root: Path, events: EventSpool) -> None:
        self._root = root
        self._events = events

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

    def reports(self) -> tuple[MirrorReport, ...]:
        """Return what each mirror holds, without waiting for a lock."""
        names = sorted(path.name for path in self._root.glob("*") if is_node_name(path.name))
        states = (self._mirror(name).read_state() for name in names)
        return tuple(
            MirrorReport(
                queue=state.queue,
                generation=state.floor_generation,
                sequence=state.sequence,
                messages=state.messages,
            )
            for state in states
        )
