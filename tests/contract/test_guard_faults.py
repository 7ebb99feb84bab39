"""The lease guard on a host that fails it: full disks, no freezer, clients that hang or babble."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeagent.adapters.guard_client import GuardConnection
from nodeagent.adapters.postfix import Postfix
from nodeagent.core.guard_state import ProofKind
from nodeagent.errors import Refused, Unreachable
from tests.contract.test_guard import SOON_S, GuardProcess, answers, unless_overlong, wait_until
from tests.fakes.postfix_instance import PostfixInstance
from tests.fakes.postfix_queue import queue_id

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="Postfix and its freezer need root")


@pytest.fixture(scope="module")
def unfreezable(tmp_path_factory) -> Iterator[PostfixInstance]:
    """Run a Postfix that shares the guard's control group, as in a plain container."""
    instance = PostfixInstance(tmp_path_factory.mktemp("postfix"))
    try:
        instance.start()
        assert instance.cgroup is not None
        for pid in (instance.cgroup / "cgroup.procs").read_text().split():
            (instance.cgroup.parent / "cgroup.procs").write_text(pid)
        yield instance
    finally:
        instance.stop()


@pytest.fixture
def guard(postfix: PostfixInstance, tmp_path: Path) -> Iterator[GuardProcess]:
    """Give a guard that is not started yet, over an empty queue."""
    postfix.empty()
    command = tmp_path / "bin/postfix"  # the last resort means this Postfix, not the machine's
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec /usr/sbin/postfix -c {postfix.config} "$@"\n')
    command.chmod(0o755)
    process = GuardProcess(postfix, tmp_path)
    process._environment["PATH"] = f"{command.parent}:{os.environ['PATH']}"
    yield process
    process.kill()


def fill(directory: Path) -> None:
    """Leave no byte on the filesystem of a directory."""
    with (directory / "ballast").open("wb", buffering=0) as ballast:
        try:
            while ballast.write(b"x" * 512):
                pass
        except OSError:
            return


def deferred_mail(postfix: PostfixInstance, count: int = 2) -> set[str]:
    """Have messages wait in the live queue."""
    postfix.send(count)
    postfix.wait_until_deferred(count)
    return postfix.ids()


class TestFullDisk:
    """What cannot be written must not cost the fence."""

    def test_a_full_run_directory_does_not_cost_the_fence(self, guard, postfix):
        """The proof's file cannot be written, so there is none: at the next start it is fenced."""
        guard.run.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", guard.run], check=True)
        try:
            guard.start()
            guard.prove()
            old = deferred_mail(postfix)
            guard.prove(0.5, kind=ProofKind.ACQUIRED)
            fill(guard.run)
            wait_until(lambda: postfix.ids() == set())
            assert set(guard.client.pending_ids()) == old
            assert not guard.client.status()[0].is_proven
            guard.kill()
            guard.start()
            assert not guard.client.status()[0].is_proven
        finally:
            guard.kill()
            subprocess.run(["umount", guard.run], check=True)

    def test_a_queue_that_cannot_be_set_aside_stands_still_until_it_can(self, guard, postfix):
        """Postfix would deliver what a peer may have adopted: it waits, and goes on by itself."""
        guard.start()
        guard.prove()
        old = deferred_mail(postfix)
        guard.relay.mkdir(exist_ok=True)
        (guard.relay / "pending").write_text("in the way")
        guard.prove(0.3, kind=ProofKind.ACQUIRED)
        wait_until(lambda: not guard.client.status()[0].is_proven, 30)
        wait_until(lambda: not answers(postfix, 0.2))
        assert postfix.ids() == old
        for call in (guard.prove, lambda: guard.client.set_aside("again")):
            with pytest.raises(Refused, match="could not be set aside"):
                call()
        guard.kill()
        guard.start()
        assert not answers(postfix, 0.2)
        (guard.relay / "pending").unlink()
        wait_until(lambda: answers(postfix, 0.5))
        assert set(guard.client.pending_ids()) == old
        guard.prove()
        guard.take_back()
        assert postfix.ids() == old

    def test_a_switchover_whose_queue_stays_grants_nothing(self, guard, postfix):
        """The agent is told at the end of the freeze, and Postfix stands still until then."""
        guard.start()
        guard.prove()
        old = deferred_mail(postfix)
        guard.relay.mkdir(exist_ok=True)
        (guard.relay / "pending").write_text("in the way")
        with (
            pytest.raises(Refused, match="could not be set aside"),
            guard.client.frozen() as freeze,
        ):
            freeze.set_aside_at_end("switchover")
        wait_until(lambda: not answers(postfix, 0.2))
        (guard.relay / "pending").unlink()
        wait_until(lambda: answers(postfix, 0.5))
        assert set(guard.client.pending_ids()) == old

    def test_events_that_cannot_be_written_do_not_cost_the_fence(self, guard, postfix, tmp_path):
        """The fence is done and the guard lives."""
        (tmp_path / "state/events").mkdir(parents=True)
        guard.start()
        guard.prove()
        old = deferred_mail(postfix)
        guard.prove(0.3, kind=ProofKind.ACQUIRED)
        wait_until(lambda: postfix.ids() == set())
        assert set(guard.client.pending_ids()) == old
        assert guard.process.poll() is None


