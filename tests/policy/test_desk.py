"""The desk: what was asked is counted, looked up, judged and written down, for both doors alike."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nodeagent.errors import BrokenState
from nodeagent.policy.desk import HEADER_BYTES, LONG_MAIL_BYTES, Desk
from nodeagent.policy.document import (
    AuthenticationCheck,
    Badword,
    Privacy,
    RateRule,
    RateSubject,
    RateWindow,
)
from nodeagent.policy.engine.authentication import AuthenticationResults, Result, SpfCheck
from nodeagent.policy.engine.plugins import Plugin, Plugins
from nodeagent.policy.log_wire import Door, LogEntry, LogKind
from nodeagent.policy.log_writer import LogSpool, LogWriter
from nodeagent.policy.model import Envelope, Header, Message, Session, Severity, Stage, Verdict
from nodeagent.policy.sync_wire import PolicyAnswer, SourcedCount
from tests.policy.policies import (
    ENVELOPE,
    RECIPIENT,
    SENDER,
    STRANGER,
    blocked,
    message_of,
    policy_of,
)

MIB = 1024 * 1024
PILLS = Badword(id=7, pattern="cheap pills", severity=Severity.HIGH)
LIMIT = RateRule(id=3, subject=RateSubject.SENDER, window=RateWindow.DAY, limit=2)


class Lookups:
    """Authentication whose answer is given."""

    def __init__(self, results: AuthenticationResults) -> None:
        self.results = results
        self.asked = 0

    async def check(self, *_about: object) -> AuthenticationResults:
        """Answer after a turn of the event loop."""
        self.asked += 1
        await asyncio.sleep(0)
        return self.results


class World:
    """One desk, its disk and what it looks up."""

    def __init__(self, path: Path) -> None:
        self.spool = LogSpool(path / "log.db", MIB)
        self.writer = LogWriter(self.spool)
        self.lookups = Lookups(AuthenticationResults())
        self.desk = Desk(self.writer, self.lookups)

    def use(self, *entries: Any, **settings: Any) -> None:
        """Put a policy in force."""
        self.desk.use(policy_of(*entries, **settings))

    def lines(self) -> list[LogEntry]:
        """Give what is in the log."""
        self.writer.flush()
        batch = self.spool.read()
        return [] if batch is None else [one.entry for one in batch.entries]

    def ask(
        self,
        stage: Stage = Stage.DATA,
        envelope: Envelope = ENVELOPE,
        message: Message | None = None,
        *,
        door: Door = Door.MILTER,
        session: Session = STRANGER,
    ) -> Verdict:
        """Ask as a door does: now, and where that takes time, in a moment."""
        if stage is Stage.DATA and message is None:
            message = message_of()
        asked = (door, stage, session, envelope, message)
        decision = self.desk.decide_now(*asked)
        if decision is None:
            decision = asyncio.run(self.desk.decide(*asked))
        return decision.verdict


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Give a desk without a policy."""
    return World(tmp_path)


def test_before_the_first_policy_nothing_is_judged(world: World) -> None:
    """Its doors are closed then; a question all the same is no reason to refuse."""
    assert world.ask() is Verdict.ACCEPT
    assert world.lines() == []


def test_a_policy_that_is_switched_off_judges_nothing(world: World) -> None:
    """And nothing is written down."""
    world.use(blocked(SENDER), is_active=False)
    assert world.ask() is Verdict.ACCEPT
    world.desk.end_connection(Door.MILTER, STRANGER, 1)
    assert world.lines() == []


def test_another_policy_is_in_force_at_once(world: World) -> None:
    """It is swapped whole between two questions."""
    world.use(blocked(SENDER))
    assert world.ask(Stage.MAIL) is Verdict.REJECT
    world.use()
    assert world.ask(Stage.MAIL) is Verdict.ACCEPT


def test_every_message_is_written_down_and_no_greeting(world: World) -> None:
    """What is accepted before the end of the message is no decision about a mail."""
    world.use()
    for stage in (Stage.CONNECT, Stage.EHLO, Stage.MAIL, Stage.RCPT, Stage.DATA):
        assert world.ask(stage) is Verdict.ACCEPT
    (line,) = world.lines()
    assert (line.kind, line.stage, line.verdict) == (LogKind.MESSAGE, Stage.DATA, Verdict.ACCEPT)
    assert (line.queue_id, line.revision) == ("4XyZ", 1)


@pytest.mark.parametrize("stage", [Stage.MAIL, Stage.DATA])
def test_every_refusal_is_written_down_with_its_rule(world: World, stage: Stage) -> None:
    """At whatever stage."""
    world.use(blocked(SENDER))
    assert world.ask(stage) is Verdict.REJECT
    (line,) = world.lines()
    assert (line.stage, line.verdict, line.code) == (stage, Verdict.REJECT, 550)
    assert [fired.rule for fired in line.fired] == ["blocklist:1"]


