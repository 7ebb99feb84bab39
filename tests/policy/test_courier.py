"""The courier between a hook and a control plane, over real sockets and files, in any trouble."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from nodeagent.core.stream_wire import StreamAnswer
from nodeagent.errors import BrokenState, Refused, Unreachable
from nodeagent.policy.control import ControlServer
from nodeagent.policy.courier import MOST_TURNS, Courier, HookConnection, RefusedPolicy, serve
from nodeagent.policy.document import ListEntry, Manifest, PolicySettings, RateWindow, SectionKind
from nodeagent.policy.engine.sections import pack_section
from nodeagent.policy.log_wire import LogBatch, LogEntry, LogKind
from nodeagent.policy.log_writer import LogSpool
from nodeagent.policy.stored_policy import StoredPolicy
from nodeagent.policy.sync_wire import PolicyAnswer, PolicySync, RateCount, SourcedCount

SOURCE = "ab" * 16
KEY = "cd" * 16
MIB = 1024 * 1024
PACKED = pack_section(SectionKind.LIST, 0, [ListEntry(id=1, value="192.0.2.1")])


def manifest(revision: int) -> Manifest:
    """Give a policy of one section."""
    return Manifest(
        revision=revision, settings=PolicySettings(is_active=True), sections=(PACKED.section,)
    )


class Hook:
    """What a hook does of what the courier asks."""

    def __init__(self, stored: StoredPolicy) -> None:
        self.stored = stored
        self.revision: int | None = None
        self.problem = ""
        self.source = SOURCE
        self.loads = 0
        self.heard: list[PolicyAnswer] = []
        self.counts = (RateCount(window=RateWindow.HOUR, bucket=7, key=KEY, count=3),)

    def report(self) -> PolicySync:
        """Tell what is in force."""
        return PolicySync(source=self.source, revision=self.revision, counts=self.counts, seen=5)

    def told(self, answer: PolicyAnswer) -> None:
        """Note what came."""
        self.heard.append(answer)

    async def load(self) -> str:
        """Take what is on the disk."""
        self.loads += 1
        found = self.stored.newest()
        assert found is not None
        assert not self.stored.lacking(found)
        if not self.problem:
            self.revision = found.revision
        return self.problem


class Plane:
    """A control plane that may be away, and what it was told."""

    def __init__(self) -> None:
        self.policy = manifest(4)
        self.is_away = False
        self.synced: list[PolicySync] = []
        self.manifests = 0
        self.fetched: list[str] = []
        self.batches: list[LogBatch] = []
        self.acknowledges = 0  # beyond what it was sent

    def _answer(self) -> None:
        if self.is_away:
            raise Unreachable("The control plane does not answer.")

    def sync(self, sync: PolicySync) -> PolicyAnswer:
        """Answer with what another node counted."""
        self._answer()
        self.synced.append(sync)
        count = SourcedCount(source="ef" * 16, window=RateWindow.HOUR, bucket=7, key=KEY, count=9)
        return PolicyAnswer(revision=self.policy.revision, counts=(count,), seen=6)

    def manifest(self) -> Manifest:
        """Give the policy."""
        self._answer()
        self.manifests += 1
        return self.policy

    def section(self, sha256: str) -> bytes:
        """Give a section."""
        self._answer()
        self.fetched.append(sha256)
        return PACKED.body

    def log(self, batch: LogBatch) -> StreamAnswer:
        """Take lines."""
        self._answer()
        self.batches.append(batch)
        return StreamAnswer(acknowledged=batch.entries[-1].number + self.acknowledges)


class World:
    """One hook behind its socket, one plane, and a courier between them."""

    def __init__(self, directory: Path, socket: Path) -> None:
        self.stored = StoredPolicy(directory)
        self.hook = Hook(self.stored)
        self.plane = Plane()
        self.spool: LogSpool | None = LogSpool(directory / "log.db", MIB)
        self.courier = Courier(
            self.plane, lambda: HookConnection(socket, 5.0), self.stored, lambda: self.spool
        )


@contextmanager
def listening(hook: Hook, socket: Path) -> Iterator[None]:
    """Run the hook's socket in a thread of its own."""
    loop = asyncio.new_event_loop()
    server = ControlServer(hook, socket)
    loop.run_until_complete(server.start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Give everything up and running."""
    directory = tmp_path / "policy"
    directory.mkdir()
    one = World(directory, tmp_path / "courier.sock")
    with listening(one.hook, tmp_path / "courier.sock"):
        yield one


def line(at: float) -> LogEntry:
    """Give one line of the log."""
    return LogEntry(at=at, kind=LogKind.MESSAGE)


def test_a_new_policy_comes_whole_and_is_loaded(world: World) -> None:
    """Its sections are on the disk before its manifest, and the hook loads it at once."""
    world.courier.turn()
    assert world.hook.revision == 4
    assert world.stored.manifest() == world.plane.policy
    assert world.stored.section(PACKED.section.sha256) == PACKED.body


def test_what_is_there_is_not_fetched_again(world: World) -> None:
    """An edit elsewhere costs a manifest and the sections that changed."""
    world.courier.turn()
    world.plane.policy = manifest(5)
    world.courier.turn()
    assert world.plane.fetched == [PACKED.section.sha256]
    assert world.hook.revision == 5


def test_a_policy_in_force_is_left_alone(world: World) -> None:
    """A second turn with nothing new loads nothing."""
    world.courier.turn()
    world.courier.turn()
    assert world.hook.loads == 1


def test_a_control_plane_that_was_restored_has_its_older_policy_obeyed(world: World) -> None:
    """The number says which policy is meant, not which is better."""
    world.courier.turn()
    world.plane.policy = manifest(2)
    world.courier.turn()
    assert world.hook.revision == 2


def test_sections_that_no_policy_names_any_more_are_removed(world: World) -> None:
    """The disk holds one policy."""
    world.courier.turn()
    world.plane.policy = Manifest(revision=5)
    world.courier.turn()
    assert world.stored.section(PACKED.section.sha256) is None


def test_counts_go_both_ways(world: World) -> None:
    """What this hook counted goes up; what others counted comes back, with its place."""
    world.courier.turn()
    assert world.plane.synced[0].counts == world.hook.counts
    assert world.plane.synced[0].seen == 5
    assert (world.hook.heard[0].counts[0].count, world.hook.heard[0].seen) == (9, 6)


def test_the_log_is_brought_once_and_forgotten(world: World) -> None:
    """What was acknowledged leaves the disk."""
    assert world.spool is not None
    world.spool.keep([line(at) for at in range(1, 8)], {})
    world.courier.turn()
    assert [one.entry.at for one in world.plane.batches[0].entries] == [1, 2, 3, 4, 5, 6, 7]
    assert world.spool.read() is None


def test_a_log_longer_than_a_batch_is_brought_in_one_turn(world: World) -> None:
    """After an hour without a control plane nobody waits for another hour."""
    assert world.spool is not None
    world.spool.keep([line(at) for at in range(1201)], {})
    assert world.courier.turn() is False
    assert sum(len(batch.entries) for batch in world.plane.batches) == 1201


def test_lines_written_while_the_control_plane_is_away_come_later(world: World) -> None:
    """Each once, in their order."""
    assert world.spool is not None
    world.plane.is_away = True
    world.spool.keep([line(1)], {})
    with pytest.raises(Unreachable):
        world.courier.turn()
    world.spool.keep([line(2)], {})
    world.plane.is_away = False
    world.courier.turn()
    assert [one.entry.at for one in world.plane.batches[0].entries] == [1, 2]


def test_more_acknowledged_than_was_sent_is_not_believed(world: World) -> None:
    """Nothing is forgotten on the word of a confused control plane."""
    assert world.spool is not None
    world.spool.keep([line(1)], {})
    world.plane.acknowledges = 1
    with pytest.raises(Unreachable, match="not sent"):
        world.courier.turn()
    assert world.spool.read() is not None


def test_without_a_log_yet_the_rest_is_carried(world: World) -> None:
    """The hook makes the file when it starts; until then there is nothing to bring."""
    world.spool = None
    assert world.courier.turn() is False
    assert world.hook.revision == 4


def test_a_policy_that_the_hook_does_not_load_is_told_in_its_words(world: World) -> None:
    """The sentence reaches the log of the agent, and the next report the control plane."""
    world.hook.problem = "Section list/0 is torn."
    with pytest.raises(Refused, match=r"^Section list/0 is torn\.$"):
        world.courier.turn()
    assert world.hook.revision is None


def test_a_policy_that_is_not_loaded_leaves_the_one_in_force_on_the_disk(world: World) -> None:
    """With its sections, which the new one does not name, until another one is loaded."""
    world.courier.turn()
    before = world.plane.policy
    world.plane.policy = Manifest(revision=5)
    world.hook.problem = "Something is wrong with it."
    with pytest.raises(Refused):
        world.courier.turn()
    for _ in range(2):
        assert world.stored.manifest() == before
        assert world.stored.section(PACKED.section.sha256) == PACKED.body
        assert world.stored.newest() == world.plane.policy
        world.courier.turn()  # it is not tried in each turn
        with suppress(Refused):
            world.courier.turn()
    world.hook.problem = ""
    for _ in range(4):
        world.courier.turn()
    assert world.stored.manifest() == world.stored.newest() == world.plane.policy
    assert world.stored.section(PACKED.section.sha256) is None


def test_nothing_on_offer_is_nothing_to_take(world: World) -> None:
    """Also before the first policy; an offer that cannot be read is not put in force."""
    world.stored.take_offer()
    assert world.stored.manifest() is None
    world.courier.turn()
    world.stored.take_offer()
    assert world.stored.manifest() == world.plane.policy
    (world.stored._directory / "offer.json").write_text("{")
    with pytest.raises(BrokenState):
        world.stored.take_offer()
    assert world.stored.manifest() == world.plane.policy


def test_a_section_that_the_disk_lost_is_fetched_again(world: World) -> None:
    """A torn file does not keep a policy out for ever."""
    world.courier.turn()
    torn = world.stored._file(PACKED.section.sha256)
    torn.write_bytes(PACKED.body[:-3])
    world.plane.policy = manifest(5)
    world.hook.problem = "Section list/0 is torn."
    with pytest.raises(Refused):
        world.courier.turn()
    world.hook.problem = ""
    world.courier.turn()
    assert world.hook.revision == 5
    assert torn.read_bytes() == PACKED.body


def turns(world: World, count: int) -> list[int]:
    """Take turns with a hook that loads nothing; return those in which it was asked to."""
    asked = []
    for turn in range(count):
        before = world.hook.loads
        with suppress(Refused):
            world.courier.turn()
        if world.hook.loads > before:
            asked.append(turn)
    return asked


def test_a_policy_that_was_refused_is_tried_ever_more_rarely(world: World) -> None:
    """To compile it again costs seconds, and to fetch its manifest megabytes: it is the same."""
    world.hook.problem = "No rule of it can be compiled."
    assert turns(world, 40) == [0, 2, 5, 10, 19, 36]
    assert (world.plane.manifests, len(world.plane.fetched)) == (1, 1)
    assert len(world.plane.synced) == 40, "counts and problem are told all the same"


def test_it_is_never_given_up() -> None:
    """At the latest after this many turns it is tried again."""
    refused = RefusedPolicy()
    for _ in range(12):
        refused.note(4, SOURCE)
    waits = [refused.is_due(4, SOURCE) for _ in range(MOST_TURNS + 1)]
    assert waits == [False] * MOST_TURNS + [True]


@pytest.mark.parametrize("change", ["revision", "hook"])
def test_what_is_new_is_tried_at_once(world: World, change: str) -> None:
    """Another revision may be right, and another hook may read this one."""
    world.hook.problem = "No rule of it can be compiled."
    turns(world, 12)
    before = world.plane.manifests
    if change == "revision":
        world.plane.policy = manifest(5)
    else:
        world.hook.source = "34" * 16
    world.hook.problem = ""
    world.courier.turn()
    assert world.hook.revision == world.plane.policy.revision
    assert world.plane.manifests - before == (change == "revision")


def test_a_section_that_was_replaced_meanwhile_makes_the_manifest_old(world: World) -> None:
    """It is fetched anew, with the one that took its place."""
    section = world.plane.section

    def replaced(sha256: str) -> bytes:
        del sha256
        raise Refused("There is no such section any more; fetch the manifest anew.")

    world.plane.section = replaced  # type: ignore[method-assign]
    with pytest.raises(Refused):
        world.courier.turn()
    world.plane.section = section  # type: ignore[method-assign]
    world.courier.turn()
    assert (world.plane.manifests, world.hook.revision) == (2, 4)


def test_a_manifest_that_the_disk_lost_is_written_again(world: World) -> None:
    """As if there were none."""
    world.courier.turn()
    (torn := world.stored._directory / "manifest.json").write_text("{")
    world.hook.revision = None
    world.courier.turn()
    assert torn.read_text() == world.plane.policy.model_dump_json()


def test_a_control_plane_that_goes_away_half_way_changes_nothing(world: World) -> None:
    """The manifest is written last, so the hook never sees a policy without its sections."""
    gone = world.plane.section

    def lose(sha256: str) -> bytes:
        world.plane.is_away = True
        return gone(sha256)

    world.plane.section = lose  # type: ignore[method-assign]
    with pytest.raises(Unreachable):
        world.courier.turn()
    assert world.stored.manifest() is None
    assert world.hook.loads == 0


def test_a_hook_that_was_started_again_is_found_again(tmp_path: Path) -> None:
    """A broken connection is made anew by the next turn."""
    directory, socket = tmp_path / "policy", tmp_path / "courier.sock"
    directory.mkdir()
    world = World(directory, socket)
    with listening(world.hook, socket):
        world.courier.turn()
    with pytest.raises(Unreachable):
        world.courier.turn()
    with listening(world.hook, socket):
        world.courier.turn()
    assert len(world.hook.heard) == 2


def test_the_log_of_a_hook_that_is_gone_is_brought(tmp_path: Path) -> None:
    """What it wrote down last may say why; that it is gone is told all the same."""
    world = World(tmp_path, tmp_path / "nobody.sock")
    assert world.spool is not None
    world.spool.keep([LogEntry(at=one, kind=LogKind.MESSAGE) for one in range(600)], {})
    with pytest.raises(Unreachable, match="policy hook does not answer"):
        world.courier.turn()
    brought = [line.entry.at for batch in world.plane.batches for line in batch.entries]
    assert brought == list(range(600))
    assert world.spool.read() is None
    assert world.plane.synced == []


def test_a_policy_that_the_hook_refuses_keeps_no_line_back(world: World) -> None:
    """Each has its own way."""
    assert world.spool is not None
    world.hook.problem = "No rule of it can be compiled."
    world.spool.keep([LogEntry(at=1, kind=LogKind.MESSAGE)], {})
    with pytest.raises(Refused):
        world.courier.turn()
    assert [len(batch.entries) for batch in world.plane.batches] == [1]


def test_it_ends_when_told_to_or_when_nobody_wants_it(world: World) -> None:
    """And it does not stop at an error."""
    stopping = threading.Event()
    wanted = iter([True, True, False])
    world.plane.is_away = True
    serve(world.courier, _at_once(stopping), lambda: next(wanted))
    stopping.set()
    serve(world.courier, stopping, lambda: True)
    assert world.plane.synced == []


def _at_once(event: threading.Event) -> threading.Event:
    """Give the event, which waits for nothing."""
    event.wait = lambda _timeout=None: False  # type: ignore[assignment, method-assign]
    return event


@pytest.mark.parametrize(
    "sent",
    [
        b"{}\n",
        b"[]\n",
        b"nonsense\n",
        b'{"op": "fly"}\n',
        b'{"op": "told"}\n',
        b'{"op": "told", "answer": {"revision": -1}}\n',
        b"[" * 100_000 + b"\n",
    ],
)
def test_odd_requests_get_a_sentence_and_change_nothing(
    world: World, tmp_path: Path, sent: bytes
) -> None:
    """And the connection goes on."""
    connection = HookConnection(tmp_path / "courier.sock", 5.0)
    connection._socket.sendall(sent)
    refusal = json.loads(connection._reader.readline())
    assert (refusal["ok"], refusal["reason"][-1]) == (False, ".")
    answer = connection.call("report")
    connection.close()
    assert answer["sync"]["source"] == SOURCE
    assert world.hook.heard == []
    assert world.hook.loads == 0


def test_only_its_user_may_ask_the_hook(world: World, tmp_path: Path) -> None:
    """The socket is nobody else's."""
    del world
    assert (tmp_path / "courier.sock").stat().st_mode & 0o777 == 0o600
