"""Batches of every log that a node ships: packed and unpacked unchanged, nothing else is taken."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from nodeagent.core import trace_wire
from nodeagent.core.stream_wire import GAP, LAST_NUMBER, MOST_ENTRIES, Batch, StreamEntry, pack
from nodeagent.policy import log_wire

STREAM = "a" * 32
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
COMMON = {
    "at": st.floats(0, 2**33, exclude_max=True),
    "text": WORDS,
    "sender": st.none() | WORDS,
    "helo": st.none() | WORDS,
    "message_id": st.none() | WORDS,
    "lost": st.none() | st.integers(0, 2**53 - 1),
}


@dataclass(frozen=True)
class Log:
    """One of the logs: its types, its reader and what its entries may be."""

    batch: type[Batch[Any]]
    unpack: Callable[[bytes], Batch[Any]]
    most_bytes: int
    entries: st.SearchStrategy[StreamEntry]
    line: StreamEntry

    def of(self, *entries: StreamEntry) -> Batch[Any]:
        """Return a batch that begins with number 1."""
        numbered = [{"number": n, "entry": one} for n, one in enumerate(entries, 1)]
        return self.batch.model_validate({"stream": STREAM, "entries": numbered})

    def plain(self, **changed: object) -> dict[str, Any]:
        """Return what a batch of one line is before it is packed, with something changed."""
        shown = json.loads(self.of(self.line).model_dump_json(exclude_defaults=True))
        return {**shown, **changed}


TRACE = Log(
    trace_wire.TraceBatch,
    trace_wire.unpack,
    trace_wire.MOST_PLAIN_BYTES,
    st.builds(
        trace_wire.TraceEntry,
        kind=st.sampled_from(trace_wire.TraceKind),
        size_bytes=st.none() | st.integers(0, 2**63 - 1),
        **COMMON,
    ),
    trace_wire.TraceEntry(at=1.0, kind=trace_wire.TraceKind.NOTE, text="x"),
)
POLICY = Log(
    log_wire.LogBatch,
    log_wire.unpack,
    log_wire.MOST_PLAIN_BYTES,
    st.builds(
        log_wire.LogEntry,
        kind=st.sampled_from(log_wire.LogKind),
        size_bytes=st.none() | st.integers(0, 2**53 - 1),
        recipients=st.lists(WORDS, max_size=3).map(tuple),
        **COMMON,
    ),
    log_wire.LogEntry(at=1.0, kind=log_wire.LogKind.MESSAGE, text="x"),
)
LOGS = st.sampled_from((TRACE, POLICY))
each_log = pytest.mark.parametrize("log", [TRACE, POLICY], ids=["trace", "policy"])


def packed(plain: dict[str, Any]) -> bytes:
    """Pack what no model of ours would."""
    return gzip.compress(json.dumps(plain).encode())


@settings(max_examples=80, deadline=None, derandomize=True)
@given(LOGS, st.data())
def test_a_batch_comes_out_as_it_went_in(log: Log, data: st.DataObject) -> None:
    """Null senders, empty texts and every character that a wire can carry."""
    whole = log.of(*data.draw(st.lists(log.entries, min_size=1, max_size=5)))
    found = log.unpack(pack(whole))
    assert found == whole
    assert type(found.entries[0].entry) is type(log.line)


@given(LOGS, st.data())
def test_a_torn_body_is_refused(log: Log, data: st.DataObject) -> None:
    """The connection broke in the middle: nothing of it is stored."""
    body = pack(log.of(log.line))
    with pytest.raises(ValueError, match=r"gzip|torn"):
        log.unpack(body[: data.draw(st.integers(0, len(body) - 1))])


@settings(max_examples=100, deadline=None, derandomize=True)
@given(LOGS, st.binary(max_size=200))
def test_no_bytes_break_the_reader(log: Log, data: bytes) -> None:
    """Of a stranger, or of a disk: refused, packed or not."""
    for body in (data, gzip.compress(data), pack(log.of(log.line))[:10] + data):
        with pytest.raises(ValueError, match=r"."):
            log.unpack(body)


@each_log
def test_a_small_body_that_unpacks_without_end_is_refused(log: Log) -> None:
    """A few kilobytes of gzip may hold gigabytes: no more than the limit is ever unpacked."""
    bomb = gzip.compress(b" " * (64 * 1024 * 1024))
    assert len(bomb) < 100_000
    with pytest.raises(ValueError, match=f"more than {log.most_bytes} bytes"):
        log.unpack(bomb)


@each_log
def test_a_body_of_as_many_bytes_as_may_be_is_read_and_one_more_is_not(log: Log) -> None:
    """The limit counts what was unpacked; spaces around JSON change nothing of it."""
    plain = json.dumps(log.plain()).encode()
    full = plain.ljust(log.most_bytes)
    assert log.unpack(gzip.compress(full)) == log.of(log.line)
    with pytest.raises(ValueError, match="torn"):
        log.unpack(gzip.compress(full + b" "))


@each_log
def test_a_newer_node_is_understood(log: Log) -> None:
    """Fields that this control plane does not know yet are passed over."""
    entries = [
        {**one, "more": [], "entry": {**one["entry"], "x": {}}} for one in log.plain()["entries"]
    ]
    assert log.unpack(packed(log.plain(later=1, entries=entries))) == log.of(log.line)


@each_log
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("stream", "A" * 32),
        ("stream", "a" * 31),
        ("stream", "a" * 32 + "\n"),
        ("entries", []),
        ("entries", None),
    ],
)
def test_a_batch_out_of_its_bounds_is_refused(log: Log, field: str, value: object) -> None:
    """Empty, or of no stream."""
    with pytest.raises(ValidationError, match=field):
        log.unpack(packed(log.plain(**{field: value})))


@each_log
def test_a_batch_takes_as_many_entries_as_it_may_and_one_more_is_refused(log: Log) -> None:
    """The sender cuts; the receiver makes sure."""
    (one,) = log.plain()["entries"]
    whole = log.unpack(packed(log.plain(entries=[one] * MOST_ENTRIES)))
    assert len(whole.entries) == MOST_ENTRIES
    with pytest.raises(ValidationError, match="entries"):
        log.unpack(packed(log.plain(entries=[one] * (MOST_ENTRIES + 1))))


@each_log
def test_numbers_begin_with_one_and_end(log: Log) -> None:
    """Beyond them no database and no JSON reader counts exactly."""
    (one,) = log.plain()["entries"]
    for number in (1, LAST_NUMBER):
        found = log.unpack(packed(log.plain(entries=[{**one, "number": number}])))
        assert found.entries[0].number == number
    for number in (0, LAST_NUMBER + 1):
        with pytest.raises(ValidationError, match="number"):
            log.unpack(packed(log.plain(entries=[{**one, "number": number}])))


@each_log
def test_what_stands_behind_a_batch_does_not_count(log: Log) -> None:
    """A second member of the gzip body (RFC 1952) is not unpacked: it has no bound."""
    whole = log.of(log.line)
    assert log.unpack(pack(whole) + zlib.compress(b"x" * 1000, wbits=31)) == whole


@each_log
def test_one_log_is_no_other(log: Log) -> None:
    """A batch at the wrong address is refused, not read as what it is not."""
    other = TRACE if log is POLICY else POLICY
    with pytest.raises(ValidationError, match="kind"):
        log.unpack(pack(other.of(other.line)))


@each_log
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("at", -1.0),
        ("at", 2.0**33),
        ("at", float("inf")),
        ("kind", "invented"),
        ("text", "x" * 1001),
        ("lost", -1),
        ("lost", 2**53),
        ("lost", 1.5),
    ],
)
def test_what_every_entry_has_is_within_bounds(log: Log, field: str, value: object) -> None:
    """No database has to see to it: one bad number would keep a node's whole log away."""
    with pytest.raises(ValidationError, match=field):
        type(log.line).model_validate({**log.line.model_dump(), field: value})


def test_every_log_can_say_what_it_did_not_keep() -> None:
    """The spool makes gaps of any log's own kind."""
    assert trace_wire.TraceKind(GAP) is trace_wire.TraceKind.GAP
    assert log_wire.LogKind(GAP) is log_wire.LogKind.GAP
