"""Sections of a policy, between entries and the bytes that travel and are stored.

Theory of operation. The plain text of a section is one JSON object a line, in rising order of the
entries' ids (threat settings: of their rules' names), each without the fields that have their
default: the defaults in `nodeagent.policy.document` are a part of the format. The same entries
so have the same name, whoever packs them. What is read is bounded before it is unpacked, and
compared with its name before it is parsed. A line that this version cannot read (a newer one
wrote it) is left out and reported; a body that is torn or is another one is refused whole.
"""

from __future__ import annotations

import gzip
import hashlib
import itertools
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeVar

from pydantic import TypeAdapter, ValidationError

from nodeagent.core.contract import Wire
from nodeagent.policy.document import (
    ENTRIES_A_SECTION,
    Badword,
    Category,
    ListEntry,
    RateRule,
    Section,
    SectionKind,
    Subscription,
    ThreatSetting,
)

MOST_PLAIN_BYTES: Final = 64 * 1024 * 1024
MOST_PACKED_BYTES: Final = 16 * 1024 * 1024
MOST_PROBLEMS: Final = 100
LEVEL: Final = 6  # of gzip; 9 takes three times as long for one percent
_GZIP: Final = 16 + zlib.MAX_WBITS

Entry = ListEntry | Badword | RateRule | ThreatSetting | Category | Subscription
_E = TypeVar("_E", bound=Wire)

ENTRY_TYPES: Final[Mapping[SectionKind, type[Entry]]] = MappingProxyType(
    {
        SectionKind.LIST: ListEntry,
        SectionKind.BADWORDS: Badword,
        SectionKind.RATES: RateRule,
        SectionKind.THREATS: ThreatSetting,
        SectionKind.CATEGORIES: Category,
        SectionKind.SUBSCRIPTIONS: Subscription,
    }
)


@dataclass(frozen=True)
class PackedSection:
    """A section as the manifest names it, and its body."""

    section: Section
    body: bytes


def pack_section(kind: SectionKind, number: int, entries: Iterable[Entry]) -> PackedSection:
    """Return the section of these entries, in whatever order they are given.

    Raises ValueError for entries of another kind, for two of one id, or for too many of them.
    """
    model = ENTRY_TYPES[kind]
    listed = sorted(entries, key=lambda entry: (_key(entry), type(entry).__name__))
    for entry in listed:
        if type(entry) is not model:
            raise ValueError(f"a section of {kind} has no {type(entry).__name__} in it")
    for before, after in itertools.pairwise(listed):
        if _key(before) == _key(after):
            raise ValueError(f"a section of {kind} has two entries {_name(after)}")
    return pack_lines(kind, number, [line_of(entry) for entry in listed])


def line_of(entry: Entry) -> str:
    """Return an entry as its line, without the line's end."""
    return entry.model_dump_json(exclude_defaults=True)


def pack_lines(kind: SectionKind, number: int, lines: Sequence[str]) -> PackedSection:
    """Return the section of entries that are lines already (`line_of`), in order of their ids.

    Raises ValueError for too many of them.
    """
    if len(lines) > ENTRIES_A_SECTION:
        raise ValueError(f"a section has at most {ENTRIES_A_SECTION} entries, not {len(lines)}")
    plain = "".join(f"{line}\n" for line in lines).encode()
    if len(plain) > MOST_PLAIN_BYTES:
        raise ValueError(f"a section has at most {MOST_PLAIN_BYTES} bytes, not {len(plain)}")
    body = gzip.compress(plain, LEVEL, mtime=0)
    if len(body) > MOST_PACKED_BYTES:
        raise ValueError(f"a packed section has at most {MOST_PACKED_BYTES} bytes")
    name = hashlib.sha256(plain).hexdigest()
    return PackedSection(Section(kind=kind, number=number, sha256=name, entries=len(lines)), body)


def read_plain(section: Section, body: bytes) -> bytes:
    """Return the plain text; raises ValueError when the body is torn or is not this section."""
    if len(body) > MOST_PACKED_BYTES:
        raise ValueError(f"{_title(section)} has more than {MOST_PACKED_BYTES} bytes packed")
    unpacker = zlib.decompressobj(wbits=_GZIP)
    try:
        plain = unpacker.decompress(body, MOST_PLAIN_BYTES)
    except zlib.error as error:
        raise ValueError(f"{_title(section)} is not gzip") from error
    if not unpacker.eof or unpacker.unused_data:
        raise ValueError(
            f"{_title(section)} is torn, or has more than {MOST_PLAIN_BYTES} bytes unpacked"
        )
    if hashlib.sha256(plain).hexdigest() != section.sha256:
        raise ValueError(f"{_title(section)} is not the one that the manifest names")
    return plain


def read_section(section: Section, body: bytes) -> tuple[Entry, ...]:
    """Return the entries in order; raises ValueError when a single line is wrong.

    For the control plane, which never stores a line that it cannot read.
    """
    model = ENTRY_TYPES[section.kind]
    entries, problems = read_entries(section, body, model)
    if problems:
        raise ValueError(problems[0])
    return entries


def read_entries(
    section: Section, body: bytes, model: type[_E]
) -> tuple[tuple[_E, ...], tuple[str, ...]]:
    """Return what can be read, and one sentence for each line that cannot.

    `model` is the entry type of the section's kind. Raises ValueError as `read_plain` does, and
    when the number of lines is not the manifest's.
    """
    lines = read_plain(section, body).split(b"\n")
    if lines.pop() != b"":
        raise ValueError(f"{_title(section)} ends within a line")
    if len(lines) != section.entries:
        raise ValueError(f"{_title(section)} has {len(lines)} entries, not {section.entries}")
    try:
        # one call for all is four times as fast as one a line; it cannot say which is wrong
        adapter: TypeAdapter[tuple[_E, ...]] = TypeAdapter(tuple[model, ...])  # type: ignore[valid-type]
        whole = adapter.validate_json(b"[" + b",".join(lines) + b"]")
    except ValidationError:
        return _line_by_line(section, lines, model)
    if len(whole) == len(lines):
        return whole, ()
    return _line_by_line(section, lines, model)


def _line_by_line(
    section: Section, lines: list[bytes], model: type[_E]
) -> tuple[tuple[_E, ...], tuple[str, ...]]:
    entries: list[_E] = []
    problems: list[str] = []
    for number, line in enumerate(lines, start=1):
        try:
            entries.append(model.model_validate_json(line))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            what = f"{place}: {first['msg']}" if place else first["msg"]
            problems.append(f"{_title(section)}: line {number} is left out: {what}")
    return tuple(entries), tuple(problems[:MOST_PROBLEMS])


def _key(entry: Entry) -> tuple[int, str]:
    return (0, entry.rule) if isinstance(entry, ThreatSetting) else (entry.id, "")


def _name(entry: Entry) -> str:
    return entry.rule if isinstance(entry, ThreatSetting) else str(entry.id)


def _title(section: Section) -> str:
    return f"section {section.kind}/{section.number}"
