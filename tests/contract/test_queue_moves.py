"""The guard's renames over real directories: nothing lost, nothing twice, whenever it is killed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule

from nodeagent.adapters import queue_dirs
from nodeagent.adapters.queue_counts import count_queue
from nodeagent.adapters.queue_dirs import LOG_QUEUES, MAIL_QUEUES, QueueDirs
from tests.contract.dying import every_death, run_and_die
from tests.fakes.postfix_queue import PostfixQueue, message, queue_id

QUEUES = MAIL_QUEUES + LOG_QUEUES


class Disk:
    """One node's queue and all that its guard keeps beside it."""

    def __init__(self, root: Path) -> None:
        root.chmod(0o755)
        self.queue = PostfixQueue(root / "queue")
        self.dirs = QueueDirs(self.queue.root, root / "relay")
        self.mirror = root / "relay/mirror/node-b"
        self.reports: list[str] = []
        for name in ("mail", "hold", "defer", "bounce", "trace", "quarantine"):
            self.mirror.joinpath(name).mkdir(parents=True)

    def report(self, text: str) -> None:
        """Note what the guard would report as an event."""
        self.reports.append(text)

    def take_back(self, retired: dict[str, int] | None = None) -> None:
        """Take back everything."""
        while not queue_dirs.take_back(self.dirs, retired or {}, self.report, limit=3):
            pass

    def place(self, ids: frozenset[str]) -> None:
        """Place a whole receipt."""
        while not queue_dirs.place_adopted(self.dirs, self.mirror, ids, self.report):
            pass

    def find(self, name: str) -> list[str]:
        """Return where files of this name are, relative to the root, sorted."""
        root = self.queue.root.parent
        return sorted(str(path.relative_to(root)) for path in root.rglob(f"*{name}"))

    def mirrored(self, name: str, kind: str = "mail", data: bytes | None = None) -> Path:
        """Put a file into the mirror."""
        path = self.mirror / kind / name
        path.write_bytes(message() if data is None else data)
        path.chmod(0o600 if kind in LOG_QUEUES else 0o700)
        return path

    def check_live_directories(self) -> None:
        """Check that Postfix finds every queue directory, its own and closed to others."""
        for name in QUEUES:
            status = (self.queue.root / name).stat()
            assert (status.st_uid, status.st_mode & 0o777) == (self.queue.owner.uid, 0o700), name


@pytest.fixture
def disk(tmp_path) -> Disk:
    """Give an empty node."""
    return Disk(tmp_path)


class TestSetAside:
    """The fence's rename."""

    def test_every_queue_goes_and_empty_ones_come(self, disk):
        """Logs and held mail too; hash directories keep their places below."""
        one, two, three = disk.queue.accept(1, 2, 3)
        disk.queue.defer(two)
        disk.queue.move(three, "incoming", "hold")
        hashed = disk.queue.place("deferred", two).relative_to(disk.queue.root)
        assert queue_dirs.set_aside(disk.dirs) == 4
        (aside,) = disk.dirs.pending.iterdir()
        assert (aside / hashed).is_file()
        assert not queue_dirs.has_files(disk.queue.root)
        assert sorted(queue_dirs.pending_ids(disk.dirs)) == sorted([one, two, three])
        disk.check_live_directories()

    def test_an_empty_queue_leaves_no_directory_behind(self, disk):
        """A fence at each start would otherwise fill `pending`."""
        assert queue_dirs.set_aside(disk.dirs) == 0
        assert not disk.dirs.pending.exists()

    def test_mail_that_is_being_written_stays_under_its_name(self, disk):
        """cleanup(8) goes on through its open file; the name is what it renames next."""
        disk.queue.write("incoming", "123456.789.42", b"C", mode=0o600)
        disk.queue.accept(1)
        queue_dirs.set_aside(disk.dirs)
        assert disk.find("123456.789.42") == ["queue/incoming/123456.789.42"]
        assert queue_dirs.pending_ids(disk.dirs) == [queue_id(1)]

    def test_a_host_without_a_queue_directory_gets_none(self, tmp_path):
        """Where Postfix is not installed the guard makes nothing in its place."""
        dirs = QueueDirs(tmp_path / "queue", tmp_path / "relay")
        assert queue_dirs.set_aside(dirs) == 0
        assert not dirs.live.exists()

    def test_killed_anywhere_the_next_start_completes_it(self, disk):
        """No message in the live queue, none lost, and every directory there and Postfix's own."""

        def prepare() -> Callable[[], object]:
            shutil.rmtree(disk.dirs.relay)
            disk.queue.remove_everything()
            disk.queue.accept(1, 2)
            disk.queue.write("incoming", "123456.789.42", b"C", mode=0o600)
            disk.queue.defer(queue_id(2))
            return lambda: queue_dirs.set_aside(disk.dirs)

        def check() -> None:
            queue_dirs.set_aside(disk.dirs)
            disk.check_live_directories()
            assert sorted(queue_dirs.pending_ids(disk.dirs)) == [queue_id(1), queue_id(2)]
            assert len(disk.find("123456.789.42")) == 1

        assert every_death(prepare, check) > len(QUEUES)

    def test_killed_with_new_mail_alone_the_hole_is_closed(self, disk):
        """One queue renamed, its successor not made: there is nothing to fence, but to repair."""

        def prepare() -> Callable[[], object]:
            shutil.rmtree(disk.dirs.relay)
            disk.queue.remove_everything()
            disk.queue.accept(1)
            return lambda: queue_dirs.set_aside(disk.dirs)

        def check() -> None:
            queue_dirs.set_aside(disk.dirs)
            disk.check_live_directories()

        every_death(prepare, check)


