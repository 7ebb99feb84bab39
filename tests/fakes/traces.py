"""Log lines of imagined mail, and the batches that a node would bring."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from nodeagent.core.postfix_log import Clock, parse_line
from nodeagent.core.trace_wire import NumberedEntry, TraceBatch, TraceEntry

STREAM = "0" * 32
START_S = 1_795_000_000
CLOCK = Clock(datetime.fromtimestamp(START_S, UTC), UTC)


def entry(second: int, text: str) -> TraceEntry:
    """Return what a line says that was written so many seconds after the start."""
    stamp = datetime.fromtimestamp(START_S + second, UTC).isoformat()
    found = parse_line(f"{stamp} relay postfix/{text}", CLOCK)
    assert found is not None, text
    return found


def batch(entries: Iterable[TraceEntry], first: int = 1, stream: str = STREAM) -> TraceBatch:
    """Return a batch that begins with this number."""
    numbered = (NumberedEntry(number=first + n, entry=one) for n, one in enumerate(entries))
    return TraceBatch(stream=stream, entries=tuple(numbered))


def accepted(queue_id: str, second: int = 0, sender: str = "a@x.test") -> list[TraceEntry]:
    """Return the lines of a message that came in."""
    return [
        entry(second, f"smtpd[1]: {queue_id}: client=mx.x.test[192.0.2.7]"),
        entry(second, f"cleanup[1]: {queue_id}: message-id=<{queue_id}@x.test>"),
        entry(second, f"qmgr[1]: {queue_id}: from=<{sender}>, size=300, nrcpt=1 (queue active)"),
    ]


def tried(queue_id: str, second: int, status: str, recipient: str = "b@y.test") -> TraceEntry:
    """Return the line of one try."""
    dsn = {"sent": "2.0.0", "deferred": "4.4.1", "bounced": "5.1.1"}[status]
    return entry(
        second,
        f"smtp[1]: {queue_id}: to=<{recipient}>, relay=mx[192.0.2.9]:25, delay=1, "
        f"delays=0/0/0/1, dsn={dsn}, status={status} (said {status})",
    )


def removed(queue_id: str, second: int) -> TraceEntry:
    """Return the queue manager's last line."""
    return entry(second, f"qmgr[1]: {queue_id}: removed")
