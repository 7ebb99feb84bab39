"""The files that the guard reads: its own proof in /run, and the receipts of adoptions."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import structlog

from nodeagent.core.guard_state import GuardState

log = structlog.get_logger()


class GuardFile:
    """The proof, which outlives the guard but not the boot; it says nothing of pending mail.

    One JSON file, written whole.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> GuardState:
        """Return the state on file; a file that is missing or broken proves nothing."""
        try:
            return GuardState(**json.loads(self._path.read_text()))
        except (OSError, ValueError, TypeError):
            return GuardState()

    def save(self, state: GuardState) -> None:
        """Write the state, without the answer that came with it: that is for one process.

        What cannot be written, as on a full disk, leaves no file, and the next start fences.
        """
        temporary = self._path.with_suffix(".new")
        try:
            temporary.write_text(json.dumps(asdict(replace(state, retired=None))))
            temporary.rename(self._path)
        except OSError as error:
            log.warning("proof not noted", error=str(error))
            self._path.unlink(missing_ok=True)


class ReceiptFiles:
    """Reads receipts; one that has not changed is not parsed for each batch of its files anew."""

    def __init__(self) -> None:
        self._file = (Path(), 0, 0)
        self._content: tuple[int, frozenset[str]] = (0, frozenset())

    def read(self, path: Path) -> tuple[int, frozenset[str]]:
        """Return a receipt's generation and queue ids; raises OSError, ValueError or KeyError."""
        status = path.stat()
        file = (path, status.st_ino, status.st_mtime_ns)
        if file != self._file:
            receipt = json.loads(path.read_text())
            self._content = (int(receipt["generation"]), frozenset(receipt["ids"]))
            self._file = file
        return self._content
