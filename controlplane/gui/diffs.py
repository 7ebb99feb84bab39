"""Unified diffs as pages show them: line by line, each with what it is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from controlplane.api.config import FileChange


@dataclass(frozen=True)
class DiffLine:
    """One line; `kind` is add, remove, place (where the lines stand), or same."""

    kind: str
    text: str


@dataclass(frozen=True)
class FileView:
    """One file that differs on one node."""

    node: str
    path: str
    change: str
    is_secret: bool
    lines: tuple[DiffLine, ...]


def file_views(changes: Iterable[FileChange]) -> list[FileView]:
    """Return the files that differ, in their order."""
    return [
        FileView(one.node, one.path, one.change, one.is_secret, diff_lines(one.text))
        for one in changes
    ]


def diff_lines(text: str) -> tuple[DiffLine, ...]:
    """Return the lines of a unified diff but for the two that name the files (diff(1))."""
    found = []
    is_named = False
    for line in text.splitlines():
        if not is_named and line.startswith(("--- ", "+++ ")):
            is_named = line.startswith("+++ ")
            continue
        found.append(_line(line))
    return tuple(found)


def _line(line: str) -> DiffLine:
    if line.startswith("@@ "):
        return DiffLine("place", line)
    kind = {"+": "add", "-": "remove", " ": "same"}.get(line[:1])
    return DiffLine("same", line) if kind is None else DiffLine(kind, line[1:])
