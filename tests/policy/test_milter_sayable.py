"""What cannot be said to an MTA is not written down as if it had been: one line for one answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.policy.codecs import milter_packets as wire
from nodeagent.policy.codecs.milter import Actions
from nodeagent.policy.codecs.milter_session import Ask, MilterSession, Refused
from nodeagent.policy.desk import Desk
from nodeagent.policy.document import Badword, FaultAction
from nodeagent.policy.engine.plugins import Plugin, Plugins
from nodeagent.policy.log_wire import LogEntry, LogKind
from nodeagent.policy.model import (
    ACCEPT,
    AddHeader,
    AddRecipient,
    Change,
    ChangeHeader,
    ChangeSender,
    Decision,
    DeleteRecipient,
    Reply,
    Severity,
    Stage,
    Verdict,
)
from tests.fakes.milter_client import MilterClient
from tests.fakes.milter_dialogue import CLIENT, POSTFIX_OFFERS, envelope, judging, whole
from tests.fakes.milter_door import DoorThread
from tests.fakes.milter_postfix import wait_for
from tests.policy.policies import policy_of
from tests.policy.test_desk import World

EVERYTHING = int(POSTFIX_OFFERS.actions)
PILLS = Badword(id=7, pattern="cheap pills", severity=Severity.HIGH)
CHANGES: dict[Actions, Change] = {
    Actions.ADD_HEADERS: AddHeader("X-A", "b"),
    Actions.CHANGE_HEADERS: ChangeHeader("Subject", 1, "b"),
    Actions.ADD_RECIPIENTS: AddRecipient("c@y.example"),
    Actions.DELETE_RECIPIENTS: DeleteRecipient("b@y.example"),
    Actions.CHANGE_SENDER: ChangeSender("c@x.example"),
}
ODD = [
    *CHANGES.values(),
    AddHeader("X A", "b"),
    AddHeader("", "b"),
    AddHeader("X-A", "a\r\nBcc: c\0"),
    ChangeHeader("Subject", 2**31, "b"),
    AddRecipient("c d@y.example"),
    DeleteRecipient(""),
    ChangeSender(">, <evil@z"),
]
DECISIONS = st.builds(
    Decision,
    st.sampled_from(Verdict),
    st.none() | st.builds(Reply, st.integers(200, 599), st.text(max_size=6), st.text(max_size=9)),
    st.lists(st.sampled_from(ODD), max_size=3).map(tuple),
)


def asked_about_a_message(actions: int = EVERYTHING) -> tuple[MilterSession, Ask]:
    """Return a session that waits for the decision about a message, and what it asked."""
    session = MilterSession(judging(Stage.DATA))
    step = None
    for packet in (wire.Negotiate(6, actions, POSTFIX_OFFERS.steps), CLIENT, *whole()):
        step = session.receive(packet)
    assert isinstance(step, Ask)
    return session, step


@given(DECISIONS, st.sampled_from([EVERYTHING, 0, int(Actions.ADD_HEADERS), 0x1FF & ~32]))
def test_what_is_sayable_is_said_and_what_is_not_is_refused(decision: Decision, mta: int) -> None:
    """Asked before or not, the session sends the same; and only a sayable one is sent."""
    session, _ = asked_about_a_message(mta)
    unasked, _ = asked_about_a_message(mta)
    why = session.cannot_say(decision)
    said = session.answer(decision)
    assert said == unasked.answer(decision)
    assert isinstance(said, Refused) is (why is not None)
    assert why != ""


@pytest.mark.parametrize("action", list(CHANGES))
def test_the_reason_names_what_the_mta_did_not_offer(action: Actions) -> None:
    """It is what an administrator has to know of that MTA."""
    decision = Decision(changes=(CHANGES[action],))
    session, _ = asked_about_a_message(EVERYTHING & ~int(action))
    assert session.cannot_say(decision) == f"the MTA did not offer {action.name}"
    session, _ = asked_about_a_message()
    assert session.cannot_say(decision) is None


def test_another_decision_than_the_one_that_was_looked_at_is_said_itself() -> None:
    """What was kept is of no other decision: nobody gets another one's answer."""
    session, _ = asked_about_a_message()
    assert session.cannot_say(ACCEPT) is None
    said = session.answer(Decision(Verdict.DISCARD))
    assert said == (wire.Discard(),)
    session, _ = asked_about_a_message()
    assert session.cannot_say(Decision(changes=(AddHeader("X A", "b"),))) is not None
    assert session.answer(ACCEPT) == (wire.Accept(),)


def test_before_a_message_everything_can_be_said() -> None:
    """Changes are not made there, and nothing is asked when nothing is judged."""
    session = MilterSession(judging())
    decision = Decision(Verdict.REJECT, Reply(999, "x", "\r\n"), (AddHeader("X A", "b"),))
    assert session.cannot_say(decision) is None
    session.receive(POSTFIX_OFFERS)
    assert isinstance(session.receive(CLIENT), Ask)
    assert session.cannot_say(decision) is None


