"""The HTTP door: uvicorn on the address that the policy's settings name, and follows them.

    door = HttpHookDoor(decides, keeper)
    await door.apply(settings)     # at start, and whenever the settings change
    await door.close()

A new address or port is taken while the process goes on; credentials, stages and limits hold from
the next request on. What stops listening at an address is done before the new one is tried, since
they may overlap. While none can be taken `problem` says why, and the door tries again by itself,
after a second first and once a minute in the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from ipaddress import IPv6Address, ip_address
from typing import Final

import structlog
import uvicorn

from nodeagent.policy.document import PolicySettings
from nodeagent.policy.doors.http_app import HookApp
from nodeagent.policy.doors.http_protocol import HookProtocol
from nodeagent.policy.doors.listening import try_again
from nodeagent.policy.ports import Decides, MailKeeper

KEEP_ALIVE_S: Final = 75
SHUTDOWN_S: Final = 3
"""With the milter's 5 s it is less than the 10 s after which systemd kills."""
BACKLOG: Final = 1024

log = structlog.get_logger()


class _Server(uvicorn.Server):
    """Uvicorn's, without its signal handlers (the process has its own); it says when it is up."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_up.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpHookDoor:
    """Listens as the settings say; all of it on one event loop."""

    def __init__(self, decides: Decides, keeper: MailKeeper) -> None:
        self.app = HookApp(decides, keeper)
        self.problem: str | None = None
        self._at: tuple[str, int] | None = None
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self._trying: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()

    async def apply(self, settings: PolicySettings) -> None:
        """Take these settings; returns when the door listens as they say, or `problem` is set."""
        async with self._turn:
            self._try_no_more()
            self.app.settings = settings
            await self._follow()
            if self.problem is not None:
                self._trying = asyncio.create_task(try_again(self._is_listening))

    async def close(self) -> None:
        """Stop listening; requests that are being answered get their answers."""
        async with self._turn:
            self._try_no_more()
            await self._stop()

    async def _follow(self) -> None:
        """Listen as the settings say, and nowhere else."""
        http = self.app.settings.http
        wanted = (http.address, http.port) if http.is_enabled else None
        if wanted == self._at:
            self.problem = None
            return
        await self._stop()
        self.problem = None if wanted is None else await self._listen(*wanted)

    async def _is_listening(self) -> bool:
        """Try, in turn with edits."""
        async with self._turn:
            await self._follow()
            return self.problem is None

    def _try_no_more(self) -> None:
        """End the tries; the caller has the turn, so whoever tries sleeps or waits for it."""
        if self._trying is not None:
            self._trying.cancel()
            self._trying = None

    async def _listen(self, address: str, port: int) -> str | None:
        """Return why nobody can listen there."""
        try:
            is_v6 = isinstance(ip_address(address), IPv6Address)
            family = socket.AF_INET6 if is_v6 else socket.AF_INET
            listener = socket.create_server((address, port), family=family, backlog=BACKLOG)
        except (OSError, ValueError) as error:
            log.warning("the HTTP hook cannot listen", address=address, port=port, why=str(error))
            return f"the HTTP hook cannot listen at {address}, port {port}: {error}"
        server = _Server(_config(self.app))
        serving = asyncio.create_task(server.serve([listener]))
        await server.is_up.wait()
        self._server, self._serving, self._at = server, serving, (address, port)
        serving.add_done_callback(self._ended)
        log.info("the HTTP hook listens", address=address, port=port)
        return None

    def _ended(self, serving: asyncio.Task[None]) -> None:
        """Notice a server that ended though nobody had stopped it."""
        if serving is not self._serving:
            return
        why = "it was cancelled" if serving.cancelled() else repr(serving.exception())
        self.problem = f"the HTTP hook stopped listening: {why}"
        log.error("the HTTP hook stopped listening", at=self._at, why=why)
        self._server = self._serving = self._at = None
        self._trying = asyncio.create_task(try_again(self._is_listening))

    async def _stop(self) -> None:
        server, serving, at = self._server, self._serving, self._at
        self._server = self._serving = self._at = None
        if server is not None and serving is not None:
            server.should_exit = True
            await asyncio.wait((serving,))
            log.info("the HTTP hook no longer listens", at=at)


def _config(app: HookApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=HookProtocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level="error",  # what strangers send is warned of in lines without an end
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=SHUTDOWN_S,
        backlog=BACKLOG,
    )
