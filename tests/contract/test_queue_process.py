"""The process that reports the queue, over HTTPS to a real control plane."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi import FastAPI

from controlplane.store import agents
from controlplane.store.engine import Database
from controlplane.store.queue_search import list_states
from controlplane.tls import ca_fingerprint
from nodeagent.adapters import beside
from nodeagent.adapters.api_client import enrol, fetch_ca
from nodeagent.adapters.beside import Beside
from nodeagent.adapters.identity import Identity
from nodeagent.core.enrol_wire import EnrolRequest
from tests.cli.conftest import Served, app, served, settings, shared_app
from tests.fakes.certificates import make_pair
from tests.fakes.enrolled_agent import HOST_KEY
from tests.fakes.postfix_queue import PostfixQueue

__all__ = ["app", "served", "settings", "shared_app"]

LIMIT_S = 60
ROOT = Path(__file__).resolve().parents[2]


def until(is_true: Callable[[], bool], what: str) -> None:
    """Wait for something that comes soon."""
    ends_s = time.monotonic() + LIMIT_S
    while not is_true():
        assert time.monotonic() < ends_s, what
        time.sleep(0.1)


@pytest.fixture
def environment(
    served: Served, app: FastAPI, sqlite_database: Database, tmp_path: Path
) -> dict[str, str]:
    """Enrol a node whose queue holds three messages; give the environment of its programs."""
    home = {"state_dir": served.state_dir}
    app.state.settings = app.state.settings.model_copy(update=home)
    fingerprint = ca_fingerprint(served.state_dir)
    with sqlite_database.write() as session:
        token = agents.issue_token(session, "node-a", fingerprint).text
    for name in ("state", "relay", "queue"):
        (tmp_path / name).mkdir(exist_ok=True)
    identity = Identity(tmp_path / "state")
    identity.make_keys()
    request = EnrolRequest(
        token=token,
        node="node-a",
        public_key_pem=identity.public_key_pem(),
        ssh_public_key=identity.ssh_key.public_key(),
        ssh_host_keys=(HOST_KEY,),
    )
    answer = enrol(served.url, fetch_ca(served.url, fingerprint), request)
    identity.save_enrolment("node-a", served.url, answer.ca_pem)
    PostfixQueue(tmp_path / "queue").accept(1, 2, 3)
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "RELAY_AGENT_QUEUE_DIRECTORY": str(tmp_path / "queue"),
        "RELAY_AGENT_RELAY_DIRECTORY": str(tmp_path / "relay"),
        "RELAY_AGENT_STATE_DIRECTORY": str(tmp_path / "state"),
    }


def listed(database: Database) -> list[tuple[str, int, bool]]:
    """Return the lists as the control plane has them."""
    with database.read() as session:
        return [(one.node, one.messages, one.is_complete) for one in list_states(session)]


def test_a_list_arrives_and_the_process_ends_when_asked(
    environment: dict[str, str], sqlite_database: Database
) -> None:
    """Three messages, the list whole; SIGTERM ends it well."""
    command = [sys.executable, "-m", "nodeagent.queue_reporter"]
    with subprocess.Popen(command, env=environment) as process:
        until(lambda: listed(sqlite_database) == [("node-a", 3, True)], "no list came")
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT_S) == 0


def test_a_host_that_is_not_enrolled_is_one_sentence(tmp_path: Path) -> None:
    """No traceback."""
    command = [sys.executable, "-m", "nodeagent.queue_reporter"]
    environment = {**os.environ, "RELAY_AGENT_STATE_DIRECTORY": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("relay-agent: ")
    assert len(done.stderr.splitlines()) == 1


def children_of(pid: int) -> list[int]:
    """Return the processes that a process has started (proc(5))."""
    found = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for one in found for child in one.read_text().split()]


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("is_at_once", [True, False])
def test_the_reporter_ends_with_an_agent_that_is_killed(tmp_path: Path, is_at_once: bool) -> None:
    """However early: the next agent starts its own, and two would undo each other's list."""
    identity = Identity(tmp_path / "state")
    identity.make_keys()
    pem, _key = make_pair()
    identity.save_enrolment("node-a", "https://127.0.0.1:1", pem)
    program = (
        "import time; from nodeagent.adapters.beside import Beside\n"
        "Beside('nodeagent.queue_reporter').start(); time.sleep(300)"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "RELAY_AGENT_QUEUE_DIRECTORY": str(tmp_path),
        "RELAY_AGENT_RELAY_DIRECTORY": str(tmp_path),
        "RELAY_AGENT_STATE_DIRECTORY": str(tmp_path / "state"),
    }
    said = tmp_path / "said"
    with said.open("wb") as output:
        agent = subprocess.Popen(
            [sys.executable, "-c", program], env=environment, stdout=output, stderr=output
        )
        try:
            until(lambda: len(children_of(agent.pid)) == 1, "no reporter was started")
            (reporter,) = children_of(agent.pid)
            if not is_at_once:
                until(lambda: "queue list not sent" in said.read_text(), "it does not report")
        finally:
            agent.kill()
            agent.wait()
    until(lambda: not is_alive(reporter), "the reporter outlives its agent")


def test_a_process_beside_is_started_again_until_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that ends by itself, and one that was killed; after `stop` there is none."""
    marks = tmp_path / "marks"
    marks.touch()
    program = (
        "import os, time\nprint(os.getpid(), file=open({!r}, 'a'), flush=True)\ntime.sleep(99)"
    )
    (tmp_path / "besides_test.py").write_text(program.format(str(marks)))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(beside, "REST_S", 0.05)
    runner = Beside("besides_test")
    runner.start()
    until(lambda: len(marks.read_text().split()) == 1, "not started")
    os.kill(int(marks.read_text().split()[0]), signal.SIGKILL)
    until(lambda: len(marks.read_text().split()) == 2, "not started again")
    runner.stop()
    last = int(marks.read_text().split()[-1])
    until(lambda: not Path(f"/proc/{last}").exists(), "not stopped")
