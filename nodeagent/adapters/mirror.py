"""The copy of a peer's queue that this node keeps: pushes go in, an adoption takes it out.

Everything happens under the mirror's lock (flock(2) on `lock`), which the receiver, the agent and
any older receiver still running share. A push is all or nothing to whoever has the lock: what it
will do is written to `journal.json` first, then done by renames and removals that may be repeated,
then `state.json` moves on. Whoever takes the lock finishes what a killed process left in the
journal before it looks at anything.

On disk, in this order: content of the staged files; journal; the renames; state; the journal's
removal. A push is acknowledged after that, so an acknowledged copy survives a power loss.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from nodeagent.adapters.durable import read_json, remove_durably, write_durably
from nodeagent.adapters.event_spool import EventSpool
from nodeagent.adapters.locks import LOCK_TIMEOUT_S, locked
from nodeagent.adapters.mirror_files import MirrorFiles
from nodeagent.adapters.owner import Owner
from nodeagent.core.names import is_node_name
from nodeagent.core.push_rules import (
    MirrorState,
    PushVerdict,
    ReceiverState,
    after_adoption,
    after_push,
    judge_push,
)
from nodeagent.core.push_wire import Commit, group_keys, ungroup_keys
from nodeagent.core.queue_files import Key, Kind, is_message
from nodeagent.errors import BrokenState, Refused

QUARANTINED: Final = "quarantined"


@dataclass(frozen=True)
class Receipt:
    """The list of what an adoption takes, as it is on this node's disk."""

    generation: int
    ids: tuple[str, ...]


@dataclass(frozen=True)
class Placed:
    """What became of a push; `rejected` says of each bad file what is wrong with it."""

    verdict: PushVerdict
    state: MirrorState
    rejected: Mapping[Key, str] = field(default_factory=dict)
    missing: frozenset[Key] = frozenset()  # listed, not sent, and not here either


class Mirror:
    """The mirror of one queue; any number of instances and processes may share it."""

    def __init__(
        self, root: Path, queue: str, *, events: EventSpool, owner: Owner | None = None
    ) -> None:
        if not is_node_name(queue):
            raise Refused(f"{queue!r} is not the name of a queue.")
        self.queue = queue
        self.path = root / queue
        self._events = events
        self._files = MirrorFiles(self.path, owner or Owner.named())

    @property
    def owner(self) -> Owner:
        """Whose the queue files are."""
        return self._files.owner

    @contextmanager
    def locked(self, timeout_s: float = LOCK_TIMEOUT_S) -> Iterator[LockedMirror]:
        """Hold the mirror's lock for the body, over a mirror in one piece."""
        self._files.prepare()
        with locked(self.path / "lock", timeout_s):
            mirror = LockedMirror(self.queue, self._files, self._events)
            mirror.replay()
            yield mirror

    def read_state(self) -> MirrorState:
        """Return the state without the lock, for reports only."""
        return _read_state(self.path, self.queue)


def _read_state(path: Path, queue: str) -> MirrorState:
    content = read_json(path / "state.json")
    if content is None:
        return MirrorState(queue)
    try:
        return MirrorState(**content)
    except TypeError as error:
        raise BrokenState(f"{path / 'state.json'} is not a mirror's state.") from error


