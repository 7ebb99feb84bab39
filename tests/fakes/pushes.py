"""Makes pushes against a mirror without SSH: stages files as rsync would, offers, commits."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nodeagent.adapters.event_spool import EventSpool
from nodeagent.adapters.mirror import Mirror, Placed
from nodeagent.adapters.staging import StagingSession
from nodeagent.core.push_rules import PushOffer
from nodeagent.core.push_wire import Commit
from nodeagent.core.queue_files import Key, Kind, mode_of

VIP = "198.51.100.100"
ELSEWHERE = frozenset({"198.51.100.12"})


def mail(name: str) -> Key:
    """Return the key of a message."""
    return Key(Kind.MAIL, name)


@dataclass
class PushKit:
    """One mirror of node-a and one session of it."""

    root: Path
    agent: str = "agent-1"
    generation: int = 1
    attempts: int = 0
    addresses: frozenset[str] | None = field(default=ELSEWHERE)

    def __post_init__(self) -> None:
        self.events = EventSpool(self.root / "state" / "events")
        self.mirror = Mirror(self.root / "mirror", "node-a", events=self.events)
        with self.mirror.locked():
            self.session = StagingSession(self.mirror.path)

    def stage(self, files: Mapping[Key, bytes], *, mode: int | None = None) -> str:
        """Write files as a transfer leaves them; return the staging place."""
        self.attempts += 1
        place = f"{self.session.token}/{self.attempts}"
        root = self.mirror.path / "staging" / place
        root.mkdir()
        for key, data in files.items():
            (root / key.kind).mkdir(exist_ok=True)
            path = root / key.kind / key.id
            path.write_bytes(data)
            path.chmod(mode_of(key.kind) if mode is None else mode)
            if os.geteuid() == 0:
                os.chown(path, self.mirror.owner.uid, self.mirror.owner.gid)
        return place

    def offer(self, *, sequence: int | None = None, is_full: bool = False) -> PushOffer:
        """Return the offer that fits the mirror's state."""
        base = self.mirror.read_state().sequence
        return PushOffer(
            queue="node-a",
            generation=self.generation,
            agent=self.agent,
            holds_vips=frozenset({VIP}),
            sequence=base + 1 if sequence is None else sequence,
            base=base,
            is_full=is_full,
        )

    def commit(
        self,
        files: Mapping[Key, bytes],
        *,
        removes: Iterable[Key] = (),
        listed: Iterable[Key] | None = None,
        offer: PushOffer | None = None,
        mode: int | None = None,
    ) -> Placed:
        """Stage and commit; `listed` makes it a full push."""
        place = self.stage(files, mode=mode)
        offer = offer or self.offer(is_full=listed is not None)
        commit = Commit(
            offer,
            self.attempts,
            {key: len(data) for key, data in files.items()},
            frozenset(removes),
            None if listed is None else frozenset(listed),
        )
        with self.mirror.locked() as mirror:
            return mirror.put_in_place(commit, place, "node-a", self.addresses)

    def commit_staged(self, place: str, sizes: Mapping[Key, int]) -> Placed:
        """Commit what was staged by hand, announced with these sizes."""
        commit = Commit(self.offer(), self.attempts, sizes, frozenset(), None)
        with self.mirror.locked() as mirror:
            return mirror.put_in_place(commit, place, "node-a", self.addresses)

    def full(self, files: Mapping[Key, bytes]) -> Placed:
        """Make a full push of exactly these files."""
        return self.commit(files, listed=files)

    def keys(self) -> set[Key]:
        """Return what a reader of the mirror sees."""
        with self.mirror.locked() as mirror:
            return mirror.files.keys()

    def read(self, key: Key) -> bytes:
        """Return a file of the mirror."""
        return (self.mirror.path / key.kind / key.id).read_bytes()

    def quarantined(self) -> set[str]:
        """Return the names in quarantine."""
        return {path.name for path in (self.mirror.path / "quarantine").iterdir()}
