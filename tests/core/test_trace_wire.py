"""The entries of the message trace: the longest are taken, and none that is out of bounds."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from nodeagent.core.stream_wire import MOST_ENTRIES, pack
from nodeagent.core.trace_wire import TraceEntry, TraceKind, unpack
from tests.fakes.traces import batch


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
    whole = batch([long] * MOST_ENTRIES)
    assert unpack(pack(whole)) == whole


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("queue_id", "../../etc"),
        ("queue_id", "4Xk9Rb\n"),
        ("sender", "a" * 321),
        ("size_bytes", 2**63),
        ("size_bytes", -1),
        ("dsn", "3.0.0"),
        ("dsn", "2.0.0\n"),
        ("status", "perhaps"),
    ],
)
def test_a_field_out_of_its_bounds_is_refused(field: str, value: object) -> None:
    """No database has to: one bad number would keep a node's whole trace from coming in."""
    odd = {"at": 1.0, "kind": "note", field: value}
    with pytest.raises(ValidationError, match=field):
        TraceEntry.model_validate(odd)
