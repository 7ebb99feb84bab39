"""The message trace's own thread: reads Postfix's log, keeps it on disk, brings it in batches.

Nothing here touches the tick or the heartbeat. It takes at most half of its thread's time, so that
a long backlog starves neither the agent nor, at the other end, the heartbeats of other nodes. While
the control plane is away the log is read all the same, into the spool.
"""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Final, Protocol
from zoneinfo import ZoneInfo

import structlog

from nodeagent.adapters.mail_log import MailLog
from nodeagent.adapters.trace_spool import TraceSpool
from nodeagent.core.contract import MailFlow
from nodeagent.core.mail_flow import FlowCounter
from nodeagent.core.postfix_log import Clock, parse_line
from nodeagent.core.stream_wire import StreamAnswer
from nodeagent.core.trace_wire import TraceBatch, TraceKind
from nodeagent.errors import AgentError, BrokenState, Unreachable

log = structlog.get_logger()

POLL_S: Final = 1.0
RETRY_S: Final = 5.0
"""How long a control plane that did not take a batch is left alone."""
SHIPPED: Final = frozenset(TraceKind) - {TraceKind.CONNECT, TraceKind.DISCONNECT}
"""A connection that brings no message is no step of any; probes alone make thousands an hour."""
LOCAL_TIME: Final = Path("/etc/localtime")


class TakesTrace(Protocol):
    """Where batches go; the agent's client of the control plane is one."""

    def trace(self, batch: TraceBatch) -> StreamAnswer:
        """Store a batch; raises `Refused` or `Unreachable`."""


def local_zone(path: Path = LOCAL_TIME) -> tzinfo:
    """Return the host's zone, in which Postfix writes; UTC where it cannot be read (tzset(3))."""
    try:
        with path.open("rb") as file:
            return ZoneInfo.from_file(file)
    except (OSError, ValueError):
        return UTC


class Tracer:
    """Follows one log into one spool, and the spool into the control plane."""

    def __init__(
        self, mail_log: MailLog, spool_file: Path, limit_bytes: int, control_plane: TakesTrace
    ) -> None:
        self._log = mail_log
        self._spool_file = spool_file
        self._limit_bytes = limit_bytes
        self._control_plane = control_plane
        self._spool: TraceSpool | None = None
        self._zone = local_zone()
        self._counter = FlowCounter(int(time.time()))
        self._flow: MailFlow | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self.run, name="trace", daemon=True)
        self._not_before_s = 0.0
        self._complaint = ""

    def start(self) -> None:
        """Begin; the thread ends with the process, or after `stop`."""
        self._thread.start()

    def stop(self) -> None:
        """End after what is under way."""
        self._stopping.set()

    def flow(self) -> MailFlow | None:
        """Return what was counted, None while the log cannot be read; from any thread."""
        return self._flow

    def run(self) -> None:
        """Work until stopped."""
        while not self._stopping.is_set():
            began_s = time.monotonic()
            has_more = self.turn()
            took_s = time.monotonic() - began_s
            self._stopping.wait(took_s if has_more else max(took_s, POLL_S))

    def turn(self) -> bool:
        """Read some of the log and bring one batch; tell whether there is more of either."""
        try:
            has_more = self.follow()
            if time.monotonic() >= self._not_before_s:
                has_more = self.ship() or has_more
        except (AgentError, OSError) as error:
            self._not_before_s = time.monotonic() + RETRY_S
            self._complain(str(error))
            return False
        return has_more

    def _complain(self, text: str) -> None:
        if text != self._complaint:
            self._complaint = text
            log.warning("message trace", reason=text)

    def follow(self) -> bool:
        """Take some lines of the log into spool and counts; tell whether there were any."""
        try:
            has_read = self._take_lines()
        except (AgentError, OSError):
            self._flow = None
            raise
        self._flow = self._counter.totals() if self._log.is_followed() else None
        return has_read

    def _take_lines(self) -> bool:
        spool = self._opened()
        chunk = self._log.read(spool.position())
        if chunk is None:
            return False
        clock = Clock(datetime.now(UTC), self._zone)
        found = (parse_line(line, clock) for line in chunk.lines)
        entries = [entry for entry in found if entry is not None and entry.kind in SHIPPED]
        if chunk.is_after_gap:
            text = "The mail log was removed before it was read to its end."
            entries.insert(0, spool.gap(text, None))
        spool.append(entries, chunk.position)
        self._counter.count(entries)
        return True

    def _opened(self) -> TraceSpool:
        if self._spool is not None:
            return self._spool
        try:
            self._spool = TraceSpool(self._spool_file, self._limit_bytes)
        except BrokenState as error:
            if self._spool_file.exists():
                raise
            self._spool = TraceSpool(self._spool_file, self._limit_bytes)
            self._spool.append([self._spool.gap(str(error), None)], self._log.end())
        return self._spool

    def ship(self) -> bool:
        """Bring the oldest entries; tell whether there were any."""
        spool = self._opened()
        batch = spool.read()
        if batch is None:
            return False
        answer = self._control_plane.trace(batch)
        if answer.acknowledged > batch.entries[-1].number:
            raise Unreachable("The control plane acknowledged what it was not sent.")
        spool.acknowledge(answer.acknowledged)
        self._complaint = ""
        return True
