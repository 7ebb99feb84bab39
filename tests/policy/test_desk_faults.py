"""The desk and what was not judged: each mail has its line, and a stranger cannot fill the log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.errors import BrokenState
from nodeagent.policy.desk import Desk
from nodeagent.policy.document import (
    AuthenticationCheck,
    Category,
    FaultAction,
    Posting,
    Privacy,
)
from nodeagent.policy.engine.authentication import AuthenticationResults
from nodeagent.policy.engine.plugins import Plugin, Plugins
from nodeagent.policy.log_wire import Door, LogEntry, LogKind
from nodeagent.policy.model import (
    Decision,
    DeleteRecipient,
    Envelope,
    Message,
    Reply,
    RuleKind,
    Session,
    Stage,
    Verdict,
)
from nodeagent.policy.ports import WHY, Unjudged, unjudged
from nodeagent.policy.rare_lines import MOST_A_WINDOW, WINDOW_S, RareLines
from tests.fakes.hook_requests import encoded, request
from tests.fakes.http_hook import ServedHook, settings
from tests.fakes.policy_desk import KeeperTwin
from tests.policy.policies import ENVELOPE, RECIPIENT, SENDER, STRANGER, message_of, policy_of
from tests.policy.test_desk import World

LATER = Reply(451, "4.3.2", "later")


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Give a desk with a policy."""
    made = World(tmp_path)
    made.use(privacy=Privacy.FULL)
    return made


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        """Return its time."""
        return self.now_s

    def time(self) -> float:
        """Return its time."""
        return self.now_s

    def perf_counter(self) -> float:
        """Return its time."""
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Give the desk's clock."""
    made = Clock()
    for module in ("desk", "desk_log"):
        monkeypatch.setattr(f"nodeagent.policy.{module}.time", made)
    return made


def note(
    world: World,
    why: Unjudged = Unjudged.SESSIONS,
    stage: Stage = Stage.CONNECT,
    message: Message | None = None,
    count: int = 1,
) -> None:
    """Have it written down that a door answered by itself."""
    decision = unjudged(why, Verdict.TEMPFAIL, LATER)
    for _ in range(count):
        world.desk.note_unjudged(Door.MILTER, stage, STRANGER, ENVELOPE, message, answered=decision)


def gaps(lines: list[LogEntry]) -> list[tuple[int | None, str]]:
    """Return what was left out, and why."""
    return [(one.lost, one.text) for one in lines if one.kind is LogKind.GAP]


@pytest.mark.parametrize("why", Unjudged)
@pytest.mark.parametrize("verdict", [Verdict.ACCEPT, Verdict.REJECT, Verdict.TEMPFAIL])
def test_what_a_door_answered_by_itself_is_in_the_log(
    world: World, why: Unjudged, verdict: Verdict
) -> None:
    """With the rule, the verdict that the client got, and who it was."""
    reply = None if verdict is Verdict.ACCEPT else LATER
    answered = unjudged(why, verdict, reply, "ValueError('x')")
    message = message_of()
    world.desk.note_unjudged(Door.HTTP, Stage.DATA, STRANGER, ENVELOPE, message, answered=answered)
    (line,) = world.lines()
    assert (line.kind, line.door, line.stage) == (LogKind.MESSAGE, Door.HTTP, Stage.DATA)
    assert (line.verdict, line.code) == (verdict, None if reply is None else 451)
    assert (line.sender, line.recipients, line.queue_id) == (SENDER, (RECIPIENT,), "4XyZ")
    (fired,) = line.fired
    assert (fired.kind, fired.rule, fired.text) == (RuleKind.FAULT, why.value, WHY[why])
    assert (fired.verdict, fired.matched) == (verdict, "ValueError('x')")


def test_a_detail_may_quote_the_mail_so_it_stays_on_the_node(world: World) -> None:
    """By default nothing personal is told."""
    world.use()
    answered = unjudged(Unjudged.DEFECT, Verdict.TEMPFAIL, LATER, "KeyError('bob@example.com')")
    world.desk.note_unjudged(
        Door.HTTP, Stage.DATA, STRANGER, ENVELOPE, message_of(), answered=answered
    )
    assert "bob@" not in "".join(line.model_dump_json() for line in world.lines())


def test_before_the_first_policy_nothing_is_noted(tmp_path: Path) -> None:
    """The doors are closed, and there is no privacy to go by."""
    world = World(tmp_path)
    note(world)
    assert world.lines() == []


def test_each_mail_has_its_line_however_many_there_are(world: World, clock: Clock) -> None:
    """Whoever gets 552 or 451 for a mail can be told why."""
    del clock
    note(world, Unjudged.HEADERS, Stage.DATA, message_of(), count=3 * MOST_A_WINDOW)
    world.desk.close()
    lines = world.lines()
    assert len(lines) == 3 * MOST_A_WINDOW
    assert gaps(lines) == []


def test_connections_alone_do_not_fill_the_log(world: World, clock: Clock) -> None:
    """Some lines a minute, and one gap that counts the rest when the minute is over."""
    note(world, count=MOST_A_WINDOW + 500)
    world.desk.report("")
    assert len(world.lines()) == MOST_A_WINDOW
    clock.now_s += WINDOW_S
    world.desk.report("")
    world.desk.report("")
    text = "500 more answers of the rule hook:sessions are not in the log one by one."
    assert gaps(world.lines()) == [(500, text)]
    note(world, count=2)
    assert len(world.lines()) == MOST_A_WINDOW + 1 + 2


def test_one_rule_does_not_silence_another(world: World, clock: Clock) -> None:
    """A crowd hides no defect."""
    del clock
    note(world, count=MOST_A_WINDOW + 1)
    note(world, Unjudged.DEFECT, Stage.MAIL)
    assert world.lines()[-1].fired[0].rule == "hook:defect"


