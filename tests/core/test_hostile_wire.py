"""Whatever another host says over the control session, the answer is `Refused` or a sound value."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from nodeagent.adapters.line_channel import LineChannel
from nodeagent.core.contract import MirrorReport
from nodeagent.core.push_rules import PushOffer
from nodeagent.core.push_wire import (
    LARGEST_SEQUENCE,
    LONGEST_NAME,
    Commit,
    commit_message,
    read_commit,
    read_offer,
    read_promise,
    ungroup_keys,
    ungroup_manifest,
)
from nodeagent.core.queue_contract import QueueCommand, QueueVerb
from nodeagent.core.queue_files import Kind
from nodeagent.errors import Refused, Unreachable
from tests.fakes.postfix_queue import queue_id

OFFER = PushOffer("node-a", 3, "agent-1", frozenset({"198.51.100.100"}), 8, 7, is_full=True)
GOOD = commit_message(Commit(OFFER, 4, {}, frozenset(), frozenset()))
words = st.text(max_size=8) | st.sampled_from(
    [*Kind, queue_id(1), "../../etc/passwd", "mail/..", "\ud800", "a" * 5000]
)
numbers = st.integers() | st.floats() | st.sampled_from([10**30, 2**63, -(10**400), True])
scalars = st.none() | st.booleans() | numbers | words
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3)
)
Reader = Callable[[dict[str, Any]], object]
READERS: dict[str, Reader] = {
    "offer": read_offer,
    "commit": read_commit,
    "promise": read_promise,
    "keys": lambda message: ungroup_keys(message, "puts"),
    "manifest": lambda message: ungroup_manifest(message, "puts"),
}


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=150, deadline=None)
@given(field=st.sampled_from([*GOOD, "length_s"]), value=values)
@example(field="generation", value=10**30)
@example(field="generation", value=2**31)
@example(field="sequence", value=2**31)
@example(field="length_s", value=10**400)
@example(field="length_s", value=float("nan"))
@example(field="puts", value={"mail": {queue_id(1): [1]}})
@example(field="puts", value={"mail": ["\ud800"]})
def test_one_field_gone_wrong_is_refused_or_sound(name, field, value):
    """No other error than `Refused` comes out; the rest is within bounds and can be reported."""
    message = {**GOOD, "length_s": 5, field: value}
    try:
        result = READERS[name](message)
    except Refused as refusal:
        text = str(refusal)
        text.encode()
        assert len(text) < 2 * LONGEST_NAME
        return
    if isinstance(result, Commit):
        offer = result.offer
        for number in (offer.generation, offer.sequence, offer.base, result.attempt):
            assert 0 <= number <= LARGEST_SEQUENCE
        MirrorReport(queue="a", generation=offer.generation, sequence=offer.sequence, messages=0)
        assert 0 < len(offer.agent) <= LONGEST_NAME
        assert offer.is_full is (result.listed is not None)
        for key in [*result.puts, *result.removes, *(result.listed or ())]:
            assert "/" not in key.id
            assert key.kind in Kind


@settings(max_examples=100, deadline=None)
@given(values)
def test_any_object_at_all_is_refused_or_sound(value):
    """Objects that have nothing to do with the protocol."""
    message = value if isinstance(value, dict) else {"op": value}
    for read in READERS.values():
        with pytest.raises(Refused):
            read(message)


@pytest.mark.parametrize("name", ["ALL", "all", "-", "", "../4Xk9Rb", "4Xk9Rb\nALL", "4Xk9Rb "])
def test_no_command_names_more_than_messages(name):
    """postsuper(1) takes ALL for every message of the queue, and one id a line."""
    with pytest.raises(ValidationError, match="ids"):
        QueueCommand(action=1, verb=QueueVerb.DELETE, ids=(name,))


@pytest.fixture
def pipes():
    """Give a channel and the other side's raw end."""
    (read_near, write_far), (read_far, write_near) = os.pipe(), os.pipe()
    yield LineChannel(read_near, write_near), write_far
    for descriptor in (read_near, write_near, read_far, write_far):
        os.close(descriptor)


@pytest.mark.parametrize(
    "line",
    [
        b"[" * 200_000,
        b'{"a":' * 100_000,
        b'{"generation":' + b"9" * 5000 + b"}",
        b'{"a": 1} trailing',
        b'"text"',
        b"null",
        b"{'op': 'begin'}",
        b"SSH-2.0-OpenSSH",
        "{\udcff}".encode(errors="surrogateescape"),
        b"",
    ],
)
def test_a_line_that_is_no_object_ends_the_channel(pipes, line):
    """Nesting without end, numbers without end, other protocols: one kind of error."""
    channel, far = pipes
    with os.fdopen(os.dup(far), "wb") as out:
        os.set_blocking(out.fileno(), True)
        data = line + b"\n"
        if len(data) > 60_000:
            _fill_in_background(out.fileno(), data)
        else:
            out.write(data)
            out.flush()
        with pytest.raises(Unreachable, match="protocol"):
            channel.receive(5)


def _fill_in_background(descriptor: int, data: bytes) -> None:
    """Write more than a pipe takes, from a process of its own."""
    if os.fork() == 0:
        try:
            while data:
                data = data[os.write(descriptor, data) :]
        finally:
            os._exit(0)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200).filter(lambda data: b"\n" not in data))
def test_any_bytes_are_an_object_or_the_end(data):
    """Noise on the line never raises anything else."""
    read_end, write_end = os.pipe()
    channel = LineChannel(read_end, write_end)
    try:
        os.write(write_end, data + b"\n")
        try:
            assert channel.receive(1) == json.loads(data)
        except Unreachable:
            assert not _is_object(data)
    finally:
        os.close(read_end)
        os.close(write_end)


def _is_object(data: bytes) -> bool:
    try:
        return isinstance(json.loads(data), dict)
    except (ValueError, RecursionError):
        return False
