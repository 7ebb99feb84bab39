"""Events that wait on this node until the control plane has acknowledged them.

One JSON object a line, appended by the agent, the guard and the receiver alike, each under the
spool's lock. A line torn by a power loss is skipped and goes with the next acknowledgement.

The spool holds no more than `EVENT_LIMIT`: what comes after that drops the oldest, a tenth of them
at a time, and one event in their place counts all that were dropped since it was acknowledged last.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nodeagent.adapters.durable import write_durably
from nodeagent.adapters.locks import locked
from nodeagent.core.event_kinds import EVENTS_DROPPED

if TYPE_CHECKING:
    from nodeagent.core.contract import EventReport

KIND_LIMIT: Final = 64
TEXT_LIMIT: Final = 2000
EVENT_LIMIT: Final = 10_000
SHORTEST_EVENT: Final = 100
"""No line is shorter in bytes, so that a small file need not be counted."""


class EventSpool:
    """The spool in one file; any number of instances and processes may share it."""

    def __init__(self, path: Path, limit: int = EVENT_LIMIT) -> None:
        self._path = path
        self._limit = limit
        self._lock = path.with_name(path.name + ".lock")
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)

    def append(self, kind: str, text: str, **data: str | float | bool | None) -> None:
        """Note an event; it is on disk when this returns."""
        line = b"\n" + json.dumps(_event(kind, text, data)).encode() + b"\n"
        with locked(self._lock):
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                while line:  # a disk that is nearly full takes a part
                    line = line[os.write(descriptor, line) :]
                os.fsync(descriptor)
                size_bytes = os.fstat(descriptor).st_size
            finally:
                os.close(descriptor)
            if size_bytes > self._limit * SHORTEST_EVENT:
                self._drop_oldest()

    def _drop_oldest(self) -> None:
        """Make room, if there are more events than the limit; the lock is held."""
        events = list(self._events())
        if len(events) <= self._limit:
            return
        keep = self._limit - self._limit // 10 - 1
        dropped = events[:-keep]
        count = sum(_weight(event) for event in dropped)
        text = f"{count} events were dropped: the control plane has not taken any for too long."
        marker = _event(EVENTS_DROPPED, text, {"dropped": count})
        self._write([marker, *events[-keep:]])

    def _write(self, events: Iterable[dict[str, Any]]) -> None:
        lines = (json.dumps(event).encode() + b"\n" for event in events)
        write_durably(self._path, b"".join(lines))

    def _events(self) -> Iterator[dict[str, Any]]:
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return
        for line in content.splitlines():
            event = _parse(line)
            if event is not None:
                yield event

    def read(self, limit: int = 200) -> tuple[EventReport, ...]:
        """Return the oldest events."""
        found = islice(self._events(), limit)
        return tuple(event for line in found for event in _valid(line))

    def acknowledge(self, ids: Collection[str]) -> None:
        """Drop the events that the control plane has."""
        if not ids:
            return
        with locked(self._lock):
            self._write(event for event in self._events() if event["id"] not in ids)


def _event(kind: str, text: str, data: dict[str, Any]) -> dict[str, Any]:
    event = {
        "id": str(uuid.uuid4()),
        "at": datetime.now(UTC).isoformat(),
        "kind": kind[:KIND_LIMIT],
        "text": text[:TEXT_LIMIT],
        "data": data,
    }
    # what a peer sent may hold halves of UTF-16 pairs, which no receiver of an event takes
    whole: dict[str, Any] = json.loads(
        json.dumps(event, ensure_ascii=False).encode(errors="replace")
    )
    return whole


def _weight(event: dict[str, Any]) -> int:
    """How many events a dropped one stands for."""
    is_marker = event.get("kind") == EVENTS_DROPPED
    return int(event.get("data", {}).get("dropped", 1)) if is_marker else 1


def _valid(line: dict[str, Any]) -> Iterator[EventReport]:
    """Yield the event, or nothing: a line that is none must not keep the others from going out."""
    from pydantic import ValidationError  # noqa: PLC0415 - the receiver starts fast

    from nodeagent.core.contract import EventReport  # noqa: PLC0415 - the same

    try:
        yield EventReport.model_validate(line)
    except ValidationError:
        return


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "id" in event else None
