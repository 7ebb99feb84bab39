"""What of a mail is judged: its decoded texts, its attachments, and what was broken in it.

`mime.read_content` makes a `Content`; bad words, threat rules and attachment rules read it. Every
text here is valid Unicode: bytes that no charset explains are U+FFFD, never lone surrogates, so
that RE2 takes it (only `headers` are as the client wrote them).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from nodeagent.policy.model import Header


class ContentFault(StrEnum):
    """What of a mail was broken, or was not looked at because a limit was reached."""

    TOO_MANY_PARTS = "too-many-parts"
    TOO_DEEP = "too-deep"
    TEXT_CUT = "text-cut"  # more decoded text than the limit: only its beginning was read
    BODY_CUT = "body-cut"  # the mail was handed over cut off
    HEADERS_CUT = "headers-cut"  # a part's headers are longer than the limit
    NAMES_CUT = "names-cut"  # archives hold more names than the limit
    BAD_ENCODING = "bad-encoding"  # base64 or quoted-printable that is none, or an unknown one
    BAD_CHARSET = "bad-charset"  # unknown, or its bytes are not what it says
    BAD_BOUNDARY = "bad-boundary"  # a multipart without a boundary, or that never appears
    NO_END_BOUNDARY = "no-end-boundary"
    NUL_BYTES = "nul-bytes"
    DUPLICATE_HEADER = "duplicate-header"  # a part says twice what it is
    BAD_ARCHIVE = "bad-archive"  # an archive whose list of names cannot be read


@dataclass(frozen=True, slots=True)
class ContentLimits:
    """How much of one mail is looked at; time and memory follow from it."""

    parts: int = 1000  # of all depths together
    depth: int = 30  # multiparts and mails inside one another
    text_bytes: int = 2 * 1024 * 1024  # decoded bytes of all text parts together
    part_header_bytes: int = 32 * 1024
    archive_bytes: int = 16 * 1024 * 1024  # decoded bytes of one archive
    names: int = 2000  # inside all archives together


class Kind(StrEnum):
    """What an attachment is by its first bytes."""

    UNKNOWN = ""
    WINDOWS_PROGRAM = "windows-program"  # PE and its DOS ancestors
    LINUX_PROGRAM = "linux-program"  # ELF
    MAC_PROGRAM = "mac-program"  # Mach-O
    SHORTCUT = "shortcut"  # LNK
    SCRIPT = "script"  # "#!"
    OLE = "ole"  # old Office, and MSI
    ZIP = "zip"  # OOXML and JAR as well
    RAR = "rar"
    SEVEN_ZIP = "7z"
    GZIP = "gzip"
    TAR = "tar"
    PDF = "pdf"
    IMAGE = "image"
    HTML = "html"
    ISO = "iso"
    CAB = "cab"


@dataclass(frozen=True, slots=True)
class Attachment:
    """One part that is no text to be read, or that has a file name."""

    name: str = ""  # decoded; as the sender wrote it, tricks included
    declared_type: str = "application/octet-stream"  # lower case
    kind: Kind = Kind.UNKNOWN
    size_bytes: int = 0  # decoded
    inner_names: tuple[str, ...] = ()  # inside an archive; "a.zip" inside is named, not opened
    is_encrypted: bool = False  # an archive that hides its content from whoever scans it


@dataclass(frozen=True, slots=True)
class Content:
    """What `read_content` found in one message."""

    subject: str = ""
    texts: tuple[str, ...] = ()  # what a reader sees of all text parts, in their order
    markups: tuple[str, ...] = ()  # the decoded HTML of the HTML parts
    attachments: tuple[Attachment, ...] = ()
    faults: frozenset[ContentFault] = frozenset()
    headers: tuple[Header, ...] = ()
