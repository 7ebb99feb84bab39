"""The receiver's control session: pushes into the mirror of a peer's own queue, and promises.

What is refused is told the peer in one sentence and noted as an event, once a reason and session.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from nodeagent.adapters.event_spool import EventSpool
from nodeagent.adapters.line_channel import LineChannel
from nodeagent.adapters.local_addresses import local_addresses
from nodeagent.adapters.mirror import LockedMirror, Mirror, Placed
from nodeagent.adapters.owner import Owner
from nodeagent.adapters.promises import Promises
from nodeagent.adapters.receiver_facts import read_facts
from nodeagent.adapters.staging import StagingSession, remove_dead_sessions
from nodeagent.core.push_rules import PushVerdict, ReceiverState, judge_push
from nodeagent.core.push_wire import (
    group_keys,
    group_manifest,
    read_commit,
    read_offer,
    read_promise,
)
from nodeagent.core.rsync_command import StagingPlace
from nodeagent.errors import AgentError, Refused, Unreachable

IDLE_LIMIT_S: Final = 600.0
SEND_LIMIT_S: Final = 60.0
REFUSED: Final = "push-refused"


@dataclass(frozen=True)
class Places:
    """Where the receiver's files are, and whose the queue files become."""

    relay: Path
    state: Path
    owner: Owner

    def events(self) -> EventSpool:
        """Return the spool that the agent reports from."""
        return EventSpool(self.state / "events")

    def mirror(self, peer: str) -> Mirror:
        """Return the mirror of a peer's queue."""
        return Mirror(self.relay / "mirror", peer, events=self.events(), owner=self.owner)


class Session:
    """One control session of one peer."""

    def __init__(
        self,
        peer: str,
        places: Places,
        addresses: Callable[[], frozenset[str] | None] = local_addresses,
    ) -> None:
        self._peer = peer
        self._events = places.events()
        self._mirror = places.mirror(peer)
        self._promises = Promises(places.state / "promises.json")
        self._addresses = addresses
        self._staging: StagingSession | None = None
        self._noted: set[str] = set()
        self._operations: Final[dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]]] = {
            "begin": self._begin,
            "manifest": self._manifest,
            "commit": self._commit,
            "promise": self._promise,
            "ping": lambda _request: {},
            "facts": lambda _request: read_facts(places.relay),
        }

    def run(self, channel: LineChannel) -> None:
        """Answer until the peer ends the session or says nothing for `IDLE_LIMIT_S`."""
        try:
            while (request := channel.receive(IDLE_LIMIT_S)) is not None:
                channel.send(self.answer(request), SEND_LIMIT_S)
        except Unreachable as error:
            sys.stderr.write(f"relay-receive: {error}\n")
        finally:
            if self._staging is not None:
                self._staging.close()

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out one request; an `AgentError` becomes a refusal of one sentence."""
        operation = self._operations.get(str(request.get("op")))
        try:
            if operation is None:
                raise Refused("The receiver does not know this operation.")
            return {"ok": True, **operation(request)}
        except (AgentError, OSError) as error:
            self._note("failed", str(error))
            return {"ok": False, "reason": "failed", "text": str(error)}

    def _note(self, reason: str, text: str) -> None:
        if reason not in self._noted:
            self._noted.add(reason)
            data = {"peer": self._peer, "reason": reason}
            self._events.append(REFUSED, f"{self._peer}: {text}", **data)

    def _refusal(self, verdict: PushVerdict) -> dict[str, Any]:
        self._note(str(verdict.refusal), verdict.text)
        return {"ok": False, "reason": verdict.refusal, "text": verdict.text}

    def _begin(self, request: Mapping[str, Any]) -> dict[str, Any]:
        offer = read_offer(request)
        with self._mirror.locked() as mirror:
            now = ReceiverState(
                mirror.state, self._peer, self._addresses(), mirror.receipt() is not None
            )
            verdict = judge_push(now, offer)
            if not verdict.is_accepted:
                return self._refusal(verdict)
            remove_dead_sessions(self._mirror.path)
            if self._staging is None:
                self._staging = StagingSession(self._mirror.path)
            state = mirror.state
        return {
            "token": self._staging.token,
            "generation": state.floor_generation,
            "sequence": state.sequence,
            "agent": state.agent,
        }

    def _manifest(self, _request: Mapping[str, Any]) -> dict[str, Any]:
        with self._mirror.locked() as mirror:
            files = group_manifest(mirror.files.manifest())
            return {"sequence": mirror.state.sequence, "files": files}

    def _commit(self, request: Mapping[str, Any]) -> dict[str, Any]:
        commit = read_commit(request)
        if self._staging is None:
            raise Refused("A push needs a session that has begun.")
        staging = str(StagingPlace(self._staging.token, commit.attempt))
        with self._mirror.locked() as mirror:
            placed = mirror.put_in_place(commit, staging, self._peer, self._addresses())
            if commit.attempt:
                mirror.remove_staging(staging)
        return self._placed(placed, mirror)

    def _placed(self, placed: Placed, mirror: LockedMirror) -> dict[str, Any]:
        if not placed.verdict.is_accepted:
            return self._refusal(placed.verdict)
        return {
            "sequence": mirror.state.sequence,
            "messages": placed.state.messages,
            "rejected": group_keys(placed.rejected),
            "missing": group_keys(placed.missing),
        }

    def _promise(self, request: Mapping[str, Any]) -> dict[str, Any]:
        queue, length_s = read_promise(request)
        if queue != self._peer:
            raise Refused(f"{self._peer} may ask about its own queue only.")
        given = self._promises.promise(queue, length_s)
        if given.refusal:
            return {"ok": False, "reason": "promise", "text": given.refusal}
        return {"for_s": given.for_s}
