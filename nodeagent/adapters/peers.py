"""The other nodes as the executor's `PeersPort`: pushes, and the promises of the failsafe.

Each peer has two connections. Pushes run in the agent's worker and may wait for a slow disk;
promises are asked for by the loop itself, which may not wait, so they have a connection of their
own with short limits.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import structlog

from nodeagent.adapters.guard_client import Freeze, GuardClient
from nodeagent.adapters.peer import PeerAddress, PeerLink, SshFiles
from nodeagent.adapters.push import Freezer, Pusher, PushResult, Sender
from nodeagent.adapters.queue_watch import QueueWatch
from nodeagent.adapters.snapshot import Snapshots
from nodeagent.adapters.vip import held_vips
from nodeagent.core.contract import ClusterView, PeerView, PushReport
from nodeagent.core.ports import LastPush
from nodeagent.errors import AgentError, Refused, Unreachable

log = structlog.get_logger()

OLD_CONNECTION_LIMIT_S: Final = 1.0
FRESH_CONNECTION_LIMIT_S: Final = 2.0
"""What a promise may take: an open connection answers at once or is dead, a new one has to log in.

Both together must fit between the renew deadline and the lease's end (`core.lease`).
"""
DRAIN_LIMIT_S: Final = 5.0
DRAIN_POLL_S: Final = 0.02


@dataclass
class _Peer:
    """One peer's connections and what the last push to it did."""

    view: PeerView
    pusher: Pusher
    promises: PeerLink
    attempted_at_s: float | None = None
    result: PushResult | None = None


class Peers:
    """The peers of the current view; `follow` keeps them as the view has them."""

    def __init__(
        self,
        sender: Sender,
        files: SshFiles,
        guard: GuardClient,
        watch: QueueWatch,
        snapshots: Snapshots,
    ) -> None:
        self._sender = sender
        self._files = files
        self._guard = guard
        self._watch = watch
        self._snapshots = snapshots
        self._vips: tuple[str, ...] = ()
        self._peers: dict[str, _Peer] = {}

    def follow(self, view: ClusterView) -> None:
        """Open what is new, close what is gone or lives elsewhere now; only between jobs."""
        self._vips = view.vips
        wanted = {peer.name: peer for peer in view.peers}
        for name in [name for name, peer in self._peers.items() if not _same(peer, wanted)]:
            peer = self._peers.pop(name)
            peer.pusher.close()
            peer.promises.close()
        for name in wanted.keys() - self._peers.keys():
            self._peers[name] = self._connect(wanted[name])

    def _connect(self, view: PeerView) -> _Peer:
        address = PeerAddress(view.name, view.address, view.ssh_user, view.ssh_port)
        asking = SshFiles(
            identity=self._files.identity,
            known_hosts=self._files.known_hosts,
            run_directory=self._files.run_directory / "promises",
            connect_timeout_s=1,
        )
        pusher = Pusher(self._sender, PeerLink(address, self._files), self._snapshots, self._watch)
        return _Peer(view, pusher, PeerLink(address, asking))

    def _peer(self, name: str) -> _Peer:
        if name not in self._peers:
            raise Refused(f"{name} is not a peer of this node.")
        return self._peers[name]

    def push(self, peer: str, generation: int) -> None:
        """Snapshot what changed and push it."""
        self._push(self._peer(peer), generation, self._guard.frozen)

    def _push(
        self, peer: _Peer, generation: int, freezer: Freezer, *, last: bool = False
    ) -> PushResult:
        try:
            peer.result = peer.pusher.push(
                freezer,
                generation=generation,
                holds_vips=frozenset(held_vips(self._vips) or ()),
                is_last=last,
            )
        finally:
            peer.attempted_at_s = time.monotonic()
        if peer.result.freeze_ms:
            log.info(
                "pushed",
                peer=peer.view.name,
                sequence=peer.result.sequence,
                sent=peer.result.sent,
                removed=peer.result.removed,
                freeze_ms=round(peer.result.freeze_ms, 2),
            )
        return peer.result

    def push_last(self, peer: str, generation: int, aside_reason: str) -> LastPush:
        """Drain, push, and set the queue aside at the end of the push's freeze."""

        @contextmanager
        def freeze_and_set_aside() -> Iterator[Freeze]:
            with self._guard.frozen() as freeze:
                freeze.set_aside_at_end(aside_reason)
                yield freeze

        with self._guard.drained() as drain:
            until_s = time.monotonic() + DRAIN_LIMIT_S
            while drain.call("drain")["busy"] and time.monotonic() < until_s:
                time.sleep(DRAIN_POLL_S)
            result = self._push(self._peer(peer), generation, freeze_and_set_aside, last=True)
        return LastPush(result.messages, result.freeze_ms)

    def ask_promise(self, peer: str, length_s: float) -> bool:
        """Ask for the promise not to adopt our queue for `length_s`; False: not given."""
        request = {"op": "promise", "queue": self._sender.queue, "length_s": length_s}
        link = self._peer(peer).promises
        was_open = link.is_open
        limit_s = OLD_CONNECTION_LIMIT_S if was_open else FRESH_CONNECTION_LIMIT_S
        try:
            answer = link.ask(request, limit_s)
        except Unreachable:
            if not was_open:
                return False
            return self.ask_promise(peer, length_s)  # a connection of old had died meanwhile
        except AgentError:
            return False
        return float(answer["for_s"]) >= length_s

    def push_age_s(self, names: tuple[str, ...]) -> float | None:
        """Return the time since the last attempt to push to each of these, None before it."""
        attempts = [
            peer.attempted_at_s if (peer := self._peers.get(name)) is not None else None
            for name in names
        ]
        if not attempts or None in attempts:
            return None
        return time.monotonic() - min(at_s for at_s in attempts if at_s is not None)

    def reports(self) -> tuple[PushReport, ...]:
        """Return the last successful push to each peer."""
        now_s = time.monotonic()
        return tuple(
            PushReport(
                peer=name,
                generation=peer.result.generation,
                sequence=peer.result.sequence,
                age_s=now_s - peer.result.taken_at_s,
                messages=peer.result.messages,
                sent=peer.result.sent,
                freeze_ms=peer.result.freeze_ms,
            )
            for name, peer in self._peers.items()
            if peer.result is not None
        )


def _same(peer: _Peer, wanted: dict[str, PeerView]) -> bool:
    view = wanted.get(peer.view.name)
    known = peer.view
    return view is not None and (view.address, view.ssh_user, view.ssh_port) == (
        known.address,
        known.ssh_user,
        known.ssh_port,
    )
