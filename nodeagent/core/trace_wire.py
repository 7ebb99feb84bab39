"""The wire types of the message trace: what Postfix's log said, numbered, in compressed batches.

A batch travels apart from the heartbeat, as a gzip body of JSON. `stream` names one spool on one
node's disk; numbers rise within it and are never given twice, so the control plane takes each entry
once whatever is repeated. Numbers may be left out: a `GAP` says what was not kept.
"""

from __future__ import annotations

import zlib
from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field, StringConstraints

from nodeagent.core.contract import Wire

TRACE_MEDIA_TYPE: Final = "application/gzip"
MOST_ENTRIES: Final = 500
MOST_PLAIN_BYTES: Final = 4 * 1024 * 1024
"""The largest batch once unpacked; a sender stays far below it."""
LAST_NUMBER: Final = 2**53
TEXT_LENGTH: Final = 1000
ADDRESS_LENGTH: Final = 320
NAME_LENGTH: Final = 255
_GZIP: Final = 16 + zlib.MAX_WBITS

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


class TraceEntry(Wire):
    """What one line says; None for what it does not say. All texts may be a stranger's."""

    at: float = Field(ge=0, lt=2**33)  # seconds since 1970, by the node's clock
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
    lost: int | None = Field(default=None, ge=0, lt=2**53)  # GAP: entries dropped, None: unknown


class NumberedEntry(Wire):
    """An entry in its place in the stream."""

    number: int = Field(ge=1, le=LAST_NUMBER)
    entry: TraceEntry


class TraceBatch(Wire):
    """The oldest entries of a spool, in rising order of their numbers."""

    stream: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
    entries: tuple[NumberedEntry, ...] = Field(min_length=1, max_length=MOST_ENTRIES)


class TraceAnswer(Wire):
    """Everything up to this number of the stream is stored; the node may forget it."""

    acknowledged: int = Field(ge=0, le=LAST_NUMBER)


def pack(batch: TraceBatch) -> bytes:
    """Return the body of the call."""
    plain = batch.model_dump_json(exclude_defaults=True).encode()
    packer = zlib.compressobj(wbits=_GZIP)
    return packer.compress(plain) + packer.flush()


def unpack(body: bytes) -> TraceBatch:
    """Return what `pack` was given; raises ValueError (pydantic's too) for anything else."""
    unpacker = zlib.decompressobj(wbits=_GZIP)
    try:
        plain = unpacker.decompress(body, MOST_PLAIN_BYTES)
    except zlib.error as error:
        raise ValueError("the body is not gzip") from error
    if not unpacker.eof:
        raise ValueError(f"the body is torn, or has more than {MOST_PLAIN_BYTES} bytes unpacked")
    return TraceBatch.model_validate_json(plain)
