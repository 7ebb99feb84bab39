"""The queue's list and the commands on it, against a real Postfix."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nodeagent.adapters.command_journal import CommandJournal
from nodeagent.adapters.queue_commands import QueueCommands
from nodeagent.adapters.queue_scan import QueueScan, read_message
from nodeagent.core.queue_contract import (
    HeadersWish,
    ItemState,
    QueueAnswer,
    QueueCommand,
    QueuedMessage,
    QueueName,
    QueueReport,
    QueueVerb,
)
from nodeagent.errors import Unreachable
from nodeagent.queue_reporter import QueueReporter
from tests.fakes.postfix_instance import PostfixInstance

NOBODY = "4jWm8M3632zKH0Y"
NONE: frozenset[str] = frozenset()

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="Postfix is started by root only")


@pytest.fixture(scope="module")
def postfix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostfixInstance]:
    """Give one running Postfix that can deliver to nobody."""
    instance = PostfixInstance(tmp_path_factory.mktemp("postfix"))
    instance.start()
    yield instance
    instance.stop()


@pytest.fixture
def waiting(postfix: PostfixInstance) -> list[str]:
    """Give the ids of three messages that are deferred, and nothing else in the queue."""
    subprocess.run(
        ["postsuper", "-c", str(postfix.config), "-d", "ALL"], check=True, capture_output=True
    )
    postfix.send(3)
    postfix.wait_until_deferred(3)
    return sorted(postfix.ids("deferred"))


def messages(postfix: PostfixInstance) -> dict[str, QueuedMessage]:
    """Return the list as a node would send it."""
    found = QueueScan(postfix.queue, postfix.root / "relay").look()
    read = {name: read_message(name, stamp) for name, stamp in found.items()}
    return {name: one for name, one in read.items() if one is not None}


def commands(postfix: PostfixInstance) -> QueueCommands:
    """Return the commands on this instance."""
    return QueueCommands(postfix.queue, postfix.config)


def do(postfix: PostfixInstance, verb: QueueVerb, *ids: str) -> dict[str, ItemState]:
    """Carry out one command; return what became of each message."""
    result = commands(postfix).execute(QueueCommand(action=1, verb=verb, ids=ids), NONE)
    assert result.error == ""
    return {one.id: one.state for one in result.items}


def test_the_list_says_what_postqueue_says(postfix: PostfixInstance, waiting: list[str]) -> None:
    """Queue, time, size, sender, recipients and reasons are those of `postqueue -j`."""
    done = subprocess.run(
        ["postqueue", "-c", str(postfix.config), "-j"], check=True, capture_output=True
    )
    told: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    listed = messages(postfix)
    assert sorted(listed) == waiting == sorted(one["queue_id"] for one in told)
    for one in told:
        seen = listed[one["queue_id"]]
        assert seen.queue.value == one["queue_name"]
        assert (seen.arrived_at, seen.size_bytes) == (one["arrival_time"], one["message_size"])
        assert seen.sender == one["sender"]
        assert list(seen.recipients) == [each["address"] for each in one["recipients"]]
        assert seen.recipient_count == 1
        assert {seen.reason} == {each["delay_reason"] for each in one["recipients"]}
        assert seen.next_hop == "127.0.0.1"


def test_each_command_says_what_it_did(postfix: PostfixInstance, waiting: list[str]) -> None:
    """Done, nothing to do, and not there are told apart; the queue agrees."""
    first, second, third = waiting
    held = do(postfix, QueueVerb.HOLD, first, second, NOBODY)
    assert held == {
        first: ItemState.DONE,
        second: ItemState.DONE,
        NOBODY: ItemState.NOT_FOUND,
    }
    assert postfix.ids("hold") == {first, second}
    assert do(postfix, QueueVerb.HOLD, first) == {first: ItemState.UNCHANGED}
    assert messages(postfix)[first].queue is QueueName.HOLD
    assert do(postfix, QueueVerb.RELEASE, first, third) == {
        first: ItemState.DONE,
        third: ItemState.UNCHANGED,
    }
    assert do(postfix, QueueVerb.DELETE, first, NOBODY) == {
        first: ItemState.DONE,
        NOBODY: ItemState.NOT_FOUND,
    }
    assert postfix.ids() == {second, third}
    assert do(postfix, QueueVerb.FLUSH, second, third, NOBODY) == {
        second: ItemState.UNCHANGED,
        third: ItemState.DONE,
        NOBODY: ItemState.NOT_FOUND,
    }


def test_a_requeued_message_comes_back_at_once_under_a_new_id(
    postfix: PostfixInstance, waiting: list[str]
) -> None:
    """Requeued again by its old id it is not found: nothing is sent twice."""
    assert do(postfix, QueueVerb.REQUEUE, waiting[0]) == {waiting[0]: ItemState.DONE}
    postfix.wait_until_deferred(3, limit_s=20)  # pickup(8) by itself looks once a minute
    assert len(postfix.ids() - set(waiting)) == 1
    assert do(postfix, QueueVerb.REQUEUE, waiting[0]) == {waiting[0]: ItemState.NOT_FOUND}


def test_an_interrupted_delete_is_unknown_not_unfound(
    postfix: PostfixInstance, waiting: list[str]
) -> None:
    """After a kill nobody can say whether the message was deleted or delivered."""
    do(postfix, QueueVerb.DELETE, waiting[0])
    again = QueueCommand(action=1, verb=QueueVerb.DELETE, ids=tuple(waiting[:2]))
    result = commands(postfix).execute(again, frozenset(waiting))
    states = {one.id: one.state for one in result.items}
    assert states == {waiting[0]: ItemState.UNKNOWN, waiting[1]: ItemState.DONE}


def test_pending_mail_is_listed_and_not_touched(
    postfix: PostfixInstance, waiting: list[str]
) -> None:
    """A queue set aside lies outside the live queue: nothing of an operator reaches it."""
    aside = postfix.root / "relay/pending/1/deferred"
    aside.mkdir(parents=True)
    (source,) = (postfix.queue / "deferred").rglob(waiting[0])
    source.rename(aside / waiting[0])
    assert messages(postfix)[waiting[0]].queue is QueueName.PENDING
    assert do(postfix, QueueVerb.DELETE, waiting[0]) == {waiting[0]: ItemState.NOT_FOUND}
    assert (aside / waiting[0]).exists()
    (aside / waiting[0]).unlink()


def test_headers_come_without_the_body(postfix: PostfixInstance, waiting: list[str]) -> None:
    """What an operator may see of a message ends where its text begins."""
    result = commands(postfix).headers(HeadersWish(request=7, id=waiting[0]))
    assert result.headers is not None
    assert "Subject: test" in result.headers
    assert "body" not in result.headers
    assert "Connection refused" in result.deferrals[0]
    gone = commands(postfix).headers(HeadersWish(request=8, id=NOBODY))
    assert (gone.headers, gone.deferrals) == (None, ())


def test_a_failing_postsuper_leaves_the_work_to_be_done(tmp_path: Path) -> None:
    """What was not done is named by no result, and the reason is told."""
    broken = QueueCommands(tmp_path, tmp_path / "no-config")
    command = QueueCommand(action=1, verb=QueueVerb.HOLD, ids=(NOBODY,))
    result = broken.execute(command, NONE)
    assert result.items == ()
    assert result.error.startswith("postsuper failed:")


class FarEnd:
    """A control plane that notes what it is sent and answers as the test says."""

    def __init__(self) -> None:
        self.reports: list[QueueReport] = []
        self.answers: list[QueueAnswer | Unreachable] = []

    def __call__(self, report: QueueReport) -> QueueAnswer:
        """Take one batch."""
        self.reports.append(report)
        answer = self.answers.pop(0) if self.answers else QueueAnswer(is_expected=True)
        if isinstance(answer, Unreachable):
            raise answer
        return answer


def reporter(postfix: PostfixInstance, far: FarEnd, journal: Path) -> QueueReporter:
    """Return the node's side as after a start."""
    scan = QueueScan(postfix.queue, postfix.root / "relay")
    return QueueReporter(scan, commands(postfix), CommandJournal(journal), far)


