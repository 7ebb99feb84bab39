"""Tests a peer step by step as a push would reach it, and says of each step what it showed.

The first step that fails is the last: what comes after it could only fail for the same reason.
Nothing on the peer is changed. The connection is one of its own, so that a test of a peer that
hangs disturbs no push.
"""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from nodeagent import __version__
from nodeagent.adapters.peer import PeerAddress, PeerLink, SshFiles
from nodeagent.adapters.receiver_facts import ReceiverFacts, parse_facts, rsync_version
from nodeagent.core.contract import PeerView
from nodeagent.core.ssh_wire import (
    PeerTestLine,
    PeerTestReport,
    PeerTestStep,
    PeerTestWish,
    fingerprint,
)
from nodeagent.errors import AgentError, ToolFailed, Unreachable

CONNECT_LIMIT_S: Final = 5.0
ANSWER_LIMIT_S: Final = 10.0
FREE_BYTES: Final = 256 * 1024 * 1024
FREE_INODES: Final = 10_000
CLOCK_LIMIT_S: Final = 5.0
"""What a clock may differ by: logs of two nodes are read side by side."""
GIB: Final = 1024**3
TEXT_LIMIT: Final = 500
BANNER_BYTES: Final = 255


class StepFailed(AgentError):
    """A step showed something that a push would fail at."""


@dataclass
class _Run:
    """What the steps of one test know of the peer."""

    peer: PeerView
    link: PeerLink
    facts: ReceiverFacts | None = None
    offset_s: float = 0.0
    spread_s: float = 0.0

    @property
    def known(self) -> ReceiverFacts:
        """Return what the receiver said in its step."""
        if self.facts is None:
            raise Unreachable
        return self.facts


class PeerTester:
    """Carries out tests; for one thread at a time."""

    def __init__(self, files: SshFiles) -> None:
        self._files = replace(
            files,
            run_directory=files.run_directory / "test",
            connect_timeout_s=int(CONNECT_LIMIT_S),
        )

    def test(self, wish: PeerTestWish, report: Callable[[PeerTestReport], None]) -> PeerTestReport:
        """Do each step, report after each but the last, and return the whole."""
        lines: list[PeerTestLine] = []
        for line in self._steps(wish.peer):
            if lines:
                report(PeerTestReport(id=wish.id, ok=None, lines=tuple(lines)))
            lines.append(line)
        is_ok = lines[-1].ok
        text = f"{wish.peer.name} takes pushes from this node." if is_ok else lines[-1].text
        return PeerTestReport(id=wish.id, ok=is_ok, text=text, lines=tuple(lines))

    def _steps(self, peer: PeerView) -> Iterator[PeerTestLine]:
        address = PeerAddress(peer.name, peer.address, peer.ssh_user, peer.ssh_port)
        run = _Run(peer, PeerLink(address, self._files))
        try:
            for step, carry_out in STEPS.items():
                try:
                    text, is_ok = carry_out(run), True
                except (AgentError, OSError) as error:
                    text, is_ok = str(error), False
                yield PeerTestLine(step=step, ok=is_ok, text=text[:TEXT_LIMIT])
                if not is_ok:
                    return
        finally:
            run.link.close()