class LockedMirror:
    """What may be done with a mirror while its lock is held."""

    def __init__(self, queue: str, files: MirrorFiles, events: EventSpool) -> None:
        self.files = files
        self._events = events
        self._path = files.path
        self.state = _read_state(self._path, queue)

    def _save(self, state: MirrorState) -> None:
        write_durably(self._path / "state.json", json.dumps(asdict(state)).encode())
        self.state = state

    def replay(self) -> None:
        """Finish the push that a killed process had begun to put in place."""
        journal = read_json(self._path / "journal.json")
        if journal is None:
            return
        try:
            state = MirrorState(**journal["state"])
        except (KeyError, TypeError) as error:
            raise BrokenState(f"{self._path / 'journal.json'} is not a journal.") from error
        if state.sequence > self.state.sequence:
            self._carry_out(journal, state)
        remove_durably(self._path / "journal.json")

    def _carry_out(self, journal: Mapping[str, Any], state: MirrorState) -> None:
        """Do what the journal says; if staged files are lost the next push must be full."""
        puts, removes = ungroup_keys(journal, "puts"), ungroup_keys(journal, "removes")
        self.files.remove(removes)
        if not self.files.move_in(puts, self._path / "staging" / str(journal["staging"])):
            state = replace(state, agent="")
        self.files.sync_names(puts | removes)
        self._save(state)

    def put_in_place(
        self, commit: Commit, staging: str, peer: str, addresses: frozenset[str] | None
    ) -> Placed:
        """Judge a push again and put it in place; `staging` is its directory below `staging/`."""
        now = ReceiverState(self.state, peer, addresses, self.receipt() is not None)
        verdict = judge_push(now, commit.offer)
        if not verdict.is_accepted:
            return Placed(verdict, self.state)
        rejected = self._reject_bad(commit, self._path / "staging" / staging)
        puts = frozenset(commit.puts) - frozenset(rejected)
        removes, missing = self._to_remove(commit, puts, {key.id for key in rejected})
        messages = self.state.messages
        if puts or removes or commit.listed is not None:
            messages = self._carry_out_durably(commit, staging, puts, removes)
        else:
            self._save(after_push(self.state, commit.offer, messages))
        return Placed(verdict, self.state, rejected, missing)

    def _reject_bad(self, commit: Commit, staging: Path) -> dict[Key, str]:
        """Quarantine what is not whole; it never replaces a good copy."""
        rejected: dict[Key, str] = {}
        for key, size in commit.puts.items():
            path = staging / key.kind / key.id
            defect = self.files.defect_of(key, path, size)
            if defect is not None:
                rejected[key] = defect
                self._quarantine(key, path, defect)
        return rejected

    def _quarantine(self, key: Key, path: Path, defect: str) -> None:
        """Keep a copy that was sent, and report it once: its sender tries again and again."""
        if self.files.quarantine(key, path):
            self._report(key, defect)

    def _report(self, key: Key, defect: str) -> None:
        text = f"{key.kind}/{key.id} of {self.state.queue} is not used: {defect}."
        self._events.append(QUARANTINED, text, queue=self.state.queue, id=key.id)

    def _to_remove(
        self, commit: Commit, puts: frozenset[Key], rejected_ids: set[str]
    ) -> tuple[frozenset[Key], frozenset[Key]]:
        """Return what to remove and what is missing; of a rejected message nothing is removed."""
        removes, missing = commit.removes, frozenset[Key]()
        if commit.listed is not None:
            present = self.files.keys()
            removes = frozenset(present - commit.listed)
            missing = frozenset(commit.listed - present - frozenset(commit.puts))
        return frozenset(k for k in removes - puts if k.id not in rejected_ids), missing

    def _carry_out_durably(
        self, commit: Commit, staging: str, puts: frozenset[Key], removes: frozenset[Key]
    ) -> int:
        staged = self._path / "staging" / staging
        self.files.sync_staged(staged / key.kind / key.id for key in puts)
        messages = self._count_after(puts, removes, is_full=commit.offer.is_full)
        journal = {
            "staging": staging,
            "puts": group_keys(puts),
            "removes": group_keys(removes),
            "state": asdict(after_push(self.state, commit.offer, messages)),
        }
        write_durably(self._path / "journal.json", json.dumps(journal).encode())
        self.replay()
        return messages

    def _count_after(self, puts: frozenset[Key], removes: frozenset[Key], *, is_full: bool) -> int:
        """Return how many messages there will be: counted anew unless only changes came."""
        if is_full:
            kept = set(self.files.messages()) - removes
            return len(kept | {key for key in puts if is_message(key.kind)})
        came = sum(1 for k in puts if is_message(k.kind) and not self.files.has(k))
        went = sum(1 for k in removes if is_message(k.kind) and self.files.has(k))
        return self.state.messages + came - went

    def remove_staging(self, staging: str) -> None:
        """Remove the staging directory of a push that is in place or dropped."""
        shutil.rmtree(self._path / "staging" / staging, ignore_errors=True)

    def raise_generation(self, generation: int) -> None:
        """Persist this node's own adoption: no push below `generation` is taken from now on."""
        if generation > self.state.lowest_generation:
            self._save(after_adoption(self.state, generation, self.state.messages))

    def write_receipt(self, generation: int) -> tuple[str, ...]:
        """List every whole message; the list is on disk when this returns. Idempotent.

        Raises the lowest generation first, so that nothing gets in behind the list. What is not
        whole goes to quarantine with an event.
        """
        known = self.receipt()
        if known is not None:
            if known.generation != generation:
                raise Refused(f"An adoption at generation {known.generation} is not finished.")
            return known.ids
        if generation < self.state.floor_generation:
            raise Refused(f"Generation {self.state.floor_generation} has been seen here.")
        self.raise_generation(generation)
        ids = tuple(sorted({key.id for key in self._whole_messages()}))
        content = {"generation": generation, "ids": ids}
        write_durably(self._path / "receipt.json", json.dumps(content).encode())
        return ids

    def _whole_messages(self) -> Iterator[Key]:
        for key in list(self.files.messages()):
            defect = self.files.defect_at_rest(key)
            if defect is None:
                yield key
            else:
                self.files.quarantine(key, self.files.place_of(key))
                self._report(key, defect)

    def receipt(self) -> Receipt | None:
        """Return the receipt of an adoption that is neither finished nor dropped."""
        content = read_json(self._path / "receipt.json")
        if content is None:
            return None
        try:
            return Receipt(int(content["generation"]), tuple(content["ids"]))
        except (KeyError, TypeError, ValueError) as error:
            raise BrokenState(f"{self._path / 'receipt.json'} is not a receipt.") from error

    def files_of(self, receipt: Receipt) -> list[tuple[Key, Path]]:
        """Return the files that the adoption moves, logs before the messages they belong to."""
        ids = frozenset(receipt.ids)
        order = (Kind.DEFER, Kind.BOUNCE, Kind.TRACE, Kind.HOLD, Kind.MAIL)
        return [
            (Key(kind, name), self._path / kind / name)
            for kind in order
            for name in sorted(ids.intersection(self.files.names(kind)))
        ]

    def narrow_receipt(self, excluded: frozenset[str]) -> None:
        """Take `excluded` out of the receipt and their stale copies out of the mirror; repeatable.

        The files go first: killed in between, the next commit is answered with the same ids.
        """
        receipt = self.receipt()
        if receipt is None or not excluded:
            return
        present = self.files.keys()
        self.files.remove({key for key in present if key.id in excluded})
        ids = tuple(name for name in receipt.ids if name not in excluded)
        content = {"generation": receipt.generation, "ids": ids}
        write_durably(self._path / "receipt.json", json.dumps(content).encode())

    def drop_receipt(self) -> None:
        """Forget a receipt that was never committed; the mirror keeps its files."""
        remove_durably(self._path / "receipt.json")

    def finish_receipt(self) -> None:
        """Forget a receipt whose files are all in the live queue; logs without mail go too."""
        receipt = self.receipt()
        if receipt is None:
            return
        left = [key for key, _path in self.files_of(receipt) if is_message(key.kind)]
        if left:
            raise BrokenState(f"{len(left)} messages of the receipt are still in the mirror.")
        self.files.remove(self.files.keys() - set(self.files.messages()))
        self._save(after_adoption(self.state, receipt.generation, self.files.count_messages()))
        remove_durably(self._path / "receipt.json")
