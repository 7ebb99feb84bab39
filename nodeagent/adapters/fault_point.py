"""Named places at which a test may have the process die, as a power loss would.

A fault point costs one `open` unless the file `/run/relay/fault-point` exists and names it. The
file is removed first, so that the restarted process passes.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Final

FAULT_FILE: Final = Path("/run/relay/fault-point")


def fault_point(name: str, file: Path = FAULT_FILE) -> None:
    """Die by SIGKILL if the fault file names this point."""
    try:
        wanted = file.read_text().strip()
    except OSError:
        return
    if wanted == name:
        file.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
