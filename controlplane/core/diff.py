"""Shows what changes between two renderings, file by file, without showing a secret.

A file is secret when its mode keeps others out (0600): of its changed lines only the first word is
shown where the file is a lookup table (the sender, say), and nothing at all otherwise.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from nodeagent.core.contract import ConfigFile

HIDDEN: Final = "(hidden)"
CONTEXT_LINES: Final = 3
MAX_LINES: Final = 2_000
_PRIVATE_BITS: Final = 0o077


@dataclass(frozen=True)
class FileDiff:
    """One changed file; `text` is a unified diff (diff(1)), secrets replaced."""

    path: str
    change: str  # "added", "removed" or "changed"
    is_secret: bool
    text: str


def diff(old: Iterable[ConfigFile], new: Iterable[ConfigFile]) -> tuple[FileDiff, ...]:
    """Return the differing files by path; a file of equal text and mode does not appear."""
    before = {file.path: file for file in old}
    after = {file.path: file for file in new}
    changed = [path for path in sorted({*before, *after}) if before.get(path) != after.get(path)]
    return tuple(_file_diff(path, before.get(path), after.get(path)) for path in changed)


def is_secret(file: ConfigFile) -> bool:
    """Tell whether a file holds credentials or a private key."""
    return int(file.mode, 8) & _PRIVATE_BITS == 0


def _file_diff(path: str, old: ConfigFile | None, new: ConfigFile | None) -> FileDiff:
    hidden = any(file is not None and is_secret(file) for file in (old, new))
    lines = list(_unified(path, old, new))
    if hidden:
        lines = [_without_secret(path, line) for line in lines]
    if len(lines) > MAX_LINES:
        rest = len(lines) - MAX_LINES
        lines = [*lines[:MAX_LINES], f"({rest} more lines)"]
    change = "added" if old is None else "removed" if new is None else "changed"
    return FileDiff(path, change, hidden, "\n".join(lines))


def _unified(path: str, old: ConfigFile | None, new: ConfigFile | None) -> Iterator[str]:
    if old is not None and new is not None and (old.mode, old.owner) != (new.mode, new.owner):
        yield f"mode {old.mode} {old.owner} -> {new.mode} {new.owner}"
    yield from difflib.unified_diff(
        [] if old is None else old.content.splitlines(),
        [] if new is None else new.content.splitlines(),
        f"a{path}" if old is not None else "/dev/null",
        f"b{path}" if new is not None else "/dev/null",
        n=CONTEXT_LINES,
        lineterm="",
    )


def _without_secret(path: str, line: str) -> str:
    """Keep markers and, of a table's entry, its key; whatever else the line says is hidden."""
    if line.startswith(("--- ", "+++ ", "@@ ", "mode ")):
        return line
    marker, rest = line[:1], line[1:]
    if not path.endswith(".map"):
        return f"{marker}{HIDDEN}"
    if rest.startswith("#"):
        return line
    return f"{marker}{rest.partition(' ')[0]} {HIDDEN}"
