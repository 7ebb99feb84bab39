"""`relayctl policy connections` over HTTPS: who was connected, filtered and as it comes."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from controlplane.relayctl import policy_log_commands
from controlplane.store.engine import Database
from tests.cli.conftest import Operator
from tests.fakes.policy_logs import START_S, accepted, blocked, bring, connection

CONNECTIONS = ("policy", "connections")


@pytest.fixture
def logged(paired: Operator, sqlite_database: Database) -> Operator:
    """Give an operator of a cluster with three sessions."""
    bring(sqlite_database, connection(START_S + 5, client="2001:db8::1"), node="node-b")
    bring(
        sqlite_database,
        connection(START_S, login="ann"),
        blocked(START_S + 1),
        connection(START_S + 10, client=None, helo=None, messages=0),
    )
    return paired


def at(seconds: float) -> str:
    """Return a time in seconds after the first session."""
    return datetime.fromtimestamp(START_S + seconds, UTC).isoformat()


def test_connections_are_shown_oldest_first(logged: Operator) -> None:
    """A line each, with what is known and nothing else; JSON has the API's fields."""
    first, second, third = logged(*CONNECTIONS).out.splitlines()
    told = "client=192.0.2.66 helo=mx.x.test login=ann"
    assert first == f"{at(0)[:19]} node-a milter messages=2 {told}"
    assert second == f"{at(5)[:19]} node-b milter messages=2 client=2001:db8::1 helo=mx.x.test"
    assert third == f"{at(10)[:19]} node-a milter messages=0"
    listed = logged.json(*CONNECTIONS)
    assert [one["messages"] for one in listed] == [2, 2, 0]
    assert listed[2]["client"] is None


@pytest.mark.parametrize(
    ("options", "nodes"),
    [
        (("--node", "node-b"), ["node-b"]),
        (("--client", "192.0.2.66"), ["node-a"]),
        (("--client", "2001:DB8:*", "--node", "node-a"), []),
        (("--since", at(5)), ["node-b", "node-a"]),
        (("--until", at(5)), ["node-a"]),
        (("--since", at(1), "--until", at(10)), ["node-b"]),
        (("--limit", "2"), ["node-b", "node-a"]),
    ],
)
def test_connections_are_filtered(
    logged: Operator, options: tuple[str, ...], nodes: list[str]
) -> None:
    """As the API filters them; a limit keeps the newest."""
    assert [one["node"] for one in logged.json(*CONNECTIONS, *options)] == nodes
    assert len(logged(*CONNECTIONS, *options).out.splitlines()) == len(nodes)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (("--since", "yesterday"), 1),
        (("--until", "2026-01-31T10:00"), 1),
        (("--node", "Node A"), 1),
        (("--limit", "0"), 2),
        (("--limit", "501"), 2),
        (("--verdict", "reject"), 2),
    ],
)
def test_what_cannot_be_asked_is_refused(
    logged: Operator, options: tuple[str, ...], code: int
) -> None:
    """Before or by the API, in a sentence, with nothing on standard output."""
    refused = logged(*CONNECTIONS, *options)
    assert (refused.code, refused.out) == (code, "")
    assert options[0].removeprefix("--") in refused.err


def test_decisions_are_filtered_by_time_too(logged: Operator, sqlite_database: Database) -> None:
    """With the options of the other log."""
    bring(sqlite_database, accepted(START_S + 30), first=4)
    for options, verdicts in (
        (("--since", at(2)), ["accept"]),
        (("--until", at(2)), ["reject"]),
        (("--since", at(0), "--until", at(60)), ["reject", "accept"]),
    ):
        assert [one["verdict"] for one in logged.json("policy", "log", *options)] == verdicts
    assert logged("policy", "log", "--since", "noon").code == 1


def test_connections_are_followed_until_it_is_interrupted(
    logged: Operator, sqlite_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What arrives is shown once, however old it says it is, and only what fits."""
    late = connection(START_S - 9000, client="198.51.100.9")
    news = (late, accepted(), connection(START_S + 20, client="203.0.113.1"))

    def arrive() -> None:
        bring(sqlite_database, *news, first=4)

    def interrupt() -> None:
        raise KeyboardInterrupt

    pauses = iter((arrive, lambda: None, interrupt))
    monkeypatch.setattr(policy_log_commands, "sleep", lambda _seconds: next(pauses)())
    followed = logged(*CONNECTIONS, "--follow", "--limit", "1")
    assert followed.code == 130
    _, old, new = followed.out.splitlines()
    assert "client=198.51.100.9" in old
    assert "client=203.0.113.1" in new
    pauses = iter((interrupt,))
    whole = logged(*CONNECTIONS, "-f", "--json", "--client", "198.51.*")
    assert [json.loads(line)["client"] for line in whole.out.splitlines()] == ["198.51.100.9"]


def test_a_stranger_commands_no_terminal(paired: Operator, sqlite_database: Database) -> None:
    """What a client calls itself is shown without its control characters, on one line."""
    bring(sqlite_database, connection(helo="mx\x1b[2J\r\nnode-b accept"))
    (line,) = paired(*CONNECTIONS).out.splitlines()
    assert "\x1b" not in line
    assert line.endswith("node-b accept")
