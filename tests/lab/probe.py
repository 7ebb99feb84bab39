"""Small programs that tests run inside hosts."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.lab.conftest import relay_lab

CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 1).close()"


def can_reach(source: str, address: str, port: int) -> bool:
    """Tell whether a TCP connection comes about within a second."""
    return (
        relay_lab("exec", source, "--", "python", "-c", CONNECT, address, str(port)).returncode == 0
    )


def until(condition: Callable[[], bool], what: str, timeout_s: float = 15.0) -> None:
    """Wait until a condition holds, or fail saying what did not come true."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.05)
