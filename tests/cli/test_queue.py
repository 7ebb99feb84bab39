"""`relayctl queue` over HTTPS: list, show, act, wait for the count."""

from __future__ import annotations

import threading

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from controlplane.store.engine import Database
from tests.cli.conftest import Operator
from tests.fakes.cluster_agents import enrol_agents
from tests.fakes.queue_node import IDS, QueueNode


@pytest.fixture
def node(paired: Operator, app: FastAPI, sqlite_database: Database) -> QueueNode:
    """Give node-a, whose queue holds three messages."""
    del paired
    agents = enrol_agents(TestClient(app, base_url="https://relay.test"), sqlite_database, "node-a")
    made = QueueNode(agents["node-a"])
    made.report(*IDS)
    return made


def test_messages_are_listed_by_filter_and_page(node: QueueNode, paired: Operator) -> None:
    """As a table for people, whole as JSON, and how to go on."""
    del node
    assert paired.json("queue", "list", "--recipient", "b1@")["total"] == 1
    assert paired.json("queue", "list", "--older", "1h")["total"] == 3
    assert paired.json("queue", "list", "--sender", "")["total"] == 0
    first = paired("queue", "list", "--limit", "2")
    assert "2 of 3 messages" in first.out
    assert f"node-a/{IDS[2]}" in first.out
    place = first.err.rpartition("--after ")[2].strip()
    assert f"node-a/{IDS[0]}" in paired("queue", "list", "--after", place).out
    assert paired("queue", "list", "--older", "soon").code == 2
    assert "b0@to.test" in paired("queue", "show", "node-a", IDS[0]).out
    assert paired("queue", "show", "node-b", IDS[0]).code == 1


def _obey_until(node: QueueNode, is_over: threading.Event) -> None:
    while not is_over.wait(0.05):
        node.obey()


def test_an_action_waits_for_its_count(node: QueueNode, paired: Operator) -> None:
    """The command ends when the node has answered for every message."""
    ended_both = threading.Event()
    agent = threading.Thread(target=_obey_until, args=(node, ended_both))
    agent.start()
    said = paired("queue", "hold", f"node-a/{IDS[0]}", f"node-a/{IDS[1]}", "--timeout", "60")
    ended = paired.json("queue", "flush", "--domain", "to.test", "--timeout", "60")
    ended_both.set()
    agent.join()
    assert said.out == "Action 1 (hold) is finished: 2 done.\n"
    assert (ended["state"], ended["counts"]["done"]) == ("finished", 3)
    assert "hold" in paired("queue", "actions").out


def test_a_delete_asks_and_is_withdrawn_when_nobody_answers(
    node: QueueNode, paired: Operator
) -> None:
    """--yes says it for scripts."""
    refused = paired("queue", "delete", "--all")
    assert refused.code == 2
    assert "3 messages are selected" in refused.err
    assert paired.json("queue", "actions")[0]["state"] == "cancelled"
    assert "3 waiting" in paired("queue", "delete", "--all", "--yes", "--no-wait").out
    assert node.obey() == 3
    assert paired("queue", "cancel", "2").code == 1


def test_an_action_on_nothing_named_is_refused(node: QueueNode, paired: Operator) -> None:
    """Nobody holds every message by leaving something out."""
    del node
    for arguments in ((), (IDS[0],), (f"node-a/{IDS[0]}", "--all")):
        assert paired("queue", "hold", *arguments).code == 2
    assert paired.json("queue", "actions") == []
    waited = paired("queue", "hold", "--all", "--timeout", "0.1")
    assert waited.code == 5
    assert "3 waiting" in waited.err


def test_headers_that_no_node_brings_are_waited_for_in_vain(
    node: QueueNode, paired: Operator
) -> None:
    """Exit code 5 after the time that was given."""
    del node
    shown = paired("queue", "show", "node-a", IDS[0], "--headers", "--timeout", "0.1")
    assert shown.code == 5
