"""Counts mail by what Postfix's log says of it, since the agent's start.

Theory of operation. A message is accepted when it is queued after a client brought it: a message
that is only tried again, that was adopted from another node, or that Postfix made itself (a bounce)
is queued without one. What was logged before the start is not counted, so that the log of a time
without an agent is no peak of the first minute.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from nodeagent.core.contract import MailFlow
from nodeagent.core.trace_wire import DeliveryStatus, TraceEntry, TraceKind

MOST_BEGUN: Final = 10_000
"""Messages that are being received; Postfix has no more clients by far."""


@dataclass
class FlowCounter:
    """One log's counts; `started_s` is the start in whole seconds since 1970, as stamps are."""

    started_s: int
    accepted: int = 0
    delivered: int = 0
    deferrals: int = 0
    bounced: int = 0
    rejected: int = 0
    _begun: dict[str, None] = field(default_factory=dict)

    def count(self, entries: Iterable[TraceEntry]) -> None:
        """Take in what was logged next."""
        for entry in entries:
            if entry.at >= self.started_s:
                self._count(entry)

    def totals(self) -> MailFlow:
        """Return all counts."""
        return MailFlow(
            accepted=self.accepted,
            delivered=self.delivered,
            deferrals=self.deferrals,
            bounced=self.bounced,
            rejected=self.rejected,
        )

    def _count(self, entry: TraceEntry) -> None:
        queue_id = entry.queue_id or ""
        if entry.kind is TraceKind.CLIENT:
            self._begin(queue_id)
        elif entry.kind is TraceKind.QUEUED and queue_id in self._begun:
            del self._begun[queue_id]
            self.accepted += 1
        elif entry.kind is TraceKind.DELIVERY:
            self.delivered += entry.status is DeliveryStatus.SENT
            self.deferrals += entry.status is DeliveryStatus.DEFERRED
            self.bounced += entry.status is DeliveryStatus.BOUNCED
        elif entry.kind is TraceKind.EXPIRED:
            self.bounced += 1
        elif entry.kind is TraceKind.REJECTED:
            self.rejected += 1

    def _begin(self, queue_id: str) -> None:
        self._begun.pop(queue_id, None)
        self._begun[queue_id] = None
        if len(self._begun) > MOST_BEGUN:  # sessions that broke off are never queued
            del self._begun[next(iter(self._begun))]
