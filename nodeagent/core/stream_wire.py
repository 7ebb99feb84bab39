"""What the wire types of all logs that a node ships have in common: entries of a numbered stream.

A batch travels apart from the heartbeat, as a gzip body of JSON. `stream` names one spool on one
node's disk; numbers rise within it and are never given twice, so the control plane takes each entry
once whatever is repeated. Numbers may be left out: a gap says what was not kept.
"""

from __future__ import annotations

import zlib
from typing import Annotated, Any, Final, Generic, TypeVar

from pydantic import Field, StringConstraints

from nodeagent.core.contract import Wire

PACKED_MEDIA_TYPE: Final = "application/gzip"
MOST_ENTRIES: Final = 500
LAST_NUMBER: Final = 2**53
GAP: Final = "gap"
"""The kind of an entry that stands for those that were not kept; every log has it."""
_GZIP: Final = 16 + zlib.MAX_WBITS


class StreamEntry(Wire):
    """What every log's entries have; each log has its own kinds, and a length of its texts."""

    at: float = Field(ge=0, lt=2**33)  # seconds since 1970, by the node's clock
    kind: str
    text: str = ""
    lost: int | None = Field(default=None, ge=0, lt=2**53)  # GAP: entries dropped, None: unknown


EntryT = TypeVar("EntryT", bound=StreamEntry)


class Numbered(Wire, Generic[EntryT]):
    """An entry in its place in the stream."""

    number: int = Field(ge=1, le=LAST_NUMBER)
    entry: EntryT


class Batch(Wire, Generic[EntryT]):
    """The oldest entries of a spool, in rising order of their numbers."""

    stream: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
    entries: tuple[Numbered[EntryT], ...] = Field(min_length=1, max_length=MOST_ENTRIES)


BatchT = TypeVar("BatchT", bound=Batch[Any])


class StreamAnswer(Wire):
    """Everything up to this number of the stream is stored; the node may forget it."""

    acknowledged: int = Field(ge=0, le=LAST_NUMBER)


def pack(batch: Batch[EntryT]) -> bytes:
    """Return the body of the call."""
    plain = batch.model_dump_json(exclude_defaults=True).encode()
    packer = zlib.compressobj(wbits=_GZIP)
    return packer.compress(plain) + packer.flush()


def unpack(kind: type[BatchT], body: bytes, most_bytes: int) -> BatchT:
    """Return what `pack` was given; raises ValueError (pydantic's too) for anything else.

    No more than `most_bytes` are ever unpacked.
    """
    unpacker = zlib.decompressobj(wbits=_GZIP)
    try:
        plain = unpacker.decompress(body, most_bytes)
    except zlib.error as error:
        raise ValueError("the body is not gzip") from error
    if not unpacker.eof:
        raise ValueError(f"the body is torn, or has more than {most_bytes} bytes unpacked")
    return kind.model_validate_json(plain)