def test_a_session_is_written_down_with_its_mails(world: World) -> None:
    """When it ends."""
    world.use(privacy=Privacy.FULL)
    world.desk.end_connection(Door.HTTP, STRANGER, 4)
    (line,) = world.lines()
    assert (line.kind, line.messages, line.client) == (LogKind.CONNECTION, 4, "203.0.113.7")


def test_a_discarded_mail_is_on_the_disk_before_anybody_is_answered(world: World) -> None:
    """Nobody has it any more, so the log must not lose it."""
    world.use(PILLS, high=Verdict.DISCARD)
    assert world.ask(message=message_of("cheap pills")) is Verdict.DISCARD
    batch = world.spool.read()  # without a flush
    assert batch is not None
    assert [one.entry.verdict for one in batch.entries] == [Verdict.DISCARD]


def test_what_cannot_be_written_is_not_discarded(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk makes the sender keep it."""
    world.use(PILLS, high=Verdict.DISCARD)
    with monkeypatch.context() as patched:
        patched.setattr(world.spool, "keep", _full)
        assert world.ask(message=message_of("cheap pills")) is Verdict.TEMPFAIL
    (line,) = world.lines()  # once there is room; that it was discarded would not be true
    assert (line.verdict, line.code) == (Verdict.TEMPFAIL, 451)
    assert [fired.rule for fired in line.fired] == ["hook:not-logged", "badword:7"]


def _full(*_about: object) -> None:
    raise BrokenState("log.db cannot be used: disk is full.")


def test_a_full_disk_lets_other_mail_pass(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its line waits in memory."""
    world.use()
    with monkeypatch.context() as patched:
        patched.setattr(world.spool, "keep", _full)
        assert world.ask() is Verdict.ACCEPT
    assert [line.verdict for line in world.lines()] == [Verdict.ACCEPT]


def test_a_limit_holds_by_sender(world: World) -> None:
    """Counted at MAIL, whatever becomes of the mail."""
    world.use(LIMIT)
    assert [world.ask(Stage.MAIL) for _ in range(3)] == [
        *(Verdict.ACCEPT, Verdict.ACCEPT),
        Verdict.TEMPFAIL,
    ]
    assert world.ask(Stage.MAIL, Envelope("other@example.org")) is Verdict.ACCEPT


def test_a_mail_is_counted_once_over_all_its_stages(world: World) -> None:
    """MAIL counts, DATA does not count again."""
    world.use(LIMIT)
    for _ in range(2):
        for stage in (Stage.MAIL, Stage.RCPT, Stage.DATA):
            assert world.ask(stage) is Verdict.ACCEPT
    assert sum(count.count for count in world.desk.report("").counts) == 2


def test_the_http_door_counts_at_the_stages_that_it_is_asked_at(world: World) -> None:
    """A Stalwart that asks at DATA alone is limited as well."""
    world.use(LIMIT, http={"stages": ["data"]})
    verdicts = [world.ask(door=Door.HTTP) for _ in range(3)]
    assert verdicts == [Verdict.ACCEPT, Verdict.ACCEPT, Verdict.TEMPFAIL]


@pytest.mark.usefixtures("standing_clock")
def test_what_others_counted_limits_here(world: World) -> None:
    """Told by the control plane; a report that was answered is not told again."""
    world.use(LIMIT)
    world.ask(Stage.MAIL)
    report = world.desk.report("")
    (count,) = report.counts
    told = SourcedCount(source="e" * 32, **(count.model_dump() | {"count": 5}))
    world.desk.told(PolicyAnswer(revision=1, counts=(told,), seen=9))
    assert world.ask(Stage.MAIL) is Verdict.TEMPFAIL
    again = world.desk.report("")
    assert (again.seen, [one.count for one in again.counts]) == (9, [2])
    world.desk.told(PolicyAnswer(revision=1, seen=9))
    assert world.desk.report("").counts == ()


def test_no_address_is_told_in_a_count(world: World) -> None:
    """The key is a hash, and another cluster's key gives another one."""
    keys = set()
    for secret in ("0" * 64, "1" * 64):
        desk = World(_made(world, secret)).desk
        desk.use(policy_of(LIMIT, pseudonym_key=secret))
        desk.decide_now(Door.MILTER, Stage.MAIL, STRANGER, ENVELOPE)
        (count,) = desk.report("").counts
        keys.add(count.key)
        assert SENDER not in count.model_dump_json()
    assert len(keys) == 2


def _made(world: World, name: str) -> Path:
    path = world.spool._path.parent / name
    path.mkdir()
    return path


def test_lookups_are_awaited_and_judged(world: World) -> None:
    """Only where they are switched on, and only at the end of a message."""
    world.use(spf=AuthenticationCheck(is_enabled=True, on_fail=Verdict.REJECT))
    world.lookups.results = AuthenticationResults(spf=SpfCheck(Result.FAIL))
    assert world.ask(Stage.MAIL) is Verdict.ACCEPT
    assert world.lookups.asked == 0
    assert world.ask() is Verdict.REJECT
    assert world.lookups.asked == 1


def test_a_long_mail_is_judged_like_a_short_one(world: World) -> None:
    """In a thread, so that no other session waits for it."""
    world.use(PILLS)
    text = "cheap pills " + "and more words " * (LONG_MAIL_BYTES // 10)
    asked = (Door.MILTER, Stage.DATA, STRANGER, ENVELOPE, message_of(text))
    assert world.desk.decide_now(*asked) is None
    assert world.ask(message=message_of(text)) is Verdict.REJECT
    assert len(world.lines()) == 1


ONE = HEADER_BYTES + len("X-A")
ENDS = LONG_MAIL_BYTES - 4 * ONE


@pytest.mark.parametrize(
    ("lengths", "body_bytes", "is_long"),
    [
        ((0, 0, 0, 0), ENDS, False),
        ((0, 0, 0, 0), ENDS + 1, True),
        ((ENDS, 0, 0, 0), 0, False),
        ((ENDS, 0, 0, 0), 1, True),
        ((1, 1, 1, ENDS - 2), 0, True),
        ((ENDS // 4,) * 4, 4, True),
        ((0,) * (LONG_MAIL_BYTES // ONE), 0, False),
        ((0,) * (LONG_MAIL_BYTES // ONE + 1), 0, True),
        ((64_000,) * 60, 2, True),
    ],
)
def test_long_headers_are_as_long_as_a_long_body(
    world: World, lengths: tuple[int, ...], body_bytes: int, is_long: bool
) -> None:
    """All of them together, and each for itself: none of it is judged on the event loop."""
    world.use()
    headers = tuple(Header("X-A", "a" * length) for length in lengths)
    message = Message(headers, b"b" * body_bytes, body_bytes)
    decided = world.desk.decide_now(Door.MILTER, Stage.DATA, STRANGER, ENVELOPE, message)
    assert (decided is None) is is_long
    assert world.ask(message=message) is Verdict.ACCEPT


def test_the_name_of_a_header_counts_as_well(world: World) -> None:
    """It is searched with the text."""
    world.use()
    message = Message((Header("X" * LONG_MAIL_BYTES, ""),), b"", 0)
    assert world.desk.decide_now(Door.MILTER, Stage.DATA, STRANGER, ENVELOPE, message) is None


def test_a_mail_over_http_is_logged_where_it_is_held(world: World) -> None:
    """By the queue id of our own Postfix, with which the quarantine finds it."""
    world.use(PILLS, high=Verdict.QUARANTINE)
    message = message_of("cheap pills")
    assert world.ask(message=message, door=Door.HTTP) is Verdict.QUARANTINE
    assert world.lines() == []
    decision = world.desk.decide_now(Door.HTTP, Stage.DATA, STRANGER, ENVELOPE, message)
    assert decision is not None
    world.desk.note_held(STRANGER, ENVELOPE, message, decision, "4aBcD")
    world.desk.note_held(STRANGER, ENVELOPE, message, decision, None)
    held, lost = world.lines()
    assert (held.queue_id, held.verdict) == ("4aBcD", Verdict.QUARANTINE)
    assert (lost.queue_id, lost.verdict, lost.code) == ("4XyZ", Verdict.TEMPFAIL, 451)
    assert [fired.rule for fired in lost.fired] == ["hook:not-kept", "badword:7"]


def test_nothing_personal_leaves_the_node_by_default(world: World) -> None:
    """Neither by what was refused nor by what passed."""
    world.use(blocked("*@bad.example"))
    world.ask()
    world.ask(Stage.MAIL, Envelope("eve@bad.example", (RECIPIENT,)))
    world.desk.end_connection(Door.MILTER, STRANGER, 1)
    told = "".join(line.model_dump_json() for line in world.lines())
    for secret in (SENDER, RECIPIENT, "eve@", "203.0.113.7", "Hello", "mail.example.org"):
        assert secret not in told


def test_a_plugin_is_asked(tmp_path: Path) -> None:
    """Before the engine; one that raises is a fault, and the mail is not let through."""

    def refuse(stage: Stage) -> None:
        raise ZeroDivisionError(stage)

    broken: Callable[..., Any] = refuse
    plugins = Plugins(before=(Plugin("broken", broken, ("stage",)),))
    writer = LogWriter(LogSpool(tmp_path / "log.db", MIB))
    desk = Desk(writer, Lookups(AuthenticationResults()), plugins)
    desk.use(policy_of())
    asked = (Door.MILTER, Stage.MAIL, STRANGER, ENVELOPE)
    assert desk.decide_now(*asked) is None, "whatever a plugin does, the event loop goes on"
    decision = asyncio.run(desk.decide(*asked))
    assert decision.verdict is Verdict.TEMPFAIL
    assert [fired.rule for fired in decision.fired] == ["plugin:broken"]


def test_the_report_says_what_is_in_force(world: World) -> None:
    """Nothing, before the first policy; and why a newer one is not."""
    assert world.desk.report("Section list/0 is torn.").problem == "Section list/0 is torn."
    assert world.desk.report("").revision is None
    world.use()
    assert world.desk.report("x" * 1000).revision == 1
