"""PID 1 of a host as an ordinary process: it starts, restarts and stops real programs in order."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lab import cgroups, init
from lab.services import Service
from lab.settings import Settings
from tests.lab.probe import until

NAME = f"relay-lab-init-{os.getpid()}"
PROGRAM = """
import json, signal, sys
from pathlib import Path
from lab import init, services
from lab.services import Service
from lab.settings import Settings
root, wanted = Path(sys.argv[1]), json.loads(sys.argv[2])
services.LOG_DIR_IN_HOST = root
init._DISABLED = root / "disabled"
signal.pthread_sigmask(signal.SIG_BLOCK, init._AWAITED)
supervisor = init.Supervisor("client", Settings())
supervisor._units = [init.Unit(Service(**one)) for one in wanted]
supervisor.run()
"""


@dataclass
class Supervised:
    """A supervisor in a process of its own; its services write what they do into one file."""

    root: Path
    process: subprocess.Popen[bytes]

    def notes(self) -> list[str]:
        """Give what the services wrote, in order."""
        path = self.root / "notes"
        return path.read_text().split() if path.exists() else []

    def log(self, service: str) -> str:
        """Give a service's log."""
        path = self.root / f"{service}.log"
        return path.read_text() if path.exists() else ""

    def stop(self) -> list[str]:
        """Stop it as a clean shutdown does, and give what was written."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(30) == 0
        return self.notes()


Start = Callable[..., Supervised]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Start supervisors; whatever is left of them is ended."""
    if os.geteuid() != 0:
        pytest.skip("control groups need root")
    started: list[subprocess.Popen[bytes]] = []

    def begin(*services: dict[str, Any]) -> Supervised:
        words = [sys.executable, "-c", PROGRAM, str(tmp_path), json.dumps(services)]
        process = subprocess.Popen(words, env={**os.environ, "RELAY_LAB_CGROUP": NAME})
        started.append(process)
        return Supervised(tmp_path, process)

    yield begin
    for process in started:
        process.kill()
        process.wait(10)
    monkeypatch.setattr(cgroups, "CGROUP_NAME", NAME)
    cgroups.remove_all()


def program(root: Path, name: str, ending: str = "sleep 600 & wait") -> dict[str, Any]:
    """Describe a service that notes its start and its SIGTERM."""
    script = f"trap 'echo {name}-ended >>{root}/notes; exit' TERM; echo {name} >>{root}/notes; "
    return {"name": name, "argv": ["sh", "-c", script + ending]}


def test_services_stop_in_the_reverse_order_of_their_start(start: Start, tmp_path: Path) -> None:
    """Each has ended before the next one is told."""
    running = start(*(program(tmp_path, name) for name in ("one", "two", "three")))
    until(lambda: len(running.notes()) == 3, "all three run")
    assert running.stop()[3:] == ["three-ended", "two-ended", "one-ended"]


def test_a_service_with_a_stop_command_is_stopped_by_it(start: Start, tmp_path: Path) -> None:
    """Postfix is: SIGTERM to its master would leave the order to chance."""
    stop = ["sh", "-c", f"echo by-command >>{tmp_path}/notes; touch {tmp_path}/leave"]
    ending = f"until [ -e {tmp_path}/leave ]; do sleep 0.02; done"
    running = start({**program(tmp_path, "one", ending), "stop": stop})
    until(lambda: running.notes() == ["one"], "it runs")
    assert running.stop() == ["one", "by-command"]


def test_what_ends_is_started_again_with_a_line_in_its_log(start: Start, tmp_path: Path) -> None:
    """By itself, by a signal, or with an error."""
    service = {**program(tmp_path, "one", "exit 3"), "restart_delay_s": 0.01}
    running = start(service)
    until(lambda: len(running.notes()) >= 2, "it was started again")
    assert "init: one ended with status 3" in running.log("one")


def test_a_disabled_service_is_not_started_again(start: Start, tmp_path: Path) -> None:
    """For tests that need one gone for good."""
    (tmp_path / "disabled").mkdir()
    (tmp_path / "disabled/one").touch()
    running = start(program(tmp_path, "one"), program(tmp_path, "two"))
    until(lambda: running.notes() == ["two"], "the other one runs")
    (tmp_path / "disabled/one").unlink()
    until(lambda: running.notes() == ["two", "one"], "it runs once it is enabled")


def test_a_service_waits_for_what_it_needs(start: Start, tmp_path: Path) -> None:
    """The agent for its enrolment, keepalived for its configuration."""
    running = start(
        {**program(tmp_path, "one"), "needs": str(tmp_path / "enrolled")},
        program(tmp_path, "two"),
    )
    until(lambda: running.notes() == ["two"], "the other one runs")
    (tmp_path / "enrolled").touch()
    until(lambda: running.notes() == ["two", "one"], "it runs then")


def test_a_preparation_that_fails_is_said_and_tried_again(start: Start, tmp_path: Path) -> None:
    """The service itself is not started on what was not prepared."""
    made = f"{tmp_path}/made"
    service = {
        **program(tmp_path, "one"),
        "prepare": [["test", "-e", made]],
        "restart_delay_s": 0.01,
    }
    running = start(service)
    until(lambda: "one cannot start: Command" in running.log("one"), "it says why")
    assert running.notes() == []
    Path(made).touch()
    until(lambda: running.notes() == ["one"], "it runs once it is prepared")


def test_quick_ends_are_waited_out_longer_and_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service that cannot run does not eat the processor; one that ran starts at once again."""
    monkeypatch.setattr("lab.services.LOG_DIR_IN_HOST", tmp_path)
    supervisor = init.Supervisor("client", Settings())
    unit = init.Unit(Service("one", ("true",), restart_delay_s=1.0))
    delays = []
    for _ in range(6):
        unit.pid, unit.started = 1, time.monotonic()
        supervisor._note_end(unit, 1)
        assert unit.pid is None
        delays.append(round(unit.not_before - unit.first_look))
    assert delays == [2, 4, 8, 16, 16, 16]
    unit.pid, unit.started = 1, time.monotonic() - 60
    supervisor._note_end(unit, -9)
    assert round(unit.not_before - unit.first_look) == 1
    assert "one ended with signal 9" in (tmp_path / "one.log").read_text()


def test_a_wish_is_waited_for_but_not_for_ever(tmp_path: Path) -> None:
    """Postfix starts without a guard's socket after a while: keepalived's check decides then."""
    unit = init.Unit(Service("one", ("true",), after=str(tmp_path / "socket")))
    seen = unit.first_look
    assert not unit.is_due(seen + 9.9)
    assert unit.is_due(seen + 10.1)
    (tmp_path / "socket").touch()
    assert unit.is_due(seen)
    unit.pid = 1
    assert not unit.is_due(seen + 60), "it runs"


@pytest.mark.skipif(not init._SHARE.exists(), reason="this kernel does not group by session")
def test_a_service_as_a_whole_has_its_share_of_the_cpu(start: Start, tmp_path: Path) -> None:
    """Its session is weighed, so a busy service beside it does not make it wait."""
    ending = f"cat /proc/self/autogroup >{tmp_path}/share; sleep 600 & wait"
    running = start({**program(tmp_path, "first", ending), "nice": -20})
    until(lambda: bool(running.notes()), "it runs")
    until((tmp_path / "share").exists, "it knows its share")
    until(lambda: (tmp_path / "share").read_text().endswith("nice -20\n"), "it has its share")
