"""The hook's own socket, over which the courier asks: what was counted, what is new, load it.

One JSON object a line: {"op": ...}, answered by {"ok": true, ...} or {"ok": false, "reason": ...}.
Only root and the hook's user can connect.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, Final, Protocol

import structlog
from pydantic import ValidationError

from nodeagent.policy.sync_wire import PolicyAnswer, PolicySync

log = structlog.get_logger()

LINE_LIMIT_BYTES: Final = 8 * 1024 * 1024


class Controlled(Protocol):
    """What the courier reaches."""

    def report(self) -> PolicySync:
        """Return what is in force and what was counted since the last `told`."""

    def told(self, answer: PolicyAnswer) -> None:
        """Take in what the control plane answered to the last report."""

    async def load(self) -> str:
        """Put the policy on the disk in force; return one sentence why not, or nothing."""


class ControlServer:
    """The socket."""

    def __init__(self, hook: Controlled, path: Path) -> None:
        self._hook = hook
        self._path = path
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen."""
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(
            self._serve, self._path, limit=LINE_LIMIT_BYTES
        )
        self._path.chmod(0o600)

    async def stop(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()
        self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(json.dumps(await self._answer(line)).encode() + b"\n")
                await writer.drain()
        except (OSError, ValueError) as error:
            log.warning("request failed", error=str(error))
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            operation = request["op"]
            answer = PolicyAnswer.model_validate(request["answer"]) if "answer" in request else None
        except (ValueError, KeyError, TypeError, RecursionError, ValidationError):
            return {"ok": False, "reason": "The request cannot be read."}
        if operation == "report":
            return {"ok": True, "sync": self._hook.report().model_dump(mode="json")}
        if operation == "told" and answer is not None:
            self._hook.told(answer)
            return {"ok": True}
        if operation == "load":
            problem = await self._hook.load()
            return {"ok": not problem, "reason": problem}
        return {"ok": False, "reason": f"There is no {operation!r} here."}
