"""Makes a safe view of a mail: what a reader would see as plain text, and what is attached."""

from __future__ import annotations

import re
from typing import Final

from nodeagent.core.queue_contract import (
    MOST_ATTACHMENTS,
    NAME_LENGTH,
    PREVIEW_BYTES,
    AttachmentName,
    Preview,
)
from nodeagent.policy.engine.content import ContentFault, ContentLimits
from nodeagent.policy.engine.mime import read_content
from nodeagent.policy.model import Message
from nodeagent.policy.raw_message import from_bytes

LIMITS: Final = ContentLimits(
    parts=200, text_bytes=256 * 1024, archive_bytes=64 * 1024, names=MOST_ATTACHMENTS
)
SHOWN_FAULTS: Final = frozenset(
    {ContentFault.TOO_MANY_PARTS, ContentFault.TEXT_CUT, ContentFault.BODY_CUT}
)
UNSEEN: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Control characters, and those that turn the direction of what follows."""
BETWEEN_PARTS: Final = "\n\n"


def preview_of(raw: bytes, most_bytes: int) -> Preview:
    """Return the view of a message as Postfix keeps it; behind `most_bytes` nothing is read."""
    found = from_bytes(raw[:most_bytes])
    whole_bytes = len(found.body) + (len(raw) > most_bytes)
    content = read_content(Message(found.headers, found.body, whole_bytes), LIMITS)
    text = shown(BETWEEN_PARTS.join(one.strip() for one in content.texts))
    cut = text.encode()[:PREVIEW_BYTES].decode(errors="ignore")
    attachments = content.attachments[:MOST_ATTACHMENTS]
    is_cut = len(cut) < len(text) or len(attachments) < len(content.attachments)
    return Preview(
        text=cut,
        is_cut=is_cut or bool(SHOWN_FAULTS & content.faults),
        attachments=tuple(
            AttachmentName(
                name=shown(one.name)[:NAME_LENGTH],
                type=shown(one.declared_type)[:NAME_LENGTH],
                size_bytes=one.size_bytes,
            )
            for one in attachments
        ),
    )


def shown(text: str) -> str:
    """Return a stranger's text with nothing in it that a terminal or a page would act on."""
    return UNSEEN.sub("\ufffd", text.replace("\r\n", "\n"))
