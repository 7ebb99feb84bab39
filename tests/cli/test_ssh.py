"""`relayctl ssh` over HTTPS: fingerprints, rotation, a test that is waited for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from controlplane.store.engine import Database
from nodeagent.core.contract import HeartbeatAnswer, HeartbeatRequest, NodeReport, Role
from nodeagent.core.ssh_wire import PeerTestLine, PeerTestReport, PeerTestStep, fingerprint
from tests.cli.conftest import Operator
from tests.fakes.cluster_agents import enrol_agents
from tests.fakes.enrolled_agent import HOST_KEY, SSH_KEY, EnrolledAgent
from tests.fakes.private_keys import make_key


@pytest.fixture
def agent(paired: Operator, app: FastAPI, sqlite_database: Database) -> EnrolledAgent:
    """Give node-a, enrolled."""
    del paired
    client = TestClient(app, base_url="https://relay.test")
    return enrol_agents(client, sqlite_database, "node-a")["node-a"]


def test_keys_are_listed_and_a_rotation_is_asked_for(
    agent: EnrolledAgent, paired: Operator
) -> None:
    """Asked for and taken back."""
    del agent
    listed = paired("ssh", "list").out
    assert str(fingerprint(SSH_KEY)) in listed.replace("\n", "")
    assert paired.json("ssh", "list")[0]["host_keys"][0]["fingerprint"] == fingerprint(HOST_KEY)
    assert paired("ssh", "rotate", "node-a").out == "node-a was asked for a new key.\n"
    assert paired.json("ssh", "list")[0]["is_rotating"] is True
    assert paired("ssh", "keep", "node-a").out == "node-a keeps its key.\n"
    again = paired("ssh", "keep", "node-a")
    assert (again.code, "under way" in again.err) == (1, True)
    assert paired("ssh", "rotate", "node-b").code == 1


def test_a_key_of_the_users_own_is_given_from_a_file(
    agent: EnrolledAgent, paired: Operator, tmp_path: Path
) -> None:
    """Its passphrase comes from the environment; the list says whose it is."""
    del agent
    private, public = make_key(passphrase="open it")
    file = tmp_path / "key"
    file.write_text(private)
    locked = paired("ssh", "use-key", "node-a", str(file))
    assert (locked.code, "has a passphrase" in locked.err) == (1, True)
    paired.set(RELAYCTL_SSH_PASSPHRASE="open it")
    given = paired("ssh", "use-key", "node-a", str(file), "--passphrase")
    shown = str(fingerprint(public))
    assert given.out == f"node-a was given the key {shown}.\n", given.err
    listed = paired.json("ssh", "list")[0]
    assert (listed["next_key"]["fingerprint"], listed["next_key"]["given_by"]) == (shown, "admin")
    assert "given by admin" in " ".join(paired("ssh", "list").out.split())
    assert paired("ssh", "keep", "node-a").code == 0


def test_host_keys_are_pinned_from_a_file(
    agent: EnrolledAgent, paired: Operator, tmp_path: Path
) -> None:
    """What is printed can be given again; a node that shows something else is named."""
    del agent
    other = " ".join(make_key()[1].split()[:2])
    file = tmp_path / "pins"
    assert paired("ssh", "known-hosts").out == f"198.51.100.11 {HOST_KEY}\n"
    assert paired("ssh", "known-hosts", "--pins").out == ""
    file.write_text(f"198.51.100.11 {other}\n")
    pinned = paired("ssh", "pin", str(file))
    assert pinned.out == "The host keys to trust are saved.\n", pinned.err
    assert "node-a reports other host keys" in pinned.err
    assert paired("ssh", "known-hosts", "--pins").out == file.read_text()
    file.write_text("node-a is no address")
    refused = paired("ssh", "pin", str(file))
    assert (refused.code, "Line 1" in refused.err) == (1, True)
    assert paired("ssh", "known-hosts").out == f"198.51.100.11 {other}\n"


@contextmanager
def answering(agent: EnrolledAgent, *, is_ok: bool) -> Iterator[None]:
    """Have node-a answer each test with one step."""
    is_over = threading.Event()

    def answer() -> None:
        while not is_over.wait(0.05):
            report = HeartbeatRequest(report=NodeReport(role=Role.STANDBY))
            raw = agent.post("heartbeat", report).content
            number = HeartbeatAnswer.model_validate_json(raw).peer_test
            if number is not None:
                line = PeerTestLine(step=PeerTestStep.ADDRESS, ok=is_ok, text="It is there.")
                result = PeerTestReport(id=number, ok=is_ok, text="That is all.", lines=(line,))
                agent.post("peer_test_done", result)

    thread = threading.Thread(target=answer)
    thread.start()
    yield
    is_over.set()
    thread.join()


def test_a_test_prints_its_steps_and_its_outcome_is_the_exit_code(
    agent: EnrolledAgent, paired: Operator
) -> None:
    """0 when a push would pass, 5 when not; JSON has the whole test."""
    with answering(agent, is_ok=True):
        good = paired("ssh", "test", "node-a", "node-b")
    assert (good.code, good.out) == (0, "ok      address: It is there.\nThat is all.\n"), good.err
    with answering(agent, is_ok=False):
        bad = paired("ssh", "test", "node-a", "node-b", "--json")
    assert (bad.code, bad.data["is_ok"]) == (5, False)
    assert "A push from node-a to node-b would fail." in bad.err
    assert paired("ssh", "test", "node-a", "node-a").code == 1
    assert paired("ssh", "test", "node-a", "node-b", "--timeout", "0").code == 5
