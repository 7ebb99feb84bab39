"""Batches of the message trace: packed and unpacked unchanged, and nothing else is taken."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from nodeagent.core.trace_wire import (
    MOST_ENTRIES,
    MOST_PLAIN_BYTES,
    NumberedEntry,
    TraceBatch,
    TraceEntry,
    TraceKind,
    pack,
    unpack,
)

STREAM = "a" * 32
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
ENTRIES = st.builds(
    TraceEntry,
    at=st.floats(0, 2**33, exclude_max=True),
    kind=st.sampled_from(TraceKind),
    service=WORDS,
    text=WORDS,
    sender=st.none() | WORDS,
    recipient=st.none() | WORDS,
    helo=st.none() | WORDS,
    message_id=st.none() | WORDS,
    size_bytes=st.none() | st.integers(0, 2**63 - 1),
    lost=st.none() | st.integers(0, 2**53 - 1),
)


def batch(*entries: TraceEntry) -> TraceBatch:
    """Return a batch that begins with number 1."""
    numbered = (NumberedEntry(number=n, entry=one) for n, one in enumerate(entries, 1))
    return TraceBatch(stream=STREAM, entries=tuple(numbered))


LINE = TraceEntry(at=1.0, kind=TraceKind.NOTE, text="x")
PLAIN: dict[str, Any] = json.loads(batch(LINE).model_dump_json(exclude_defaults=True))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(ENTRIES, min_size=1, max_size=5))
def test_a_batch_comes_out_as_it_went_in(entries: list[TraceEntry]) -> None:
    """Null senders, empty texts and every character that a wire can carry."""
    whole = batch(*entries)
    assert unpack(pack(whole)) == whole


@given(st.integers(0, len(pack(batch(LINE))) - 1))
def test_a_torn_body_is_refused(cut: int) -> None:
    """The connection broke in the middle: nothing of it is stored."""
    with pytest.raises(ValueError, match=r"gzip|torn"):
        unpack(pack(batch(LINE))[:cut])


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader(data: bytes) -> None:
    """Of a stranger, or of a disk: refused, packed or not."""
    for body in (data, gzip.compress(data), pack(batch(LINE))[:10] + data):
        with pytest.raises(ValueError, match=r"."):
            unpack(body)


def test_a_small_body_that_unpacks_without_end_is_refused() -> None:
    """A few kilobytes of gzip may hold gigabytes: no more than the limit is ever unpacked."""
    bomb = gzip.compress(b" " * (64 * 1024 * 1024))
    assert len(bomb) < 100_000
    with pytest.raises(ValueError, match=f"more than {MOST_PLAIN_BYTES} bytes"):
        unpack(bomb)


def test_the_largest_batch_of_a_node_is_taken() -> None:
    """As many entries as one may hold, each as long as one may be."""
    long = TraceEntry(
        at=1.0,
        kind=TraceKind.REJECTED,
        service="s" * 255,
        text="t" * 1000,
        sender="a" * 320,
        recipient="b" * 320,
        client_name="c" * 255,
        helo="h" * 255,
        message_id="m" * 1000,
    )
    whole = batch(*[long] * MOST_ENTRIES)
    assert unpack(pack(whole)) == whole


def test_a_newer_node_is_understood() -> None:
    """Fields that this control plane does not know yet are passed over."""
    newer = {**PLAIN, "later": 1}
    newer["entries"] = [
        {**one, "more": [], "entry": {**one["entry"], "x": {}}} for one in PLAIN["entries"]
    ]
    body = gzip.compress(json.dumps(newer).encode())
    assert unpack(body) == batch(LINE)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("at", -1.0),
        ("at", 2.0**33),
        ("at", float("inf")),
        ("kind", "invented"),
        ("text", "x" * 1001),
        ("queue_id", "../../etc"),
        ("queue_id", "4Xk9Rb\n"),
        ("sender", "a" * 321),
        ("size_bytes", 2**63),
        ("size_bytes", -1),
        ("dsn", "3.0.0"),
        ("dsn", "2.0.0\n"),
        ("status", "perhaps"),
        ("lost", 2**53),
        ("lost", 1.5),
    ],
)
def test_a_field_out_of_its_bounds_is_refused(field: str, value: object) -> None:
    """No database has to: one bad number would keep a node's whole trace from coming in."""
    odd = {"at": 1.0, "kind": "note", field: value}
    with pytest.raises(ValidationError, match=field):
        TraceEntry.model_validate(odd)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("stream", "A" * 32),
        ("stream", "a" * 31),
        ("stream", "a" * 32 + "\n"),
        ("entries", []),
        ("entries", [{"number": 0, "entry": {"at": 1, "kind": "note"}}]),
        ("entries", [{"number": 2**53 + 1, "entry": {"at": 1, "kind": "note"}}]),
        ("entries", PLAIN["entries"] * (MOST_ENTRIES + 1)),
    ],
)
def test_a_batch_out_of_its_bounds_is_refused(field: str, value: object) -> None:
    """Empty, too long, or of no stream."""
    body = gzip.compress(json.dumps({**PLAIN, field: value}).encode())
    with pytest.raises(ValidationError, match=field):
        unpack(body)


def test_what_stands_behind_a_batch_does_not_count() -> None:
    """A second member of the gzip body (RFC 1952) is not unpacked: it has no bound."""
    body = pack(batch(LINE))
    assert unpack(body + zlib.compress(b"x" * 1000, wbits=31)) == batch(LINE)
