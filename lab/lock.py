"""One `relay-lab` changes the lab at a time; the lock leaves no file and dies with its process."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from lab.errors import LabError

_NAME: Final = "\0relay-lab"  # an abstract address, see unix(7)
_LIMIT_S: Final = 300.0
_POLL_S: Final = 0.05


@contextmanager
def exclusive(limit_s: float = _LIMIT_S, name: str = _NAME) -> Iterator[None]:
    """Wait until no other `relay-lab` changes the lab, then keep the others waiting."""
    holder = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    deadline = time.monotonic() + limit_s
    has_told = False
    with holder:
        while True:
            try:
                holder.bind(name)
                break
            except OSError as error:
                if time.monotonic() > deadline:
                    raise LabError("Another relay-lab has kept the lab busy; try later.") from error
            if not has_told:
                sys.stderr.write("  waiting for another relay-lab to finish\n")
                has_told = True
            time.sleep(_POLL_S)
        yield