# The real desk behind the real door


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Give a desk whose policy holds and marks mails."""
    made = World(tmp_path)
    made.use(PILLS, high=Verdict.QUARANTINE)
    return made


@pytest.fixture
def door(tmp_path: Path, world: World) -> Iterator[DoorThread]:
    """Give the door of this desk."""
    with DoorThread(tmp_path / "m", world.desk) as made:  # type: ignore[arg-type]
        yield made


def message_lines(world: World) -> list[LogEntry]:
    """Return the lines about messages."""
    return [one for one in world.lines() if one.kind is LogKind.MESSAGE]


def end_of_message(door: DoorThread, actions: int, text: bytes = b"hello") -> str:
    """Bring a message as an MTA with these actions; return the answer to its end."""
    with MilterClient(door.path) as client:
        client.send(wire.Negotiate(6, actions, POSTFIX_OFFERS.steps))
        assert isinstance(client.receive(), wire.Negotiate)
        for packet in (CLIENT, *envelope()):
            assert client.ask(packet) == wire.Continue()
        client.send(wire.Body(text))
        answer = client.ask(wire.EndOfMessage(b""))
    return answer.text if isinstance(answer, wire.ReplyCode) else type(answer).__name__


UNSAID = "451 4.3.0 The mail cannot be handled now, try again later"


@pytest.mark.parametrize("is_slow", [False, True], ids=["now", "in a thread"])
@pytest.mark.parametrize(
    ("lacks", "decided"),
    [(Actions.ADD_HEADERS, Verdict.ACCEPT), (Actions.QUARANTINE, Verdict.QUARANTINE)],
)
def test_an_mta_that_cannot_carry_it_out_keeps_the_mail_and_the_log_has_one_line(
    door: DoorThread, world: World, lacks: Actions, decided: Verdict, is_slow: bool
) -> None:
    """It says 451, what could not be said, and what had been decided."""
    text = b"cheap pills" if decided is Verdict.QUARANTINE else b"hello"
    if is_slow:
        silent = Plugin("silent", lambda: None, ())
        desk = Desk(world.writer, world.lookups, Plugins(before=(silent,)))
        desk.use(policy_of(PILLS, high=Verdict.QUARANTINE))
        door.door.decides = desk
    assert end_of_message(door, EVERYTHING & ~int(lacks), text) == UNSAID
    (line,) = message_lines(world)
    assert (line.verdict, line.code, line.reply) == (Verdict.TEMPFAIL, 451, UNSAID[10:])
    assert line.fired[0].rule == "hook:unsayable"
    assert {fired.rule for fired in line.fired[1:]} == (
        {"badword:7"} if decided is Verdict.QUARANTINE else set()
    )
    assert end_of_message(door, EVERYTHING, text) != UNSAID
    assert [one.verdict for one in message_lines(world)] == [Verdict.TEMPFAIL, decided]


def test_a_refusal_can_be_said_to_every_mta(door: DoorThread, world: World) -> None:
    """Whatever it offers: refusing takes no right to change anything."""
    world.use(PILLS, high=Verdict.REJECT)
    assert end_of_message(door, 0, b"cheap pills").startswith("550 5.7.1 ")
    (line,) = message_lines(world)
    assert (line.verdict, line.fired[0].rule) == (Verdict.REJECT, "badword:7")


def test_a_plugins_fault_stays_what_it_is(door: DoorThread, world: World) -> None:
    """It is a decision, and can be said."""

    def broken(stage: Stage) -> None:
        if stage is Stage.DATA:
            raise ValueError("broken")

    desk = Desk(world.writer, world.lookups, Plugins(before=(Plugin("own", broken, ("stage",)),)))
    desk.use(policy_of())
    door.door.decides = desk
    assert end_of_message(door, EVERYTHING).startswith("451 4.3.0 ")
    (line,) = message_lines(world)
    assert (line.verdict.value, line.fired[0].rule) == (FaultAction.TEMPFAIL.value, "plugin:own")


def test_stopping_answers_with_a_decision_that_is_there_already(tmp_path: Path) -> None:
    """It is in the log: 451 would be a second line, and untrue."""
    with DoorThread(tmp_path / "m") as door, MilterClient(door.path) as client:
        client.begin(CLIENT, *envelope())
        is_decided = asyncio.Event()

        async def wait() -> Decision:
            await is_decided.wait()
            return ACCEPT

        door.policy.rule = lambda _question: wait()
        client.send(wire.EndOfMessage(b""))
        wait_for(lambda: door.door._tasks)

        def stop() -> None:
            for conversation in tuple(door.door.conversations):
                conversation.stop()

        def decide_and_stop() -> None:
            is_decided.set()  # the decision is there in the next turn of the loop, before `stop`
            door.loop.call_soon(stop)

        door.loop.call_soon_threadsafe(decide_and_stop)
        assert client.receive() == wire.Accept()
        assert client.receive() is None
        assert door.policy.unjudged == []