def _address(run: _Run) -> str:
    peer = run.peer
    try:
        found = socket.getaddrinfo(peer.address, peer.ssh_port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise StepFailed(f"{peer.address} is no address that this node knows: {error}.") from error
    return f"{peer.name} is {found[0][4][0]}, port {peer.ssh_port}."


def _connect(run: _Run) -> str:
    peer = run.peer
    place = (peer.address, peer.ssh_port)
    try:
        with socket.create_connection(place, timeout=CONNECT_LIMIT_S) as connection:
            banner = connection.recv(BANNER_BYTES).decode("ascii", errors="replace").strip()
    except OSError as error:
        raise StepFailed(f"{place[0]} port {place[1]} does not answer: {error}.") from error
    if not banner.startswith("SSH-"):
        raise StepFailed(f"{place[0]} port {place[1]} answers, but not as an SSH server does.")
    return f"It answers: {banner.splitlines()[0]}"


def _host_key(run: _Run) -> str:
    peer = run.peer
    if not peer.ssh_host_keys:
        raise StepFailed(f"No host key of {peer.name} is known: it is not enrolled.")
    shown = _scan(peer)
    matching = [key for key in shown if key in peer.ssh_host_keys]
    if not matching:
        raise StepFailed(
            f"It shows {_fingerprints(shown)}, but of {peer.name} only "
            f"{_fingerprints(peer.ssh_host_keys)} is trusted: another host answers at "
            f"{peer.address}, its host keys are new and its agent does not run, or other keys are "
            "pinned."
        )
    return f"It shows the host key of {peer.name} that is trusted: {_fingerprints(matching[:1])}."


def _scan(peer: PeerView) -> tuple[str, ...]:
    command = ["ssh-keyscan", "-T", str(int(CONNECT_LIMIT_S)), "-p", str(peer.ssh_port)]
    try:
        done = subprocess.run(
            [*command, peer.address],
            capture_output=True,
            text=True,
            timeout=4 * CONNECT_LIMIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolFailed("ssh-keyscan did not show the host keys.") from error
    lines = (line.split() for line in done.stdout.splitlines() if not line.startswith("#"))
    found = tuple(" ".join(words[1:3]) for words in lines if len(words) > 2)  # noqa: PLR2004
    if not found:
        raise StepFailed("It shows no host key.")
    return tuple(sorted(found, key=lambda key: (not key.startswith("ssh-ed25519"), key)))


def _fingerprints(keys: tuple[str, ...] | list[str]) -> str:
    return ", ".join(fingerprint(key) or "a key that cannot be read" for key in keys)


def _login(run: _Run) -> str:
    run.link.log_in(ANSWER_LIMIT_S)
    return f"{run.peer.ssh_user} is let in with this node's key."


def _receiver(run: _Run) -> str:
    began_s = time.time()
    run.link.ask({"op": "ping"}, ANSWER_LIMIT_S)
    asked_s = time.time()
    run.facts = parse_facts(run.link.ask({"op": "facts"}, ANSWER_LIMIT_S))
    answered_s = time.time()
    run.spread_s = (answered_s - asked_s) / 2
    run.offset_s = run.facts.clock_s - (asked_s + answered_s) / 2
    version = run.facts.version
    words = "" if version == __version__ else f", this node has {__version__}"
    took_ms = (asked_s - began_s) * 1000
    return f"relay-receive {version} answers after {took_ms:.0f} ms{words}."


def _space(run: _Run) -> str:
    facts = run.known
    text = f"{facts.free_bytes / GIB:.1f} GiB and {facts.free_inodes} files are free for the mirror"
    # some file systems count no inodes and say 0
    if facts.free_bytes < FREE_BYTES or 0 < facts.free_inodes < FREE_INODES:
        raise StepFailed(f"Only {text}.")
    return f"{text}."


def _rsync(run: _Run) -> str:
    here, there = rsync_version(), run.known.rsync
    if here is None:
        raise StepFailed("rsync cannot be run on this node.")
    if there is None:
        raise StepFailed(f"rsync cannot be run on {run.peer.name}.")
    return f"rsync {there} there, {here} here."


def _clock(run: _Run) -> str:
    direction = "ahead of" if run.offset_s >= 0 else "behind"
    text = (
        f"Its clock is {abs(run.offset_s):.2f} s {direction} this node's, "
        f"give or take {run.spread_s:.2f} s"
    )
    if abs(run.offset_s) - run.spread_s > CLOCK_LIMIT_S:
        raise StepFailed(f"{text}: set both by NTP.")
    return f"{text}."


STEPS: Final[dict[PeerTestStep, Callable[[_Run], str]]] = {
    PeerTestStep.ADDRESS: _address,
    PeerTestStep.CONNECT: _connect,
    PeerTestStep.HOST_KEY: _host_key,
    PeerTestStep.LOGIN: _login,
    PeerTestStep.RECEIVER: _receiver,
    PeerTestStep.SPACE: _space,
    PeerTestStep.RSYNC: _rsync,
    PeerTestStep.CLOCK: _clock,
}