class TestClients:
    """Whoever may connect is root, and may still hang or be wrong."""

    def test_a_client_that_never_reads_cannot_hold_up_the_fence(self, guard, postfix):
        """Its answers fill the socket; the deadline passes meanwhile."""
        guard.start()
        guard.prove()
        deferred_mail(postfix)
        silent = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        silent.settimeout(0.5)
        silent.connect(str(guard.run / "guard.sock"))
        guard.prove(0.5, kind=ProofKind.ACQUIRED)
        with pytest.raises(OSError, match=r"timed out|Broken pipe|reset"):
            silent.sendall(b'{"op":"status"}\n' * 1_000_000)
        wait_until(lambda: postfix.ids() == set(), 30)
        silent.close()

    @pytest.mark.parametrize(
        ("line", "text"),
        [
            (b'{"op":"format"}', "does not know the operation 'format'"),
            (b"{}", "does not know the operation None"),
            (b'{"op":"proof","kind":"guessed"}', "malformed"),
            (b'{"op":"proof","kind":"acquired","generation":1}', "malformed"),
            (b'{"op":"proof","kind":"acquired","when":1}', "malformed"),
            (b'{"op":"place"}', "malformed"),
            (b'{"op":"thaw"}', "not frozen by this connection"),
        ],
    )
    def test_a_wrong_request_gets_one_sentence(self, guard, line, text):
        """And the connection goes on."""
        guard.start()
        connection = GuardConnection(guard.run / "guard.sock")
        connection._socket.sendall(line + b"\n")
        answer = connection._reader.readline().decode()
        assert '"ok": false' in answer
        assert text in answer
        assert connection.call("status")["is_proven"] is False
        connection.close()

    @pytest.mark.parametrize("line", [b"hello", b"[1]", b"3", b"null", b"\xff", b"[" * 100_000])
    def test_what_is_no_request_ends_the_connection_alone(self, guard, line):
        """Everybody else is served on."""
        guard.start()
        connection = GuardConnection(guard.run / "guard.sock")
        connection._socket.sendall(line + b"\n")
        assert connection._reader.readline() == b""
        connection.close()
        assert not guard.client.status()[0].is_proven

    def test_two_connections_cannot_freeze_at_once(self, guard):
        """The second is told; the first one's freeze is its own to end."""
        guard.start()
        guard.prove()
        one, two = (GuardConnection(guard.run / "guard.sock") for _ in range(2))

        def freeze_with_both() -> float:
            one.call("freeze")
            with pytest.raises(Refused, match="frozen already"):
                two.call("freeze")
            with pytest.raises(Refused, match="not frozen by this connection"):
                two.call("thaw")
            return one.call("thaw")["freeze_ms"]

        assert unless_overlong(freeze_with_both) > 0
        one.close()
        two.close()


