"""The sending side of a push: snapshot, rsync(1), commit, to one peer.

Theory of operation. The pusher knows what the peer's mirror has (`known`), because every push it
makes builds on the one before it, and the receiver drops one that does not. It begins with a full
comparison: after its own start, at a new generation, after anything whose outcome it does not know,
after lost events, and now and then as a check. When nothing was touched since the last push no
Postfix is frozen and no file is sent: one line to the peer says that the mirror is up to date.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, Final

from nodeagent.adapters.peer import PeerLink
from nodeagent.adapters.queue_watch import QueueWatch
from nodeagent.adapters.snapshot import Base, EventsLost, FreezeReport, Snapshot, Snapshots
from nodeagent.core.push_plan import Changes
from nodeagent.core.push_rules import PushOffer
from nodeagent.core.push_wire import (
    Commit,
    commit_message,
    number_of,
    offer_message,
    text_of,
    ungroup_keys,
    ungroup_manifest,
)
from nodeagent.core.queue_files import Facts, Key, is_message
from nodeagent.core.rsync_command import StagingPlace
from nodeagent.errors import AgentError

COMPARE_EVERY_S: Final = 600.0

Freezer = Callable[[], AbstractContextManager[FreezeReport]]


@dataclass(frozen=True)
class PushResult:
    """What one push did."""

    generation: int
    sequence: int
    taken_at_s: float  # time.monotonic() of the moment that the mirror shows
    messages: int  # in the mirror afterwards
    sent: int = 0
    removed: int = 0
    is_full: bool = False
    freeze_ms: float = 0.0  # 0: nothing had changed, so nothing was frozen
    rejected: frozenset[Key] = frozenset()  # the peer keeps no copy of these


@dataclass(frozen=True)
class Sender:
    """Who pushes: the node, which is its queue, and this very agent process."""

    queue: str
    agent: str


@dataclass
class _Copy:
    """The peer's mirror as this process knows it."""

    generation: int
    sequence: int
    known: dict[Key, Facts] = field(default_factory=dict)
    rejected: frozenset[Key] = frozenset()  # it may have an older file for these
    is_ours: bool = False  # all it has was sent by this process, after a full comparison
    is_sure: bool = False  # and `known` is exactly what it has
    compared_at_s: float = 0.0


@dataclass
class _Session:
    """One session with the peer's receiver."""

    token: str
    generation: int
    attempts: int = 0


