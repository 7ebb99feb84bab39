"""JSON lines over a pair of pipes, with a time limit for each of them in both directions."""

from __future__ import annotations

import json
import os
import select
import time
from collections.abc import Mapping
from typing import Any, Final

from nodeagent.errors import Unreachable

LINE_LIMIT_BYTES: Final = 256 * 1024 * 1024
_CHUNK_BYTES: Final = 1 << 18


class LineChannel:
    """One object a line; after any error the channel is out of step and must be given up."""

    def __init__(self, read_descriptor: int, write_descriptor: int) -> None:
        self._read, self._write = read_descriptor, write_descriptor
        self._buffer = bytearray()
        os.set_blocking(read_descriptor, False)
        os.set_blocking(write_descriptor, False)

    def send(self, message: Mapping[str, Any], timeout_s: float) -> None:
        """Write one object; raises `Unreachable` if the other side does not take it in time."""
        data = memoryview(json.dumps(message, separators=(",", ":")).encode() + b"\n")
        until_s = time.monotonic() + timeout_s
        while data:
            _wait(self._write, until_s, is_write=True)
            try:
                data = data[os.write(self._write, data) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise Unreachable("The connection was closed.") from error

    def receive(self, timeout_s: float) -> dict[str, Any] | None:
        """Return the next object, None at the end; raises `Unreachable` if none comes in time."""
        until_s = time.monotonic() + timeout_s
        seen = 0
        while (end := self._buffer.find(b"\n", seen)) < 0:
            seen = len(self._buffer)
            if seen > LINE_LIMIT_BYTES:
                raise Unreachable("The other side sends a line without an end.")
            _wait(self._read, until_s, is_write=False)
            try:
                data = os.read(self._read, _CHUNK_BYTES)
            except BlockingIOError:
                continue
            except OSError as error:
                raise Unreachable("The connection was closed.") from error
            if not data:
                return None
            self._buffer += data
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return _parse(line)


def _parse(line: bytes) -> dict[str, Any]:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Unreachable("The other side does not speak our protocol.") from error
    if not isinstance(message, dict):
        raise Unreachable("The other side does not speak our protocol.")
    return message


def _wait(descriptor: int, until_s: float, *, is_write: bool) -> None:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT if is_write else select.POLLIN)
    if not poll.poll(max(0.0, until_s - time.monotonic()) * 1000):
        raise Unreachable("The other side did not answer in time.")
