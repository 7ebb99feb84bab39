"""A plugin that never returns: it keeps some threads, fails by name, and holds nobody else up."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import structlog

from nodeagent.policy.codecs import milter_packets as wire
from nodeagent.policy.desk import Desk
from nodeagent.policy.document import FaultAction
from nodeagent.policy.engine import plugins as plugins_module
from nodeagent.policy.engine.plugins import Plugin, Plugins
from nodeagent.policy.log_wire import Door, LogKind
from nodeagent.policy.model import Decision, Fired, RuleKind, Stage, Verdict
from nodeagent.policy.plugin_threads import (
    LATE_S,
    MOST_THREADS,
    TURNS,
    NotAsked,
    PluginThreads,
)
from tests.fakes.hook_process import running_hook
from tests.fakes.hook_requests import encoded, request
from tests.fakes.http_hook import ServedHook, settings
from tests.fakes.milter_client import MilterClient
from tests.fakes.milter_dialogue import CLIENT
from tests.fakes.milter_door import DoorThread
from tests.fakes.milter_postfix import wait_for
from tests.fakes.policy_desk import KeeperTwin
from tests.policy.policies import ENVELOPE, SENDER, STRANGER, blocked, policy_of
from tests.policy.test_desk import World

FIRED = Fired(RuleKind.PLUGIN, "seen", "it was asked")


class Stuck:
    """A plugin that does not return until the test lets it."""

    def __init__(self, name: str = "own") -> None:
        self.name = name
        self.may_return = threading.Event()
        self.calls = 0
        self._lock = threading.Lock()

    def __call__(self) -> None:
        """Wait."""
        with self._lock:
            self.calls += 1
        assert self.may_return.wait(120)

    @property
    def plugin(self) -> Plugin:
        """Return it as it is loaded."""
        return Plugin(self.name, self, ())


@pytest.fixture
def stuck() -> Iterator[Stuck]:
    """Give a stuck plugin, which returns at the end of the test."""
    made = Stuck()
    yield made
    made.may_return.set()


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Give a desk's disk and look-ups."""
    return World(tmp_path)


def desk_with(world: World, *before: Plugin, after: tuple[Plugin, ...] = ()) -> Desk:
    """Return a desk that asks these plugins."""
    desk = Desk(world.writer, world.lookups, Plugins(before, after))
    desk.use(policy_of(blocked(SENDER), decision_timeout_s=2, high=Verdict.REJECT))
    return desk


def ask(desk: Desk, stage: Stage = Stage.CONNECT) -> Awaitable[Decision]:
    """Ask as a door does."""
    about = (Door.MILTER, stage, STRANGER, ENVELOPE, None)
    assert desk.decide_now(*about) is None, "whatever a plugin does, the event loop goes on"
    return desk.decide(*about)


async def until(look: Callable[[], object]) -> None:
    """Wait while the event loop goes on."""
    await asyncio.to_thread(wait_for, look)


async def fill(desk: Desk, stuck: Stuck, count: int = MOST_THREADS) -> None:
    """Ask until the plugin has so many threads; nobody waits for its answers."""
    while stuck.calls < count:
        before = stuck.calls
        task = asyncio.ensure_future(ask(desk))
        await until(lambda before=before: stuck.calls > before)
        task.cancel()
        await asyncio.wait((task,))


def threads() -> int:
    """Return how many threads there are for plugins."""
    return sum(one.name == "policy-plugins" for one in threading.enumerate())


def test_a_plugin_that_has_all_its_threads_fails_at_once(world: World, stuck: Stuck) -> None:
    """By its name, and without being asked; the mail is put off."""
    desk = desk_with(world, stuck.plugin)

    async def talk() -> list[Decision]:
        await fill(desk, stuck)
        return [await ask(desk) for _ in range(5)]

    for decision in asyncio.run(talk()):
        assert (decision.verdict, decision.fired[0].rule) == (Verdict.TEMPFAIL, "plugin:own")
        assert decision.fired[0].kind is RuleKind.FAULT
        assert "does not return" in (decision.fired[0].matched or "")
    assert stuck.calls == MOST_THREADS
    lines = world.lines()
    assert [one.verdict for one in lines] == [Verdict.TEMPFAIL] * 5
    assert {one.fired[0].text for one in lines} == {
        "the plugin own failed and is treated as the settings say"
    }


