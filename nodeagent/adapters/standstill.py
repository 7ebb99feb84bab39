"""Postfix's standstill: by the gentlest freezer there is, ended also after its owner was killed.

The freezer is looked for anew each time, because Postfix may have been restarted elsewhere. While
it is stopped by the last resort there is no process to look at: a file says so, and whoever finds
it starts Postfix again.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from nodeagent.adapters.freezers import LAST_RESORT, Freezer, find_freezer
from nodeagent.adapters.postfix import Postfix
from nodeagent.errors import ToolFailed


class Standstill:
    """Freezes and thaws one Postfix; `stopped` is the file, below /run, of the last resort."""

    def __init__(self, postfix: Postfix, stopped: Path, report: Callable[[str, str], None]) -> None:
        self._postfix = postfix
        self._stopped = stopped
        self._report = report
        self._freezer: Freezer | None = None

    @property
    def name(self) -> str:
        """The name of the freezer used last; empty where nothing ran."""
        return self._freezer.name if self._freezer is not None else ""

    def find(self) -> None:
        """Look for the freezer that fits now."""
        master = self._postfix.master_pid()
        if master is not None:
            self._freezer = find_freezer(master, os.getpid())
        else:
            self._freezer = LAST_RESORT if self._stopped.exists() else None

    def begin(self) -> None:
        """Have nothing of Postfix run; raises `ToolFailed`, and then the caller ends it."""
        self.find()
        self._freeze()

    def begin_surely(self) -> None:
        """Do the same for a fence: where the freezer fails, Postfix is stopped instead."""
        self.find()
        try:
            self._freeze()
        except ToolFailed as error:
            self._report("freezer-failed", f"{error} Postfix is stopped and started instead.")
            self.end()
            self._freezer = LAST_RESORT
            self._stop_or_go_on()

    def _stop_or_go_on(self) -> None:
        """Stop it; where even that fails, a fence without a standstill is better than none."""
        try:
            self._freeze()
        except ToolFailed as error:
            self._report("freezer-failed", f"{error} The queue is set aside while Postfix runs.")

    def _freeze(self) -> None:
        if self._freezer is LAST_RESORT:
            self._stopped.touch()
        if self._freezer is not None:
            self._freezer.freeze()

    def end(self) -> None:
        """Let Postfix go on."""
        if self._freezer is not None:
            self._freezer.thaw()
        self._stopped.unlink(missing_ok=True)
