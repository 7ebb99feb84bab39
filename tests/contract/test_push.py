"""Pushes over a real sshd and a real rsync on the loopback, from a queue to a mirror."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from nodeagent.adapters.event_spool import EventSpool
from nodeagent.adapters.mirror import Mirror
from nodeagent.adapters.peer import PeerLink, PeerRefused
from nodeagent.adapters.push import Pusher, PushResult, Sender
from nodeagent.adapters.queue_watch import QueueWatch
from nodeagent.adapters.snapshot import Snapshots
from nodeagent.core.queue_files import Key, Kind
from nodeagent.errors import Refused, Unreachable
from tests.fakes.loopback_sshd import LoopbackSshd
from tests.fakes.postfix_queue import PostfixQueue, StillFreeze, message, queue_id
from tests.fakes.pushes import VIP, mail

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="sshd lets root in only as root")


class Pair:
    """A sending node without Postfix and a receiving host behind sshd."""

    def __init__(self, root: Path, sshd: LoopbackSshd) -> None:
        self.root = root
        self.sshd = sshd
        self.queue = PostfixQueue(root / "queue")
        self.watch = QueueWatch(self.queue.root)
        self.snapshots = Snapshots(root / "snapshot", self.queue.root, self.watch)
        self.events = EventSpool(sshd.state / "events")
        self.mirror = Mirror(sshd.relay / "mirror", "node-a", events=self.events)
        self.generation = 1
        self.freeze = StillFreeze()
        self.pushers: list[Pusher] = []
        self.pusher = self.new_agent("agent-1")

    def new_agent(self, agent: str, link: PeerLink | None = None) -> Pusher:
        """Return what a newly started agent process pushes with."""
        link = link or self.sshd.link()
        self.pushers.append(Pusher(Sender("node-a", agent), link, self.snapshots, self.watch))
        return self.pushers[-1]

    def push(
        self, before: Callable[[], None] | None = None, *, vips: tuple[str, ...] = (VIP,)
    ) -> PushResult:
        """Push; `before` happens in the last moment before the standstill."""
        self.freeze.before = before
        return self.pusher.push(self.freeze, generation=self.generation, holds_vips=frozenset(vips))

    def keys(self) -> set[Key]:
        """Return what the mirror has."""
        with self.mirror.locked() as mirror:
            return mirror.files.keys()

    def close(self) -> None:
        """End all connections and the watch."""
        for pusher in self.pushers:
            pusher.close()
        self.watch.close()


@pytest.fixture
def pair(tmp_path, sshd) -> Iterator[Pair]:
    """Give a sender and its receiver."""
    pair = Pair(tmp_path, sshd)
    yield pair
    pair.close()


class TestContent:
    """What arrives."""

    def test_the_first_push_copies_the_queue(self, pair):
        """Bytes, modes, times and owners, for mail, held mail and logs."""
        one, two, three = pair.queue.accept(1, 2, 3)
        pair.queue.defer(two)
        pair.queue.move(three, "incoming", "hold")
        result = pair.push()
        assert (result.sequence, result.messages, result.sent, result.is_full) == (1, 3, 4, True)
        log, held = Key(Kind.DEFER, two), Key(Kind.HOLD, three)
        assert pair.keys() == {mail(one), mail(two), held, log}
        copy = (pair.mirror.path / "mail" / two).stat()
        live = pair.queue.place("deferred", two).stat()
        assert (copy.st_mode, copy.st_mtime_ns) == (live.st_mode, live.st_mtime_ns)
        assert copy.st_uid == pair.mirror.owner.uid
        assert (pair.mirror.path / "mail" / one).read_bytes() == message()

    def test_later_pushes_send_changes_only(self, pair):
        """Two of many moved: one file goes over, one is removed."""
        pair.queue.accept(*range(20))
        pair.push()
        pair.queue.deliver(queue_id(0), "incoming")
        pair.queue.accept(30)
        result = pair.push()
        assert (result.sent, result.removed, result.is_full) == (1, 1, False)
        assert pair.keys() == {mail(queue_id(n)) for n in (*range(1, 20), 30)}

    def test_nothing_changed_means_nothing_frozen(self, pair):
        """The sequence moves, Postfix does not stand still."""
        pair.queue.accept(1)
        pair.push()
        frozen = pair.freeze.count
        result = pair.push()
        assert (result.sequence, result.messages, result.freeze_ms) == (2, 1, 0.0)
        assert pair.freeze.count == frozen

    def test_a_last_push_freezes_in_any_case(self, pair):
        """At the end of its freeze the queue is set aside, changed or not."""
        pair.push()
        frozen = pair.freeze.count
        pair.pusher.push(pair.freeze, generation=1, holds_vips=frozenset({VIP}), is_last=True)
        assert pair.freeze.count == frozen + 1

    def test_a_done_mark_replaces_the_copy(self, pair):
        """The mirror's file becomes the written one."""
        pair.queue.accept(1)
        pair.push()
        pair.queue.mark_done("incoming", queue_id(1))
        assert pair.push().sent == 1
        live = pair.queue.place("incoming", queue_id(1)).read_bytes()
        assert (pair.mirror.path / "mail" / queue_id(1)).read_bytes() == live != message()

    def test_a_growing_log_is_sent_again(self, pair):
        """Each further line is in the next push."""
        pair.queue.accept(1)
        pair.queue.log("defer", queue_id(1), b"one\n")
        pair.push()
        pair.queue.log("defer", queue_id(1), b"two\n")
        pair.push()
        assert (pair.mirror.path / "defer" / queue_id(1)).read_bytes() == b"one\ntwo\n"

    def test_what_happens_in_the_last_moment_is_in_it(self, pair):
        """The push shows the moment of the standstill."""
        pair.queue.accept(1)
        pair.push()
        pair.queue.accept(2)
        pair.push(lambda: pair.queue.deliver(queue_id(1), "incoming"))
        assert pair.keys() == {mail(queue_id(2))}

    def test_no_snapshot_and_no_staged_file_is_left(self, pair):
        """Links last as long as the push, staged files until they are in place."""
        pair.queue.accept(1)
        pair.push()
        assert list((pair.root / "snapshot").iterdir()) == []
        (session,) = (pair.mirror.path / "staging").iterdir()
        assert [path.name for path in session.iterdir()] == ["lock"]