def test_a_batch_that_was_not_answered_is_sent_again(
    postfix: PostfixInstance, waiting: list[str], tmp_path: Path
) -> None:
    """The same batch, word for word: the far end may have taken it in."""
    far = FarEnd()
    node = reporter(postfix, far, tmp_path / "journal")
    far.answers = [Unreachable()]
    with pytest.raises(Unreachable):
        node.report()
    assert node.report() is False
    assert far.reports[0] == far.reports[1]
    assert sorted(one.id for one in far.reports[0].upserts) == waiting
    assert far.reports[0].is_complete


def test_a_far_end_that_missed_something_gets_the_whole_list(
    postfix: PostfixInstance, waiting: list[str], tmp_path: Path
) -> None:
    """A new session, from its first batch on."""
    far = FarEnd()
    node = reporter(postfix, far, tmp_path / "journal")
    node.report()
    far.answers = [QueueAnswer(is_expected=False)]
    assert node.report() is True
    node.report()
    assert far.reports[1].upserts == ()
    assert [one.sequence for one in far.reports] == [1, 2, 1]
    assert far.reports[2].session != far.reports[0].session
    assert sorted(one.id for one in far.reports[2].upserts) == waiting


def test_a_node_killed_between_deed_and_report_says_unknown(
    postfix: PostfixInstance, waiting: list[str], tmp_path: Path
) -> None:
    """It is asked again after its start; the journal is forgotten once the result is known."""
    wish = QueueCommand(action=3, verb=QueueVerb.DELETE, ids=tuple(waiting[:2]))
    far = FarEnd()
    far.answers = [QueueAnswer(is_expected=True, commands=(wish,))]
    assert reporter(postfix, far, tmp_path / "journal").report() is True
    assert postfix.ids() == {waiting[2]}
    started = reporter(postfix, far, tmp_path / "journal")
    far.answers = [QueueAnswer(is_expected=True, commands=(wish,))]
    started.report()
    assert (tmp_path / "journal").exists()
    started.report()
    (result,) = far.reports[-1].results
    assert {one.state for one in result.items} == {ItemState.UNKNOWN}
    assert not (tmp_path / "journal").exists()
