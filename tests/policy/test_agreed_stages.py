"""A milter session keeps the stages it agreed on, and each of its mails is counted once.

Whatever the policy in force judges meanwhile: a mail is not counted twice, and never not at all.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from nodeagent.policy.codecs import milter_packets as wire
from nodeagent.policy.codecs.milter import Packet
from nodeagent.policy.desk import Desk
from nodeagent.policy.document import HttpDoor, RateRule, RateSubject, RateWindow
from nodeagent.policy.engine.plugins import Plugin, Plugins
from nodeagent.policy.log_wire import Door
from nodeagent.policy.model import Envelope, Stage
from tests.fakes.milter_client import MilterClient
from tests.fakes.milter_dialogue import CLIENT, POSTFIX_OFFERS, whole
from tests.fakes.milter_door import DoorThread
from tests.policy.policies import STRANGER, message_of, policy_of
from tests.policy.test_desk import World

COUNTED = (RateSubject.CLIENT, RateSubject.SENDER, RateSubject.RECIPIENT_DOMAIN)
RULES = tuple(
    RateRule(id=number, subject=subject, window=RateWindow.DAY, limit=100)
    for number, subject in enumerate(COUNTED, 1)
)
EVERY = tuple(Stage)
SETS = {
    "every stage": EVERY,
    "no MAIL": tuple(one for one in EVERY if one is not Stage.MAIL),
    "no RCPT": tuple(one for one in EVERY if one is not Stage.RCPT),
    "DATA alone": (Stage.DATA,),
}
QUIET = Plugin("quiet", lambda stage: None, ("stage",))  # noqa: ARG005 - a plugin's parameters
WAYS = {"now": Plugins(), "later": Plugins(before=(QUIET,))}


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Give a log."""
    return World(tmp_path)


def bring_mail(client: MilterClient, *before: Packet) -> None:
    """Bring a mail for one recipient through all stages, as Postfix does."""
    client.send(*before, *whole("b@y.example"))
    while (answer := client.receive()) != wire.Accept():
        assert isinstance(answer, wire.Continue | wire.InsertHeader | wire.AddHeader), answer


def counts(desk: Desk) -> list[int]:
    """Return how often each of the three was counted."""
    return [one.count for one in desk.report("").counts]


@pytest.mark.usefixtures("standing_clock")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("begun", "now"), list(itertools.product(SETS, SETS)))
def test_each_mail_of_a_session_is_counted_once(
    world: World, tmp_path: Path, begun: str, now: str, way: str
) -> None:
    """By what the session agreed on when it began, and the next session by what holds then."""
    desk = Desk(world.writer, world.lookups, WAYS[way])
    desk.use(policy_of(*RULES, stages=SETS[begun]))
    with DoorThread(tmp_path / "m", desk) as door:  # type: ignore[arg-type]
        with MilterClient(door.path) as old:
            old.ask(POSTFIX_OFFERS)
            bring_mail(old, CLIENT)
            desk.use(policy_of(*RULES, stages=SETS[now]))
            bring_mail(old)
        assert counts(desk) == [2, 2, 2]
        with MilterClient(door.path) as new:
            new.ask(POSTFIX_OFFERS)
            bring_mail(new, CLIENT)
        assert counts(desk) == [3, 3, 3]


@pytest.mark.usefixtures("standing_clock")
@pytest.mark.parametrize("stages", SETS.values(), ids=SETS)
def test_over_http_the_settings_in_force_say_it(world: World, stages: tuple[Stage, ...]) -> None:
    """A question there belongs to no session, so nothing was agreed."""
    world.use(*RULES, http=HttpDoor(stages=stages), stages=())
    envelope = Envelope("a@x.example", ("b@y.example",))
    for stage in stages:
        message = message_of() if stage is Stage.DATA else None
        world.desk.decide_now(Door.HTTP, stage, STRANGER, envelope, message)
    assert counts(world.desk) == [1, 1, 1]
