"""What a bundle of rendered files says of itself: its hash, its tables, its order of going live."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from nodeagent.core.contract import ConfigFile

INDEXED: Final = re.compile(r"\b(lmdb|hash|btree|cdb):(\$\{?config_directory\}?|/)([\w./-]+)")
CONFIG_DIRECTORY: Final = "/etc/postfix"


@dataclass(frozen=True)
class IndexedTable:
    """A lookup table whose text has to be compiled by postmap(1)."""

    type: str
    path: str


def files_sha256(files: Iterable[ConfigFile]) -> str:
    """Return the hash of a bundle: paths, owners, modes and contents, in the order of paths."""
    listed = sorted((one.path, one.owner, one.mode, one.content) for one in files)
    return hashlib.sha256(json.dumps(listed, separators=(",", ":")).encode()).hexdigest()


def indexed_tables(files: tuple[ConfigFile, ...]) -> tuple[IndexedTable, ...]:
    """Return the tables that `main.cf` or `master.cf` name with an indexed type and we render."""
    known = {file.path for file in files}
    found: dict[str, IndexedTable] = {}
    for file in files:
        if not file.path.endswith((".cf",)):
            continue
        for kind, base, rest in INDEXED.findall(file.content):
            path = f"/{rest}" if base == "/" else f"{CONFIG_DIRECTORY}/{rest.lstrip('/')}"
            if path in known:
                found[path] = IndexedTable(kind, path)
    return tuple(found.values())


def swap_order(files: tuple[ConfigFile, ...]) -> tuple[ConfigFile, ...]:
    """Return the files so that whatever refers to others comes after them."""
    return tuple(sorted(files, key=lambda file: (file.path.endswith(".cf"), file.path)))
