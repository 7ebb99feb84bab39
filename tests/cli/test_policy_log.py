"""`relayctl policy` over HTTPS: status, threats, the log as it comes, the quarantine, a trial."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from controlplane.relayctl import policy_log_commands
from controlplane.store.engine import Database
from nodeagent.core.queue_contract import QueueName
from tests.cli.conftest import Operator
from tests.fakes.cluster_agents import enrol_agents
from tests.fakes.policy_logs import accepted, blocked, bring, limited, quarantined
from tests.fakes.queue_lists import message, queue_id
from tests.fakes.queue_node import QueueNode

ONE, TWO = queue_id(1), queue_id(2)


@pytest.fixture
def logged(paired: Operator, sqlite_database: Database) -> Operator:
    """Give an operator of a cluster whose hook has decided a few things."""
    bring(sqlite_database, blocked(), limited(), accepted(sender=""))
    return paired


@pytest.fixture
def node(paired: Operator, app: FastAPI, sqlite_database: Database) -> QueueNode:
    """Give node-a, with two messages in quarantine and one that an operator holds."""
    del paired
    agents = enrol_agents(TestClient(app, base_url="https://relay.test"), sqlite_database, "node-a")
    made = QueueNode(agents["node-a"])
    held = [message(number, queue=QueueName.HOLD, sender="a@x.test") for number in (1, 2, 3)]
    made.report(upserts=tuple(held))
    bring(sqlite_database, quarantined(ONE), quarantined(TWO, subject=None))
    return made


def test_the_status_has_numbers_and_nodes(logged: Operator) -> None:
    """For people and for programs."""
    found = logged.json("policy", "status")
    assert found["active"] is False
    assert [one["node"] for one in found["nodes"]] == ["node-a", "node-b"]
    shown = logged("policy", "status").out
    assert "blocked_emails_24h" in shown
    assert "node-b" in shown
    assert "never" in shown


def test_threats_are_listed_and_filtered(logged: Operator) -> None:
    """As the API filters them."""
    assert [one["rule"] for one in logged.json("policy", "threats")["threats"]] == [
        *("rate:2", "rate:1", "block:7")
    ]
    shown = logged("policy", "threats", "--type", "rate")
    assert "rate:1" in shown.out
    assert "block:7" not in shown.out
    assert shown.err == "2 of 2.\n"
    assert logged("policy", "threats", "--severity", "high").out == "No rule has fired.\n"
    assert logged("policy", "threats", "--since", "yesterday").code == 1


def test_the_log_is_shown_oldest_first_and_filtered(logged: Operator) -> None:
    """A line each, with what is known; one decision with its reasons."""
    lines = logged("policy", "log").out.splitlines()
    assert len(lines) == 3
    first, _, last = lines
    assert "rcpt reject 554 5.7.1 no client=192.0.2.66 from=Ann@X.test" in first
    assert first.endswith("rules=block:7")
    assert "data accept" in last
    assert "from=<>" in last
    (only,) = logged.json("policy", "log", "--verdict", "tempfail")
    assert only["rules"] == ["rate:1", "rate:2"]
    assert logged.json("policy", "log", "--stage", "rcpt", "--client", "198.51.*") == []
    shown = logged("policy", "show", str(only["number"])).out
    assert "rate:2 fired" in shown
    assert logged.json("policy", "show", str(only["number"]))["fired"][0]["rule"] == "rate:1"
    assert logged("policy", "show", "99").code == 1


def test_the_log_is_followed_until_it_is_interrupted(
    logged: Operator, sqlite_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What arrives is shown once, in the order in which it came, however old it says it is."""
    late = (blocked(at=1_794_000_000.0, client="198.51.100.9"), accepted())
    pauses = iter((lambda: bring(sqlite_database, *late, first=4), lambda: None, interrupt))

    monkeypatch.setattr(policy_log_commands, "sleep", lambda _seconds: next(pauses)())
    followed = logged("policy", "log", "--follow", "--limit", "1")
    assert followed.code == 130
    _, old, new = followed.out.splitlines()
    assert "client=198.51.100.9" in old
    assert "data accept" in new
    pauses = iter((interrupt,))
    whole = logged("policy", "log", "--follow", "--json", "--verdict", "reject")
    assert [json.loads(line)["verdict"] for line in whole.out.splitlines()] == ["reject"] * 2


def interrupt() -> None:
    """Press Ctrl-C."""
    raise KeyboardInterrupt


