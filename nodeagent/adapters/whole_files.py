"""Whether a message file on this disk is whole: read in full only where its ends leave a doubt."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from nodeagent.core.queue_files import find_defect, looks_whole

_END_BYTES = 2


def find_defect_at_rest(path: Path) -> str | None:
    """Return what is wrong with a message's content, None if it is whole."""
    if not stat.S_ISREG(path.lstat().st_mode):
        return "it is not a plain file"
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        size = os.fstat(descriptor).st_size
        head = os.pread(descriptor, _END_BYTES, 0)
        if looks_whole(head, os.pread(descriptor, _END_BYTES, max(0, size - _END_BYTES))):
            return None
    finally:
        os.close(descriptor)
    return find_defect(path.read_bytes())