def test_what_was_only_counted_is_told_at_the_end(world: World, clock: Clock) -> None:
    """The process ends within the minute."""
    del clock
    note(world, count=MOST_A_WINDOW + 7)
    world.desk.close()
    world.desk.close()
    assert [lost for lost, _ in gaps(world.lines())] == [7]


def test_a_full_disk_loses_no_gap(
    world: World, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits with the lines."""
    del clock
    note(world, count=MOST_A_WINDOW + 7)
    world.desk.close()
    with monkeypatch.context() as patched:
        patched.setattr("nodeagent.policy.log_writer.RETRY_S", 0.0)
        patched.setattr(world.spool, "keep", _full)
        world.writer.flush()
    assert [lost for lost, _ in gaps(world.lines())] == [7]


def _full(*_about: object) -> None:
    raise BrokenState("log.db cannot be used: disk is full.")


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 40)), max_size=60))
def test_every_answer_is_written_or_counted(steps: list[tuple[str, float]]) -> None:
    """None is forgotten, and no window writes more than it may."""
    rare = RareLines(most=2, window_s=60.0)
    now_s, written, counted = 0.0, {"a": [], "b": []}, 0
    for rule, later_s in steps:
        now_s += later_s
        if rare.takes(rule, now_s):
            written[rule].append(now_s)
        counted += sum(count for _, count in rare.left_out(now_s))
    counted += sum(count for _, count in rare.left_out(None))
    assert sum(map(len, written.values())) + counted == len(steps)
    for times in written.values():  # of five lines the last is at least a window's length later
        assert all(last - first >= 60 for first, last in zip(times, times[4:], strict=False))


def taking_off_everybody() -> Plugins:
    """Return a plugin that takes off all recipients."""

    def decide(envelope: Envelope) -> Decision:
        return Decision(changes=tuple(map(DeleteRecipient, envelope.recipients)))

    said: Callable[[Envelope], Decision] = decide
    return Plugins(before=(Plugin("own", said, ("envelope",)),))


def judged(desk: Desk, door: Door, envelope: Envelope = ENVELOPE) -> Decision:
    """Ask at the end of a message as a door does."""
    asked = (door, Stage.DATA, STRANGER, envelope, message_of())
    return desk.decide_now(*asked) or asyncio.run(desk.decide(*asked))


@pytest.mark.parametrize("door", Door)
def test_a_mail_that_nobody_gets_is_in_the_log_before_it_is_answered(
    world: World, door: Door
) -> None:
    """As any discarded mail."""
    desk = Desk(world.writer, world.lookups, taking_off_everybody())
    desk.use(policy_of())
    decision = judged(desk, door)
    assert decision.verdict is Verdict.DISCARD
    batch = world.spool.read()  # without a flush
    assert batch is not None
    (entry,) = [one.entry for one in batch.entries]
    assert entry.verdict is Verdict.DISCARD
    assert [fired.rule for fired in entry.fired][:1] == ["plugin:own"]


@pytest.mark.parametrize("door", Door)
def test_a_mail_that_nobody_gets_is_not_discarded_without_a_log(
    world: World, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sender keeps it."""
    category = Category(id=4, address="news@lists.example.net", posting=Posting.ANYBODY)
    plugins = Plugins(before=(Plugin("own", Decision, ()),))
    desk = Desk(world.writer, world.lookups, plugins)
    desk.use(policy_of(category))
    monkeypatch.setattr(world.spool, "keep", _full)
    envelope = Envelope(SENDER, ("news@lists.example.net",))
    decision = judged(desk, door, envelope)
    assert decision.verdict is Verdict.TEMPFAIL
    assert [fired.rule for fired in decision.fired][:2] == ["hook:not-logged", "category:4"]


class Broken:
    """A look-up with a defect, which the engine's would be like."""

    async def check(self, *_about: object) -> AuthenticationResults:
        """Fail as nothing should."""
        raise ZeroDivisionError("a defect")


@pytest.mark.parametrize("action", list(FaultAction))
def test_a_defect_ends_over_http_as_the_administrator_chose(
    world: World, action: FaultAction
) -> None:
    """The answer and the line of the log are one: kind FAULT, and where the mail is."""
    spf = AuthenticationCheck(is_enabled=True, on_fail=Verdict.REJECT)
    given = settings(on_fault=action, spf=spf, is_active=True)
    desk, keeper = Desk(world.writer, Broken()), KeeperTwin()
    desk.use(policy_of(spf=spf, http=given.http))
    with ServedHook(desk, keeper) as hook:
        code = hook.ask(encoded(request("data"))).code
    (line,) = world.lines()
    assert (line.door, line.stage, line.verdict.value) == (Door.HTTP, Stage.DATA, action.value)
    (fired,) = line.fired
    assert (fired.kind, fired.rule) == (RuleKind.FAULT, "hook:defect")
    is_held = action is FaultAction.QUARANTINE
    assert code == {"accept": None, "reject": 550, "tempfail": 451}.get(action.value, 250)
    assert line.code == (None if is_held else code)
    assert [mail.reason for mail in keeper.kept] == (
        ["not judged: the hook failed while it judged"] if is_held else []
    )
    assert line.queue_id == ("4q1" if is_held else "2a5b0c")


def test_a_defect_of_the_engine_comes_out_of_the_desk(world: World) -> None:
    """The door answers it by its settings; the desk makes no decision of it, and no line."""
    desk = Desk(world.writer, world.lookups)
    desk.use(policy_of())
    hostile: Session = None  # type: ignore[assignment]
    with pytest.raises(AttributeError):
        desk.decide_now(Door.MILTER, Stage.DATA, hostile, ENVELOPE, message_of())
    assert world.lines() == []