class TestTakeBack:
    """The way back, file by file."""

    def test_each_file_goes_where_it_belongs(self, disk):
        """Active mail begins anew in incoming, held mail stays held, retired mail goes away."""
        one, two, three, four = disk.queue.accept(1, 2, 3, 4)
        disk.queue.move(one, "incoming", "active")
        disk.queue.move(two, "incoming", "hold")
        disk.queue.defer(three)
        disk.queue.defer(four)
        hashed = disk.queue.place("deferred", three).relative_to(disk.queue.root.parent)
        queue_dirs.set_aside(disk.dirs)
        disk.take_back({four: 7})
        assert disk.find(one) == [f"queue/incoming/{one}"]
        assert disk.find(two) == [f"queue/hold/{two}"]
        assert str(hashed) in disk.find(three)
        assert disk.find(four) == [
            f"relay/retired/7/defer/{four}",
            f"relay/retired/7/deferred/{four}",
        ]
        assert list(disk.dirs.pending.iterdir()) == []
        assert disk.reports == []

    def test_two_fences_come_back_as_one_queue(self, disk):
        """Set aside, new mail, set aside again: all of it is pending, all of it returns."""
        for number in (1, 2, 3):
            disk.queue.accept(number)
            queue_dirs.set_aside(disk.dirs)
        disk.take_back()
        assert {path.name for path in (disk.queue.root / "incoming").iterdir()} == {
            queue_id(number) for number in (1, 2, 3)
        }

    def test_a_batch_ends_at_its_limit(self, disk):
        """The guard looks at the deadline between two batches."""
        disk.queue.accept(1, 2, 3)
        queue_dirs.set_aside(disk.dirs)
        assert not queue_dirs.take_back(disk.dirs, {}, disk.report, limit=2)
        assert len(queue_dirs.pending_ids(disk.dirs)) == 1
        assert queue_dirs.take_back(disk.dirs, {}, disk.report, limit=2)

    @pytest.mark.parametrize("name", ["3F2A14E8", "123456.789.42"])
    def test_mail_under_a_name_that_no_receipt_can_hold_comes_back(self, disk, name):
        """Short ids of the time before the relay: nobody is asked about them, nothing is lost."""
        disk.queue.write("incoming", name, message())
        disk.queue.accept(1)
        queue_dirs.set_aside(disk.dirs)
        assert queue_dirs.pending_ids(disk.dirs) == [queue_id(1)]
        disk.take_back()
        assert disk.find(name) == [f"queue/incoming/{name}"]

    @pytest.mark.parametrize("data", [b"", message()[:-2], message()[:40] + bytes(200)])
    def test_a_torn_message_is_quarantined_and_reported(self, disk, data):
        """A power loss may leave a complete mode on half a file: it is never delivered."""
        (one,) = disk.queue.accept(1)
        disk.queue.write("deferred", queue_id(2), data)
        queue_dirs.set_aside(disk.dirs)
        disk.take_back()
        assert disk.find(one) == [f"queue/incoming/{one}"]
        assert disk.find(queue_id(2)) == [f"relay/quarantine/deferred.{queue_id(2)}"]
        (report,) = disk.reports
        assert report.startswith(f"deferred/{queue_id(2)} is not used: ")
        assert count_queue(disk.queue.root, disk.dirs.relay).quarantined == 1

    def test_retired_mail_is_not_judged(self, disk):
        """It is another's by now, and stays as it is."""
        disk.queue.write("incoming", queue_id(1), b"torn")
        queue_dirs.set_aside(disk.dirs)
        disk.take_back({queue_id(1): 3})
        assert disk.find(queue_id(1)) == [f"relay/retired/3/incoming/{queue_id(1)}"]

    def test_what_is_no_plain_file_is_kept(self, disk):
        """Nothing is deleted but empty directories, not even a link that Postfix never made."""
        disk.queue.accept(1)
        (disk.queue.root / "hold/link").symlink_to("/nowhere")
        queue_dirs.set_aside(disk.dirs)
        disk.take_back()
        assert (disk.queue.root / "hold/link").is_symlink()

    def test_killed_anywhere_it_is_repeated(self, disk):
        """Each file is in one place, and in the right one."""

        def prepare() -> Callable[[], object]:
            shutil.rmtree(disk.dirs.relay)
            disk.queue.remove_everything()
            disk.queue.accept(1, 2, 3)
            disk.queue.defer(queue_id(1))
            disk.queue.defer(queue_id(2))
            disk.queue.write("hold", queue_id(4), b"C torn")
            queue_dirs.set_aside(disk.dirs)
            return lambda: disk.take_back({queue_id(2): 5})

        def check() -> None:
            disk.take_back({queue_id(2): 5})
            assert len(disk.find(queue_id(1))) == 2
            assert disk.find(queue_id(2)) == [
                f"relay/retired/5/defer/{queue_id(2)}",
                f"relay/retired/5/deferred/{queue_id(2)}",
            ]
            assert disk.find(queue_id(3)) == [f"queue/incoming/{queue_id(3)}"]
            assert disk.find(queue_id(4)) == [f"relay/quarantine/hold.{queue_id(4)}"]
            assert list(disk.dirs.pending.iterdir()) == []
            disk.check_live_directories()

        assert every_death(prepare, check) > 6


