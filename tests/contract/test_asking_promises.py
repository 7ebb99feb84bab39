"""Asking a peer for its promise over real SSH: a kept connection may have died meanwhile."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeagent.adapters.guard_client import GuardClient
from nodeagent.adapters.peer import SshFiles
from nodeagent.adapters.peers import Peers
from nodeagent.adapters.promises import Promises
from nodeagent.adapters.push import Sender
from nodeagent.adapters.queue_watch import QueueWatch
from nodeagent.adapters.snapshot import Snapshots
from tests.core.worlds import peer, view
from tests.fakes.loopback_sshd import LoopbackSshd

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="sshd(8) lets nobody but its user in")


@pytest.fixture
def sshd(sshd: LoopbackSshd) -> LoopbackSshd:
    """Give node-b's sshd, whose receiver may promise from now on."""
    Promises(sshd.state / "promises.json").start(15.0)
    return sshd


@pytest.fixture
def peers(sshd: LoopbackSshd, tmp_path_factory) -> Iterator[Peers]:
    """Return node-a's view of node-b; ssh(1) wants a short path for its socket."""
    root = tmp_path_factory.mktemp("a")
    watch = QueueWatch(root / "queue")
    made = Peers(
        Sender("node-a", "1-1"),
        SshFiles(sshd.root / "id", sshd.root / "known_hosts", root / "run"),
        GuardClient(root / "guard.sock"),
        watch,
        Snapshots(root / "snapshot", root / "queue", watch),
    )
    made.follow(view(peers=(peer(address="127.0.0.1", ssh_port=sshd.port),)))
    yield made
    made.follow(view(peers=()))


def ask_until_promised(peers: Peers) -> None:
    """Ask again and again, as the failsafe does at each tick: a busy machine logs in slowly."""
    until_s = time.monotonic() + 30
    while not peers.ask_promise("node-b", 10.0):
        assert time.monotonic() < until_s, "no promise was given"


def sessions_of(sshd: LoopbackSshd) -> list[int]:
    """Return the processes that serve this sshd's connections."""
    pid = (sshd.root / "sshd.pid").read_text().strip()
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_promise_is_given_and_kept(peers, sshd):
    """The peer has it on disk before it answers."""
    ask_until_promised(peers)
    assert Promises(sshd.state / "promises.json").promised_s("node-a") > 5


def test_a_connection_that_hangs_is_given_up_for_a_fresh_one(peers, sshd):
    """The peer is well, only the kept connection is not: its promise is not lost with it."""
    ask_until_promised(peers)
    hanging = sessions_of(sshd)
    for pid in hanging:
        os.kill(pid, signal.SIGSTOP)
    try:
        ask_until_promised(peers)
    finally:
        for pid in hanging:
            os.kill(pid, signal.SIGCONT)


def test_a_peer_that_is_gone_promises_nothing(peers, sshd):
    """Neither over the kept connection nor over a fresh one."""
    ask_until_promised(peers)
    sshd.stop()
    assert not peers.ask_promise("node-b", 10.0)
