"""What a push has to send and to remove, from what was touched and what is there now (pure).

Theory of operation. Events only say where to look. A message that hops between directories raises
many and changes nothing: its key is in the mirror and still there. So a key is sent when it is
there and the mirror lacks it, or its content was written since, or its size differs; a key is gone
when the mirror has it and it is nowhere. Everything else is noise.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
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


def places_of(keys: Iterable[Key]) -> set[Key]:
    """Return every key to look at: a message that left `mail` may be in `hold`, and back."""
    wanted: set[Key] = set()
    for key in keys:
        if is_message(key.kind):
            wanted.update(Key(kind, key.id) for kind in MESSAGE_KINDS)
        else:
            wanted.add(key)
    return wanted


def must_send(
    key: Key,
    facts: Facts,
    known: Mapping[Key, Facts],
    written: Collection[Key],
    *,
    trust_events: bool,
) -> bool:
    """Tell whether the mirror lacks this file or has it as it was before.

    With `trust_events` every write since the mirror's copy was made is in `written`, so times say
    nothing new (each retry moves them). Without, a copy counts as the same when size and time
    agree, as with rsync(1).
    """
    copy = known.get(key)
    if copy is None or key in written or copy.size != facts.size:
        return True
    return not trust_events and copy.mtime_ns != facts.mtime_ns


def gone_keys(
    changes: Changes, found: Mapping[Key, Facts], known: Mapping[Key, Facts]
) -> frozenset[Key]:
    """Return the keys that the mirror has and the queue has no more, of those touched."""
    looked_at = places_of(changes.touched)
    return frozenset(key for key in looked_at if key in known and key not in found)
