"""How many messages are where on this node, counted cheaply and not at every tick."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

from nodeagent.adapters.queue_dirs import MAIL_QUEUES
from nodeagent.core.contract import QueueCounts

KEEP_S: Final = 2.0
REST_FACTOR: Final = 20  # counting takes at most a twentieth of the time


def count_files(directory: str | Path) -> int | None:
    """Return the number of files below a directory, None if it cannot be read."""
    count = 0
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    count += count_files(entry.path) or 0
                else:
                    count += 1
    except OSError:
        return None
    return count


def count_queue(live: Path, relay: Path) -> QueueCounts:
    """Count this node's messages by place."""
    aside = [path / queue for path in relay.glob("pending/*") for queue in MAIL_QUEUES]
    quarantines = [relay / "quarantine", *relay.glob("mirror/*/quarantine")]
    retired = [path / queue for path in relay.glob("retired/*") for queue in MAIL_QUEUES]
    return QueueCounts(
        incoming=count_files(live / "incoming"),
        active=count_files(live / "active"),
        deferred=count_files(live / "deferred"),
        hold=count_files(live / "hold"),
        pending=sum(count_files(path) or 0 for path in aside),
        retired=sum(count_files(path) or 0 for path in retired),
        quarantined=sum(count_files(path) or 0 for path in quarantines),
    )


class QueueCounter:
    """Counts again when the last count is old enough for what it cost."""

    def __init__(self, live: Path, relay: Path) -> None:
        self._live = live
        self._relay = relay
        self._counts = QueueCounts()
        self._next_at_s = 0.0

    def counts(self) -> QueueCounts:
        """Return counts that are at most a few seconds old."""
        began_s = time.monotonic()
        if began_s >= self._next_at_s:
            self._counts = count_queue(self._live, self._relay)
            ended_s = time.monotonic()
            self._next_at_s = ended_s + max(KEEP_S, REST_FACTOR * (ended_s - began_s))
        return self._counts