class Pusher:
    """Pushes one node's queue to one peer; not for two threads at once."""

    def __init__(
        self, sender: Sender, link: PeerLink, snapshots: Snapshots, watch: QueueWatch
    ) -> None:
        self._sender = sender
        self._link = link
        self._snapshots = snapshots
        self._watch = watch
        self._log = watch.open_log()
        self._session: _Session | None = None
        self._copy: _Copy | None = None

    def close(self) -> None:
        """End the session and stop noting changes for it."""
        self._watch.close_log(self._log)
        self._link.close()

    def push(
        self,
        freezer: Freezer,
        *,
        generation: int,
        holds_vips: frozenset[str],
        is_last: bool = False,
    ) -> PushResult:
        """Bring the peer's mirror up to this moment; raises `Refused` or `Unreachable`.

        `freezer` is called for each snapshot: events lost in the middle cost a second one. With
        `is_last` it is called even when nothing has changed, for what happens when it ends.
        """
        question = PushOffer(self._sender.queue, generation, self._sender.agent, holds_vips)
        try:
            return self._push_once(question, freezer, is_last=is_last)
        except EventsLost:
            return self._push_once(question, freezer, is_last=is_last)

    def _push_once(self, question: PushOffer, freezer: Freezer, *, is_last: bool) -> PushResult:
        taken_at_s = time.monotonic()
        must_look = self._has_changes() or is_last
        try:
            session, copy = self._begin(question)
            offer = self._offer(copy, question)
        except AgentError:
            self._session = None
            raise
        if not must_look and not offer.is_full:
            answer = self._commit(copy, Commit(offer, 0, {}, frozenset(), None))
            return PushResult(
                generation=offer.generation,
                sequence=offer.sequence,
                taken_at_s=taken_at_s,
                messages=number_of(answer, "messages"),
            )
        base = Base(copy.known, is_full=offer.is_full, trust_events=copy.is_ours)
        snapshot = self._snapshots.take(self._log, base, freezer())
        untold = snapshot.changes
        try:
            result = self._send(session, copy, offer, snapshot)
            untold = Changes()
        finally:
            self._watch.give_back(self._log, untold)
            snapshot.discard()
        return result

    def _has_changes(self) -> bool:
        """Tell whether anything was touched; what was taken from the log goes back."""
        changes = self._watch.take(self._log)
        self._watch.give_back(self._log, changes)
        return bool(changes)

    def _begin(self, question: PushOffer) -> tuple[_Session, _Copy]:
        """Return the session, begun anew where the connection or the generation is another.

        The mirror's sequence moves with all that happens to it, so one that has not moved and was
        written by this process last is still what this process knows.
        """
        session, copy = self._session, self._copy
        is_same = session is not None and session.generation == question.generation
        if session is not None and copy is not None and is_same and self._link.is_open:
            return session, copy
        answer = self._link.ask({"op": "begin", **offer_message(question)})
        session = _Session(text_of(answer, "token"), question.generation)
        sequence = number_of(answer, "sequence")
        if copy is None or answer.get("agent") != question.agent:
            copy = _Copy(question.generation, sequence)
        elif (copy.generation, copy.sequence) != (question.generation, sequence):
            copy.is_sure = False
        self._session, self._copy = session, copy
        return session, copy

    def _offer(self, copy: _Copy, question: PushOffer) -> PushOffer:
        """Return the offer of the next push, having asked what the mirror has if it is full."""
        is_due = time.monotonic() - copy.compared_at_s > COMPARE_EVERY_S
        is_full = is_due or not (copy.is_sure and self._log.is_complete)
        if is_full:
            answer = self._link.ask({"op": "manifest"})
            copy.generation, copy.sequence = question.generation, number_of(answer, "sequence")
            copy.known = ungroup_manifest(answer, "files")
            for key in copy.rejected:
                copy.known.pop(key, None)
        return replace(question, sequence=copy.sequence + 1, base=copy.sequence, is_full=is_full)

    def _send(
        self, session: _Session, copy: _Copy, offer: PushOffer, snapshot: Snapshot
    ) -> PushResult:
        attempt = 0
        if snapshot.puts:
            session.attempts += 1
            attempt = session.attempts
            try:
                self._link.send_files(snapshot.path, StagingPlace(session.token, attempt))
            except AgentError:
                self._session = None
                raise
        sizes = {key: facts.size for key, facts in snapshot.puts.items()}
        listed = None if snapshot.listed is None else frozenset(snapshot.listed)
        answer = self._commit(copy, Commit(offer, attempt, sizes, snapshot.gone, listed))
        messages = number_of(answer, "messages")
        rejected = ungroup_keys(answer, "rejected")
        missing = ungroup_keys(answer, "missing")
        self._note_content(copy, snapshot, rejected, missing)
        self._watch.give_back(self._log, Changes(touched=set(missing)))
        expected = sum(1 for key in copy.known if is_message(key.kind))
        copy.is_sure = copy.is_sure and (messages == expected or bool(rejected))
        return PushResult(
            generation=offer.generation,
            sequence=offer.sequence,
            taken_at_s=snapshot.taken_at_s,
            messages=messages,
            sent=len(snapshot.puts),
            removed=len(snapshot.gone),
            is_full=offer.is_full,
            freeze_ms=snapshot.freeze_ms,
            rejected=rejected,
        )

    def _commit(self, copy: _Copy, commit: Commit) -> dict[str, Any]:
        """Commit; where the outcome is unknown or the mirror another, look at it next time."""
        try:
            answer = self._link.ask(commit_message(commit))
        except AgentError:
            self._session = None
            raise
        copy.sequence = commit.offer.sequence
        return answer

    def _note_content(
        self, copy: _Copy, snapshot: Snapshot, rejected: frozenset[Key], missing: frozenset[Key]
    ) -> None:
        if snapshot.listed is not None:
            copy.known = dict(snapshot.listed)
            copy.is_ours = copy.is_sure = True
            copy.compared_at_s = time.monotonic()
        else:
            copy.known.update(snapshot.puts)
            for key in snapshot.gone:
                copy.known.pop(key, None)
        for key in rejected | missing:
            copy.known.pop(key, None)
        copy.rejected = (copy.rejected - frozenset(snapshot.puts)) | rejected
