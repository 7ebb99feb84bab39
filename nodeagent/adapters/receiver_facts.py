"""What a receiver tells a peer that tests it: versions, free space, and its clock."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from nodeagent import __version__
from nodeagent.errors import Unreachable

RSYNC_LIMIT_S: Final = 5.0


@dataclass(frozen=True)
class ReceiverFacts:
    """The state of a receiving host; `rsync` is None where it cannot be run."""

    version: str
    rsync: str | None
    free_bytes: int
    free_inodes: int
    clock_s: float


def read_facts(relay: Path) -> dict[str, Any]:
    """Return this host's facts as they go over the wire; mirrors lie below `relay`."""
    relay.mkdir(mode=0o755, parents=True, exist_ok=True)
    disk = os.statvfs(relay)
    return {
        "version": __version__,
        "rsync": rsync_version(),
        "free_bytes": disk.f_bavail * disk.f_frsize,
        "free_inodes": disk.f_favail,
        "clock_s": time.time(),
    }


def parse_facts(answer: Mapping[str, Any]) -> ReceiverFacts:
    """Return the facts of an answer; raises `Unreachable` for one that is not ours."""
    try:
        rsync = answer["rsync"]
        return ReceiverFacts(
            version=str(answer["version"]),
            rsync=None if rsync is None else str(rsync),
            free_bytes=int(answer["free_bytes"]),
            free_inodes=int(answer["free_inodes"]),
            clock_s=float(answer["clock_s"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise Unreachable("The receiver's answer cannot be read.") from error


def rsync_version() -> str | None:
    """Return the version of rsync(1) on this host, None where it cannot be run."""
    try:
        done = subprocess.run(
            ["rsync", "--version"],
            capture_output=True,
            text=True,
            timeout=RSYNC_LIMIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    words = done.stdout.split()
    return words[2] if done.returncode == 0 and len(words) > 2 else None  # noqa: PLR2004
