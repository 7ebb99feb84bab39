"""Reads a message into what is judged of it: bounded in time and memory, and it never raises.

Theory of operation. A mail is walked part by part on the bytes that the MTA handed over: a part is
a range of them, its boundary is found by `bytes.find`, nothing is copied until a text is decoded.
(The `email` package of the standard library takes every line through Python, which is too slow at
line speed.) Each limit is one budget of the whole mail; what a limit or broken MIME left out is
told as a fault. Where a mail contradicts itself and programs differ in what they show, both
readings are taken: a second Content-Type, a multipart without its boundary.
"""

from __future__ import annotations

import binascii
import re
from typing import Final

from nodeagent.policy.engine.archives import HEAD_BYTES, kind_of, list_names
from nodeagent.policy.engine.content import Attachment, Content, ContentFault, ContentLimits, Kind
from nodeagent.policy.engine.html_text import visible_text, without_invisible
from nodeagent.policy.engine.mime_structure import WANTED, Fields, Range, Splitter
from nodeagent.policy.engine.mime_text import (
    decode_base64,
    decode_charset,
    decode_words,
    header_bytes,
    parse_parameters,
)
from nodeagent.policy.model import Message

LIMITS: Final = ContentLimits()
_PLAIN_ENCODINGS: Final = frozenset({"", "7bit", "8bit", "binary"})
_UUENCODED: Final = frozenset({"x-uuencode", "x-uue", "uuencode"})
_MAIL_TYPES: Final = frozenset({"message/rfc822", "message/global", "message/news"})
_HTML_TYPES: Final = frozenset({"text/html", "application/xhtml+xml", "image/svg+xml"})
_HTML_NAMES: Final = (".htm", ".html", ".xhtml", ".xht", ".shtml", ".svg")
_TEXT_KINDS: Final = frozenset({Kind.UNKNOWN, Kind.HTML, Kind.SCRIPT})
_ARCHIVES: Final = frozenset({Kind.ZIP, Kind.RAR, Kind.SEVEN_ZIP, Kind.GZIP, Kind.TAR, Kind.CAB})
_MOST_SECOND_LOOKS: Final = 4
_MOST_NAME_CHARS: Final = 1000
_MOST_UUENCODED: Final = 20
_UUENCODED_FILE: Final = re.compile(
    rb"^begin [0-7]{3,4} ([^\r\n]{1,255})\r?\n([^\r\n]{1,80})", re.MULTILINE
)
_META_CHARSET: Final = re.compile(
    rb"<meta[^>]{1,200}charset\s{0,9}=\s{0,9}[\"']?([\w-]{1,40})", re.IGNORECASE
)
_META_BYTES: Final = 1024


def read_content(message: Message, limits: ContentLimits = LIMITS) -> Content:
    """Return what the message says and holds; what is broken or was cut is in its faults."""
    fields = Fields()
    for name, value in message.headers:
        key = name.lower()
        if key in WANTED or (key := key.strip()) in WANTED:
            fields.add(key, value)
    reader = _Reader(limits)
    if not message.is_whole:
        reader.faults.add(ContentFault.BODY_CUT)
    reader.read_entity(Range(message.body, 0, len(message.body)), fields, depth=0)
    return Content(
        subject=_subject(fields),
        texts=tuple(reader.texts),
        markups=tuple(reader.markups),
        attachments=tuple(reader.attachments),
        faults=frozenset(reader.faults),
        headers=message.headers,
    )


def _subject(fields: Fields) -> str:
    """Return the subject as a reader sees it, on one line."""
    subject = decode_words(fields.get("subject")).replace("\0", "")
    return " ".join(without_invisible(subject).split())


