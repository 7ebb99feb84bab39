"""The queue watch over real inotify(7): what it notes, and when it says that it knows nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeagent.adapters import queue_watch
from nodeagent.adapters.queue_watch import QueueWatch
from nodeagent.core.push_plan import Changes
from nodeagent.core.queue_files import Key, Kind
from tests.fakes.postfix_queue import PostfixQueue, message, queue_id
from tests.fakes.pushes import mail


class Watch:
    """A watch over a queue without Postfix, with one log that starts out complete."""

    def __init__(self, root: Path) -> None:
        self.queue = PostfixQueue(root / "queue")
        self.watch = QueueWatch(self.queue.root)
        self.log = self.watch.open_log()
        self.watch.take(self.log)

    def take(self) -> Changes:
        """Return what was touched since the last call."""
        return self.watch.take(self.log)


@pytest.fixture
def w(tmp_path) -> Iterator[Watch]:
    """Give a watch and close it."""
    watch = Watch(tmp_path)
    yield watch
    watch.watch.close()


def test_a_log_begins_incomplete(w):
    """Who has seen nothing must look at everything."""
    assert not w.watch.take(w.watch.open_log()).is_complete


def test_nothing_happens_nothing_is_noted(w):
    """Without events there is nothing to push."""
    assert not w.take()


def test_a_new_message_is_written(w):
    """Accepting writes the file."""
    (name,) = w.queue.accept(1)
    changes = w.take()
    assert changes.touched == {mail(name)}
    assert changes.is_complete


def test_a_hop_is_touched_and_not_written(w):
    """Renames say where to look, not that content changed."""
    (name,) = w.queue.accept(1)
    w.take()
    w.queue.move(name, "incoming", "active")
    changes = w.take()
    assert changes.touched == {mail(name)}
    assert changes.written == set()


def test_a_done_mark_is_a_write(w):
    """A recipient marked in place changes the content."""
    (name,) = w.queue.accept(1)
    w.queue.move(name, "incoming", "active")
    w.take()
    w.queue.mark_done("active", name)
    assert w.take().written == {mail(name)}


def test_a_write_through_a_file_opened_before_a_rename_is_seen(w):
    """A delivery agent opens active/ID, and the file moves under it."""
    (name,) = w.queue.accept(1)
    w.queue.move(name, "incoming", "active")
    with w.queue.place("active", name).open("r+b") as file:
        w.queue.place("deferred", name)
        w.queue.move(name, "active", "deferred")
        w.take()
        file.write(b"C")
        file.flush()
        assert w.take().written == {mail(name)}


def test_our_own_links_are_not_seen(w, tmp_path):
    """A snapshot must not cause the next one."""
    (name,) = w.queue.accept(1)
    w.take()
    link = tmp_path / "link"
    os.link(w.queue.place("incoming", name), link)
    link.unlink()
    assert not w.take()


def test_a_delivery_is_touched(w):
    """The removal of a file says to look again."""
    (name,) = w.queue.accept(1)
    w.queue.move(name, "incoming", "active")
    w.take()
    w.queue.deliver(name)
    assert w.take().touched == {mail(name)}


def test_hold_and_logs_have_kinds_of_their_own(w):
    """A held message, and each of the three logs."""
    (name,) = w.queue.accept(1)
    w.queue.move(name, "incoming", "hold")
    for log in ("defer", "bounce", "trace"):
        w.queue.log(log, name, b"why\n")
    kinds = {key.kind for key in w.take().touched}
    assert kinds == set(Kind)


def test_a_hash_directory_that_appears_is_watched(w):
    """Postfix makes them on demand; what is in it before the watch stands is noted too."""
    (name,) = w.queue.accept(1)
    w.queue.defer(name)
    assert Key(Kind.DEFER, name) in w.take().touched
    w.queue.log("defer", name, b"again\n")
    assert w.take().written == {Key(Kind.DEFER, name)}


def test_two_levels_of_hashing_are_watched(w):
    """hash_queue_depth = 2, with both directories made at once."""
    directory = w.queue.root / "deferred/A/3"
    directory.mkdir(parents=True)
    w.take()
    (directory / queue_id(5)).write_bytes(message())
    assert w.take().touched == {mail(queue_id(5))}


def test_a_hash_directory_moved_in_is_looked_through(w, tmp_path):
    """Files that came along raise no events of their own."""
    outside = tmp_path / "B"
    outside.mkdir()
    (outside / queue_id(6)).write_bytes(message())
    outside.rename(w.queue.root / "deferred/B")
    assert w.take().touched == {mail(queue_id(6))}


def test_other_names_are_nobodys_business(w):
    """Short ids, temporary files and foreign directories."""
    (w.queue.root / "incoming/3F2A14E8").write_bytes(b"x")
    (w.queue.root / "incoming/.tmp").write_bytes(b"x")
    (w.queue.root / "deferred/AB").mkdir()
    (w.queue.root / "deferred/AB" / queue_id(1)).write_bytes(b"x")
    assert not w.take()


def test_replaced_directories_make_the_log_incomplete(w, tmp_path):
    """The lease guard renames the queue aside: nothing is known, and the new one is watched."""
    w.queue.accept(1)
    w.take()
    w.queue.replace_directories(tmp_path / "aside")
    assert not w.take().is_complete
    (name,) = w.queue.accept(2)
    changes = w.take()
    assert changes.touched == {mail(name)}
    assert changes.is_complete


def test_directories_that_were_put_back_are_noticed(w, tmp_path):
    """Twice replaced between two looks is replaced all the same."""
    w.queue.replace_directories(tmp_path / "one")
    w.queue.replace_directories(tmp_path / "two")
    assert not w.take().is_complete


def test_a_directory_that_appears_late_is_watched(tmp_path):
    """Postfix makes its directories at its first start."""
    (tmp_path / "queue").mkdir()
    watch = QueueWatch(tmp_path / "queue")
    try:
        log = watch.open_log()
        watch.take(log)
        queue = PostfixQueue(tmp_path / "queue")
        assert not watch.take(log).is_complete
        (name,) = queue.accept(1)
        assert watch.take(log).touched == {mail(name)}
    finally:
        watch.close()


def test_too_many_keys_become_a_full_comparison(w, monkeypatch):
    """A peer that is away for days must not fill the memory."""
    monkeypatch.setattr(queue_watch, "_MOST_KEYS", 10)
    w.queue.accept(*range(12))
    changes = w.take()
    assert not changes.is_complete
    assert len(changes.touched) < 10


def test_an_overflow_makes_the_log_incomplete(w):
    """The kernel's queue has an end, and says when it was reached."""
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    path = w.queue.root / "incoming" / queue_id(1)
    other = w.queue.root / "incoming" / queue_id(2)
    with w.watch._lock:
        path.write_bytes(b"x")
        for _ in range(limit // 4 + 10):
            path.rename(other)
            other.rename(path)
    assert not w.take().is_complete
    path.write_bytes(b"y")
    assert w.take().written == {mail(queue_id(1))}


def test_the_thread_reads_while_nobody_asks(w):
    """Events leave the kernel's queue without a push."""
    w.queue.accept(1)
    until_s = time.monotonic() + 60
    while not w.log.touched and time.monotonic() < until_s:
        time.sleep(0.01)
    assert w.log.touched == {mail(queue_id(1))}


def test_each_log_has_every_event(w):
    """Two peers, two logs; a closed one gets nothing more."""
    other = w.watch.open_log()
    w.watch.take(other)
    w.queue.accept(1)
    assert w.take().touched == w.watch.take(other).touched == {mail(queue_id(1))}
    w.watch.close_log(other)
    w.queue.accept(2)
    assert w.take()
    assert not w.watch.take(other)


def test_what_is_given_back_comes_again(w):
    """A push that came to nothing loses no change."""
    w.queue.accept(1)
    changes = w.take()
    w.queue.accept(2)
    w.watch.give_back(w.log, changes)
    assert w.take().touched == {mail(queue_id(1)), mail(queue_id(2))}