def test_the_engine_and_the_other_plugins_are_asked_all_the_same(
    world: World, stuck: Stuck
) -> None:
    """A stronger verdict than the fault's is taken."""
    other = Plugin("other", lambda: FIRED, ())
    desk = desk_with(world, stuck.plugin, other, after=(Plugin("last", lambda: FIRED, ()),))

    async def talk() -> Decision:
        await fill(desk, stuck)
        return await ask(desk, Stage.MAIL)

    decision = asyncio.run(talk())
    assert decision.verdict is Verdict.REJECT
    rules = {fired.rule for fired in decision.fired}
    assert rules == {"blocklist:1", "plugin:own", "plugin:other:seen", "plugin:last:seen"}


def test_the_status_and_the_log_name_it_until_it_comes_back(world: World, stuck: Stuck) -> None:
    """One error, one sentence in the report, and both end when one call returns."""
    desk = desk_with(world, stuck.plugin)

    async def talk() -> None:
        assert not desk.report("").problem
        await fill(desk, stuck, MOST_THREADS - 1)
        assert not desk.report("").problem
        await fill(desk, stuck)
        for _ in range(3):
            await ask(desk)
        problem = desk.report("The port is taken.").problem
        assert problem.startswith("The plugin own does not return: it has all 16 threads")
        assert problem.endswith("until one comes back. The port is taken.")
        stuck.may_return.set()
        await until(lambda: not desk.report("").problem)
        assert not (await ask(desk)).fired

    with structlog.testing.capture_logs() as logged:
        asyncio.run(talk())
        wait_for(lambda: len(logged) >= 2)
    assert [(line["log_level"], line["event"], line["plugin"]) for line in logged] == [
        ("error", "a plugin does not return", "own"),
        ("info", "a plugin returned and is asked again", "own"),
    ]


def test_a_status_is_never_longer_than_the_contract_takes(world: World) -> None:
    """Many plugins that are stuck, and a long sentence behind them."""
    many = [Stuck(f"plugin-{number}-{'x' * 60}") for number in range(3)]
    made = PluginThreads(turns=1, most=1)
    desk = desk_with(world)
    desk._threads = made
    for one in many:
        (only,) = made.bounded(Plugins((one.plugin,))).before
        threading.Thread(target=only.call, daemon=True).start()
    wait_for(lambda: all(one.calls for one in many))
    assert len(desk.report("y" * 500).problem) == 500
    for one in many:
        one.may_return.set()
    wait_for(lambda: not made.problem)


def test_a_few_calls_that_do_not_return_are_told_after_a_minute(stuck: Stuck) -> None:
    """The plugin still answers others, so it does not fail; but somebody should look."""
    now_s = 1000.0
    made = PluginThreads(clock_s=lambda: now_s)
    (plugin,) = made.bounded(Plugins((stuck.plugin,))).before
    for count in (1, 2):
        threading.Thread(target=plugin.call, daemon=True).start()
        wait_for(lambda count=count: stuck.calls == count)
    assert not made.problem
    now_s += LATE_S
    assert made.problem == "The plugin own has not returned from 2 of its calls for over a minute."
    stuck.may_return.set()
    wait_for(lambda: not made.problem)


@pytest.mark.parametrize(("turns", "most"), [(1, 2), (3, 4), (4, 9)])
def test_no_more_threads_than_may_be(stuck: Stuck, turns: int, most: int) -> None:
    """However many ask, and however soon they stop waiting."""
    before = threads()
    made = PluginThreads(turns, most)
    (plugin,) = made.bounded(Plugins((stuck.plugin,))).before

    async def crowd() -> list[BaseException | None]:
        asked = [asyncio.ensure_future(made.run(plugin.call)) for _ in range(10 * most)]
        for task in asked:
            await asyncio.sleep(0.002)
            task.cancel()
        return await asyncio.gather(*asked, return_exceptions=True)

    said = asyncio.run(crowd())
    assert stuck.calls <= most
    assert threads() - before <= turns + most
    assert {type(one) for one in said} <= {asyncio.CancelledError, NotAsked}


def test_a_crowd_makes_no_plugin_fail_that_answers(world: World) -> None:
    """They wait for each other's turns; a fault in the log is one of the plugin's own."""
    together, most = [0], [0]
    lock = threading.Lock()

    def quick() -> None:
        with lock:
            together[0] += 1
            most[0] = max(most[0], together[0])
        threading.Event().wait(0.001)
        with lock:
            together[0] -= 1

    plugin = Plugin("quick", quick, ())
    desk = desk_with(world, plugin, after=(plugin,))

    async def crowd() -> list[Decision]:
        return list(await asyncio.gather(*(ask(desk) for _ in range(40 * TURNS))))

    assert {decision.verdict for decision in asyncio.run(crowd())} == {Verdict.ACCEPT}
    assert most[0] <= TURNS
    assert world.lines() == []


