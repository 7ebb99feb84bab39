"""What a push has to send and to remove, from what was touched and what is there now (pure).

Theory of operation. Events only say where to look. A message that hops between directories raises
many and changes nothing: its key is in the mirror and still there. So a key is sent when it is
there and the mirror lacks it, or its content was written since, or its size differs; a key is gone
when the mirror has it and it is nowhere. Everything else is noise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from nodeagent.core.queue_files import MESSAGE_KINDS, Facts, Key, is_message


@dataclass
class Changes:
    """Keys touched since the last look; `is_complete` False: events were lost, look everywhere."""

    touched: set[Key] = field(default_factory=set)
    written: set[Key] = field(default_factory=set)
    is_complete: bool = True

    def note(self, key: Key, *, is_written: bool = False) -> None:
        """Note that something happened to a key; `is_written`: its content."""
        self.touched.add(key)
        if is_written:
            self.written.add(key)

    def add(self, other: Changes) -> None:
        """Take in the changes of another stretch of time."""
        self.touched |= other.touched
        self.written |= other.written
        self.is_complete = self.is_complete and other.is_complete

    def __bool__(self) -> bool:
        return bool(self.touched) or not self.is_complete


@dataclass(frozen=True)
class Plan:
    """What a push does to the mirror."""

    puts: Mapping[Key, Facts]
    gone: frozenset[Key]


def places_of(keys: Iterable[Key]) -> set[Key]:
    """Return every key to look at: a message that left `mail` may be in `hold`, and back."""
    wanted: set[Key] = set()
    for key in keys:
        if is_message(key.kind):
            wanted.update(Key(kind, key.id) for kind in MESSAGE_KINDS)
        else:
            wanted.add(key)
    return wanted


def plan_changes(changes: Changes, found: Mapping[Key, Facts], known: Mapping[Key, Facts]) -> Plan:
    """Plan a push of changes only; `found` covers `places_of(changes.touched)`."""
    puts = {
        key: facts
        for key, facts in found.items()
        if key not in known or key in changes.written or known[key].size != facts.size
    }
    looked_at = places_of(changes.touched)
    return Plan(puts, frozenset(key for key in looked_at if key in known and key not in found))


def differs(key: Key, facts: Facts, known: Mapping[Key, Facts], *, trust_events: bool) -> bool:
    """Tell whether a full comparison has to send this key.

    With `trust_events` every write since the mirror's copy was made is known as an event, so times
    say nothing new (a retry moves them). Without, a copy counts as the same as rsync(1) counts.
    """
    copy = known.get(key)
    if copy is None or copy.size != facts.size:
        return True
    return not trust_events and copy.mtime_ns != facts.mtime_ns
