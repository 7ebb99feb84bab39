"""Snapshots of a queue that moves: nothing is missed, nothing unfinished is taken."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from nodeagent.adapters.queue_watch import QueueWatch
from nodeagent.adapters.snapshot import Base, EventsLost, Snapshot, Snapshots
from nodeagent.core.queue_files import Facts, Key, Kind
from nodeagent.errors import Refused
from tests.fakes.postfix_queue import PostfixQueue, StillFreeze, message, queue_id
from tests.fakes.pushes import mail


class Kit:
    """A queue without Postfix, its watch and its snapshots, and what a mirror would know."""

    def __init__(self, root: Path) -> None:
        self.root = root / "snapshot"
        self.queue = PostfixQueue(root / "queue")
        self.watch = QueueWatch(self.queue.root)
        self.log = self.watch.open_log()
        self.snapshots = Snapshots(self.root, self.queue.root, self.watch)
        self.known: Mapping[Key, Facts] = {}

    def take(
        self,
        before: Callable[[], None] | None = None,
        *,
        is_full: bool = False,
        trust: bool = True,
    ) -> Snapshot:
        """Take one; `before` happens between the linking and the standstill."""
        base = Base(self.known, is_full=is_full, trust_events=trust)
        return self.snapshots.take(self.log, base, StillFreeze(before))

    def settle(self) -> None:
        """Make the mirror know everything that is in the queue now."""
        snapshot = self.take(is_full=True)
        assert snapshot.listed is not None
        self.known = snapshot.listed
        snapshot.discard()


@pytest.fixture
def kit(tmp_path) -> Iterator[Kit]:
    """Give a kit and close its watch."""
    kit = Kit(tmp_path)
    yield kit
    kit.watch.close()


def linked(snapshot: Snapshot) -> set[Key]:
    """Return what is in the snapshot's directory."""
    return {
        Key(Kind(kind.name), path.name)
        for kind in snapshot.path.iterdir()
        for path in kind.iterdir()
    }


class TestFull:
    """A comparison of everything."""

    def test_it_finds_every_place(self, kit):
        """All four homes of a message, hashed or not, and its logs."""
        names = kit.queue.accept(*range(4))
        kit.queue.move(names[1], "incoming", "active")
        kit.queue.defer(names[2])
        kit.queue.move(names[3], "incoming", "hold")
        snapshot = kit.take(is_full=True)
        expected = {mail(name) for name in names[:3]}
        expected |= {Key(Kind.HOLD, names[3]), Key(Kind.DEFER, names[2])}
        assert linked(snapshot) == set(snapshot.puts) == set(snapshot.listed) == expected

    def test_it_sends_only_what_differs(self, kit):
        """An equal copy stays where it is, but is listed."""
        one, two = kit.queue.accept(1, 2)
        kit.settle()
        kit.queue.mark_done("incoming", two)
        snapshot = kit.take(is_full=True)
        assert linked(snapshot) == {mail(two)}
        assert set(snapshot.listed) == {mail(one), mail(two)}

    def test_it_goes_by_times_where_events_are_not_known(self, kit):
        """A new agent process does not know what was written before it."""
        (name,) = kit.queue.accept(1)
        kit.settle()
        kit.take().discard()
        os.utime(kit.queue.place("incoming", name), (1, 1))
        assert linked(kit.take(is_full=True, trust=True)) == set()
        assert linked(kit.take(is_full=True, trust=False)) == {mail(name)}

    def test_it_says_what_the_mirror_has_too_many(self, kit):
        """Also what nobody saw go."""
        kit.known = {mail(queue_id(9)): Facts(1, 1)}
        assert kit.take(is_full=True).gone == {mail(queue_id(9))}


class TestChanges:
    """A push of what was touched."""

    @pytest.fixture(autouse=True)
    def settled(self, kit) -> None:
        """Begin with two messages that the mirror has."""
        kit.queue.accept(1, 2)
        kit.settle()

    def test_a_message_that_hops_is_not_sent(self, kit):
        """incoming, active, deferred: the same message; its new log is sent."""
        kit.queue.defer(queue_id(1))
        snapshot = kit.take()
        assert linked(snapshot) == {Key(Kind.DEFER, queue_id(1))}
        assert snapshot.gone == frozenset()
        assert snapshot.listed is None

    def test_a_delivered_message_is_gone(self, kit):
        """The mirror is told to remove it."""
        kit.queue.deliver(queue_id(1), "incoming")
        assert kit.take().gone == {mail(queue_id(1))}

    def test_a_message_that_came_and_went_is_not_mentioned(self, kit):
        """Most mail is delivered between two pushes."""
        kit.queue.accept(3)
        kit.queue.deliver(queue_id(3), "incoming")
        snapshot = kit.take()
        assert (linked(snapshot), snapshot.gone) == (set(), frozenset())

    def test_a_held_message_changes_its_kind(self, kit):
        """It is sent as held and gone as mail."""
        kit.queue.move(queue_id(1), "incoming", "hold")
        snapshot = kit.take()
        assert linked(snapshot) == {Key(Kind.HOLD, queue_id(1))}
        assert snapshot.gone == {mail(queue_id(1))}

    def test_a_done_mark_is_sent(self, kit):
        """A stale copy would be delivered again to who has it already."""
        kit.queue.mark_done("incoming", queue_id(1))
        assert linked(kit.take()) == {mail(queue_id(1))}

    def test_an_unfinished_message_is_left_out(self, kit):
        """Mode 0600: cleanup(8) is still writing; Postfix itself would throw it away."""
        path = kit.queue.write("incoming", queue_id(3), message(), mode=0o600)
        assert linked(kit.take()) == set()
        path.chmod(0o700)
        with path.open("ab"):
            pass
        assert linked(kit.take()) == {mail(queue_id(3))}

    def test_the_link_shares_the_file(self, kit):
        """What Postfix writes in place afterwards is seen through the snapshot."""
        kit.queue.accept(3)
        snapshot = kit.take()
        live = kit.queue.place("incoming", queue_id(3))
        assert (snapshot.path / "mail" / queue_id(3)).samefile(live)