class TestPlaceAdopted:
    """From a mirror into the live queue."""

    def test_kinds_become_places(self, disk):
        """Mail begins in incoming, held mail stays held, logs lie where Postfix looks for them."""
        one, two, other = queue_id(1), queue_id(2), queue_id(3)
        for kind in ("mail", "trace"):
            disk.mirrored(one, kind)
        for kind in ("hold", "bounce", "defer"):
            disk.mirrored(two, kind)
        disk.mirrored(other)
        disk.place(frozenset({one, two}))
        hashed = disk.queue.place("defer", two).relative_to(disk.queue.root.parent)
        assert disk.find(one) == [f"queue/incoming/{one}", f"queue/trace/{one}"]
        assert disk.find(two) == [f"queue/bounce/{two}", str(hashed), f"queue/hold/{two}"]
        assert disk.find(other) == [f"relay/mirror/node-b/mail/{other}"]
        disk.check_live_directories()

    def test_the_deferral_log_of_mail_that_is_tried_at_once_stays_behind(self, disk):
        """Postfix would remove it unread: that is a rename saved for most of a queue."""
        for kind in ("mail", "defer"):
            disk.mirrored(queue_id(1), kind)
        disk.place(frozenset({queue_id(1)}))
        kept = f"relay/mirror/node-b/defer/{queue_id(1)}"
        assert disk.find(queue_id(1)) == [f"queue/incoming/{queue_id(1)}", kept]

    def test_a_name_that_is_taken_is_kept_and_reported(self, disk):
        """Neither the live message nor the copy is overwritten, whatever kinds collide."""
        name = queue_id(1)
        disk.queue.write("incoming", name, message("live"))
        disk.queue.log("defer", name, b"live\n")
        disk.queue.write("hold", name, message("held"))
        for kind in ("mail", "hold", "defer"):
            disk.mirrored(name, kind, f"copy {kind}".encode())
        disk.place(frozenset({name}))
        assert disk.queue.place("incoming", name).read_bytes() == message("live")
        kept = {path.name: path.read_bytes() for path in (disk.mirror / "quarantine").iterdir()}
        assert kept == {
            f"{kind}.{name}": f"copy {kind}".encode() for kind in ("mail", "hold", "defer")
        }
        assert len(disk.reports) == 3

    def test_killed_anywhere_it_is_repeated(self, disk):
        """Every file of the receipt is in the live queue once, and its log came first."""
        names = [queue_id(number) for number in range(4)]

        def prepare() -> Callable[[], object]:
            disk.queue.remove_everything()
            for name in names:
                disk.mirrored(name)
                disk.mirrored(name, "bounce")
            return lambda: disk.place(frozenset(names))

        def check() -> None:
            for name in names:
                is_live = (disk.queue.root / "incoming" / name).exists()
                assert not is_live or disk.queue.place("bounce", name).exists()
            disk.place(frozenset(names))
            for name in names:
                assert [path.split("/")[1] for path in disk.find(name)] == ["bounce", "incoming"]
            disk.check_live_directories()

        assert every_death(prepare, check) >= 2 * len(names)