class TestRestart:
    """What a new process, a new generation and a broken connection cost."""

    def test_a_new_agent_compares_and_sends_nothing_twice(self, pair):
        """The first push of a process is full, but equal files stay."""
        pair.queue.accept(*range(10))
        pair.push()
        pair.pusher.close()
        pair.pusher = pair.new_agent("agent-2")
        pair.queue.deliver(queue_id(3), "incoming")
        result = pair.push()
        assert (result.is_full, result.sent, result.messages, result.sequence) == (True, 0, 9, 2)

    def test_a_new_generation_compares_everything(self, pair):
        """The lease was away in between."""
        pair.queue.accept(1)
        pair.push()
        pair.generation = 2
        result = pair.push()
        assert (result.is_full, result.sent, result.generation) == (True, 0, 2)
        assert not pair.push().is_full

    def test_a_broken_connection_is_opened_again(self, pair):
        """With the mirror where it was, the next push needs no comparison."""
        pair.queue.accept(1)
        pair.push()
        pair.sshd.stop()
        with pytest.raises(Unreachable):
            pair.push()
        pair.sshd.start()
        pair.queue.accept(2)
        result = pair.push()
        assert (result.sent, result.messages, result.is_full) == (1, 2, False)

    def test_a_queue_that_was_set_aside_and_taken_back(self, pair, tmp_path):
        """Events were lost with the old directories; the push compares and finds all."""
        names = pair.queue.accept(1, 2)
        pair.push()
        pair.queue.replace_directories(tmp_path / "aside")
        for name in names:
            (tmp_path / "aside/incoming" / name).rename(pair.queue.place("incoming", name))
        result = pair.push()
        assert (result.is_full, result.sent, result.messages) == (True, 0, 2)

    def test_a_mirror_that_lost_a_file_gets_it_back(self, pair):
        """A full comparison finds that it is missing there."""
        pair.queue.accept(1, 2)
        pair.push()
        (pair.mirror.path / "mail" / queue_id(1)).unlink()
        pair.pusher.close()
        pair.pusher = pair.new_agent("agent-2")
        assert pair.push().sent == 1
        assert pair.keys() == {mail(queue_id(1)), mail(queue_id(2))}

    def test_changes_of_a_failed_push_are_in_the_next(self, pair):
        """Nothing is forgotten between two pushes."""
        pair.queue.accept(1)
        pair.push()
        pair.queue.accept(2)
        pair.freeze.refuses = True
        with pytest.raises(Refused, match="freeze ended"):
            pair.push()
        pair.freeze.refuses = False
        result = pair.push()
        assert (result.sent, result.is_full) == (1, False)