class TestDuringTheLinking:
    """What happens between the first look and the standstill is put right in the freeze."""

    @pytest.fixture(autouse=True)
    def settled(self, kit) -> None:
        """Begin with one message that the mirror has and one that it lacks."""
        kit.queue.accept(1)
        kit.settle()
        kit.queue.accept(2)

    def test_a_message_that_comes_late_is_in(self, kit):
        """Accepted while others were linked."""
        snapshot = kit.take(lambda: kit.queue.accept(3) and None)
        assert linked(snapshot) == {mail(queue_id(2)), mail(queue_id(3))}

    def test_a_message_that_goes_late_is_out(self, kit):
        """Linked, then delivered: its link goes too."""
        snapshot = kit.take(lambda: kit.queue.deliver(queue_id(2), "incoming"))
        assert linked(snapshot) == set(snapshot.puts) == set()

    def test_a_known_message_that_goes_late_is_gone(self, kit):
        """Also one that nothing had touched before."""
        snapshot = kit.take(lambda: kit.queue.deliver(queue_id(1), "incoming"))
        assert snapshot.gone == {mail(queue_id(1))}
        assert linked(snapshot) == {mail(queue_id(2))}

    def test_a_message_that_hops_late_is_linked_once(self, kit):
        """The same inode at another place is the same message."""
        snapshot = kit.take(lambda: kit.queue.defer(queue_id(2)))
        assert linked(snapshot) == {mail(queue_id(2)), Key(Kind.DEFER, queue_id(2))}

    def test_a_message_that_is_held_late_is_held(self, kit):
        """Its link changes its kind."""
        snapshot = kit.take(lambda: kit.queue.move(queue_id(2), "incoming", "hold"))
        assert linked(snapshot) == {Key(Kind.HOLD, queue_id(2))}

    def test_a_done_mark_that_comes_late_is_sent(self, kit):
        """Found equal at first, written afterwards."""
        snapshot = kit.take(lambda: kit.queue.mark_done("incoming", queue_id(1)))
        assert linked(snapshot) == {mail(queue_id(1)), mail(queue_id(2))}

    def test_a_full_comparison_puts_right_too(self, kit):
        """A message that hops past the scan is found in the freeze."""
        snapshot = kit.take(lambda: kit.queue.defer(queue_id(1)), is_full=True)
        assert mail(queue_id(1)) in snapshot.listed


class TestFailure:
    """A snapshot that is not one moment is none."""

    def test_a_refused_freeze_leaves_nothing(self, kit):
        """The guard says that it was not frozen all the while: no files, no lost changes."""
        kit.settle()
        kit.queue.accept(1)
        with pytest.raises(Refused):
            kit.snapshots.take(kit.log, Base({}), StillFreeze(refuses=True))
        assert list(kit.root.iterdir()) == []
        assert linked(kit.take()) == {mail(queue_id(1))}

    def test_lost_events_are_not_pushed_as_changes(self, kit):
        """Incomplete knowledge is a full comparison or nothing."""
        with pytest.raises(EventsLost):
            kit.take()
        kit.settle()
        assert not kit.take().puts

    def test_a_queue_set_aside_under_the_snapshot(self, kit, tmp_path):
        """Trace 18: fenced after the push was decided; the empty queue is not a snapshot."""
        kit.queue.accept(1)
        kit.settle()
        with pytest.raises(EventsLost):
            kit.take(lambda: kit.queue.replace_directories(tmp_path / "aside"))
        with pytest.raises(EventsLost):
            kit.take()

    def test_leftovers_are_removed(self, kit):
        """What a killed agent left would make Postfix warn about each linked file."""
        kit.queue.accept(1)
        kit.take(is_full=True)
        kit.snapshots.remove_leftovers()
        assert list(kit.root.iterdir()) == []
        assert kit.queue.place("incoming", queue_id(1)).stat().st_nlink == 1

    def test_discarding_removes_the_links(self, kit):
        """And only the links."""
        kit.queue.accept(1)
        snapshot = kit.take(is_full=True)
        snapshot.discard()
        assert not snapshot.path.exists()
        assert kit.queue.place("incoming", queue_id(1)).exists()


def test_stable_messages_that_hop_all_the_time_are_never_missed(kit):
    """Where a plain rsync misses messages in most passes, no snapshot does."""
    names = kit.queue.accept(*range(200))
    for name in names:
        kit.queue.move(name, "incoming", "active")
    kit.settle()
    stop, frozen = threading.Event(), threading.Lock()

    def hop() -> None:
        while not stop.is_set():
            for name in names:
                with frozen:
                    kit.queue.move(name, "active", "deferred")
                    kit.queue.move(name, "deferred", "active")

    class Stopped(StillFreeze):
        def __enter__(self):
            frozen.acquire()
            return super().__enter__()

        def __exit__(self, *rest):
            frozen.release()
            super().__exit__(*rest)

    thread = threading.Thread(target=hop)
    thread.start()
    try:
        for turn in range(20):
            base = Base(kit.known, is_full=turn % 2 == 0)
            try:
                snapshot = kit.snapshots.take(kit.log, base, Stopped())
            except EventsLost:
                kit.known = {}
                continue
            assert snapshot.gone == frozenset()
            if snapshot.listed is not None:
                assert set(snapshot.listed) == {mail(name) for name in names}
                kit.known = snapshot.listed
            snapshot.discard()
    finally:
        stop.set()
        thread.join()
