"""The hook's doors when one cannot be opened, and what a policy that is loaded once more costs."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeagent.policy.codecs import milter_packets as wire
from nodeagent.policy.desk import Desk
from nodeagent.policy.doors.authentication import Authenticator
from nodeagent.policy.hook import Doors, Hook
from nodeagent.policy.log_writer import LogWriter, open_spool
from nodeagent.policy.stored_policy import StoredPolicy
from tests.fakes.hook_process import HookProcess, running_hook
from tests.fakes.milter_client import MilterClient
from tests.fakes.milter_dialogue import CLIENT, POSTFIX_OFFERS
from tests.fakes.milter_postfix import wait_for
from tests.policy.policies import blocked, manifest_of

MIB = 1024 * 1024
SOCKETS = ("milter.sock", "lists.sock")


@pytest.fixture
def run() -> Iterator[Path]:
    """Give a directory whose name is short enough for a socket's."""
    with tempfile.TemporaryDirectory(prefix="relay") as name:
        yield Path(name)


@pytest.fixture
def process(tmp_path: Path, run: Path) -> Iterator[HookProcess]:
    """Give a hook that has no policy yet."""
    with running_hook(tmp_path, run) as running:
        yield running


def problem(process: HookProcess) -> str:
    """Return what the hook reports."""
    return str(process.ask("report")["sync"]["problem"])


def is_refused(process: HookProcess, sender: str) -> bool:
    """Ask at MAIL as Postfix does."""
    with MilterClient(process.milter) as client:
        client.ask(POSTFIX_OFFERS)
        client.ask(CLIENT)
        client.send(wire.Helo("client.example"))
        return isinstance(client.ask(wire.Mail((f"<{sender}>",))), wire.ReplyCode)


@pytest.mark.parametrize("name", SOCKETS)
def test_a_socket_that_cannot_be_made_is_told_and_made_later(
    process: HookProcess, run: Path, name: str
) -> None:
    """The policy is in force and the other door open; nobody has to load it again."""
    (run / name).write_text("no socket")
    (other,) = set(SOCKETS) - {name}
    assert process.put(blocked("*@bad.example")) == ""
    assert problem(process) == f"{run / name} is there and is no socket."
    assert process.ask("report")["sync"]["revision"] == 1
    assert (run / other).is_socket()
    assert (run / name).read_text() == "no socket", "what is not ours stays"
    (run / name).unlink()
    wait_for(lambda: not problem(process))
    assert (run / name).is_socket()
    assert is_refused(process, "eve@bad.example")
    assert not is_refused(process, "eve@good.example")


def test_another_policy_opens_what_is_closed_at_once(process: HookProcess, run: Path) -> None:
    """And a door that is open stays the same one."""
    (run / "milter.sock").write_text("no socket")
    process.put()
    lists = (run / "lists.sock").stat().st_ino
    (run / "milter.sock").unlink()
    assert process.put(blocked("*@bad.example"), revision=2) == ""
    assert problem(process) == ""
    assert is_refused(process, "eve@bad.example")
    assert (run / "lists.sock").stat().st_ino == lists


def test_a_hook_whose_door_is_blocked_at_its_start_stays(process: HookProcess, run: Path) -> None:
    """It says so, where its end would be said by nobody."""
    process.put(blocked("*@bad.example"))
    process.end()
    (run / "milter.sock").write_text("no socket")
    process.start()
    assert problem(process).endswith("milter.sock is there and is no socket.")
    (run / "milter.sock").unlink()
    wait_for(lambda: not problem(process))
    assert is_refused(process, "eve@bad.example")


class NoDoors(Doors):
    """Doors that break so many times, as no door should, before they follow a policy."""

    breaks = 0
    followed = 0

    async def follow(self) -> None:
        """Break, or note that it was asked."""
        if self.breaks:
            self.breaks -= 1
            raise OSError("out of file descriptors")
        self.followed += 1


class World:
    """A hook in this process, and what the courier puts on its disk."""

    def __init__(self, directory: Path) -> None:
        (directory / "policy").mkdir()
        self.stored = StoredPolicy(directory / "policy")
        self.desk = Desk(LogWriter(open_spool(directory / "log.db", MIB)), Authenticator())
        self.doors = NoDoors(self.desk, directory)
        self.hook = Hook(self.stored, self.desk, self.doors)

    def offer(self, revision: int) -> None:
        """Put a policy on the disk."""
        manifest, bodies = manifest_of([blocked("*@bad.example")], revision)
        for name, body in bodies.items():
            self.stored.keep_section(name, body)
        self.stored.offer(manifest)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Give a hook with a policy on its disk."""
    found = World(tmp_path)
    found.offer(1)
    return found


def test_a_policy_that_is_in_force_is_not_compiled_again(world: World) -> None:
    """A courier that was started anew asks once more: a million entries take seconds."""
    assert asyncio.run(world.hook.load()) == ""
    policy = world.desk.policy
    assert policy is not None
    assert asyncio.run(world.hook.load()) == ""
    assert world.desk.policy is policy
    assert world.doors.followed == 1
    world.offer(2)
    assert asyncio.run(world.hook.load()) == ""
    assert (world.desk.policy.revision, world.doors.followed) == (2, 2)


def test_a_policy_that_the_doors_did_not_follow_is_loaded_again(world: World) -> None:
    """It is no success yet, whatever kept them."""
    world.doors.breaks = 1
    with pytest.raises(OSError, match="descriptors"):
        asyncio.run(world.hook.load())
    assert asyncio.run(world.hook.load()) == ""
    assert world.doors.followed == 1


def test_the_policy_before_is_loaded_again_after_another(world: World) -> None:
    """What counts is the policy in force, not whether it was one once."""
    for revision in (1, 2, 1):
        world.offer(revision)
        asyncio.run(world.hook.load())
        assert world.desk.policy is not None
        assert world.desk.policy.revision == revision