class _Reader:
    """Reads one mail; what is left of each limit is counted over all its parts."""

    def __init__(self, limits: ContentLimits) -> None:
        self.texts: list[str] = []
        self.markups: list[str] = []
        self.attachments: list[Attachment] = []
        self._limits = limits
        self._splitter = Splitter(limits.part_header_bytes)
        self.faults = self._splitter.faults
        self._parts = limits.parts
        self._text_bytes = limits.text_bytes
        self._names = limits.names
        self._second_looks = _MOST_SECOND_LOOKS

    def read_entity(
        self, body: Range, fields: Fields, depth: int, default: str = "text/plain"
    ) -> None:
        """Read one part of any kind, and what is in it."""
        kind, parameters = parse_parameters(fields.get("content-type"))
        if "/" not in kind:
            kind = default
        if depth > self._limits.depth:
            self.faults.add(ContentFault.TOO_DEEP)
            self._read_text(body, "", "", is_html=False)
        elif kind.startswith("multipart/"):
            boundary = parameters.get("boundary", "")
            self._read_multipart(body, fields, depth, kind=kind, boundary=boundary)
        elif kind in _MAIL_TYPES:
            self._read_mail(body, fields, depth)
        else:
            self._read_leaf(body, fields, depth, kind=kind, parameters=parameters)
        if fields.is_doubled:
            self.faults.add(ContentFault.DUPLICATE_HEADER)
            if fields.other_type is not None and self._second_looks > 0:
                self._second_looks -= 1
                self.read_entity(body, fields.with_other_type(), depth, default)

    def _read_multipart(
        self, body: Range, fields: Fields, depth: int, *, kind: str, boundary: str
    ) -> None:
        """Read all parts; what has no parts is read as one text."""
        mark = header_bytes(boundary).rstrip()
        default = "message/rfc822" if kind == "multipart/digest" else "text/plain"
        is_empty = True
        for part in self._splitter.split_parts(body, mark) if mark else ():
            is_empty = False
            if self._parts <= 0:
                self.faults.add(ContentFault.TOO_MANY_PARTS)
                return
            self._parts -= 1
            inner, inner_body = self._splitter.split_headers(part)
            self.read_entity(inner_body, inner, depth + 1, default)
        if is_empty:
            self.faults.add(ContentFault.BAD_BOUNDARY)
            self._read_text(body, _encoding(fields), "", is_html=False)

    def _read_mail(self, body: Range, fields: Fields, depth: int) -> None:
        """Read a mail inside the mail."""
        encoding = _encoding(fields)
        if encoding not in _PLAIN_ENCODINGS:
            data = self._decode(body, encoding, self._limits.archive_bytes)
            body = Range(data, 0, len(data))
        inner, inner_body = self._splitter.split_headers(body)
        if subject := _subject(inner):
            self.texts.append(subject)
        self.read_entity(inner_body, inner, depth + 1)

    def _read_leaf(
        self, body: Range, fields: Fields, depth: int, *, kind: str, parameters: dict[str, str]
    ) -> None:
        """Read a part that has no parts: a text, an attachment, or both."""
        disposition, more = parse_parameters(fields.get("content-disposition"))
        encoding = _encoding(fields)
        names = _names(more.get("filename", ""), parameters.get("name", ""))
        is_text = kind.startswith(("text/", "message/")) or kind in _HTML_TYPES
        is_html = kind in _HTML_TYPES
        if names or not is_text or disposition == "attachment":
            magic = self._add_attachment(body, encoding, kind, names)
            is_file_of_html = any(name.lower().endswith(_HTML_NAMES) for name in names)
            is_html |= is_file_of_html or (magic is Kind.HTML and not is_text)
            is_text = (is_text or is_html) and magic in _TEXT_KINDS
            if any(name.lower().endswith(".eml") for name in names) and not is_text:
                self._read_mail(body, fields, depth)
        if is_text:
            self._read_text(body, encoding, parameters.get("charset", ""), is_html=is_html)

    def _add_attachment(
        self, body: Range, encoding: str, kind: str, names: tuple[str, ...]
    ) -> Kind:
        """Take in an attachment, once a name that it gives itself; return what it is."""
        head = self._decode(body, encoding, HEAD_BYTES, is_head=True)
        magic = kind_of(head)
        inner: tuple[str, ...] = ()
        is_encrypted = False
        if magic in _ARCHIVES:
            data = self._decode(body, encoding, self._limits.archive_bytes)
            listing = list_names(data, magic, self._names)
            self._names -= len(listing.names)
            inner, is_encrypted = listing.names, listing.is_encrypted
            if listing.is_broken:
                self.faults.add(ContentFault.BAD_ARCHIVE)
            if listing.is_cut:
                self.faults.add(ContentFault.NAMES_CUT)
        size = _decoded_size(body, encoding)
        for name in names or ("",):
            self.attachments.append(Attachment(name, kind, magic, size, inner, is_encrypted))
        return magic

    def _read_text(self, body: Range, encoding: str, charset: str, *, is_html: bool) -> None:
        """Decode a text within what is left of the limit."""
        if self._text_bytes <= 0:
            if body.end > body.start:
                self.faults.add(ContentFault.TEXT_CUT)
            return
        data = self._decode(body, encoding, self._text_bytes)
        self._text_bytes -= len(data)
        if b"\0" in data[:HEAD_BYTES] and kind_of(data[:HEAD_BYTES]) not in _TEXT_KINDS:
            self._add_attachment(body, encoding, "text/plain", ())
            return
        if is_html and not charset and (declared := _META_CHARSET.search(data, 0, _META_BYTES)):
            charset = declared[1].decode("latin-1")
        text, is_right = decode_charset(data, charset)
        if not is_right:
            self.faults.add(ContentFault.BAD_CHARSET)
        if "\0" in text:
            self.faults.add(ContentFault.NUL_BYTES)
            text = text.replace("\0", "")
        if is_html:
            self.markups.append(text)
            text = visible_text(text)
        else:
            text = without_invisible(text)
            if b"\nbegin " in data or data.startswith(b"begin "):
                self._add_uuencoded(data)
        if text:
            self.texts.append(text)

    def _add_uuencoded(self, data: bytes) -> None:
        """Take in the files that stand in a text as uuencode(1) writes them."""
        for _count, found in zip(
            range(_MOST_UUENCODED), _UUENCODED_FILE.finditer(data), strict=False
        ):
            name = decode_charset(found[1], "")[0].strip()
            head = _decode_uu_lines([found[2]])
            self.attachments.append(Attachment(name, "application/x-uuencode", kind_of(head)))

    def _decode(self, body: Range, encoding: str, most: int, *, is_head: bool = False) -> bytes:
        """Return at most that many bytes of what a transfer encoding hides (RFC 2045, 6)."""
        is_right = True
        if encoding == "base64":
            raw = body.cut(most * 3 // 2 + 64)  # four letters for three bytes, and line ends
            data, is_right = decode_base64(raw)
        elif encoding == "quoted-printable":
            raw = body.cut(most * 3 + 64)
            data = binascii.a2b_qp(raw) if b"=" in raw else raw
        elif encoding in _UUENCODED:
            raw = body.cut(most * 3 // 2 + 256)
            data = _decode_uu_lines(raw.split(b"\n"))
        else:
            data = raw = body.cut(most + 1)
            is_right = encoding in _PLAIN_ENCODINGS
        if is_head:
            return data[:most]
        is_cut = len(raw) < body.end - body.start or len(data) > most
        if is_cut:
            self.faults.add(ContentFault.TEXT_CUT)
        elif not is_right:
            self.faults.add(ContentFault.BAD_ENCODING)
        return data[:most] if is_cut else data


def _encoding(fields: Fields) -> str:
    """Return the transfer encoding's name in lower case, without what some write behind it."""
    value = fields.get("content-transfer-encoding")
    return value.partition(";")[0].partition("(")[0].strip(" \t\"'").lower() if value else ""


def _names(*encoded: str) -> tuple[str, ...]:
    """Return the file names that a part gives itself, each once, decoded."""
    found: dict[str, None] = {}
    for one in encoded:
        if name := " ".join(decode_words(one[:_MOST_NAME_CHARS]).split()):
            found[name] = None
    return tuple(found)


def _decoded_size(body: Range, encoding: str) -> int:
    """Return how many bytes it is decoded; of quoted-printable and the like as it stands."""
    raw, start, end = body
    if encoding != "base64":
        return end - start
    letters = end - start - raw.count(b"\n", start, end) - raw.count(b"\r", start, end)
    return (letters - raw.count(b"=", max(start, end - 8), end)) * 3 // 4


def _decode_uu_lines(lines: list[bytes]) -> bytes:
    """Return what the lines of uuencode(1) hold, without those that are none."""
    pieces: list[bytes] = []
    for line in lines:
        if line.startswith((b"begin ", b"end")):
            continue
        try:
            pieces.append(binascii.a2b_uu(line))
        except binascii.Error:
            continue
    return b"".join(pieces)
