"""Random lives of a whole cluster: every fault at any time, and the promises hold throughout.

`RELAY_SIM_EXAMPLES` makes the search longer than the few seconds that every run of the tests has.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.sim import faults, moves
from tests.sim.bugs import PLANTED
from tests.sim.search import SKEWS, search
from tests.sim.traces import start
from tests.sim.world import World

EXAMPLES = int(os.environ.get("RELAY_SIM_EXAMPLES", "40"))
LIFE = settings(
    max_examples=EXAMPLES,
    stateful_step_count=30,
    derandomize="RELAY_SIM_EXAMPLES" not in os.environ,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
SECONDS = st.sampled_from(moves.SHORT_S + moves.LONG_S)
PAUSES = st.sampled_from(moves.PAUSES_S)


class ClusterLife(RuleBasedStateMachine):
    """A cluster to which anything may happen."""

    names: tuple[str, ...] = ("a", "b")
    world: World | None = None

    @property
    def alive(self) -> World:
        """The world once it has begun."""
        assert self.world is not None
        return self.world

    def move(self, kind: str, *arguments: object) -> None:
        """Do one move, written into the trace."""
        moves.apply(self.alive, (kind, arguments))

    @initialize(data=st.data())
    def begin(self, data):
        """Begin with one message that has its copy, and clocks that differ within the margin."""
        rates = tuple(data.draw(st.sampled_from(SKEWS)) for _ in self.names)
        self.world = World(self.names, clock_rates=rates)
        start(self.world)

    @rule(seconds=SECONDS)
    def time_passes(self, seconds):
        """Let everything run."""
        self.move("run", seconds)

    @rule()
    def mail_comes(self):
        """Send to the VIP."""
        self.move("send")

    @rule(data=st.data())
    def mail_goes(self, data):
        """Begin a delivery that may take long and be cut off."""
        duration_s = data.draw(st.sampled_from(moves.DELIVERIES_S))
        self.move("deliver", self._node(data), 0, duration_s, data.draw(st.booleans()))

    @rule()
    def all_mail_goes(self):
        """Every node delivers what it may."""
        self.move("deliver-all")

    @rule(data=st.data())
    def host_fails(self, data):
        """Cut a host's power, stop it, boot it, or let it stand still."""
        kind = data.draw(st.sampled_from(["crash", "shut-down", "boot", "boot", "pause-host"]))
        extra = (data.draw(PAUSES),) if kind == "pause-host" else ()
        self.move(kind, self._node(data), *extra)

    @rule(data=st.data())
    def process_fails(self, data):
        """Kill, start or stop an agent, a guard or a keepalived."""
        kinds = ["kill-agent", "start-agent", "start-agent", "stop-process", "restart-guard"]
        kind = data.draw(st.sampled_from([*kinds, "kill-keepalived", "start-keepalived"]))
        extra = (data.draw(PAUSES),) if kind == "stop-process" else ()
        self.move(kind, self._node(data), *extra)

    @rule(data=st.data(), kind=st.sampled_from(["cut", "cut", "mend"]))
    def network_fails(self, data, kind):
        """Cut or mend a link."""
        one, other = data.draw(st.permutations([*self.names, "cp"]))[:2]
        self.move(kind, one, other)

    @rule()
    def network_heals(self):
        """Mend all links."""
        self.move("mend-all")

    @rule(is_up=st.booleans())
    def control_plane_fails(self, is_up):
        """Switch the control plane off or on."""
        self.move("control-plane", is_up)

    @rule(kind=st.sampled_from(["backup", "restore"]))
    def control_plane_is_restored(self, kind):
        """Copy its database, or put the copy back."""
        self.move(kind)

    @rule(data=st.data())
    def operator_acts(self, data):
        """Wish for a switchover, or confirm that a host is off."""
        one, other = data.draw(st.permutations(self.names))[:2]
        if data.draw(st.booleans()):
            self.move("switchover", one, other)
        else:
            self.move("confirm-dead", one)

    @rule(data=st.data(), seconds=PAUSES)
    def agent_fails_between_two_lines(self, data, seconds):
        """Have an agent die or be held up at a certain point."""
        point = data.draw(st.sampled_from(faults.POINTS))
        kind = data.draw(st.sampled_from(moves.FAULT_KINDS))
        self.move("arm-fault", self._node(data), point, kind, seconds)

    @rule(data=st.data(), seconds=st.sampled_from(moves.DELAYS_S))
    def message_goes_astray(self, data, seconds):
        """Have a message lost, answered to nobody, late, or there twice."""
        point = data.draw(st.sampled_from(faults.MESSAGES))
        kind = data.draw(st.sampled_from(moves.LOSS_KINDS))
        self.move("arm-loss", self._node(data), point, kind, seconds)

    def _node(self, data) -> str:
        return data.draw(st.sampled_from(self.names))

    @precondition(lambda self: self.world is not None)
    @invariant()
    def promises_hold(self):
        """No promise is broken at any moment."""
        assert self.alive.truth.violations == [], "\n".join(self.alive.trace)

    def teardown(self):
        """Heal everything: nothing is lost, nothing is stuck."""
        if self.world is None:
            return
        with self.world as world:
            if not world.truth.violations:
                world.settle()
        self.promises_hold()


TestTwoNodes = ClusterLife.TestCase
TestTwoNodes.settings = LIFE


@pytest.mark.parametrize("seed", range(0, 40, 10))
def test_seeded_lives_keep_every_promise(seed: int):
    """Ten more lives each, with few kinds of fault at a time, which reaches deeper."""
    found = search(range(seed, seed + 10))
    assert found is None, "\n".join((*found.trace, *found.violations))


def test_three_nodes_keep_every_promise_without_an_adoption_by_two():
    """Three nodes promise one another, hand over, and survive their control plane."""
    kinds = ("switchover", "control-plane", "restore", "restart-guard")
    found = search(range(12), ("a", "b", "c"), kinds=kinds)
    assert found is None, "\n".join((*found.trace, *found.violations))


FOUND_BY_CHANCE = {
    2: ("cut",),
    3: ("shut-down", "stop-process"),
    4: ("kill-agent",),
    6: ("cut",),
}
"""By planted bug: the kinds of fault among which the search has to find it."""


@pytest.mark.parametrize("number", FOUND_BY_CHANCE)
def test_the_random_search_finds_planted_bugs(number: int):
    """The search is no decoration: without a clause it breaks a promise within a few lives."""
    kinds = FOUND_BY_CHANCE[number]
    assert search(range(30), clauses=PLANTED[number], kinds=kinds) is not None
