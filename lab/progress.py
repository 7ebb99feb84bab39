"""Progress for whoever waits: one line a step on standard error, with the seconds it took."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def step(text: str) -> Iterator[None]:
    """Say what begins; when it ends, say how long it took."""
    began = time.monotonic()
    sys.stderr.write(f"  {text} ... ")
    sys.stderr.flush()
    outcome = "failed"
    try:
        yield
        outcome = f"{time.monotonic() - began:.1f} s"
    finally:
        sys.stderr.write(f"{outcome}\n")
