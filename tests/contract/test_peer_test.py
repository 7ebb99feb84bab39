"""A test of a peer against a real sshd: what each step shows, and that a failure ends it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from nodeagent import __version__
from nodeagent.adapters.peer import SshFiles
from nodeagent.adapters.peer_test import PeerTester
from nodeagent.core.contract import PeerView
from nodeagent.core.ssh_wire import (
    PEER_TEST_STEPS,
    PeerTestReport,
    PeerTestStep,
    PeerTestWish,
    fingerprint,
)
from tests.fakes.loopback_sshd import LoopbackSshd
from tests.fakes.postfix_instance import free_port

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="sshd lets root in only as root")

RECEIVER = """
import json, sys, time
facts = {{"ok": True, "version": "{version}", "rsync": {rsync}, "free_bytes": {free_bytes},
          "free_inodes": 1000000, "clock_s": time.time() + {ahead_s}}}
for line in sys.stdin:
    answer = facts if json.loads(line)["op"] == "facts" else {{"ok": True}}
    print(json.dumps(answer), flush=True)
"""
PLENTY: dict[str, Any] = {
    "version": __version__,
    "rsync": "'3.2.7'",
    "free_bytes": 2**40,
    "ahead_s": 0,
}


Try = Callable[..., PeerTestReport]


@pytest.fixture
def peer(sshd: LoopbackSshd) -> PeerView:
    """Give node-b as its sshd shows it."""
    key = " ".join((sshd.root / "host_key.pub").read_text().split()[:2])
    return PeerView(name="node-b", address="127.0.0.1", ssh_port=sshd.port, ssh_host_keys=(key,))


def try_peer(
    sshd: LoopbackSshd, peer: PeerView, reports: list[PeerTestReport] | None = None
) -> PeerTestReport:
    """Test the peer with the key that this sshd lets in."""
    files = SshFiles(sshd.root / "id", sshd.root / "known_hosts", sshd.run)
    heard = [] if reports is None else reports
    return PeerTester(files).test(PeerTestWish(id=7, peer=peer), heard.append)


def answer_with(sshd: LoopbackSshd, **changes: Any) -> None:
    """Put a receiver in place that says of its host what a test needs."""
    program = sshd.root / "receiver.py"
    program.write_text(RECEIVER.format(**{**PLENTY, **changes}))
    force(sshd, f"{sys.executable} {program}")


def force(sshd: LoopbackSshd, command: str) -> None:
    """Have the key run this command."""
    key = (sshd.root / "id.pub").read_text()
    (sshd.root / "authorized_keys").write_text(f'command="{command}",restrict {key}')


def failed_at(report: PeerTestReport) -> PeerTestStep:
    """Return the one step that failed, which is the last that was done."""
    assert report.ok is False
    assert [line.ok for line in report.lines] == [True] * (len(report.lines) - 1) + [False]
    assert report.text == report.lines[-1].text
    return report.lines[-1].step


def test_every_step_is_taken_and_reported_when_it_is_done(
    sshd: LoopbackSshd, peer: PeerView
) -> None:
    """With the real receiver; each report has one step more."""
    reports: list[PeerTestReport] = []
    whole = try_peer(sshd, peer, reports)
    assert (whole.ok, whole.text) == (True, "node-b takes pushes from this node."), whole
    assert tuple(line.step for line in whole.lines) == PEER_TEST_STEPS
    assert [len(one.lines) for one in reports] == list(range(1, len(PEER_TEST_STEPS)))
    assert {one.ok for one in reports} == {None}
    said = {line.step: line.text for line in whole.lines}
    assert said[PeerTestStep.ADDRESS] == f"node-b is 127.0.0.1, port {sshd.port}."
    assert said[PeerTestStep.CONNECT].startswith("It answers: SSH-2.0-OpenSSH")
    assert str(fingerprint(peer.ssh_host_keys[0])) in said[PeerTestStep.HOST_KEY]
    assert said[PeerTestStep.LOGIN] == "root is let in with this node's key."
    assert f"relay-receive {__version__} answers" in said[PeerTestStep.RECEIVER]
    assert "GiB" in said[PeerTestStep.SPACE]
    assert said[PeerTestStep.CLOCK].startswith("Its clock is 0.")


def test_nothing_is_left_behind(sshd: LoopbackSshd, peer: PeerView) -> None:
    """No socket of a connection, and no mirror on the peer."""
    try_peer(sshd, peer)
    assert [path for path in (sshd.run / "test").iterdir() if path.is_socket()] == []
    assert not (sshd.relay / "mirror").exists() or list((sshd.relay / "mirror").iterdir()) == []


def test_a_closed_port_and_a_port_of_another_service(sshd: LoopbackSshd, peer: PeerView) -> None:
    """Nobody answers, or somebody who is no SSH server."""
    closed = try_peer(sshd, peer.model_copy(update={"ssh_port": free_port()}))
    assert failed_at(closed) is PeerTestStep.CONNECT
    assert "does not answer" in closed.text
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):  # fills the queue's first place
            listener.accept()[0].close()
        report = _with_banner(
            listener, lambda: try_peer(sshd, peer.model_copy(update={"ssh_port": port}))
        )
    assert failed_at(report) is PeerTestStep.CONNECT
    assert "not as an SSH server does" in report.text


def _with_banner(listener: socket.socket, ask: Callable[[], PeerTestReport]) -> PeerTestReport:
    def greet() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"220 mx.test ESMTP\r\n")

    greeter = threading.Thread(target=greet)
    greeter.start()
    report = ask()
    greeter.join()
    return report


def test_another_host_key_ends_it_before_the_login(sshd: LoopbackSshd, peer: PeerView) -> None:
    """Both fingerprints are said; without any known key nothing is trusted either."""
    other = " ".join((sshd.root / "id.pub").read_text().split()[:2])
    report = try_peer(sshd, peer.model_copy(update={"ssh_host_keys": (other,)}))
    assert failed_at(report) is PeerTestStep.HOST_KEY
    assert str(fingerprint(peer.ssh_host_keys[0])) in report.text
    assert str(fingerprint(other)) in report.text
    unknown = try_peer(sshd, peer.model_copy(update={"ssh_host_keys": ()}))
    assert (failed_at(unknown), unknown.text) == (
        PeerTestStep.HOST_KEY,
        "No host key of node-b is known: it is not enrolled.",
    )


def test_a_key_that_is_not_let_in(sshd: LoopbackSshd, peer: PeerView) -> None:
    """What ssh(1) said is shown."""
    (sshd.root / "authorized_keys").write_text("")
    report = try_peer(sshd, peer)
    assert failed_at(report) is PeerTestStep.LOGIN
    assert "Permission denied" in report.text


@pytest.mark.parametrize("command", ["false", "echo no", "echo '{}'"])
def test_a_command_that_is_not_the_receiver(
    sshd: LoopbackSshd, peer: PeerView, command: str
) -> None:
    """Logged in, and nobody there who understands."""
    force(sshd, command)
    assert failed_at(try_peer(sshd, peer)) is PeerTestStep.RECEIVER


@pytest.mark.parametrize(
    ("changes", "step", "words"),
    [
        ({"free_bytes": 2**20}, PeerTestStep.SPACE, "Only 0.0 GiB"),
        ({"rsync": "None"}, PeerTestStep.RSYNC, "rsync cannot be run on node-b."),
        ({"ahead_s": 3600}, PeerTestStep.CLOCK, "ahead of this node's"),
        ({"ahead_s": -3600}, PeerTestStep.CLOCK, "behind this node's"),
        ({"rsync": "[]+1"}, PeerTestStep.RECEIVER, "cannot be reached"),
    ],
)
def test_a_host_on_which_a_push_would_fail(
    sshd: LoopbackSshd, peer: PeerView, changes: dict[str, Any], step: PeerTestStep, words: str
) -> None:
    """Each with its own sentence."""
    answer_with(sshd, **changes)
    report = try_peer(sshd, peer)
    assert failed_at(report) is step
    assert words in report.text


def test_a_receiver_of_another_version_is_named(sshd: LoopbackSshd, peer: PeerView) -> None:
    """It still works, and the difference is seen."""
    answer_with(sshd, version="0.0.9")
    report = try_peer(sshd, peer)
    assert report.ok is True
    assert f"this node has {__version__}" in report.lines[4].text


def test_a_fingerprint_is_the_one_that_ssh_keygen_shows(sshd: LoopbackSshd) -> None:
    """The operator compares them by eye."""
    done = subprocess.run(
        ["ssh-keygen", "-lf", str(sshd.root / "id.pub")], capture_output=True, text=True, check=True
    )
    assert fingerprint((sshd.root / "id.pub").read_text()) == done.stdout.split()[1]
    assert fingerprint("ssh-ed25519 !!") is None
    assert fingerprint("ssh-ed25519") is None