@pytest.mark.parametrize("error", [ValueError("x"), RecursionError(), asyncio.CancelledError()])
def test_what_is_raised_in_a_thread_is_raised_where_it_is_awaited(error: BaseException) -> None:
    """No thread ends by it: the next question is answered."""

    async def talk() -> str:
        made = PluginThreads(turns=1)

        def fails() -> str:
            raise error

        with pytest.raises(type(error)):
            await made.run(fails)
        return await made.run(lambda: "answered")

    assert asyncio.run(talk()) == "answered"


def test_who_is_cancelled_before_his_turn_is_not_judged(stuck: Stuck) -> None:
    """And takes no thread."""

    async def talk() -> None:
        made = PluginThreads(turns=1, most=2)
        (plugin,) = made.bounded(Plugins((stuck.plugin,))).before
        first = asyncio.ensure_future(made.run(plugin.call))
        await until(lambda: stuck.calls)
        second = asyncio.ensure_future(made.run(plugin.call))
        await asyncio.sleep(0.01)
        second.cancel()
        await asyncio.wait((second,))
        stuck.may_return.set()
        await first
        assert stuck.calls == 1

    asyncio.run(talk())


# Through the doors


def rules_in(world: World) -> list[str]:
    """Return the first rule of each line about an answer."""
    return [one.fired[0].rule for one in world.lines() if one.kind is LogKind.MESSAGE]


def hear_451(path: Path) -> None:
    """Connect as a client of Postfix does, and be put off."""
    with MilterClient(path) as client:
        (answer,) = client.begin(CLIENT)
    assert isinstance(answer, wire.ReplyCode)
    assert answer.text.startswith("451 4.3.0 ")


def test_postfix_hears_451_from_a_stuck_plugin_and_soon_at_once(
    world: World, stuck: Stuck, tmp_path: Path
) -> None:
    """First when the time is over, then without any; every answer has its line."""
    desk = desk_with(world, stuck.plugin)
    asyncio.run(fill(desk, stuck, MOST_THREADS - 2))
    with DoorThread(tmp_path / "m", desk) as door:  # type: ignore[arg-type]
        for _ in range(2 + 3):
            hear_451(door.path)
        wait_for(lambda: len(rules_in(world)) >= 2 + 3)
        rules = rules_in(world)
    assert rules == ["hook:timeout"] * 2 + ["plugin:own"] * 3
    assert stuck.calls == MOST_THREADS


def test_http_is_answered_as_chosen_and_then_as_for_a_plugin_that_failed(
    world: World, stuck: Stuck
) -> None:
    """`on_timeout` is for what took too long; a plugin's fault is put off at both doors alike."""
    desk = Desk(world.writer, world.lookups, Plugins((stuck.plugin,)))
    http = settings(on_timeout=FaultAction.REJECT).http
    desk.use(policy_of(http=http, decision_timeout_s=2))
    asyncio.run(fill(desk, stuck, MOST_THREADS - 2))
    with ServedHook(desk, KeeperTwin()) as hook:
        codes = [hook.ask(encoded(request("rcpt"))).code for _ in range(2 + 2)]
        assert hook.ask(b" " * 300_000).code == 451, "reading needs none of these threads"
    assert codes == [550] * 2 + [451] * 2
    assert stuck.calls == MOST_THREADS


PLUGIN = """
import threading
from nodeagent.policy.engine.plugins import hookimpl

@hookimpl
def before_engine(stage):
    threading.Event().wait()
"""


def test_the_process_says_so_and_ends_with_its_plugin_stuck(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The status that the courier fetches names it; systemd has to kill nobody."""
    (tmp_path / "stuck_plugin.py").write_text(PLUGIN, encoding="utf-8")
    info = tmp_path / "stuck_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stuck-plugin\nVersion: 1.0\n")
    entry = f"[{plugins_module.GROUP}]\nstuck = stuck_plugin\n"
    (info / "entry_points.txt").write_text(entry)
    found = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(found))
    (tmp_path / "run").mkdir()
    with running_hook(tmp_path, tmp_path / "run") as hook:
        assert hook.put(decision_timeout_s=0.1) == ""
        sentence = f"The plugin stuck does not return: it has all {MOST_THREADS} threads"

        def is_told() -> bool:
            problem = hook.ask("report")["sync"]["problem"]
            hear_451(hook.milter)  # whoever comes when it is told already makes it log that, too
            return problem.startswith(sentence)

        wait_for(is_told)
        assert hook.end(signal.SIGTERM) == 0
        assert "a plugin does not return" in hook.log
