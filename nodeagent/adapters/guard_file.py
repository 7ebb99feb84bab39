"""The guard's proof on file: in /run, so that it outlives the guard but not the boot."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import structlog

from nodeagent.core.guard_state import GuardState

log = structlog.get_logger()


class GuardFile:
    """One JSON file, written whole; what is pending mail's fate is never on it."""

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
