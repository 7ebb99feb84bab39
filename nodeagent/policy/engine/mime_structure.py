"""Finds headers and parts in the bytes of a mail (RFC 2045, RFC 2046), without copying them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from nodeagent.policy.engine.content import ContentFault

WANTED: Final = frozenset(
    {"content-type", "content-transfer-encoding", "content-disposition", "subject"}
)
_LONGEST_NAME: Final = max(map(len, WANTED)) + 8  # white space before the colon
_BLANKS: Final = (b" ", b"\t")
_TAILS: Final = (b"", b"--")
_LONGEST_TAIL: Final = 1000
_MOST_DELIMITERS: Final = 20_000  # lines that look like one, whether they are or not
_MOST_HEADER_LINES: Final = 20_000


class Range(NamedTuple):
    """A part of some bytes."""

    raw: bytes
    start: int
    end: int

    def cut(self, most: int) -> bytes:
        """Return at most that many of the bytes."""
        return self.raw[self.start : min(self.end, self.start + most)]


class Fields:
    """The headers that say what a part is; of several with one name the first counts."""

    __slots__ = ("_values", "is_doubled", "other_type")

    def __init__(self) -> None:
        self._values: dict[str, str] = {}
        self.is_doubled = False  # one of them says two different things
        self.other_type: str | None = None  # the second Content-Type

    def add(self, name: str, value: str) -> None:
        """Take in a header of `WANTED`; its value is unfolded."""
        if "\n" in value:
            value = value.replace("\r", "").replace("\n", "")
        value = value.strip()
        if self._values.setdefault(name, value) != value and name != "subject":
            self.is_doubled = True
            if name == "content-type" and self.other_type is None:
                self.other_type = value

    def get(self, name: str) -> str:
        """Return a value, "" for none."""
        return self._values.get(name, "")

    def with_other_type(self) -> Fields:
        """Return the same with the second Content-Type in the place of the first."""
        other = Fields()
        other._values = {**self._values, "content-type": self.other_type or ""}
        return other


@dataclass
class Splitter:
    """Splits one mail; what it may cost is counted over all its parts."""

    header_bytes: int  # of one part
    faults: set[ContentFault] = field(default_factory=set)
    _delimiters: int = _MOST_DELIMITERS
    _lines: int = _MOST_HEADER_LINES

    def split_headers(self, part: Range) -> tuple[Fields, Range]:
        """Return the headers of a part, and its body; a line that is no header begins the body."""
        raw, start, end = part
        fields = Fields()
        if raw.startswith((b"\n", b"\r\n"), start, end):
            return fields, Range(raw, raw.find(b"\n", start) + 1, end)
        headers_end, body = self._find_blank_line(part)
        lines = raw[start:headers_end].split(b"\n", max(self._lines, 0))
        self._lines -= len(lines)
        if self._lines <= 0:
            self.faults.add(ContentFault.HEADERS_CUT)
        place, name, value = start, "", b""
        for line in lines:
            if line[:1] in _BLANKS:
                value += line if name else b""
            else:
                if name:
                    fields.add(name, value.decode("utf-8", "surrogateescape"))
                before, colon, value = line.partition(b":")
                key = before[:_LONGEST_NAME].rstrip().lower().decode("latin-1")
                name = key if key in WANTED else ""
                if not name and not _is_header(before, colon) and (line.strip() or place > start):
                    body = place
                    break
            place += len(line) + 1
        if name:
            fields.add(name, value.decode("utf-8", "surrogateescape"))
        return fields, Range(raw, min(body, end), end)

    def _find_blank_line(self, part: Range) -> tuple[int, int]:
        """Return where the headers end (at most at the limit), and where the body begins."""
        raw, start, end = part
        stop = min(end, start + self.header_bytes)
        place = _blank_line(raw, start, stop)
        if place >= 0:
            return place, raw.find(b"\n", place + 1) + 1
        if stop == end:
            return end, end
        self.faults.add(ContentFault.HEADERS_CUT)
        place = _blank_line(raw, stop, end)
        return stop, raw.find(b"\n", place + 1) + 1 if place >= 0 else end

    def split_parts(self, body: Range, boundary: bytes) -> Iterator[Range]:
        """Yield the parts of a multipart; what is wrong with its delimiters becomes a fault."""
        raw, start, end = body
        mark = b"--" + boundary
        is_first_line = raw.startswith(mark, start, end)
        hit = start - 1 if is_first_line else raw.find(b"\n" + mark, start, end)
        part_start, is_closed = -1, False  # hit: the line feed before the delimiter
        while hit >= start - is_first_line:
            self._delimiters -= 1
            if self._delimiters <= 0:
                self.faults.add(ContentFault.TOO_MANY_PARTS)
                break
            behind = hit + 1 + len(mark)
            line_end = raw.find(b"\n", behind, end)
            line_end = end if line_end < 0 else line_end
            tail = raw[behind : min(line_end, behind + _LONGEST_TAIL)].rstrip(b" \t\r")
            if tail in _TAILS:
                if part_start >= 0:
                    yield _without_line_end(raw, part_start, hit)
                elif is_closed:  # readers differ in whether they show what comes behind the end
                    self.faults.add(ContentFault.BAD_BOUNDARY)
                part_start, is_closed = (-1, True) if tail else (min(line_end + 1, end), is_closed)
            is_first_line = False
            hit = raw.find(b"\n" + mark, line_end, end)
        if part_start >= 0:
            self.faults.add(ContentFault.NO_END_BOUNDARY)
            yield Range(raw, part_start, end)
        elif not is_closed:
            self.faults.add(ContentFault.BAD_BOUNDARY)


def _is_header(before: bytes, colon: bytes) -> bool:
    """Tell whether a line with this before its colon is a header (or an mbox "From " line)."""
    return bool(colon) and (
        not before.rstrip().count(b" ") or before.startswith((b"From ", b">From "))
    )


def _blank_line(raw: bytes, start: int, end: int) -> int:
    """Return where the line feed before the first empty line stands, -1 for nowhere."""
    lf = raw.find(b"\n\n", start, end)
    crlf = raw.find(b"\n\r\n", start, end if lf < 0 else lf)
    return crlf if crlf >= 0 else lf


def _without_line_end(raw: bytes, start: int, line_feed: int) -> Range:
    """Return a part; the line end before a delimiter belongs to the delimiter."""
    end = line_feed - 1 if raw[line_feed - 1 : line_feed] == b"\r" else line_feed
    return Range(raw, start, max(start, end))
