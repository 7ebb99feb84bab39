"""What sender and receiver say over the control session: JSON lines, checked by hand.

A request is an object with `op`; the answer has `ok`, and where that is false `reason` (a word) and
`text` (a sentence). Files are grouped by kind: `{"mail": {"ID": SIZE}}`, `{"mail": ["ID"]}`. The
sender is another host, so nothing it says is taken for granted: what does not fit raises `Refused`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from nodeagent.core.names import LARGEST_GENERATION, LARGEST_NUMBER
from nodeagent.core.push_rules import PushOffer
from nodeagent.core.queue_files import Facts, Key, parse_key
from nodeagent.errors import Refused

Message = Mapping[str, Any]

LARGEST: Final = 2**53 - 1  # what JSON keeps exact
LARGEST_SEQUENCE: Final = LARGEST_NUMBER - 1  # the push after it can be reported too
LONGEST_NAME: Final = 200


@dataclass(frozen=True)
class Commit:
    """A push as announced: `listed` is every key of the queue, None when only changes are sent."""

    offer: PushOffer
    attempt: int  # names the staging directory; 0: nothing was sent
    puts: Mapping[Key, int]  # the sender's size of each file sent
    removes: frozenset[Key]
    listed: frozenset[Key] | None


def number_of(message: Message, name: str, largest: int = LARGEST_SEQUENCE) -> int:
    """Return a field that is a number from 0 to `largest`; raises `Refused`."""
    value = message.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= largest:
        raise Refused(f"The field {name!r} must be a number.")
    return value


def text_of(message: Message, name: str) -> str:
    """Return a field that is text of at most `LONGEST_NAME` characters; raises `Refused`."""
    value = message.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_NAME:
        raise Refused(f"The field {name!r} must be text.")
    return value


def _texts(message: Message, name: str) -> frozenset[str]:
    value = message.get(name)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise Refused(f"The field {name!r} must be a list of texts.")
    return frozenset(value)


def _key(kind: str, queue_id: Any) -> Key:
    key = parse_key(kind, queue_id) if isinstance(queue_id, str) else None
    if key is None:
        raise Refused(f"{f'{kind}/{queue_id}'[:LONGEST_NAME]!r} is no queue file.")
    return key


def _grouped(message: Message, name: str) -> Mapping[str, Any]:
    value = message.get(name)
    if not isinstance(value, dict):
        raise Refused(f"The field {name!r} must be an object.")
    return value


def _keys(message: Message, name: str) -> frozenset[Key]:
    groups = _grouped(message, name)
    if not all(isinstance(ids, list) for ids in groups.values()):
        raise Refused(f"The field {name!r} must hold lists.")
    return frozenset(_key(kind, queue_id) for kind, ids in groups.items() for queue_id in ids)


def _sizes(message: Message, name: str) -> dict[Key, int]:
    groups = _grouped(message, name)
    if not all(isinstance(sizes, dict) for sizes in groups.values()):
        raise Refused(f"The field {name!r} must hold objects.")
    return {
        _key(kind, queue_id): number_of(sizes, queue_id, LARGEST)
        for kind, sizes in groups.items()
        for queue_id in sizes
    }


def group_keys(keys: Iterable[Key]) -> dict[str, list[str]]:
    """Return keys as they go over the wire."""
    groups: dict[str, list[str]] = {}
    for key in keys:
        groups.setdefault(key.kind.value, []).append(key.id)
    return groups


def ungroup_keys(message: Message, name: str) -> frozenset[Key]:
    """Return the keys of one field of an answer."""
    return _keys(message, name)


def group_manifest(manifest: Mapping[Key, Facts]) -> dict[str, dict[str, list[int]]]:
    """Return a mirror's content as it goes over the wire."""
    groups: dict[str, dict[str, list[int]]] = {}
    for key, facts in manifest.items():
        groups.setdefault(key.kind.value, {})[key.id] = [facts.size, facts.mtime_ns]
    return groups


def ungroup_manifest(message: Message, name: str) -> dict[Key, Facts]:
    """Return a mirror's content from an answer; raises `Refused`."""
    groups = _grouped(message, name)
    if not all(isinstance(files, dict) for files in groups.values()):
        raise Refused(f"The field {name!r} must hold objects.")
    return {
        _key(kind, queue_id): _facts(facts)
        for kind, files in groups.items()
        for queue_id, facts in files.items()
    }


def _facts(value: Any) -> Facts:
    is_pair = isinstance(value, list) and len(value) == len(Facts._fields)
    if not is_pair or not all(isinstance(number, int) for number in value):
        raise Refused("A file has a size and a time.")
    return Facts(*value)


def offer_message(offer: PushOffer) -> dict[str, Any]:
    """Return an offer as it goes over the wire."""
    return {
        "queue": offer.queue,
        "generation": offer.generation,
        "agent": offer.agent,
        "holds_vips": sorted(offer.holds_vips),
        "sequence": offer.sequence,
        "base": offer.base,
        "is_full": offer.is_full,
    }


def read_offer(message: Message) -> PushOffer:
    """Return the offer in a request; raises `Refused`."""
    return PushOffer(
        queue=text_of(message, "queue"),
        generation=number_of(message, "generation", LARGEST_GENERATION),
        agent=text_of(message, "agent"),
        holds_vips=_texts(message, "holds_vips"),
        sequence=number_of(message, "sequence"),
        base=number_of(message, "base"),
        is_full=message.get("is_full") is True,
    )


def commit_message(commit: Commit) -> dict[str, Any]:
    """Return a push's announcement as it goes over the wire."""
    puts: dict[str, dict[str, int]] = {}
    for key, size in commit.puts.items():
        puts.setdefault(key.kind.value, {})[key.id] = size
    return {
        "op": "commit",
        **offer_message(commit.offer),
        "attempt": commit.attempt,
        "puts": puts,
        "removes": group_keys(commit.removes),
        "listed": None if commit.listed is None else group_keys(commit.listed),
    }


def read_commit(message: Message) -> Commit:
    """Return the push that a request announces; raises `Refused`."""
    offer = read_offer(message)
    if offer.is_question or offer.is_full != (message.get("listed") is not None):
        raise Refused("A push has a sequence number, and a full one lists everything.")
    return Commit(
        offer=offer,
        attempt=number_of(message, "attempt"),
        puts=_sizes(message, "puts"),
        removes=_keys(message, "removes"),
        listed=_keys(message, "listed") if offer.is_full else None,
    )


def read_promise(message: Message) -> tuple[str, float]:
    """Return the queue and the length in seconds that a request for a promise names."""
    length_s = message.get("length_s")
    if not isinstance(length_s, int | float) or isinstance(length_s, bool):
        raise Refused("The field 'length_s' must be a number.")
    if not 0 < length_s <= LARGEST:
        raise Refused("The field 'length_s' must be a number above zero.")
    return text_of(message, "queue"), float(length_s)
