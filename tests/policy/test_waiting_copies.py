"""Copies for subscribers that wait in the queue while the policy changes under them.

Their mail was answered 250, so each is sent, put off, or discarded by a line in the log.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nodeagent.errors import BrokenState
from nodeagent.policy.desk import Desk
from nodeagent.policy.document import Category, Privacy, Subscription
from nodeagent.policy.doors.authentication import Authenticator
from nodeagent.policy.doors.lists_server import ListsServer
from nodeagent.policy.hook import Doors
from nodeagent.policy.log_wire import LogEntry
from nodeagent.policy.log_writer import LogSpool, LogWriter
from nodeagent.policy.model import RuleKind, Stage, Verdict
from tests.fakes.policy_desk import KeeperTwin
from tests.policy.policies import SENDER, message_of, policy_of

MIB = 1024 * 1024
NEWS = Category(id=1, address="news@lists.example")
NEWS_OFF = NEWS.model_copy(update={"is_enabled": False})


def subscribed(number: int) -> Subscription:
    """Return a subscription."""
    return Subscription(
        id=number, category=1, address=f"s{number}@deliver.test", token=f"{number:016}"
    )


class World:
    """The doors of a hook with a real desk and log, whose Postfix is a twin."""

    def __init__(self, directory: Path) -> None:
        self.spool = LogSpool(directory / "log.db", MIB)
        self.writer = LogWriter(self.spool)
        self.desk = Desk(self.writer, Authenticator())
        self.keeper = KeeperTwin()
        self._directory = directory
        self.restart()

    def restart(self) -> None:
        """Make the doors anew, as another process has them."""
        self._doors = Doors(self.desk, self._directory)
        lists = self._directory / "twin.sock"
        self._lists = ListsServer(lists, self._doors, self.keeper, lambda: None)

    def use(self, *entries: Any, **settings: Any) -> None:
        """Put a policy in force, as the hook does."""
        self.desk.use(policy_of(*entries, **settings))
        asyncio.run(self._follow())

    async def _follow(self) -> None:
        await self._doors.follow()
        await self._doors.close()

    def deliver(self, number: int) -> str:
        """Return the answer to a copy for this subscription."""
        recipient = f"{number}.1@list.relay.invalid"
        return asyncio.run(self._lists.deliver(SENDER, recipient, message_of()))

    def lines(self) -> list[LogEntry]:
        """Give what is on the disk."""
        batch = self.spool.read()
        return [] if batch is None else [one.entry for one in batch.entries]


@pytest.fixture
def world() -> Iterator[World]:
    """Give one, in a directory whose name is short enough for a socket's."""
    with tempfile.TemporaryDirectory(prefix="relay") as name:
        yield World(Path(name))


@pytest.mark.parametrize("category", [NEWS, NEWS_OFF])
def test_who_is_subscribed_gets_what_was_accepted(world: World, category: Category) -> None:
    """Also when the category was switched off since: that refuses the next mail, not this one."""
    world.use(NEWS, subscribed(1))
    world.use(category, subscribed(1))
    assert world.deliver(1).startswith("250 2.0.0 ")
    assert [mail.envelope.recipients for mail in world.keeper.kept] == [("s1@deliver.test",)]
    assert world.lines() == []


def test_who_has_left_gets_none_and_the_log_says_so_first(world: World) -> None:
    """One line a copy, on the disk without anybody's flush."""
    world.use(NEWS, subscribed(1), subscribed(2), subscribed(3), privacy=Privacy.FULL)
    world.use(NEWS, subscribed(1), subscribed(3), revision=8, privacy=Privacy.FULL)
    assert world.deliver(2) == "250 2.1.5 The subscription has ended, dropped"
    (line,) = world.lines()
    assert (line.verdict, line.stage, line.revision) == (Verdict.DISCARD, Stage.DATA, 8)
    assert (line.sender, line.recipients) == (SENDER, ("2.1@list.relay.invalid",))
    (fired,) = line.fired
    assert (fired.kind, fired.rule) == (RuleKind.CATEGORY, "category:1")
    assert fired.verdict is Verdict.DISCARD
    assert world.keeper.kept == []


def test_nothing_personal_is_in_that_line(world: World) -> None:
    """As in all others, by default."""
    world.use(NEWS, subscribed(1), subscribed(2))
    world.use(NEWS, subscribed(2))
    world.deliver(1)
    (line,) = world.lines()
    told = line.model_dump_json()
    assert SENDER not in told
    assert "Hello" not in told


def test_a_deleted_category_leaves_a_line_for_each_copy(world: World) -> None:
    """Its subscriptions have ended with it."""
    world.use(NEWS, subscribed(1), subscribed(2))
    world.use()
    assert [world.deliver(number)[:3] for number in (1, 2)] == ["250", "250"]
    assert [line.verdict for line in world.lines()] == [Verdict.DISCARD] * 2


def test_whom_another_node_has_added_waits_for_the_policy(world: World) -> None:
    """Ids rise, so one above all that this node has seen is new, and none that has ended."""
    world.use(NEWS, subscribed(1), subscribed(2))
    assert world.deliver(3).startswith("451 4.3.0 ")
    assert world.lines() == []
    world.use(NEWS, subscribed(1), subscribed(2), subscribed(3))
    assert world.deliver(3).startswith("250 2.0.0 ")


def test_the_newest_who_left_is_not_taken_for_one_to_come(world: World) -> None:
    """The hook remembers the highest id; one that was started since has the copy wait."""
    world.use(NEWS, subscribed(1), subscribed(2))
    world.use(NEWS, subscribed(1))
    assert world.deliver(2).startswith("250 2.1.5 ")
    world.restart()
    world.use(NEWS, subscribed(1))
    assert world.deliver(2).startswith("451 4.3.0 ")
    world.use(NEWS, subscribed(1), subscribed(3))
    assert world.deliver(2).startswith("250 2.1.5 ")


def test_before_the_first_policy_every_copy_waits(world: World) -> None:
    """Nobody is known then, and nobody has left."""
    assert world.deliver(1).startswith("451 4.3.0 ")


def test_a_disk_that_takes_no_line_keeps_the_copy(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is discarded without a line, here as at the other doors."""
    world.use(NEWS, subscribed(1), subscribed(2))
    world.use(NEWS, subscribed(2))

    def full(*_arguments: object) -> None:
        raise BrokenState("log.db cannot be used: disk is full.")

    with monkeypatch.context() as patched:
        patched.setattr(world.spool, "keep", full)
        assert world.deliver(1).startswith("451 4.3.0 ")
    assert world.lines() == []
    assert world.deliver(1).startswith("250 2.1.5 ")
    assert len(world.lines()) == 1
