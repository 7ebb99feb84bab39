"""Whether a message file on this disk is whole: read in full only where its ends leave a doubt."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Final

from nodeagent.core.queue_files import find_defect, looks_whole

NOT_PLAIN: Final = "it is not a plain file"
_END_BYTES: Final = 2


def find_defect_at_rest(path: str | Path) -> str | None:
    """Return what is wrong with a message's content, None if it is whole."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno not in {errno.ELOOP, errno.ENXIO}:
            raise
        return NOT_PLAIN
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return NOT_PLAIN
        head = os.pread(descriptor, _END_BYTES, 0)
        tail = os.pread(descriptor, _END_BYTES, max(0, status.st_size - _END_BYTES))
    finally:
        os.close(descriptor)
    return None if looks_whole(head, tail) else find_defect(Path(path).read_bytes())
