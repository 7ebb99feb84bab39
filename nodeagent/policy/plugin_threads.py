"""The threads in which plugins are asked, so that one that never returns takes nothing from others.

Theory of operation. A question takes one of a few turns and is judged in a thread. Whoever asked
waits no longer than the policy's `decision_timeout_s`, and then the turn is free again. The thread
is not: nobody can end one in which somebody else's code runs. So a plugin may have only so many
threads, more than there are turns: one that answers never needs as many. One that has all of them
fails at once, without being asked, until one of them comes back; the engine and the other plugins
are asked all the same. The threads end with the process, whatever runs in them.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from queue import SimpleQueue
from typing import Any, Final, TypeVar

import structlog

from nodeagent.errors import AgentError
from nodeagent.policy.engine.plugins import Plugin, Plugins

T = TypeVar("T")

TURNS: Final = 8
MOST_THREADS: Final = 16
LATE_S: Final = 60.0
"""The longest `decision_timeout_s`: nobody waits any more for a call that takes longer."""

log = structlog.get_logger()


class NotAsked(AgentError):
    """A plugin has all the threads that it may have, and is not asked."""


class PluginThreads:
    """Runs questions in threads; `run` belongs to one event loop, all else may be asked anywhere.

    `most`: how many threads a plugin may have; with more than `turns` only those that nobody waits
    for any more can make it fail.
    """

    def __init__(
        self,
        turns: int = TURNS,
        most: int = MOST_THREADS,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._turns = asyncio.Semaphore(turns)
        self._may_start = turns
        self._most = most
        self._clock_s = clock_s
        self._questions: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._lock = threading.Lock()
        self._asked: dict[str, list[float]] = {}  # since when, for each thread that a plugin has
        self._failing: set[str] = set()

    def bounded(self, plugins: Plugins) -> Plugins:
        """Return the plugins as they are asked: each has so many threads and no more."""
        names = {plugin.name for plugin in (*plugins.before, *plugins.after)}
        self._may_start += len(names) * self._most  # so a turn always has a thread
        before, after = map(self._bounded, plugins.before), map(self._bounded, plugins.after)
        return replace(plugins, before=tuple(before), after=tuple(after))

    async def run(self, work: Callable[[], T]) -> T:
        """Return what the work returns in a thread; who stops waiting gives his turn back."""
        async with self._turns:
            told: Future[T] = Future()
            if not self._idle.acquire(blocking=False) and self._may_start:
                self._may_start -= 1
                threading.Thread(target=self._serve, name="policy-plugins", daemon=True).start()
            self._questions.put((told, work))
            return await asyncio.wrap_future(told)

    @property
    def problem(self) -> str:
        """Return one sentence for each plugin that does not come back, or nothing."""
        late_s = self._clock_s() - LATE_S
        with self._lock:
            sentences = [self._sentence(name, since, late_s) for name, since in self._asked.items()]
        return " ".join(filter(None, sentences))

    def _sentence(self, name: str, since: list[float], late_s: float) -> str:
        if len(since) >= self._most:
            return (
                f"The plugin {name} does not return: it has all {self._most} threads that it may"
                " have, and fails for every mail until one comes back."
            )
        late = sum(one <= late_s for one in since)
        if not late:
            return ""
        return f"The plugin {name} has not returned from {late} of its calls for over a minute."

    def _bounded(self, plugin: Plugin) -> Plugin:
        def call(*told: Any) -> Any:
            with self._thread_of(plugin.name):
                return plugin.call(*told)

        return replace(plugin, call=call)

    @contextmanager
    def _thread_of(self, name: str) -> Iterator[None]:
        """Let a plugin have this thread meanwhile; raises `NotAsked`."""
        began_s = self._clock_s()
        with self._lock:
            since = self._asked.setdefault(name, [])
            is_full, is_first = len(since) >= self._most, name not in self._failing
            if is_full:
                self._failing.add(name)
            else:
                since.append(began_s)
        if is_full:
            if is_first:
                log.error("a plugin does not return", plugin=name, threads=self._most)
            raise NotAsked(f"it does not return from {self._most} calls")
        try:
            yield
        finally:
            with self._lock:
                since.remove(began_s)
                is_back = name in self._failing
                self._failing.discard(name)
            if is_back:
                log.info("a plugin returned and is asked again", plugin=name)

    def _serve(self) -> None:
        """Answer questions; what is raised belongs to the one who asked."""
        while True:
            told, work = self._questions.get()
            tell = _outcome(told, work) if told.set_running_or_notify_cancel() else None
            self._idle.release()  # before it is told: who is told may ask again at once
            if tell is not None:
                tell()
            del told, work, tell  # the mail need not stay until the next question


def _outcome(told: Future[T], work: Callable[[], T]) -> Callable[[], None]:
    """Do the work and return what tells its result, or what it raised."""
    try:
        return partial(told.set_result, work())
    except BaseException as error:  # noqa: BLE001 (it is raised again where it is awaited)
        return partial(told.set_exception, error)