class GuardedQueue(RuleBasedStateMachine):
    """Accepts, fences, takes back and adopts in any order, killed at any step of it.

    What is true at every moment: each message has one file, with its own bytes. What is true once
    the guard has had its way: what it says of the live queue.
    """

    messages = Bundle("messages")

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.disk = Disk(self.root)
        self.number = 0
        self.known: dict[str, bytes] = {}
        self.born: set[str] = set()
        self.retired: dict[str, int] = {}

    def teardown(self) -> None:
        """Remove the disk."""
        shutil.rmtree(self.root)

    def _new(self) -> tuple[str, bytes]:
        self.number += 1
        name, data = queue_id(self.number), message(f"message {self.number}")
        self.known[name] = data
        return name, data

    def _finish(self, step: int, function: Callable[[], object]) -> None:
        """Run it to a death at `step`, and once more, as the restarted guard does."""
        run_and_die(step, function)
        function()

    def _is_pending(self) -> bool:
        return queue_dirs.has_files(self.disk.dirs.pending)

    @rule(target=messages, queue=st.sampled_from(["incoming", "hold", "deferred", "active"]))
    def accept(self, queue: str) -> str:
        """Postfix accepts a message, and may have moved it on."""
        name, data = self._new()
        self.disk.queue.write(queue, name, data)
        self.born.add(name)
        return name

    @rule(name=messages)
    def note_failure(self, name: str) -> None:
        """Let a log that goes with a live message grow."""
        if self.disk.find(name) == [f"queue/incoming/{name}"]:
            self.disk.queue.log("defer", name, b"refused\n")

    @rule(step=st.integers(1, 30))
    def fence(self, step: int) -> None:
        """Set the queue aside."""
        self._finish(step, lambda: queue_dirs.set_aside(self.disk.dirs))
        assert not any(queue_dirs.has_files(self.disk.queue.root / queue) for queue in QUEUES)
        self.disk.check_live_directories()

    @rule(step=st.integers(1, 40), data=st.data())
    def take_back(self, step: int, data: st.DataObject) -> None:
        """Take back the pending mail, some of which a receipt gave away."""
        ids = sorted(set(queue_dirs.pending_ids(self.disk.dirs)))
        gone = data.draw(st.sets(st.sampled_from(ids))) if ids else set()
        retired = dict.fromkeys(gone, 1)
        self._finish(step, lambda: self.disk.take_back(retired))
        assert not self._is_pending()
        for name in gone:
            assert all(path.startswith("relay/retired/1/") for path in self.disk.find(name))
        for name in set(ids) - gone:
            assert all(path.startswith("queue/") for path in self.disk.find(name))
        self.retired.update(retired)

    @precondition(lambda self: not self._is_pending())
    @rule(step=st.integers(1, 20), kinds=st.lists(st.sampled_from(["mail", "hold"]), max_size=4))
    def adopt(self, step: int, kinds: list[str]) -> None:
        """Place a mirror's messages; only a settled node does so."""
        ids = set()
        for kind in kinds:
            name, data = self._new()
            self.disk.mirrored(name, kind, data)
            ids.add(name)
        self._finish(step, lambda: self.disk.place(frozenset(ids)))
        for name in ids:
            assert self.disk.find(name)[0].startswith(("queue/incoming/", "queue/hold/"))

    @invariant()
    def each_message_is_there_once(self) -> None:
        """One file of a message queue, with the bytes that were accepted."""
        found = Counter(
            path.name
            for path in self.root.rglob("*")
            if path.is_file() and not {*path.parts[-3:-1]} & {*LOG_QUEUES}
        )
        assert found == Counter(dict.fromkeys(self.known, 1))
        for name, data in self.known.items():
            assert any((self.root / p).read_bytes() == data for p in self.disk.find(name))

    @invariant()
    def what_was_retired_stays_retired(self) -> None:
        """Nothing that another node owns ever enters the live queue."""
        for name in self.retired:
            assert not any(path.startswith("queue/") for path in self.disk.find(name))

    @invariant()
    def nothing_is_reported_for_whole_mail(self) -> None:
        """Quarantine is for what is broken."""
        assert self.disk.reports == []


GuardedQueue.TestCase.settings = settings(max_examples=25, stateful_step_count=12, deadline=None)
TestGuardedQueue = GuardedQueue.TestCase


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes directories for another user")
def test_a_directory_is_never_there_before_it_is_postfixs(disk):
    """qmgr(8) dies over a directory of root's: killed in between, there is none yet."""
    hashed = disk.queue.root / "deferred/A"

    def prepare() -> Callable[[], object]:
        if hashed.exists():
            hashed.rmdir()
        return lambda: disk.dirs.make_directory(hashed)

    def check() -> None:
        if hashed.exists():
            assert hashed.stat().st_uid == disk.queue.owner.uid

    assert every_death(prepare, check) >= 2
