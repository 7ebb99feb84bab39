"""The HTTP door on a free loopback port, served by uvicorn on uvloop in a thread of its own."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import http.client
import json
import threading
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import uvloop

from nodeagent.policy.document import HttpDoor, PolicySettings
from nodeagent.policy.doors.http_door import HttpHookDoor
from nodeagent.policy.ports import Decides, MailKeeper
from tests.fakes.postfix_instance import free_port

T = TypeVar("T")
TOKEN = "a-long-random-token"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


def sha256(text: str) -> str:
    """Return what the settings keep of a secret."""
    return hashlib.sha256(text.encode()).hexdigest()


def basic(name: str, password: str) -> dict[str, str]:
    """Return the header of RFC 7617."""
    return {"Authorization": f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}"}


def settings(port: int | None = None, **door: Any) -> PolicySettings:
    """Return settings with a door that is open to `BEARER`."""
    others = {one: door.pop(one) for one in set(door) - set(HttpDoor.model_fields)}
    door = {"is_enabled": True, "port": port or free_port(), "token_sha256": sha256(TOKEN)} | door
    return PolicySettings(http=HttpDoor(**door), **others)


@dataclass(frozen=True)
class Response:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Return the body as JSON."""
        return json.loads(self.body)

    @property
    def code(self) -> int | None:
        """Return the SMTP code that the MTA would give, None for an accepted question."""
        assert self.status == 200, (self.status, self.body)
        reply = self.json.get("response")
        return None if reply is None else reply["status"]


class LoopThread:
    """An event loop that runs in a thread of its own; used as a context manager."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._thread = threading.Thread(target=loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something on the loop, and return what it returns."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)


class ServedHook:
    """The door, running on uvloop; used as a context manager."""

    def __init__(self, decides: Decides, keeper: MailKeeper) -> None:
        self._thread = LoopThread(uvloop.new_event_loop())
        self._parts = (decides, keeper)
        self.settings = decides.settings

    def __enter__(self) -> Self:
        self._thread.__enter__()
        self.door = self._thread.run(self._open())
        self.apply(self.settings)
        assert self.door.problem is None, self.door.problem
        return self

    def __exit__(self, *_exception: object) -> None:
        self._thread.run(self.door.close())
        self._thread.__exit__()

    async def _open(self) -> HttpHookDoor:
        return HttpHookDoor(*self._parts)

    def apply(self, new: PolicySettings) -> None:
        """Have the door take these settings."""
        self.settings = new
        self._thread.run(self.door.apply(new))

    def connect(self) -> http.client.HTTPConnection:
        """Return a connection to where the settings say."""
        http_door = self.settings.http
        return http.client.HTTPConnection(http_door.address, http_door.port, timeout=60)

    def ask(
        self,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        *,
        method: str = "POST",
        path: str = "/mta-hook",
    ) -> Response:
        """Send one request on a connection of its own, with `BEARER` unless told otherwise."""
        connection = self.connect()
        try:
            connection.request(method, path, body, BEARER if headers is None else headers)
            got = connection.getresponse()
            return Response(got.status, {k.lower(): v for k, v in got.getheaders()}, got.read())
        finally:
            connection.close()
