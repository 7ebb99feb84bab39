"""Live parts: one reader however many viewers, only changes, an end with session and server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from controlplane.errors import Unavailable
from controlplane.gui.live import Broadcaster, Frame, Topic, _read

FAST_S = 0.001


class Source:
    """A value that is read, and how often it was."""

    def __init__(self, *values: Any) -> None:
        self.values = list(values)
        self.reads = 0

    def read(self) -> Any:
        """Return the next value, the last one for ever; raise it when it is an error."""
        value = self.values[min(self.reads, len(self.values) - 1)]
        self.reads += 1
        if isinstance(value, Exception):
            raise value
        return value


async def _follow(broadcaster: Broadcaster[Any], until: Callable[[Any], bool]) -> list[Any]:
    broadcaster.join()
    seen, values = 0, []
    try:
        while (change := await broadcaster.after(seen)) is not None:
            seen = change.number
            values.append(change.value)
            if until(change.value):
                break
    finally:
        broadcaster.leave()
    return values


def test_many_viewers_share_one_reader() -> None:
    """Fifty who look cost the reads of one."""
    source = Source(*range(20))

    async def watch() -> list[list[Any]]:
        broadcaster = Broadcaster(source.read, FAST_S)
        viewers = (_follow(broadcaster, lambda value: value == 19) for _ in range(50))
        return await asyncio.gather(*viewers)

    found = asyncio.run(watch())
    assert [values[-1] for values in found] == [19] * 50
    assert source.reads <= 25


def test_only_changes_are_published() -> None:
    """A value that was read again and is the same is no news."""
    source = Source("a", "a", "a", "b", "b", "c")
    found = asyncio.run(_follow(Broadcaster(source.read, FAST_S), lambda value: value == "c"))
    assert found == ["a", "b", "c"]


def test_a_reader_that_is_woken_reads_at_once() -> None:
    """From any thread; what it waits for otherwise would never come within this test."""
    source = Source("before", "after")

    async def watch() -> list[Any]:
        broadcaster = Broadcaster(source.read, 3600)
        viewer = asyncio.create_task(_follow(broadcaster, lambda value: value == "after"))
        await broadcaster.after(0)
        await asyncio.to_thread(broadcaster.wake)
        return await asyncio.wait_for(viewer, 30)

    assert asyncio.run(watch()) == ["before", "after"]


def test_waking_nobody_reads_nothing() -> None:
    """A report costs nothing while nobody looks, before the first viewer and after the last."""
    source = Source(1)

    async def watch() -> int:
        broadcaster = Broadcaster(source.read, FAST_S)
        broadcaster.wake()
        await _follow(broadcaster, lambda _: True)
        reads = source.reads
        broadcaster.wake()
        await asyncio.sleep(0.05)
        return source.reads - reads

    assert asyncio.run(watch()) == 0
    assert source.reads == 1


def test_nobody_looks_and_nothing_is_read() -> None:
    """The reader ends with its last viewer, and the next one gets a fresh value."""
    source = Source(1, 2, 3)

    async def watch() -> tuple[list[Any], int, int, list[Any]]:
        broadcaster = Broadcaster(source.read, 0.01)
        first = await _follow(broadcaster, lambda _: True)
        reads = source.reads
        await asyncio.sleep(0.05)
        return first, reads, source.reads, await _follow(broadcaster, lambda _: True)

    first, before, after, second = asyncio.run(watch())
    assert (first, second) == ([1], [2])
    assert before == after == 1


def test_a_reader_that_fails_ends_its_viewers_and_not_the_next() -> None:
    """A stream that can say nothing any more is no stream; the browser connects again."""
    source = Source(ValueError("broken"), "fine")

    async def watch() -> list[Any]:
        broadcaster = Broadcaster(source.read, FAST_S)
        with pytest.raises(ValueError, match="broken"):
            await _follow(broadcaster, lambda _: True)
        return await _follow(broadcaster, lambda _: True)

    assert asyncio.run(watch()) == ["fine"]


def test_closing_ends_all_viewers() -> None:
    """A server that stops waits for nobody."""

    async def watch() -> list[list[Any]]:
        broadcaster = Broadcaster(Source("a").read, FAST_S)
        seen: list[Any] = []
        is_seen_by_all = asyncio.Event()

        def go_on(value: Any) -> bool:
            seen.append(value)
            if len(seen) == 3:
                is_seen_by_all.set()
            return False

        viewers = [asyncio.create_task(_follow(broadcaster, go_on)) for _ in range(3)]
        await asyncio.wait_for(is_seen_by_all.wait(), 60)
        broadcaster.close()
        return await asyncio.wait_for(asyncio.gather(*viewers), 60)

    assert asyncio.run(watch()) == [["a"]] * 3


def test_a_database_that_is_away_is_a_state() -> None:
    """The block is shown without a state, and says so."""
    topic = Topic("t", lambda _: Source(Unavailable()).read(), "x.html", "x")
    assert _read(topic, None) == Frame(None)  # type: ignore[arg-type]  # it is not looked at