def test_the_quarantine_is_listed_and_shown(node: QueueNode, paired: Operator) -> None:
    """What an operator holds is not in it."""
    del node
    listed = paired("policy", "quarantine", "list")
    assert "2 of 2 messages" in listed.out
    assert f"node-a/{ONE}" in listed.out
    assert "Win now" in listed.out
    assert paired.json("policy", "quarantine", "list", "--rule", "badword:*")["total"] == 2
    assert paired.json("policy", "quarantine", "list", "--severity", "low")["total"] == 0
    first = paired("policy", "quarantine", "list", "--limit", "1")
    place = first.err.rpartition("--after ")[2].strip()
    assert f"node-a/{ONE}" in paired("policy", "quarantine", "list", "--after", place).out
    shown = paired("policy", "quarantine", "show", "node-a", ONE)
    assert "badword:17 fired" in shown.out
    assert paired("policy", "quarantine", "show", "node-a", queue_id(3)).code == 1
    preview = ("policy", "quarantine", "show", "node-a", ONE, "--preview", "--timeout", "0.1")
    assert paired(*preview).code == 5


def test_messages_are_released_and_deleted(node: QueueNode, paired: Operator) -> None:
    """A delete asks with the count, and is withdrawn when nobody can be asked."""
    release = ("policy", "quarantine", "release")
    released = paired(*release, f"node-a/{ONE}", "--no-wait")
    assert "Action 1 (release)" in released.out
    assert ("release", (ONE,)) in node.obey_each()
    refused = paired("policy", "quarantine", "delete", "--all")
    assert refused.code == 2
    assert "messages are selected" in refused.err
    deleted = paired("policy", "quarantine", "delete", f"node-a/{TWO}", "--yes", "--no-wait")
    assert deleted.code == 0
    assert ("delete", (TWO,)) in node.obey_each()
    assert paired(*release).code == 2
    assert paired(*release, "--all", f"node-a/{ONE}").code == 2


def test_a_file_that_is_not_there_is_not_tried(paired: Operator, tmp_path: Path) -> None:
    """Wrong usage, before anything is asked."""
    missing = str(tmp_path / "none.eml")
    assert paired("policy", "try", missing, "--to", "ann@b.test").code == 2


MAIL = b"From: a@x.test\r\nTo: b@y.test\r\nSubject: Casino\r\n\r\nHello, \xff\r\n"


def test_a_mail_is_tried_and_not_sent(paired: Operator, tmp_path: Path) -> None:
    """Stage by stage with the rule that fires; bytes that are no text go as they are."""
    file = tmp_path / "mail.eml"
    file.write_bytes(MAIL)
    tried = ("policy", "try", str(file), "--from", "a@x.test", "--to", "b@y.test")
    assert "The mail gets: accept" in paired(*tried, "--client", "192.0.2.7").out
    paired("policy", "badword", "add", "casino", "--severity", "critical")
    paired("policy", "block", "198.51.100.0/24")
    said = paired(*tried, "--client", "192.0.2.7", "--helo", "mx.x.test")
    assert "data: reject" in said.out
    assert "The mail gets: reject" in said.out
    result = paired.json(*tried, "--client", "198.51.100.9")
    verdicts = {one["stage"]: one["verdict"] for one in result["stages"]}
    assert (verdicts["connect"], result["verdict"]) == ("reject", "reject")
    assert paired(*tried, "--client", "nonsense").code == 1
    assert paired("policy", "log").out == ""


def test_what_the_dns_would_say_is_assumed(paired: Operator, tmp_path: Path) -> None:
    """For each of the three; a note says what did not count. Host names are on lists, too."""
    file = tmp_path / "mail.eml"
    file.write_bytes(MAIL)
    tried = ("policy", "try", str(file), "--from", "a@x.test", "--to", "b@y.test")
    for name in ("spf", "dkim", "dmarc"):
        said = paired(*tried, "--client", "192.0.2.7", f"--{name}", "fail")
        assert f"{name.upper()} is switched off" in said.err
        assert "The mail gets: accept" in said.out
    assert paired(*tried, "--spf", "bad").code == 1
    assert paired(*tried, "--dmarc", "fail", "--dmarc-policy", "burn").code == 1
    paired("policy", "block", "*.dial-up.test")
    said = paired(*tried, "--client-name", "p1.dial-up.test")
    assert "connect: reject" in said.out
    assert "The mail gets: reject" in said.out
