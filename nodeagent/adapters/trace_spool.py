"""The message trace that waits on this node, with the place in the log up to which it was read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from nodeagent.adapters.mail_log import Position
from nodeagent.adapters.spool import Spool
from nodeagent.core.trace_wire import TraceBatch, TraceEntry
from nodeagent.errors import BrokenState


class TraceSpool(Spool[TraceEntry]):
    """The trace's spool; the agent reads on in the log where the stored entries end."""

    model = TraceEntry
    batch = TraceBatch

    def position(self) -> Position | None:
        """Return how far the log was read, None before the first line."""
        text = self.state("position")
        try:
            return None if text is None else Position(**json.loads(text))
        except (TypeError, ValueError) as error:
            raise BrokenState(f"{self._path} holds no place in the log.") from error

    def append(self, entries: Sequence[TraceEntry], position: Position | None) -> None:
        """Keep what was read, and how far; it is on disk when this returns, or none of it is."""
        state = {} if position is None else {"position": json.dumps(asdict(position))}
        self.keep(entries, state)