class DeafLink(PeerLink):
    """Loses the connection at a commit: before it is sent, or before it is answered."""

    mode = ""

    def ask(self, request, limit_s=60.0):
        """Ask, unless it is a commit and this link is deaf."""
        if request["op"] != "commit" or not self.mode:
            return super().ask(request, limit_s)
        if self.mode == "answer":
            super().ask(request, limit_s)
        self.mode = ""
        self.close()
        raise Unreachable("The connection was closed.")


class TestUnknownOutcome:
    """A commit without an answer is asked about, never assumed."""

    @pytest.fixture
    def deaf(self, pair) -> DeafLink:
        """Give the link of a sender whose first push has gone well."""
        link = pair.sshd.link()
        deaf = DeafLink(link.peer, link._files)
        pair.pusher = pair.new_agent("agent-9", deaf)
        pair.queue.accept(1, 2)
        pair.push()
        pair.queue.deliver(queue_id(1), "incoming")
        pair.queue.mark_done("incoming", queue_id(2))
        return deaf

    def test_a_commit_that_was_taken(self, pair, deaf):
        """The mirror has moved on: the next push compares everything and ends in the same."""
        deaf.mode = "answer"
        with pytest.raises(Unreachable):
            pair.push()
        assert pair.keys() == {mail(queue_id(2))}
        result = pair.push()
        assert (result.is_full, result.sequence, result.messages) == (True, 3, 1)

    def test_a_commit_that_never_arrived(self, pair, deaf):
        """The mirror is where it was: the same changes go again, and nothing else."""
        deaf.mode = "request"
        with pytest.raises(Unreachable):
            pair.push()
        assert pair.keys() == {mail(queue_id(1)), mail(queue_id(2))}
        result = pair.push()
        assert (result.is_full, result.sent, result.removed) == (False, 1, 1)
        live = pair.queue.place("incoming", queue_id(2)).read_bytes()
        assert (pair.mirror.path / "mail" / queue_id(2)).read_bytes() == live

    @pytest.mark.usefixtures("deaf")
    def test_a_receiver_that_is_killed(self, pair):
        """SIGKILL of the session on the other side; the next one takes over."""
        pair.queue.accept(3)
        wanted = f"{pair.sshd.relay} --state {pair.sshd.state} node-a"
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            words = ""
            with suppress(OSError):  # somebody else's, which has just ended
                words = process.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if "nodeagent.receive" in words and wanted in words and "env " not in words[:4]:
                os.kill(int(process.parent.name), signal.SIGKILL)
        with suppress(Unreachable):  # unless ssh(1) has noticed already: then a new one is begun
            pair.push()
        assert pair.push().messages == 2
        assert pair.keys() == {mail(queue_id(2)), mail(queue_id(3))}


class TestRefusal:
    """What the receiver says no to, over the real connection."""

    def refused(self, pair: Pair, reason: str, **options) -> None:
        """Push, and check that it is refused for this reason and noted as an event."""
        with pytest.raises(PeerRefused) as caught:
            pair.push(**options)
        assert caught.value.reason == reason
        events = pair.events.read()
        assert [(event.kind, event.data["reason"]) for event in events] == [
            ("push-refused", reason)
        ]

    def test_a_host_with_the_vip_takes_nothing(self, pair):
        """127.0.0.1 stands for a VIP that both claim."""
        pair.queue.accept(1)
        self.refused(pair, "direction", vips=("127.0.0.1",))
        assert pair.keys() == set()

    def test_a_sender_without_vip_is_refused(self, pair):
        """Mail flows from the active node."""
        self.refused(pair, "direction", vips=())

    def test_an_old_generation_is_refused(self, pair):
        """The receiver adopted at generation 5."""
        with pair.mirror.locked() as mirror:
            mirror.raise_generation(5)
        self.refused(pair, "generation")

    def test_nothing_is_pushed_under_an_unfinished_receipt(self, pair):
        """Trace 7, in the middle of a session; afterwards the push comes through, full."""
        pair.queue.accept(1)
        pair.push()
        with pair.mirror.locked() as mirror:
            mirror.write_receipt(2)
        pair.queue.deliver(queue_id(1), "incoming")
        self.refused(pair, "receipt")
        assert pair.keys() == {mail(queue_id(1))}
        with pair.mirror.locked() as mirror:
            mirror.drop_receipt()
        pair.generation = 3
        result = pair.push()
        assert (result.is_full, result.messages) == (True, 0)

    def test_another_node_than_the_key_says_is_a_stranger(self, pair):
        """The key of node-a opens the mirror of node-a."""
        pair.pusher.close()
        pair.pusher = Pusher(
            Sender("node-c", "agent"), pair.sshd.link(), pair.snapshots, pair.watch
        )
        pair.pushers.append(pair.pusher)
        self.refused(pair, "stranger")

    def test_an_old_process_that_wakes_up_is_dropped(self, pair):
        """Two agents of one node: whoever pushed last without knowing the other is refused."""
        pair.queue.accept(1)
        pair.push()
        old, pair.pusher = pair.pusher, pair.new_agent("agent-2")
        pair.push()
        pair.pusher = old
        self.refused(pair, "sequence")

    def test_a_corrupt_file_is_quarantined_there(self, pair):
        """The rest arrives; the sender knows which one has no copy, and does not send it again."""
        pair.queue.accept(1)
        pair.queue.write("incoming", queue_id(2), message()[:-5])
        result = pair.push()
        assert result.rejected == {mail(queue_id(2))}
        assert result.messages == 1
        assert pair.keys() == {mail(queue_id(1))}
        assert (pair.mirror.path / "quarantine" / f"mail.{queue_id(2)}").exists()
        assert [event.kind for event in pair.events.read()] == ["quarantined"]
        assert pair.push().sent == 0


