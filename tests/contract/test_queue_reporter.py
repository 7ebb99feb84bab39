"""The queue's list through lost answers, restarts and full disks, into a real store."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from controlplane.store.engine import Database
from controlplane.store.queue_lists import forget_list, store_batch
from controlplane.store.queue_search import QueueFilter, find_messages, list_states
from nodeagent import queue_reporter
from nodeagent.adapters.command_journal import CommandJournal
from nodeagent.adapters.durable import write_durably
from nodeagent.adapters.queue_commands import QueueCommands
from nodeagent.adapters.queue_scan import QueueScan
from nodeagent.core.queue_contract import QueueAnswer, QueueCommand, QueueReport, QueueVerb
from nodeagent.errors import AgentError, Refused, Unreachable
from nodeagent.queue_reporter import QueueReporter, serve
from tests.contract.test_queue_of_postfix import NOBODY, FarEnd
from tests.fakes.postfix_queue import PostfixQueue

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the queue belongs to Postfix's user")

MOST_BATCHES = 50
DELETE = QueueCommand(action=3, verb=QueueVerb.DELETE, ids=(NOBODY,))


@pytest.fixture(scope="module")
def database(migrated_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """Give one store for all examples; each begins with no list."""
    path = tmp_path_factory.mktemp("store") / "relay.db"
    shutil.copyfile(migrated_file, path)
    opened = Database(f"sqlite:///{path}")
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def _at_every_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the queue looked at for each batch, as if seconds had passed."""
    monkeypatch.setattr(queue_reporter, "POLL_S", 0.0)
    monkeypatch.setattr(queue_reporter, "REST_FACTOR", 0)


class Cluster:
    """A node with a queue, the control plane's store, and a line between them that fails."""

    def __init__(self, home: Path, database: Database) -> None:
        self.queue = PostfixQueue(home / "queue")
        self.relay = home / "relay"
        self.relay.mkdir()
        self._home = home
        self._database = database
        self.fault = ""
        self.numbers = itertools.count()
        with database.write() as session:
            forget_list(session, "node-a")
        self.restart()

    def restart(self) -> None:
        """Begin anew, as after a kill."""
        self.node = QueueReporter(
            QueueScan(self.queue.root, self.relay),
            QueueCommands(self.queue.root),
            CommandJournal(self._home / "journal"),
            self._send,
        )

    def _send(self, report: QueueReport) -> QueueAnswer:
        fault, self.fault = self.fault, ""
        if fault == "request lost":
            raise Unreachable
        wired = QueueReport.model_validate_json(report.model_dump_json())
        with self._database.write() as session:
            is_expected = store_batch(session, "node-a", wired)
        if fault == "answer lost":
            raise Unreachable
        return QueueAnswer(is_expected=is_expected)

    def report(self) -> bool:
        """Send one batch; True if there is more to do."""
        try:
            return self.node.report()
        except Unreachable:
            return True

    def files(self) -> dict[str, str]:
        """Return the queue of each message as the disk has it."""
        return {
            path.name: directory
            for directory in ("incoming", "active", "deferred", "hold")
            for path in (self.queue.root / directory).rglob("4*")
        }

    def step(self, name: str) -> None:
        """Do one thing to the queue, to the line, or to the control plane."""
        files = self.files()
        first = next(iter(sorted(files)), None)
        if name == "accept":
            self.queue.accept(next(self.numbers))
        elif name in {"request lost", "answer lost"}:
            self.fault = name
        elif name == "forget":
            with self._database.write() as session:
                forget_list(session, "node-a")
        elif name == "report":
            self.report()
        elif name == "restart":
            self.restart()
        elif first is not None and name == "deliver":
            self.queue.deliver(first, files[first])
        elif first is not None and files[first] != name:
            self.queue.move(first, files[first], name)

    def listed(self) -> tuple[dict[str, str], bool]:
        """Return what the control plane shows, and whether it calls that the whole list."""
        with self._database.read() as session:
            page = find_messages(
                session, QueueFilter(), after=None, limit=100, is_oldest_first=True
            )
            states = list_states(session)
            shown = {row.queue_id: str(row.queue) for row in page.rows}
        return shown, all(one.is_complete for one in states)


STEPS = (
    *("accept", "accept", "deliver", "active", "deferred", "hold"),
    *("report", "report", "request lost", "answer lost", "forget", "restart"),
)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(STEPS), max_size=16))
@example(["accept", "answer lost", "report", "deliver", "restart"])
@example(["accept", "report", "forget", "deferred", "answer lost", "report", "accept"])
def test_the_list_becomes_what_the_disk_holds(database: Database, steps: list[str]) -> None:
    """Whatever was lost or restarted between: once batches come through, the list is true."""
    with tempfile.TemporaryDirectory() as home:
        cluster = Cluster(Path(home), database)
        for step in steps:
            cluster.step(step)
        for _ in range(MOST_BATCHES):
            if not cluster.report() and not cluster.report():
                break
        assert cluster.listed() == (cluster.files(), True), steps


