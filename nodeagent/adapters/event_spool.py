"""Events that wait on this node until the control plane has acknowledged them.

One JSON object a line, appended by the agent, the guard and the receiver alike, each under the
spool's lock. A line torn by a power loss is skipped and goes with the next acknowledgement.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nodeagent.adapters.durable import write_durably
from nodeagent.adapters.locks import locked

if TYPE_CHECKING:
    from nodeagent.core.contract import EventReport

KIND_LIMIT: Final = 64
TEXT_LIMIT: Final = 2000


class EventSpool:
    """The spool in one file; any number of instances and processes may share it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = path.with_name(path.name + ".lock")
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)

    def append(self, kind: str, text: str, **data: str | float | bool | None) -> None:
        """Note an event; it is on disk when this returns."""
        event = {
            "id": str(uuid.uuid4()),
            "at": datetime.now(UTC).isoformat(),
            "kind": kind[:KIND_LIMIT],
            "text": text[:TEXT_LIMIT],
            "data": data,
        }
        line = b"\n" + json.dumps(event).encode() + b"\n"
        with locked(self._lock):
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                os.write(descriptor, line)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def _lines(self) -> list[dict[str, Any]]:
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return []
        return [event for line in content.splitlines() if (event := _parse(line)) is not None]

    def read(self, limit: int = 200) -> tuple[EventReport, ...]:
        """Return the oldest events."""
        from nodeagent.core.contract import EventReport  # noqa: PLC0415 - the receiver starts fast

        return tuple(EventReport.model_validate(event) for event in self._lines()[:limit])

    def acknowledge(self, ids: Collection[str]) -> None:
        """Drop the events that the control plane has."""
        if not ids:
            return
        with locked(self._lock):
            kept = [event for event in self._lines() if event["id"] not in ids]
            lines = (json.dumps(event).encode() + b"\n" for event in kept)
            write_durably(self._path, b"".join(lines))


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "id" in event else None
