"""Group commit: who shares a group, and that one's trouble or leaving is not the others'."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from controlplane.store.group_commit import GroupCommit

LIMIT_S = 30.0


class Work:
    """Answers each item with its double; each group waits until it may go on."""

    def __init__(self, *, is_free: bool = False) -> None:
        self.groups: list[list[int]] = []
        self.began = threading.Event()
        self.may_go_on = threading.Event()
        if is_free:
            self.may_go_on.set()

    def __call__(self, items: Sequence[int]) -> list[int]:
        """Do the work; -1 is refused."""
        self.groups.append(list(items))
        self.began.set()
        assert self.may_go_on.wait(LIMIT_S)
        if -1 in items:
            raise ValueError("-1")
        return [2 * item for item in items]


async def queue_behind_first(
    group: GroupCommit[int, int], work: Work, items: Sequence[int]
) -> list[asyncio.Task[int]]:
    """Join 1, and the items when the work on 1 is under way; nothing is done with them yet."""
    first = asyncio.create_task(group.join(1))
    await asyncio.to_thread(work.began.wait, LIMIT_S)
    waiting = [asyncio.create_task(group.join(item)) for item in items]
    await asyncio.sleep(0)
    return [first, *waiting]


def test_what_comes_meanwhile_shares_the_next_group() -> None:
    """Each gets the outcome of its own item."""
    work = Work()

    async def play() -> list[int]:
        tasks = await queue_behind_first(GroupCommit(work), work, [2, 3, 4])
        work.may_go_on.set()
        return list(await asyncio.gather(*tasks))

    assert asyncio.run(play()) == [2, 4, 6, 8]
    assert work.groups == [[1], [2, 3, 4]]


def test_a_group_is_not_larger_than_the_limit() -> None:
    """The rest comes with the group after it, in order."""
    work = Work()

    async def play() -> list[int]:
        tasks = await queue_behind_first(GroupCommit(work, largest=2), work, [2, 3, 4])
        work.may_go_on.set()
        return list(await asyncio.gather(*tasks))

    assert asyncio.run(play()) == [2, 4, 6, 8]
    assert work.groups == [[1], [2, 3], [4]]


def test_what_the_work_raises_its_whole_group_raises_and_no_other() -> None:
    """Nobody waits for ever, and the next group is worked on."""
    work = Work()

    async def play() -> list[int | BaseException]:
        group = GroupCommit[int, int](work)
        tasks = await queue_behind_first(group, work, [2, -1])
        work.may_go_on.set()
        outcomes = list(await asyncio.gather(*tasks, return_exceptions=True))
        return [*outcomes, await group.join(5)]

    first, second, third, later = asyncio.run(play())
    assert (first, later) == (2, 10)
    assert isinstance(second, ValueError)
    assert isinstance(third, ValueError)


def test_who_stops_waiting_stops_nobody_elses_work() -> None:
    """Also when it was the one that opened the group."""
    work = Work()

    async def play() -> list[int]:
        first, leaving, staying = await queue_behind_first(GroupCommit(work), work, [2, 3])
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        work.may_go_on.set()
        return [await first, await staying]

    assert asyncio.run(play()) == [2, 6]
    assert work.groups == [[1], [2, 3]]


def test_several_event_loops_can_share_one() -> None:
    """No loop is remembered from one call to the next."""
    group = GroupCommit[int, int](Work(is_free=True))
    assert [asyncio.run(group.join(item)) for item in (1, 2)] == [2, 4]
