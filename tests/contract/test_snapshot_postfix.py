"""Snapshots and pushes of a real Postfix that works: nothing missed, and Postfix content with it.

Postfix is stopped from outside for each freeze (SIGSTOP to all its processes), as any freezer does.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeagent.adapters.event_spool import EventSpool
from nodeagent.adapters.mirror import Mirror
from nodeagent.adapters.queue_watch import QueueWatch
from nodeagent.adapters.snapshot import Base, EventsLost, Snapshot, Snapshots
from nodeagent.core.queue_files import Facts, Key, Kind, find_defect, hashed_directory, is_message
from tests.fakes.postfix_instance import PostfixInstance
from tests.fakes.postfix_queue import StillFreeze

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="Postfix needs root")


class Stopped(StillFreeze):
    """Stops every process of one Postfix instance for the body."""

    def __init__(self, instance: PostfixInstance) -> None:
        super().__init__()
        self._queue = instance.queue

    def _signal(self, number: signal.Signals) -> None:
        for process in Path("/proc").iterdir():
            if not process.name.isdigit():
                continue
            try:
                if (process / "cwd").readlink() == self._queue:
                    os.kill(int(process.name), number)
            except OSError:
                continue

    def __enter__(self):
        self._signal(signal.SIGSTOP)
        return super().__enter__()

    def __exit__(self, *rest):
        self._signal(signal.SIGCONT)
        super().__exit__(*rest)


class Kit:
    """A real Postfix with a watch on its queue."""

    def __init__(self, root: Path) -> None:
        self.postfix = PostfixInstance(root)
        self.postfix.start()
        self.watch = QueueWatch(self.postfix.queue)
        self.log = self.watch.open_log()
        self.snapshots = Snapshots(root / "snapshot", self.postfix.queue, self.watch)
        self.known: dict[Key, Facts] = {}

    def take(self, *, is_full: bool = False) -> Snapshot:
        """Take a snapshot; lost events cost a full one."""
        base = Base(self.known, is_full=is_full)
        try:
            snapshot = self.snapshots.take(self.log, base, Stopped(self.postfix))
        except EventsLost:
            return self.take(is_full=True)
        self.known = {**self.known, **snapshot.puts}
        if snapshot.listed is not None:
            self.known = dict(snapshot.listed)
        for key in snapshot.gone:
            self.known.pop(key, None)
        return snapshot

    def command(self, *words: str) -> None:
        """Run one of Postfix's commands on this instance."""
        subprocess.run([words[0], "-c", str(self.postfix.config), *words[1:]], check=True)

    def close(self) -> None:
        """End all of it."""
        self.watch.close()
        self.postfix.stop()


@pytest.fixture
def kit(tmp_path) -> Iterator[Kit]:
    """Run a Postfix whose mail nobody takes."""
    kit = Kit(tmp_path)
    yield kit
    kit.close()


def test_deferred_mail_lies_where_we_look_for_it(kit):
    """Our hash is Postfix's hash, for mail and for its logs."""
    kit.postfix.send(5)
    kit.postfix.wait_until_deferred(5)
    for name in kit.postfix.ids():
        for queue in ("deferred", "defer"):
            assert (kit.postfix.queue / queue / hashed_directory(name) / name).exists()


def test_what_postfix_writes_is_whole(kit):
    """Every message of a real cleanup(8) passes the check, with long lines and many recipients."""
    kit.postfix.send(3)
    words = ["sendmail", "-C", str(kit.postfix.config), "-f", "a@test.invalid"]
    words += [f"r{number}@deliver.test" for number in range(200)]
    subprocess.run(words, input=b"Subject: x\n\n" + b"y" * 50_000 + b"\n", check=True)
    kit.postfix.wait_until_deferred(4)
    snapshot = kit.take(is_full=True)
    messages = [key for key in snapshot.puts if is_message(key.kind)]
    assert len(messages) == 4
    for key in messages:
        data = (snapshot.path / key.kind / key.id).read_bytes()
        assert find_defect(data) is None
        assert find_defect(data[: len(data) // 2]) is not None


def test_a_retry_of_the_whole_queue_sends_no_message_again(kit):
    """Deferred, active, deferred: only the logs have grown."""
    kit.postfix.send(20)
    kit.postfix.wait_until_deferred(20)
    kit.take(is_full=True).discard()
    kit.command("postqueue", "-f")
    time.sleep(1)
    kit.postfix.wait_until_deferred(20)
    snapshot = kit.take()
    assert {key for key in snapshot.puts if is_message(key.kind)} == set()
    assert snapshot.gone == frozenset()


def test_held_and_released_mail_changes_its_kind(kit):
    """postsuper(1) -h and -H."""
    kit.postfix.send(1)
    kit.postfix.wait_until_deferred(1)
    (name,) = kit.postfix.ids()
    kit.take(is_full=True).discard()
    kit.command("postsuper", "-h", name)
    snapshot = kit.take()
    assert Key(Kind.HOLD, name) in snapshot.puts
    assert Key(Kind.MAIL, name) in snapshot.gone
    snapshot.discard()
    kit.command("postsuper", "-H", name)
    kit.postfix.wait_until_deferred(1)
    snapshot = kit.take()
    assert Key(Kind.MAIL, name) in snapshot.puts
    assert Key(Kind.HOLD, name) in snapshot.gone


def test_deleted_mail_goes_with_its_logs(kit):
    """postsuper(1) -d."""
    kit.postfix.send(2)
    kit.postfix.wait_until_deferred(2)
    kit.take(is_full=True).discard()
    name = min(kit.postfix.ids())
    kit.command("postsuper", "-d", name)
    gone = kit.take().gone
    assert {Key(Kind.MAIL, name), Key(Kind.DEFER, name)} <= gone
    assert all(key.id == name for key in gone)


def test_no_acknowledged_message_is_missed_under_load(kit):
    """Each one that got its 250 before the freeze is in the mirror's picture after it."""
    acknowledged: list[int] = []
    stop = threading.Event()

    def send() -> None:
        while not stop.is_set():
            kit.postfix.send(5)
            acknowledged.append(5)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        for turn in range(12):
            time.sleep(0.1)
            before = sum(acknowledged)
            snapshot = kit.take(is_full=turn == 0)
            messages = {key for key in kit.known if is_message(key.kind)}
            assert len(messages) >= before
            assert snapshot.gone == frozenset()
            snapshot.discard()
    finally:
        stop.set()
        thread.join()
    kit.take().discard()
    assert {key.id for key in kit.known if is_message(key.kind)} == kit.postfix.ids()


def test_a_receipt_lists_what_postfix_had(kit, tmp_path):
    """Copied by hand into a mirror, every message of a real queue counts as whole."""
    kit.postfix.send(10)
    kit.postfix.wait_until_deferred(10)
    events = EventSpool(tmp_path / "state" / "events")
    mirror = Mirror(tmp_path / "mirror", "node-a", events=events)
    with mirror.locked() as opened:
        for name in kit.postfix.ids():
            live = kit.postfix.queue / "deferred" / hashed_directory(name) / name
            subprocess.run(["cp", "-p", str(live), str(mirror.path / "mail" / name)], check=True)
        assert set(opened.write_receipt(1)) == kit.postfix.ids()
    assert events.read() == ()
