"""The wire types of the message trace: what Postfix's log said (see `core.stream_wire`)."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field, StringConstraints

from nodeagent.core.stream_wire import Batch, Numbered, StreamEntry
from nodeagent.core.stream_wire import unpack as unpack_batch

MOST_PLAIN_BYTES: Final = 4 * 1024 * 1024
"""The largest batch once unpacked; a sender stays far below it."""
TEXT_LENGTH: Final = 1000
ADDRESS_LENGTH: Final = 320
NAME_LENGTH: Final = 255

Text = Annotated[str, StringConstraints(max_length=TEXT_LENGTH)]
Address = Annotated[str, StringConstraints(max_length=ADDRESS_LENGTH)]
Name = Annotated[str, StringConstraints(max_length=NAME_LENGTH)]


class TraceKind(StrEnum):
    """What one line of the log says about a message."""

    CONNECT = "connect"  # a client came; not shipped
    DISCONNECT = "disconnect"  # a client went; not shipped
    CLIENT = "client"  # smtpd(8) or pickup(8) begins a message
    MESSAGE_ID = "message-id"  # cleanup(8) has seen its header
    QUEUED = "queued"  # qmgr(8) has taken it up
    DELIVERY = "delivery"  # one try for one recipient
    EXPIRED = "expired"  # in the queue for too long
    REMOVED = "removed"  # done with it
    DELETED = "deleted"  # postsuper(1) removed it
    REJECTED = "rejected"  # refused by smtpd(8) or cleanup(8)
    NOTICE = "notice"  # bounce(8) sends a message about it
    NOTE = "note"  # anything else that names it
    GAP = "gap"  # lines that were not kept, and why


class DeliveryStatus(StrEnum):
    """How a try for one recipient ended, in Postfix's words."""

    SENT = "sent"
    DEFERRED = "deferred"
    BOUNCED = "bounced"
    UNDELIVERABLE = "undeliverable"  # an address probe, as the next
    DELIVERABLE = "deliverable"


class TraceEntry(StreamEntry):
    """What one line says; None for what it does not say. All texts may be a stranger's."""

    kind: TraceKind
    service: Name = ""  # as it is logged: "postfix/smtpd"
    text: Text = ""  # the line after the queue id
    queue_id: Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z]{5,40}$")] | None = None
    sender: Address | None = None  # "" is the null sender
    recipient: Address | None = None
    client_name: Name | None = None
    client_address: Name | None = None
    helo: Name | None = None
    login: Name | None = None  # SASL
    message_id: Text | None = None  # without the angle brackets
    size_bytes: int | None = Field(default=None, ge=0, lt=2**63)
    recipients: int | None = Field(default=None, ge=0, lt=2**31)
    relay: Name | None = None
    delay_s: float | None = Field(default=None, ge=0, lt=2**33)
    dsn: Annotated[str, StringConstraints(pattern=r"^[245]\.\d{1,3}\.\d{1,3}$")] | None = None
    status: DeliveryStatus | None = None
    child: Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z]{5,40}$")] | None = None


NumberedEntry = Numbered[TraceEntry]
TraceBatch = Batch[TraceEntry]


def unpack(body: bytes) -> TraceBatch:
    """Return the batch that was packed; raises ValueError (pydantic's too) for anything else."""
    return unpack_batch(TraceBatch, body, MOST_PLAIN_BYTES)
