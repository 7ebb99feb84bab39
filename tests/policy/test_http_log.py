"""What the log says of mail over HTTP that our own Postfix has to take: one line an answer."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from nodeagent.policy.codecs.stalwart import StalwartCodec
from nodeagent.policy.desk import Desk
from nodeagent.policy.document import Badword, Category, Posting, Subscription
from nodeagent.policy.doors.authentication import Authenticator
from nodeagent.policy.doors.http_judging import Judging
from nodeagent.policy.log_wire import Door, LogEntry
from nodeagent.policy.log_writer import LogSpool, LogWriter
from nodeagent.policy.model import (
    AddHeader,
    AddRecipient,
    Decision,
    DeleteRecipient,
    Envelope,
    Severity,
    Stage,
    Verdict,
)
from nodeagent.policy.ports import is_for_our_postfix
from tests.fakes.hook_requests import encoded, request
from tests.fakes.policy_desk import KeeperTwin
from tests.policy.policies import SENDER, STRANGER, message_of, policy_of

MIB = 1024 * 1024
NEWS = "bill@foobar.test"
ENTRIES = (
    Category(id=1, address=NEWS, posting=Posting.ANYBODY),
    Subscription(id=5, category=1, address="anna@deliver.test", token="t" * 16),
    Badword(id=7, pattern="cheap pills", severity=Severity.HIGH),
)
COPY = AddRecipient("5.1@list.relay.invalid")


class World:
    """The judging of the HTTP door before a real desk, and a Postfix that may be away."""

    def __init__(self, path: Path) -> None:
        self.spool = LogSpool(path / "log.db", MIB)
        self.writer = LogWriter(self.spool)
        self.desk = Desk(self.writer, Authenticator())
        self.desk.use(policy_of(*ENTRIES, high=Verdict.QUARANTINE))
        self.keeper = KeeperTwin()
        self._judging = Judging(self.desk, self.keeper)

    def ask(self, text: str = "hello", *more: str) -> bytes:
        """Return the answer to a mail for the category, and for these addresses."""
        asked = request("data")
        asked["message"]["contents"] = f"{text}\r\n"
        asked["envelope"]["to"] += [{"address": one} for one in more]
        body = encoded(asked)
        return asyncio.run(self._judging.answer(StalwartCodec(), body, self.desk.settings)).body

    def lines(self) -> list[LogEntry]:
        """Give what is in the log."""
        self.writer.flush()
        batch = self.spool.read()
        return [] if batch is None else [one.entry for one in batch.entries]


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Give one."""
    return World(tmp_path)


@pytest.mark.parametrize(
    ("text", "verdict", "rule"),
    [("hello", Verdict.ACCEPT, None), ("cheap pills", Verdict.QUARANTINE, "badword:7")],
)
def test_each_answer_has_one_line_whatever_postfix_does(
    world: World, text: str, verdict: Verdict, rule: str | None
) -> None:
    """Put off twice, then taken: the figures count one accepted mail, or one that is held."""
    world.keeper.is_down = True
    assert b"451" in world.ask(text)
    assert b"451" in world.ask(text)
    world.keeper.is_down = False
    assert b"discard" in world.ask(text)
    *put_off, taken = world.lines()
    assert [(one.verdict, one.code) for one in put_off] == [(Verdict.TEMPFAIL, 451)] * 2
    for one in put_off:
        rules = [fired.rule for fired in one.fired]
        assert rules[0] == "hook:not-kept"
        assert rule is None or rule in rules, "what had been decided stands behind it"
    assert (taken.verdict, taken.code, taken.queue_id) == (verdict, None, "4q1")
    assert taken.recipient_count == 1


def test_a_mail_that_stays_with_the_mta_in_part_has_one_line(world: World) -> None:
    """The copies are ours, the other recipient is the MTA's."""
    assert b"accept" in world.ask("hello", "bob@other.test")
    (line,) = world.lines()
    assert (line.door, line.verdict, line.recipient_count) == (Door.HTTP, Verdict.ACCEPT, 2)
    (mail,) = world.keeper.kept
    assert mail.envelope.recipients == (COPY.address,)


def test_by_milter_the_line_is_there_at_once(world: World) -> None:
    """Postfix itself queues the copies with the mail."""
    message = message_of()
    envelope = Envelope(SENDER, (NEWS,))
    decision = world.desk.decide_now(Door.MILTER, Stage.DATA, STRANGER, envelope, message)
    assert decision is not None
    assert is_for_our_postfix(decision)
    assert [one.verdict for one in world.lines()] == [Verdict.ACCEPT]


@pytest.mark.parametrize(
    ("decision", "is_ours"),
    [
        (Decision(), False),
        (Decision(changes=(AddHeader("X-Relay-Policy", "pass"),)), False),
        (Decision(changes=(AddRecipient("bob@other.test"), DeleteRecipient(NEWS))), False),
        (Decision(changes=(DeleteRecipient(COPY.address),)), False),
        (Decision(changes=(AddRecipient("x@not.list.relay.invalid"),)), False),
        (Decision(changes=(DeleteRecipient(NEWS), COPY)), True),
        (Decision(changes=(AddRecipient("5.1@LIST.relay.INVALID"),)), True),
        (Decision(Verdict.QUARANTINE), True),
        (Decision(Verdict.QUARANTINE, changes=(COPY,)), True),
        (Decision(Verdict.DISCARD, changes=(COPY,)), False),
    ],
)
def test_what_our_postfix_has_to_take(decision: Decision, is_ours: bool) -> None:
    """What is held, and what goes to subscribers; what is refused or dropped never."""
    assert is_for_our_postfix(decision) is is_ours
