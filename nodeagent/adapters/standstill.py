"""Postfix's standstill: by the gentlest freezer there is, ended also after its owner was killed.

The freezer is looked for anew each time, because Postfix may have been restarted elsewhere. While
it is stopped by the last resort there is no process to look at: a file says so, and whoever finds
it starts Postfix again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from nodeagent.adapters.clock import boot_time_s
from nodeagent.adapters.freezers import (
    FROZEN_WITHIN_S,
    LAST_RESORT,
    Freezer,
    StillRunning,
    find_freezer,
)
from nodeagent.adapters.postfix import Postfix
from nodeagent.errors import ToolFailed

PATIENCE_S: Final = (0.01, 0.01, 0.02, 0.05, FROZEN_WITHIN_S)
REST_S: Final = 0.01


class Standstill:
    """Freezes and thaws one Postfix; `stopped` is the file, below /run, of the last resort."""

    def __init__(
        self,
        postfix: Postfix,
        stopped: Path,
        report: Callable[[str, str], None],
        choose: Callable[[int, int], Freezer] = find_freezer,
    ) -> None:
        self._postfix = postfix
        self._stopped = stopped
        self._report = report
        self._choose = choose
        self._freezer: Freezer | None = None

    @property
    def name(self) -> str:
        """The name of the freezer used last; empty where nothing ran."""
        return self._freezer.name if self._freezer is not None else ""

    def find(self) -> None:
        """Look for the freezer that fits now."""
        master = self._postfix.master_pid()
        if master is not None:
            self._freezer = self._choose(master, os.getpid())
        else:
            self._freezer = LAST_RESORT if self._stopped.exists() else None

    def begin(self) -> float:
        """Have nothing of Postfix run; return the boot time in seconds at which it began to stand.

        A process that waits for its disk cannot stand before it has been served, and all others
        would stand and wait for it: after a moment they go on, and it is tried again. Raises
        `ToolFailed`, and then the caller ends it.
        """
        self.find()
        for within_s in PATIENCE_S[:-1]:
            began_s = boot_time_s()
            try:
                self._freeze(within_s)
            except StillRunning:
                self.end()
                time.sleep(REST_S)
            else:
                return began_s
        began_s = boot_time_s()
        self._freeze(PATIENCE_S[-1])
        return began_s

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

    def _freeze(self, within_s: float = FROZEN_WITHIN_S) -> None:
        if self._freezer is LAST_RESORT:
            self._stopped.touch()
        if self._freezer is not None:
            self._freezer.freeze(within_s)

    def end(self) -> None:
        """Let Postfix go on."""
        if self._freezer is not None:
            self._freezer.thaw()
        self._stopped.unlink(missing_ok=True)
