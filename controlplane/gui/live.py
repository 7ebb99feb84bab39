"""Parts of pages that follow the state: one reader of the database a process, however many viewers.

Theory of operation. A `Topic` says what is read and which block of a template shows it. While
somebody looks, one task reads it every `interval_s`, and at once when a node reports to this
process; it wakes the viewers when the value has changed, and ends with the last of them. Each
language and time zone is rendered once a change. What depends on the viewer does not belong into a
live block: its buttons send the token of the page around it.

A stream ends when its session does, looked up every few seconds, and when the server stops. The
browser connects again by itself, and says meanwhile that what it shows may be old. A database that
does not answer is a state too: the block is rendered with `state` None and says so.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Generic, TypeVar

from fastapi import Depends, Request
from fastapi.sse import ServerSentEvent

from controlplane.errors import Unavailable
from controlplane.gui.language import Localizer
from controlplane.gui.shell import Shell
from controlplane.gui.templating import render_block
from controlplane.store.cluster import ClusterStore
from controlplane.store.crypto import get_secret_box
from controlplane.store.engine import get_database
from controlplane.store.user_sessions import find_user

State = TypeVar("State")
Value = TypeVar("Value")

INTERVAL_S: Final = 0.5
REST_S: Final = 0.05
REST_FACTOR: Final = 4  # reading takes at most a fifth of the time, however often it is woken
SESSION_CHECK_S: Final = 5.0
RETRY_MS: Final = 500


@dataclass(frozen=True)
class Topic(Generic[State]):
    """What a live block shows: `read` returns a frozen value that equals itself while unchanged."""

    name: str
    read: Callable[[ClusterStore], State]
    template: str
    block: str
    interval_s: float = INTERVAL_S


@dataclass(frozen=True)
class Change(Generic[Value]):
    """One value that was read, and how many differed before it."""

    number: int
    value: Value


class Broadcaster(Generic[Value]):
    """Shares the changes of one value among all who joined; for one event loop."""

    def __init__(self, read: Callable[[], Value], interval_s: float) -> None:
        self._read = read
        self._interval_s = interval_s
        self._viewers = 0
        self._latest: Change[Value] | None = None
        self._changed = asyncio.Event()
        self._due = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reader: asyncio.Task[None] | None = None
        self._is_closed = False

    def join(self) -> None:
        """Count one viewer more; the first one starts the reader."""
        self._viewers += 1
        if self._reader is None or self._reader.done():
            self._loop = asyncio.get_running_loop()
            self._reader = asyncio.create_task(self._read_on())

    def leave(self) -> None:
        """Count one viewer less; the last one ends the reader."""
        self._viewers -= 1
        if self._viewers == 0:
            self._stop()

    def wake(self) -> None:
        """Have the value read at once, if anybody looks; may be called from any thread."""
        loop, reader = self._loop, self._reader
        if reader is not None and loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._due.set)

    async def after(self, seen: int) -> Change[Value] | None:
        """Wait for a change newer than number `seen`; None once the broadcaster is closed.

        A viewer who is slow misses what was overtaken. What `read` raises, every viewer raises.
        """
        while not self._is_closed:
            if self._latest is not None and self._latest.number > seen:
                return self._latest
            if self._reader is not None and self._reader.done():
                self._reader.result()
            await self._changed.wait()
        return None

    def close(self) -> None:
        """End all viewers."""
        self._is_closed = True
        self._stop()

    def _stop(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
        self._reader, self._latest = None, None
        self._wake()

    def _wake(self) -> None:
        waiting, self._changed = self._changed, asyncio.Event()
        waiting.set()

    async def _read_on(self) -> None:
        number = 0
        try:
            while True:
                self._due.clear()
                began_s = time.monotonic()
                value = await asyncio.to_thread(self._read)
                if self._latest is None or value != self._latest.value:
                    number += 1
                    self._latest = Change(number, value)
                    self._wake()
                rest_s = max(REST_S, REST_FACTOR * (time.monotonic() - began_s))
                await asyncio.sleep(min(rest_s, self._interval_s))
                with suppress(TimeoutError):
                    async with asyncio.timeout(max(0.0, self._interval_s - rest_s)):
                        await self._due.wait()
        finally:
            self._wake()


@dataclass(frozen=True)
class Frame:
    """One state of a topic, and what was rendered of it, by language and time zone."""

    state: object
    rendered: dict[Localizer, str] = field(default_factory=dict, compare=False)


class Live:
    """The broadcasters of one application, one a topic."""

    def __init__(self) -> None:
        self._broadcasters: dict[str, Broadcaster[Frame]] = {}

    def close(self) -> None:
        """End all streams, so that the server can stop."""
        for broadcaster in self._broadcasters.values():
            broadcaster.close()

    def wake(self) -> None:
        """Have everything that is looked at read at once: a node has reported."""
        for broadcaster in tuple(self._broadcasters.values()):
            broadcaster.wake()

    async def stream(self, shell: Shell, topic: Topic[Any]) -> AsyncIterator[ServerSentEvent]:
        """Yield a topic's block whenever it has changed, while the viewer's session lasts."""
        broadcaster = self._broadcaster(shell.request, topic)
        broadcaster.join()
        seen, checked_s = 0, time.monotonic()
        try:
            while True:
                if time.monotonic() - checked_s >= SESSION_CHECK_S:
                    if not await asyncio.to_thread(_has_session, shell):
                        return
                    checked_s = time.monotonic()
                try:
                    async with asyncio.timeout(SESSION_CHECK_S):
                        change = await broadcaster.after(seen)
                except TimeoutError:
                    continue
                if change is None:
                    return
                seen = change.number
                text = _render(topic, change.value, shell)
                yield ServerSentEvent(raw_data=text, retry=RETRY_MS)
        finally:
            broadcaster.leave()

    def _broadcaster(self, request: Request, topic: Topic[Any]) -> Broadcaster[Frame]:
        found = self._broadcasters.get(topic.name)
        if found is None:
            store = ClusterStore(get_database(request), get_secret_box(request))
            found = Broadcaster(lambda: _read(topic, store), topic.interval_s)
            self._broadcasters[topic.name] = found
        return found


def _read(topic: Topic[Any], store: ClusterStore) -> Frame:
    try:
        return Frame(topic.read(store))
    except Unavailable:
        return Frame(None)


def _render(topic: Topic[Any], frame: Frame, shell: Shell) -> str:
    localizer = shell.localizer
    if localizer not in frame.rendered:
        values = {"state": frame.state, "localizer": localizer, "pages": shell.pages}
        frame.rendered[localizer] = render_block(topic.template, topic.block, values)
    return frame.rendered[localizer]


def _has_session(shell: Shell) -> bool:
    """Tell whether the viewer is still signed in; a database that is away ends nobody.

    Looking on is no use of a session: one that nobody else uses runs out.
    """
    database = get_database(shell.request)
    try:
        with database.read() as session:
            return find_user(session, shell.signed_in.token) is not None
    except Unavailable:
        return True


def get_live(request: Request) -> Live:
    """Give an endpoint the application's live topics."""
    live = request.app.state.live
    assert isinstance(live, Live)  # noqa: S101 - create_app puts it there
    return live


LiveDep = Annotated[Live, Depends(get_live)]
