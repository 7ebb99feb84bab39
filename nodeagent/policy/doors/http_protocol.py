"""Uvicorn's HTTP/1.1, with an end to what a stranger may cost before he has shown a credential.

Theory of operation. Uvicorn limits neither the time in which headers come nor their size, nor what
waits behind a request that is being answered. So a connection that waits for a request is given up
after a while, also where bytes drip in; what comes beside bodies (headers, trailers, the sizes of
chunks) is counted, and connections are. Whoever goes beyond that is cut off without an answer.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from nodeagent.policy.ports import Unjudged

MOST_HEADER_BYTES: Final = 64 * 1024
MOST_CONNECTIONS: Final = 1000
MOST_WAITING: Final = 32
"""So many requests may wait behind the one that is being answered (HTTP pipelining)."""
PATIENCE_S: Final = 25.0
"""How long the headers of a request may take, and a client to read its answers."""


class Notes(Protocol):
    """The application, as far as the protocol needs it."""

    def note(self, why: Unjudged) -> None:
        """Have written down that something was not read."""


class HookProtocol(HttpToolsProtocol):
    """One connection."""

    _beside_bodies = 0
    _no_head: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, or end at once where there are too many."""
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            cast("Notes", self.app).note(Unjudged.CLOSED)
            transport.abort()
        else:
            self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Watch no more."""
        super().connection_lost(exc)
        for timer in (self._no_head, self._unread):
            if timer is not None:
                timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Take what came, as long as it is not more than anybody needs."""
        self._beside_bodies += len(data)
        super().data_received(data)
        if self._beside_bodies > MOST_HEADER_BYTES or len(self.pipeline) > MOST_WAITING:
            self.transport.abort()
        elif self._no_head is None or not self._is_waiting():
            self._watch()

    def on_body(self, body: bytes) -> None:
        """Take a part of a body, which pays for as much beside it: no trailer is saved up for."""
        self._beside_bodies = max(0, self._beside_bodies - 2 * len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Begin to count anew, unless that was too much already, all in one piece."""
        if self._beside_bodies > MOST_HEADER_BYTES:
            self.transport.abort()
        self._beside_bodies = 0
        super().on_message_complete()

    def pause_writing(self) -> None:
        """Wait for a client who does not read his answers, but not for ever."""
        super().pause_writing()
        self._unread = self.loop.call_later(PATIENCE_S, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on."""
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _is_waiting(self) -> bool:
        """Tell whether a request is due: none is being answered, and no rest is granted."""
        is_answered = self.cycle is None or self.cycle.response_complete
        return is_answered and self.timeout_keep_alive_task is None

    def _watch(self) -> None:
        """Give a client who has to send a request a limited time for it."""
        if self._no_head is not None:
            self._no_head.cancel()
        is_waiting = self._is_waiting()
        self._no_head = self.loop.call_later(PATIENCE_S, self._give_up) if is_waiting else None

    def _give_up(self) -> None:
        self._no_head = None
        if self._is_waiting():
            self.transport.abort()
