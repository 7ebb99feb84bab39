"""What doors listen on: UNIX sockets without a moment of none or of a wrong mode, and retries."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from nodeagent.errors import AgentError

FIRST_RETRY_S: Final = 1.0
LONGEST_RETRY_S: Final = 60.0


class CannotListen(AgentError):
    """The socket cannot be made."""


def unix_listener(path: Path, mode: int, backlog: int) -> tuple[socket.socket, int]:
    """Bind beside the path and rename, so that the socket never stands there with another mode.

    Returns the socket and its inode, by which it is known again. Raises `CannotListen`.
    """
    if path.exists() and not stat.S_ISSOCK(path.lstat().st_mode):
        raise CannotListen(f"{path} is there and is no socket.")
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        beside.unlink(missing_ok=True)
        listener.bind(str(beside))
        beside.chmod(mode)
        listener.listen(backlog)
        inode = beside.stat().st_ino
        beside.rename(path)
    except OSError as error:
        listener.close()
        raise CannotListen(f"Nobody can listen on {path}: {error}.") from error
    return listener, inode


async def try_again(open_doors: Callable[[], Awaitable[bool]]) -> None:
    """Try, ever more rarely, until all doors are open: after a second, in the end once a minute."""
    rest_s = FIRST_RETRY_S
    await asyncio.sleep(rest_s)
    while not await open_doors():
        rest_s = min(2 * rest_s, LONGEST_RETRY_S)
        await asyncio.sleep(rest_s)
