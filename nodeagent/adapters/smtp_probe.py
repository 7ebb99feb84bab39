"""Whether the mail server answers, and by a process that has read the new configuration.

A reload lets processes that run finish their work. The banner of one of them proves nothing about
the files that it has not read, so the probe looks which process has taken its connection.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Collection
from pathlib import Path
from typing import Final

from nodeagent.errors import Refused

ANSWER_WITHIN_S: Final = 10.0
_BANNER_LIMIT_S: Final = 2.0
_POLL_S: Final = 0.02
_LOOPBACK: Final = "127.0.0.1"


def wait_for_server(
    port: int, processes_before: Collection[int], within_s: float = ANSWER_WITHIN_S
) -> None:
    """Return once a process that is not among `processes_before` greets; raises `Refused`."""
    until_s = time.monotonic() + within_s
    while time.monotonic() < until_s:
        if _is_greeted_by_another(port, processes_before):
            return
        time.sleep(_POLL_S)
    raise Refused(f"Postfix did not answer within {within_s:g} s of the reload.")


def _is_greeted_by_another(port: int, before: Collection[int]) -> bool:
    try:
        with socket.create_connection((_LOOPBACK, port), timeout=_BANNER_LIMIT_S) as connection:
            if not connection.recv(512).startswith(b"220"):
                return False
            server = _socket_of_server(connection)
            is_another = not any(_has_open(pid, server) for pid in before)
            connection.sendall(b"QUIT\r\n")
            connection.recv(512)
            return is_another
    except OSError:
        return False


def _socket_of_server(connection: socket.socket) -> str:
    """Return what the other end of a loopback connection is called in /proc/PID/fd (proc(5))."""
    ends = [_shown(*connection.getpeername()), _shown(*connection.getsockname())]
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1:3] == ends:
            return f"socket:[{fields[9]}]"
    raise OSError("The kernel does not show our connection.")


def _shown(address: str, port: int) -> str:
    """Return an address as /proc/net/tcp has it: in the byte order of the machine."""
    return f"{struct.unpack('=I', socket.inet_aton(address))[0]:08X}:{port:04X}"


def _has_open(pid: int, name: str) -> bool:
    try:
        return any(str(entry.readlink()) == name for entry in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False
