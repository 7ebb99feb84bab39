"""`relayctl trace`: the same search, timeline and export as the API's."""

from __future__ import annotations

import csv
import io

import pytest

from controlplane.store.engine import TRACE_LOCK, Database
from controlplane.store.trace_intake import take_batch
from tests.cli.conftest import Operator
from tests.fakes.postfix_queue import queue_id
from tests.fakes.traces import accepted, batch, removed, tried

ONE, TWO = queue_id(1), queue_id(2)


@pytest.fixture
def traced(relayctl: Operator, sqlite_database: Database) -> Operator:
    """Give an operator whose cluster has relayed two messages."""
    lines = [*accepted(ONE), tried(ONE, 1, "sent"), removed(ONE, 2), *accepted(TWO, 5)]
    with sqlite_database.write(TRACE_LOCK) as session:
        take_batch(session, "node-a", batch(lines))
    return relayctl


def test_messages_are_listed_newest_first_page_after_page(traced: Operator) -> None:
    """The next page is one option away."""
    page = traced.json("trace", "list", "--limit", "1")
    assert [one["queue_id"] for one in page["messages"]] == [TWO]
    rest = traced.json("trace", "list", "--after", page["next"])
    assert [one["queue_id"] for one in rest["messages"]] == [ONE]
    printed = traced("trace", "list", "--limit", "1")
    assert page["next"] in printed.err
    assert traced.json("trace", "list", "--status", "delivered")["messages"][0]["queue_id"] == ONE


def test_a_message_is_shown_by_its_queue_id(traced: Operator) -> None:
    """Its lines come in the order of time; an unknown one is a sentence."""
    shown = traced("trace", "show", ONE)
    assert shown.code == 0
    assert "node-a postfix/qmgr: removed" in shown.out
    unknown = traced("trace", "show", queue_id(3))
    assert (unknown.code, "knows no message" in unknown.err) == (1, True)


def test_an_export_is_csv(traced: Operator) -> None:
    """One line for each recipient, and what is refused is a sentence."""
    printed = traced("trace", "export", "--recipient", "@y.test")
    assert [row["queue_id"] for row in csv.DictReader(io.StringIO(printed.out))] == [ONE]
    refused = traced("trace", "export", "--since", "yesterday")
    assert (refused.code, "since" in refused.err) == (1, True)
