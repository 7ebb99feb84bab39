"""Follows Postfix's log across rotation, compression, truncation and restarts of the agent.

A place in the log is a file and an offset. A file is known by its first bytes, not by its inode:
filesystems give inodes again, and logrotate(8) and `postfix logrotate` compress what they rotate.
Only whole lines are handed out, each once: `read` changes nothing on disk, and whoever stores the
lines stores the new `Position` with them, in one transaction.

The file in use is kept open, so that what was written before a rotation is read to its end whatever
becomes of its name. The next file is taken up when it holds a line: postlogd(8) writes it by then.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

CHUNK_BYTES: Final = 256 * 1024
"""Read at once; a line that is longer is none of Postfix's and is passed over."""
HEAD_BYTES: Final = 512
COMPRESSED: Final = ".gz"
LogFile = gzip.GzipFile | io.FileIO
_UNREADABLE: Final = (OSError, EOFError, zlib.error)


@dataclass(frozen=True)
class Position:
    """Everything before `offset` of the file that begins with the head was handed out."""

    head_bytes: int
    head_sha256: str
    offset: int
    modified_s: float  # the file's mtime at that time: what was rotated later is newer


@dataclass(frozen=True)
class Chunk:
    """Whole lines without their ends, and the position behind them.

    `is_after_gap`: what lay between the last position and these lines is gone.
    """

    lines: tuple[str, ...]
    position: Position
    is_after_gap: bool = False


class MailLog:
    """One log; used by one thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: LogFile | None = None

    def read(self, position: Position | None) -> Chunk | None:
        """Return the lines after `position`, None if there are none yet; None: from the start."""
        if position is None:
            return self._begin(self._path)
        if self._file is not None and not _has_head(self._file, position):
            self.close()  # truncated; logrotate(8) may have made a copy before
        if self._file is None:
            self._file = self._find(position)
            if self._file is None:
                return self._after_loss(position)
        return self._next_lines(position) or self._after_rotation(position)

    def end(self) -> Position | None:
        """Return the position behind what is there now, for a reader who lost their place."""
        chunk, last = self._begin(self._path), None
        while chunk is not None:
            last = chunk.position
            chunk = self._next_lines(last)
        return last

    def is_followed(self) -> bool:
        """Tell whether a file was found to read, and the log is still where it is said to be."""
        return self._file is not None and self._path.exists()

    def close(self) -> None:
        """Close the file in use; `read` finds it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _begin(self, path: Path, *, is_after_gap: bool = False) -> Chunk | None:
        """Take up a file at its start, if it holds a line."""
        file = _open(path)
        if file is None:
            return None
        start = _start_of(file)
        if start is None:
            file.close()
            return None
        self.close()
        self._file = file
        chunk = self._next_lines(start)
        return None if chunk is None else replace(chunk, is_after_gap=is_after_gap)

    def _next_lines(self, position: Position) -> Chunk | None:
        file = self._file
        if file is None:
            return None
        data = _read_at(file, position.offset, CHUNK_BYTES)
        whole = data.rfind(b"\n") + 1
        if not whole and len(data) < CHUNK_BYTES:
            return None
        lines = tuple(data[:whole].decode(errors="replace").split("\n")[:-1])
        return Chunk(lines, _moved(file, position, position.offset + (whole or len(data))))

    def _after_rotation(self, position: Position) -> Chunk | None:
        """Take up the next file once this one is read to its end."""
        following = self._following(position)
        if following is None or self._file is None:
            return None
        late = self._next_lines(position)  # written before the next file was begun
        if late is not None:
            return late
        rest = _try_to_read(self._file, position.offset, CHUNK_BYTES)
        torn = (rest or b"").decode(errors="replace")
        chunk = self._begin(following, is_after_gap=rest is None)
        if chunk is None or not torn:
            return chunk
        return replace(chunk, lines=(torn, *chunk.lines))

    def _after_loss(self, position: Position) -> Chunk | None:
        """Take up the oldest file that is newer than the one that cannot be found any more."""
        following = self._following(position)
        return None if following is None else self._begin(following, is_after_gap=True)

    def _find(self, position: Position) -> LogFile | None:
        """Open the file that begins with the position's head."""
        for path in (self._path, *self._rotated()):
            file = _open(path)
            if file is not None and _has_head(file, position):
                return file
            if file is not None:
                file.close()
        return None

    def _following(self, position: Position) -> Path | None:
        """Return the file after the position's: of those rotated since the oldest, or the log.

        Nothing follows the log itself, whatever the times of other files say: a clock may step.
        """
        current = _open(self._path)
        if current is None:
            return None
        with current:
            if _has_head(current, position):
                return None
        newer = [
            (modified_s, path)
            for path in self._rotated()
            if (modified_s := _modified_s(path)) is not None and modified_s > position.modified_s
        ]
        for path in (*(path for _time, path in sorted(newer)), self._path):
            file = _open(path)
            if file is None:
                continue
            with file:
                if not _has_head(file, position) and _start_of(file) is not None:
                    return path
        return None

    def _rotated(self) -> Iterator[Path]:
        """Yield the log's older files, those that are not compressed first."""
        names = sorted(self._path.parent.glob(f"{self._path.name}[.-]*"))
        yield from (path for path in names if path.suffix != COMPRESSED)
        yield from (path for path in names if path.suffix == COMPRESSED)


def _open(path: Path) -> LogFile | None:
    if not path.is_file():  # a pipe would wait for its writer
        return None
    try:
        if path.suffix == COMPRESSED:
            return gzip.GzipFile(path, "rb")
        return io.FileIO(path)
    except OSError:
        return None


def _try_to_read(file: LogFile, offset: int, size: int) -> bytes | None:
    """Return what stands there, None where a file does not end but break off."""
    try:
        file.seek(offset)
        return file.read(size)
    except _UNREADABLE:
        return None


def _read_at(file: LogFile, offset: int, size: int) -> bytes:
    return _try_to_read(file, offset, size) or b""


def _start_of(file: LogFile) -> Position | None:
    """Return the position before the first line, None as long as there is no whole one."""
    data = _read_at(file, 0, CHUNK_BYTES)
    size = data.find(b"\n") + 1 or (len(data) if len(data) == CHUNK_BYTES else 0)
    return _headed(file, data[: min(size, HEAD_BYTES)], 0) if size else None


def _moved(file: LogFile, position: Position, offset: int) -> Position:
    """Return the position at a later offset; the more of a file is read, the surer its head."""
    head_bytes = min(max(offset, position.head_bytes), HEAD_BYTES)
    return _headed(file, _read_at(file, 0, head_bytes), offset)


def _headed(file: LogFile, head: bytes, offset: int) -> Position:
    return Position(
        len(head), hashlib.sha256(head).hexdigest(), offset, os.fstat(file.fileno()).st_mtime
    )


def _has_head(file: LogFile, position: Position) -> bool:
    """Tell whether this is the position's file, and still as long as it was."""
    head = _read_at(file, 0, position.head_bytes)
    if hashlib.sha256(head).hexdigest() != position.head_sha256:
        return False
    return position.offset == 0 or len(_read_at(file, position.offset - 1, 1)) == 1


def _modified_s(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None