class TestConnection:
    """Keys, host keys and what else the key may run."""

    def test_an_unknown_host_key_is_not_trusted(self, pair):
        """Nobody is asked; the push is refused here."""
        subject = (pair.sshd.root / "id.pub").read_text()
        pair.sshd.trust(subject)
        with pytest.raises(Unreachable, match="node-b cannot be reached"):
            pair.push()

    def test_a_key_that_is_not_allowed_gets_nowhere(self, pair):
        """The sentence is ssh's own."""
        (pair.sshd.root / "authorized_keys").write_text("")
        with pytest.raises(Unreachable, match="Permission denied"):
            pair.push()

    @pytest.mark.parametrize(
        "command",
        [
            "id",
            "",
            "relay-receive session; id",
            "rsync --server --sender -logDtpre.iLsfxC . /etc/",
            "rsync --server -Wtpre.LsfxC --timeout=60 . /etc/",
            "rsync --server -Wtpre.LsfxC --timeout=60 . ../../../x/1",
            f"rsync --server -Wtpre.LsfxC --timeout=60 . {'0' * 32}/1",
        ],
    )
    def test_the_key_runs_nothing_else(self, pair, command):
        """One sentence, one event, exit code 1."""
        answer = pair.sshd.ssh(command or "true")
        assert answer.returncode == 1
        assert answer.stderr.startswith("relay-receive: ")
        assert len(answer.stderr.strip().splitlines()) == 1
        assert answer.stdout == ""
        assert [event.data["reason"] for event in pair.events.read()] == ["command"]

    def test_a_promise_is_refused_until_the_agent_there_has_started(self, pair):
        """Nobody keeps it otherwise."""
        link = pair.sshd.link()
        with pytest.raises(PeerRefused, match="not started"):
            link.ask({"op": "promise", "queue": "node-a", "length_s": 5})
        link.close()

    def test_many_files_go_through_one_connection(self, pair):
        """Larger than any pipe: announcement and answer are written and read in pieces."""
        pair.queue.accept(*range(3000))
        assert pair.push().messages == 3000
        for number in range(0, 3000, 2):
            pair.queue.deliver(queue_id(number), "incoming")
        result = pair.push()
        assert (result.removed, result.messages) == (1500, 1500)

    def test_two_receivers_of_one_peer_do_not_mix(self, pair):
        """Two sessions at once: one wins each number, and the mirror is one of them whole."""
        pair.queue.accept(*range(50))
        pushers = [pair.pusher, pair.new_agent("agent-2")]
        outcomes: list[object] = []

        def push(pusher: Pusher) -> None:
            try:
                vips = frozenset({VIP})
                outcomes.append(pusher.push(StillFreeze(), generation=1, holds_vips=vips))
            except Refused as error:
                outcomes.append(error)

        threads = [threading.Thread(target=push, args=(pusher,)) for pusher in pushers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert any(isinstance(outcome, PushResult) for outcome in outcomes)
        assert pair.keys() == {mail(queue_id(number)) for number in range(50)}
