"""Replaces the node's SSH key when the control plane asks for it, without a push that fails.

Theory of operation. The heartbeat's answer names the key that shall be replaced; once this node
uses another, nothing is left to do, whatever was lost on the way. The new key is made here, or
fetched when the answer names one that a user brought along. Its public half is reported, so that
the control plane has the peers let in both. When a login with the new
key has reached the receiver of every peer, one rename puts it in use; the next heartbeat shows it,
and the peers drop the old one. A peer that cannot be reached holds the rotation up: the old key
stays in use, and nobody is locked out. Open connections outlive the change.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Final

import structlog

from nodeagent.adapters.peer import PeerAddress, PeerLink, SshFiles
from nodeagent.adapters.ssh_key import SshKey
from nodeagent.core.contract import PeerView
from nodeagent.core.event_kinds import SSH_ROTATION_WAITS
from nodeagent.errors import AgentError

log = structlog.get_logger()

RETRY_S: Final = 3.0
ANSWER_LIMIT_S: Final = 10.0


class KeyRotation:
    """Follows the wish; `follow` returns at once."""

    def __init__(
        self,
        key: SshKey,
        files: SshFiles,
        fetch: Callable[[str], str],
        note: Callable[[str, str], None],
        wake: Callable[[], None],
    ) -> None:
        """`fetch` returns the private half of a user's key, by its public one."""
        self._key = key
        self._files = replace(files, run_directory=files.run_directory / "rotation")
        self._fetch = fetch
        self._note = note
        self._wake = wake
        self._lock = threading.Lock()
        self._is_busy = False
        self._tried_at_s: float | None = None
        self._said = ""
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ssh-rotation")

    def follow(self, replaced: str | None, given: str | None, peers: tuple[PeerView, ...]) -> None:
        """Take a step towards another key than `replaced`; None: keep the present one.

        `given` is the public half of the user's key that shall come; None: one that is made here.
        """
        with self._lock:
            if self._is_busy or not self._is_due(replaced):
                return
            self._is_busy = True
            self._tried_at_s = time.monotonic()
        self._worker.submit(self._run, replaced, given, peers)

    def stop(self) -> None:
        """Take no more wishes; one that runs ends by its own limits."""
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _is_due(self, replaced: str | None) -> bool:
        if replaced is None:
            return self._key.following() is not None
        waited_s = RETRY_S if self._tried_at_s is None else time.monotonic() - self._tried_at_s
        return waited_s >= RETRY_S

    def _run(self, replaced: str | None, given: str | None, peers: tuple[PeerView, ...]) -> None:
        try:
            if replaced is None:
                self._key.drop_next()
            elif replaced == self._key.public_key():
                self._step(given, peers)
        except (AgentError, OSError) as error:
            self._say(str(error))
        finally:
            with self._lock:
                self._is_busy = False

    def _step(self, given: str | None, peers: tuple[PeerView, ...]) -> None:
        if not self._key.has_next(given):
            if given is None:
                self._key.make_next()
            else:
                self._key.take_next(self._fetch(given), given)
            self._wake()  # the next heartbeat shows it, and the peers hear of it
            return
        for peer in peers:
            if peer.ssh_host_keys:  # without one it was never enrolled or is trusted no longer
                self._prove(peer)
        self._key.replace()
        self._said = ""
        log.info("ssh key replaced")
        self._wake()

    def _prove(self, peer: PeerView) -> None:
        """Reach the peer's receiver with the new key; raises `Unreachable`."""
        address = PeerAddress(peer.name, peer.address, peer.ssh_user, peer.ssh_port)
        identity = self._key.following() or self._key.next_file
        link = PeerLink(address, replace(self._files, identity=identity))
        try:
            link.ask({"op": "ping"}, ANSWER_LIMIT_S)
        finally:
            link.close()

    def _say(self, text: str) -> None:
        """Note a reason once, not at each attempt."""
        if text != self._said:
            self._said = text
            log.warning(SSH_ROTATION_WAITS, reason=text)
            self._note(SSH_ROTATION_WAITS, text)