class TestLastResort:
    """A host on which nothing of Postfix can be frozen: `postfix stop` and `postfix start`."""

    @pytest.fixture
    def postfix(self, unfreezable) -> PostfixInstance:
        """Give that Postfix in the place of the other."""
        return unfreezable

    def test_it_is_chosen_and_the_start_harms_nothing(self, guard, postfix):
        """A Postfix that runs is thawed without a second `postfix start`, which would fail."""
        guard.start()
        guard.prove()
        guard.kill()
        master = Postfix(postfix.queue).master_pid()
        guard.start()
        assert guard.client.status()[1] == "stop-start"
        assert Postfix(postfix.queue).master_pid() == master
        assert answers(postfix, SOON_S)

    def test_a_push_can_be_made_though_stopping_takes_a_second(self, guard, postfix):
        """The limit of a freeze counts from the standstill, not from the beginning of the stop."""
        guard.start()
        guard.prove()

        def master_while_frozen() -> int | None:
            with guard.client.frozen():
                return Postfix(postfix.queue).master_pid()

        assert unless_overlong(master_while_frozen) is None
        assert answers(postfix, SOON_S)

    def test_an_overlong_freeze_is_ended_once(self, guard, postfix):
        """Postfix is started again, and the guard outlives that."""
        guard.start()
        guard.prove()
        connection = GuardConnection(guard.run / "guard.sock")
        connection.call("freeze")
        wait_until(lambda: answers(postfix, 0.2))
        time.sleep(0.3)
        with pytest.raises(Refused, match="before the snapshot"):
            connection.call("thaw")
        connection.close()
        assert guard.process.poll() is None

    def test_a_switchover_leaves_postfix_running(self, guard, postfix):
        """Set aside at the end of the freeze, while Postfix is stopped already."""
        guard.start()
        guard.prove()
        old = deferred_mail(postfix)

        def set_aside_at_end() -> None:
            with guard.client.frozen() as freeze:
                freeze.set_aside_at_end("switchover")

        unless_overlong(set_aside_at_end)
        assert answers(postfix, SOON_S)
        assert set(guard.client.pending_ids()) == old

    def test_a_guard_killed_in_a_freeze_starts_postfix_again(self, guard, postfix):
        """Nobody else would: its unit believes that it runs."""
        guard.start()
        guard.prove()
        connection = GuardConnection(guard.run / "guard.sock")
        connection.call("freeze")
        guard.kill()
        assert Postfix(postfix.queue).master_pid() is None
        guard.start()
        assert answers(postfix, SOON_S)
        connection.close()

    def test_a_postfix_that_its_administrator_stopped_stays_stopped(self, guard, postfix):
        """A fence needs no standstill then, and starts nothing."""
        guard.start()
        guard.prove()
        deferred_mail(postfix)
        stop = ["postfix", "-c", str(postfix.config), "stop"]
        subprocess.run(stop, check=True, capture_output=True)
        guard.client.set_aside("test")
        assert postfix.ids() == set()
        assert Postfix(postfix.queue).master_pid() is None


class TestStart:
    """Settings with which no fence could succeed are refused."""

    def run_guard(self, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the guard until it ends by itself."""
        return subprocess.run(
            [sys.executable, "-c", "from nodeagent.guard import main; main()"],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def test_the_relay_directory_is_on_the_queues_filesystem(self, tmp_path):
        """A rename to another one fails, and with it the fence."""
        other = tmp_path / "other"
        other.mkdir()
        (tmp_path / "queue").mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", other], check=True)
        try:
            done = self.run_guard(
                RELAY_AGENT_QUEUE_DIRECTORY=str(tmp_path / "queue"),
                RELAY_AGENT_RELAY_DIRECTORY=str(other / "not/there/yet"),
                RELAY_AGENT_STATE_DIRECTORY=str(tmp_path / "state"),
                RELAY_AGENT_RUN_DIRECTORY=str(tmp_path / "run"),
            )
        finally:
            subprocess.run(["umount", other], check=True)
        assert done.returncode == 1
        assert "must be on the filesystem of queue_directory" in done.stderr.splitlines()[-1]

    def test_a_bad_setting_is_one_sentence(self):
        """No traceback in the journal of a unit that restarts for ever."""
        done = self.run_guard(RELAY_AGENT_TICK_S="often")
        assert done.returncode == 1
        assert done.stderr.startswith("relay-guard: RELAY_AGENT_TICK_S: ")
        assert "Traceback" not in done.stderr


def test_a_guard_that_is_told_to_stop_ends_what_it_was_asked_for(guard, postfix):
    """SIGTERM in a freeze, in the middle of a drain: Postfix goes on without any guard."""
    guard.start()
    guard.prove()
    connection = GuardConnection(guard.run / "guard.sock")
    connection.call("drain")
    connection.call("freeze")
    guard.process.send_signal(signal.SIGTERM)
    assert guard.process.wait(30) == 0
    with pytest.raises(Unreachable):
        connection.call("thaw")
    assert answers(postfix, SOON_S)
    postfix.send(1)
    postfix.wait_until_deferred(1)
    connection.close()


def test_a_guard_killed_in_its_fence_completes_it(guard, postfix):
    """One queue renamed, its successor not made: the next start does both for all of them."""
    guard.start()
    guard.prove()
    old = deferred_mail(postfix)
    aside = guard.relay / "pending/00000000000000000001"
    aside.mkdir(parents=True)
    (postfix.queue / "deferred").rename(aside / "deferred")
    guard.kill()
    (guard.run / "guard.json").unlink()
    guard.start()
    assert set(guard.client.pending_ids()) == old
    postfix.send(1)
    postfix.wait_until_deferred(1)
    assert queue_id(1) not in postfix.ids()
