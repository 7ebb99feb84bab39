"""The wire types of a node's queue list: what is in it, what is to be done with it, what was done.

A node sends its list in batches that follow one another: `session` names one run of the node's
index, `sequence` counts its batches from 1. A batch that is sent again changes nothing. The answer
carries what operators asked for; its results travel with a later batch. All of it is apart from the
heartbeat: nothing here can delay a renewal.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field, StringConstraints

from nodeagent.core.contract import Wire
from nodeagent.core.names import STORED_ID_PATTERN

MOST_UPSERTS: Final = 500
MOST_REMOVALS: Final = 5000
MOST_COMMAND_IDS: Final = 500
MOST_RECIPIENTS: Final = 20
ADDRESS_LENGTH: Final = 512
REASON_LENGTH: Final = 500
HOST_LENGTH: Final = 255
HEADERS_LENGTH: Final = 64 * 1024
PREVIEW_BYTES: Final = 16 * 1024
MOST_ATTACHMENTS: Final = 50
NAME_LENGTH: Final = 255
ERROR_LENGTH: Final = 500
LATEST_S: Final = 4_102_444_800.0  # the year 2100

StoredId = Annotated[str, StringConstraints(pattern=STORED_ID_PATTERN)]
Address = Annotated[str, StringConstraints(max_length=ADDRESS_LENGTH)]


class QueueName(StrEnum):
    """Where a message lies: Postfix's own queues, and the node's queue set aside."""

    INCOMING = "incoming"
    ACTIVE = "active"
    DEFERRED = "deferred"
    HOLD = "hold"
    PENDING = "pending"


class QueueVerb(StrEnum):
    """What can be done with messages: postsuper(1) -h -H -r -d, postqueue(1) -i."""

    HOLD = "hold"
    RELEASE = "release"
    REQUEUE = "requeue"
    FLUSH = "flush"
    DELETE = "delete"


class ItemState(StrEnum):
    """What became of one message of an action.

    UNCHANGED: it is in the queue and there was nothing to do. UNKNOWN: the node was interrupted
    while it worked on the message, which is gone now.
    """

    WAITING = "waiting"
    DONE = "done"
    UNCHANGED = "unchanged"
    NOT_FOUND = "not-found"
    UNKNOWN = "unknown"
    WITHDRAWN = "withdrawn"


class QueuedMessage(Wire):
    """One message as its queue file and its deferral log tell it."""

    id: StoredId
    queue: QueueName
    arrived_at: float = Field(ge=0, le=LATEST_S)  # seconds since 1970, the node's clock
    size_bytes: int = Field(ge=0, lt=2**63)
    sender: Address  # empty: a bounce
    recipients: tuple[Address, ...] = Field(max_length=MOST_RECIPIENTS)  # still to be served
    recipient_count: int = Field(ge=0, lt=2**31)
    next_hop: str | None = Field(default=None, max_length=HOST_LENGTH)  # last tried
    reason: str = Field(default="", max_length=REASON_LENGTH)  # of the last deferral


class ItemResult(Wire):
    """What became of one message of a command."""

    id: StoredId
    state: ItemState


class CommandResult(Wire):
    """What a node did of one command; what it does not name is still to be done."""

    action: int = Field(ge=1, lt=2**31)
    items: tuple[ItemResult, ...] = Field(max_length=MOST_COMMAND_IDS)
    error: str = Field(default="", max_length=ERROR_LENGTH)  # why the rest was not done


class AttachmentName(Wire):
    """An attachment by what it says of itself; nothing of its content."""

    name: str = Field(max_length=NAME_LENGTH)  # empty: it has none
    type: str = Field(max_length=NAME_LENGTH)  # as it declares itself
    size_bytes: int = Field(ge=0, lt=2**63)  # of what was read


class Preview(Wire):
    """What a reader would see of a message, as plain text without control characters."""

    text: str = Field(max_length=PREVIEW_BYTES)  # so many bytes of UTF-8 at most
    is_cut: bool = False  # there is more text, or there are more attachments
    attachments: tuple[AttachmentName, ...] = Field(default=(), max_length=MOST_ATTACHMENTS)


class HeadersResult(Wire):
    """The headers of one message; None when it is not in the live queue any more.

    `preview` is None where none was asked for, or the node is of a version that has none.
    """

    request: int = Field(ge=1, lt=2**31)
    headers: str | None = Field(max_length=HEADERS_LENGTH)
    deferrals: tuple[str, ...] = Field(default=(), max_length=MOST_RECIPIENTS)
    preview: Preview | None = None


class QueueReport(Wire):
    """One batch of changes of a node's list, and the results of earlier answers."""

    session: str = Field(pattern=r"^[0-9A-Za-z-]{1,36}$")
    sequence: int = Field(ge=1, lt=2**31)
    upserts: tuple[QueuedMessage, ...] = Field(default=(), max_length=MOST_UPSERTS)
    removals: tuple[StoredId, ...] = Field(default=(), max_length=MOST_REMOVALS)
    is_complete: bool  # with this batch the list is what the node saw `scan_age_s` ago
    scan_age_s: float = Field(ge=0, le=LATEST_S)
    results: tuple[CommandResult, ...] = Field(default=(), max_length=10)
    headers: tuple[HeadersResult, ...] = Field(default=(), max_length=10)


class QueueCommand(Wire):
    """Some messages of one action, to be dealt with now."""

    action: int
    verb: QueueVerb
    ids: tuple[StoredId, ...] = Field(max_length=MOST_COMMAND_IDS)


class HeadersWish(Wire):
    """An operator wants to see the headers of one message, and perhaps its text."""

    request: int
    id: StoredId
    has_preview: bool = False


class QueueAnswer(Wire):
    """`is_expected` False: batches are missing here, begin a new session with the whole list."""

    is_expected: bool
    commands: tuple[QueueCommand, ...] = ()
    headers: tuple[HeadersWish, ...] = ()
