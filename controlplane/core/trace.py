"""What has become of a message, worked out of what the log has said of it so far.

A message may have many recipients, and each of them another end: the worst one is the message's,
because that is the one somebody will ask about.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class TraceStatus(StrEnum):
    """What has become of a message, as far as the logs that have arrived tell."""

    OPEN = "open"  # a client began it; nothing says that it was accepted
    QUEUED = "queued"
    DEFERRED = "deferred"
    DELIVERED = "delivered"
    BOUNCED = "bounced"
    EXPIRED = "expired"
    DELETED = "deleted"
    REJECTED = "rejected"


class Ending(StrEnum):
    """What ended a message as a whole."""

    REMOVED = "removed"
    REJECTED = "rejected"
    DELETED = "deleted"
    EXPIRED = "expired"


STATUS_TEXTS: Final[Mapping[TraceStatus, str]] = {
    TraceStatus.OPEN: "A client began it; nothing says that it was accepted.",
    TraceStatus.QUEUED: "It is in the queue; not every recipient was tried.",
    TraceStatus.DEFERRED: "A recipient was tried in vain and will be tried again.",
    TraceStatus.DELIVERED: "Every recipient has it.",
    TraceStatus.BOUNCED: "A recipient will never get it.",
    TraceStatus.EXPIRED: "It was in the queue for too long and went back to its sender.",
    TraceStatus.DELETED: "An operator deleted it.",
    TraceStatus.REJECTED: "It was refused and never accepted.",
}
_ENDINGS: Final = tuple(Ending)


def stronger(known: str | None, said: Ending) -> str:
    """Return which of two endings says more: Postfix also removes what has expired."""
    if known is None:
        return said.value
    return max(Ending(known), said, key=_ENDINGS.index).value


def message_status(
    ending: str | None, recipients: int | None, counts: Mapping[str, int]
) -> TraceStatus:
    """Return the status of a message.

    `recipients` is how many the queue manager was given, None before that; `counts` how many of
    them there are by the end of their last try.
    """
    if ending in (Ending.EXPIRED, Ending.DELETED):
        return TraceStatus(ending)
    if counts.get("bounced"):
        return TraceStatus.BOUNCED
    if recipients is None and (ending == Ending.REJECTED or counts.get("rejected")):
        return TraceStatus.REJECTED
    if counts.get("deferred"):
        return TraceStatus.DEFERRED
    if ending == Ending.REMOVED:
        return TraceStatus.DELIVERED
    if recipients is not None:
        is_done = recipients > 0 and counts.get("sent", 0) >= recipients
        return TraceStatus.DELIVERED if is_done else TraceStatus.QUEUED
    return TraceStatus.QUEUED if counts else TraceStatus.OPEN
