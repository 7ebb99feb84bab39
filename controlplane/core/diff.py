"""Shows what changes between two renderings, file by file, without showing a secret.

A file is secret when its mode keeps others out (0600, 0640): of its changed lines only the first
word is shown where the file is a lookup table (the sender, say), and nothing at all otherwise.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from nodeagent.core.contract import ConfigFile

HIDDEN: Final = "(hidden)"
CONTEXT_LINES: Final = 3
MAX_LINES: Final = 2_000
_OTHERS_BITS: Final = 0o007


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
    return int(file.mode, 8) & _OTHERS_BITS == 0


def _file_diff(path: str, old: ConfigFile | None, new: ConfigFile | None) -> FileDiff:
    hidden = any(file is not None and is_secret(file) for file in (old, new))
    head, body = _mode_change(old, new), _unified(path, old, new)
    if hidden:
        body = [*body[:2], *(_without_secret(path, line) for line in body[2:])]
    lines = [*head, *body]
    if len(lines) > MAX_LINES:
        lines = [*lines[:MAX_LINES], f"({len(lines) - MAX_LINES} more lines)"]
    change = "added" if old is None else "removed" if new is None else "changed"
    return FileDiff(path, change, hidden, "\n".join(lines))


def _mode_change(old: ConfigFile | None, new: ConfigFile | None) -> list[str]:
    if old is None or new is None or (old.mode, old.owner) == (new.mode, new.owner):
        return []
    return [f"mode {old.mode} {old.owner} -> {new.mode} {new.owner}"]


def _unified(path: str, old: ConfigFile | None, new: ConfigFile | None) -> list[str]:
    """Return the unified diff; its first two lines name the files, the others are content."""
    return list(
        difflib.unified_diff(
            [] if old is None else old.content.splitlines(),
            [] if new is None else new.content.splitlines(),
            f"a{path}" if old is not None else "/dev/null",
            f"b{path}" if new is not None else "/dev/null",
            n=CONTEXT_LINES,
            lineterm="",
        )
    )


def _without_secret(path: str, line: str) -> str:
    """Keep the marker and, of a table's entry, its key; whatever else the line says is hidden.

    Content lines start with a marker, so "@@" can only be a hunk's head.
    """
    if line.startswith("@@ "):
        return line
    marker, rest = line[:1], line[1:]
    if not path.endswith(".map"):
        return f"{marker}{HIDDEN}"
    if rest.startswith("#"):
        return line
    return f"{marker}{rest.partition(' ')[0]} {HIDDEN}"
