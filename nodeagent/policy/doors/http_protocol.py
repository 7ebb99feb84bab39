"""The HTTP door's HTTP/1.1, with an end to what a stranger may cost before he shows a credential.

Theory of operation. Uvicorn limits neither the time in which headers come, nor what waits behind a
request that is being answered. So a connection that waits for a request is given up after a while,
also where bytes drip in, and connections are counted, as `LimitedHttp` counts what comes beside
bodies. Whoever goes beyond that is cut off without an answer.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol, cast

from nodeagent.http_heads import LimitedHttp
from nodeagent.policy.ports import Unjudged

MOST_CONNECTIONS: Final = 1000
MOST_WAITING: Final = 32
"""So many requests may wait behind the one that is being answered (HTTP pipelining)."""
PATIENCE_S: Final = 25.0
"""How long the headers of a request may take, and a client to read its answers."""


class Notes(Protocol):
    """The application, as far as the protocol needs it."""

    def note(self, why: Unjudged) -> None:
        """Have written down that something was not read."""


class HookProtocol(LimitedHttp):
    """One connection."""

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
        """Take what came, as long as no crowd of requests waits."""
        super().data_received(data)
        if len(self.pipeline) > MOST_WAITING:
            self.transport.abort()
        elif self._no_head is None or not self._is_waiting():
            self._watch()

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