@pytest.fixture
def queue(tmp_path: Path) -> PostfixQueue:
    """Give a queue of one message."""
    one = PostfixQueue(tmp_path / "queue")
    one.accept(1)
    return one


def reporter(queue: PostfixQueue, far: FarEnd, journal: Path) -> QueueReporter:
    """Return a reporter whose postsuper(1) fails, for want of a configuration."""
    commands = QueueCommands(queue.root, queue.root / "no-config")
    scan = QueueScan(queue.root, queue.root / "relay")
    return QueueReporter(scan, commands, CommandJournal(journal), far)


def test_a_full_disk_does_nothing_that_it_cannot_note(queue: PostfixQueue, tmp_path: Path) -> None:
    """The operator reads why, the list still goes out, and with room again it is tried."""
    (tmp_path / "journal.new").symlink_to("/dev/full")
    far = FarEnd()
    node = reporter(queue, far, tmp_path / "journal")
    far.answers = [QueueAnswer(is_expected=True, commands=(DELETE,))] * 2
    assert node.report() is False
    queue.accept(2)
    node.report()
    (result,) = far.reports[1].results
    assert result.items == ()
    assert "No space left on device" in result.error
    assert len(far.reports[1].upserts) == 1
    (tmp_path / "journal.new").unlink()
    far.answers = [QueueAnswer(is_expected=True, commands=(DELETE,))]
    node.report()
    node.report()
    assert far.reports[-1].results[0].error.startswith("postsuper failed:")


@pytest.mark.parametrize("content", [b"", b"torn {", b"[]", b"\xff"])
def test_a_journal_that_cannot_be_read_lets_nothing_be_done(
    queue: PostfixQueue, tmp_path: Path, content: bytes
) -> None:
    """What was interrupted is unknown then: it is said, not taken for nothing."""
    write_durably(tmp_path / "journal", content)
    far = FarEnd()
    node = reporter(queue, far, tmp_path / "journal")
    far.answers = [QueueAnswer(is_expected=True, commands=(DELETE,))]
    node.report()
    node.report()
    (result,) = far.reports[1].results
    assert (result.items, "journal" in result.error) == ((), True)


def test_what_fails_again_and_again_does_not_hurry(queue: PostfixQueue, tmp_path: Path) -> None:
    """A broken Postfix would otherwise have node and control plane busy with nothing else."""
    far = FarEnd()
    node = reporter(queue, far, tmp_path / "journal")
    far.answers = [QueueAnswer(is_expected=True, commands=(DELETE,))] * 3
    assert [node.report() for _ in range(3)] == [False, False, False]
    assert [one.results != () for one in far.reports] == [False, True, True]


class Line:
    """A far end that fails as told, one error after the other, and counts the calls."""

    def __init__(self, *errors: AgentError | OSError) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self, report: QueueReport) -> QueueAnswer:
        """Fail, or take the batch."""
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return QueueAnswer(is_expected=bool(report.session))


def test_the_process_outlives_what_its_line_does(
    queue: PostfixQueue,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Every error is a rest, not an end; one that repeats is logged once."""
    monkeypatch.setattr(queue_reporter, "REFUSED_REST_S", 0.0)
    errors = (Unreachable("away"), Unreachable("away"), Refused("no"), OSError("disk"))
    line = Line(*errors)
    commands = QueueCommands(queue.root)
    scan = QueueScan(queue.root, tmp_path / "relay")
    node = QueueReporter(scan, commands, CommandJournal(tmp_path / "journal"), line)
    stopping = threading.Event()
    serve(node, stopping, lambda: line.calls <= len(errors))
    assert line.calls == len(errors) + 1
    logged = capsys.readouterr().out
    assert [logged.count(f"reason={text}") for text in ("away", "no", "disk")] == [1, 1, 1]


def test_nothing_is_sent_for_an_agent_that_is_gone(queue: PostfixQueue, tmp_path: Path) -> None:
    """The next agent's process may report already."""
    line = Line()
    scan = QueueScan(queue.root, tmp_path / "relay")
    commands = QueueCommands(queue.root)
    node = QueueReporter(scan, commands, CommandJournal(tmp_path / "journal"), line)
    serve(node, threading.Event(), lambda: False)
    stopping = threading.Event()
    stopping.set()
    serve(node, stopping, lambda: True)
    assert line.calls == 0
