"""Asking a process of ours on the same host: JSON lines over a UNIX socket, one answer a line."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from nodeagent.errors import Refused, Unreachable


class JsonConnection:
    """One connection to `server`, which is named in errors; for one thread."""

    server = "other side"

    def __init__(self, path: Path, timeout_s: float) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout_s)
        try:
            self._socket.connect(str(path))
        except OSError as error:
            self._socket.close()
            raise Unreachable(f"The {self.server} does not answer.") from error
        self._reader = self._socket.makefile("rb")

    def close(self) -> None:
        """End the connection."""
        self._reader.close()
        self._socket.close()

    def call(self, operation: str, **fields: Any) -> dict[str, Any]:
        """Return the answer; raise `Refused` with the server's sentence, or `Unreachable`."""
        try:
            self._socket.sendall(json.dumps({"op": operation, **fields}).encode() + b"\n")
            line = self._reader.readline()
        except OSError as error:
            raise Unreachable(f"The {self.server} does not answer.") from error
        if not line.endswith(b"\n"):
            raise Unreachable(f"The {self.server} has closed the connection.")
        try:
            answer: dict[str, Any] = json.loads(line)
            is_done = answer.pop("ok")
        except (ValueError, AttributeError, KeyError, TypeError) as error:
            raise Unreachable(f"The {self.server}'s answer cannot be read.") from error
        if not is_done:
            raise Refused(str(answer.get("reason", f"The {self.server} refused.")))
        return answer
