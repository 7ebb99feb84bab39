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

EXAMPLES = int(os.environ.get("RELAY_SIM_EXAMPLES", "25"))
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
        """A client sends to the VIP."""
        self.move("send")

    @rule(data=st.data())
    def mail_goes(self, data):
        """A node begins a delivery that may take long and be cut off."""
        duration_s = data.draw(st.sampled_from(moves.DELIVERIES_S))
        self.move("deliver", self._node(data), 0, duration_s, data.draw(st.booleans()))

    @rule()
    def all_mail_goes(self):
        """Every node delivers what it may."""
        self.move("deliver-all")

    @rule(data=st.data())
    def host_fails(self, data):
        """A host loses its power, is stopped, booted, or stands still."""
        kind = data.draw(st.sampled_from(["crash", "shut-down", "boot", "boot", "pause-host"]))
        extra = (data.draw(PAUSES),) if kind == "pause-host" else ()
        self.move(kind, self._node(data), *extra)

    @rule(data=st.data())
    def process_fails(self, data):
        """An agent, a guard or a keepalived is killed, started or stopped."""
        kinds = ["kill-agent", "start-agent", "start-agent", "stop-process", "restart-guard"]
        kind = data.draw(st.sampled_from([*kinds, "kill-keepalived", "start-keepalived"]))
        extra = (data.draw(PAUSES),) if kind == "stop-process" else ()
        self.move(kind, self._node(data), *extra)

    @rule(data=st.data(), kind=st.sampled_from(["cut", "cut", "mend"]))
    def network_fails(self, data, kind):
        """A link is cut or mended."""
        one, other = data.draw(st.permutations([*self.names, "cp"]))[:2]
        self.move(kind, one, other)

    @rule()
    def network_heals(self):
        """All links are mended."""
        self.move("mend-all")

    @rule(is_up=st.booleans())
    def control_plane_fails(self, is_up):
        """The control plane goes, or comes back."""
        self.move("control-plane", is_up)

    @rule(kind=st.sampled_from(["backup", "restore"]))
    def control_plane_is_restored(self, kind):
        """A copy of its database is made, or put back."""
        self.move(kind)

    @rule(data=st.data())
    def operator_acts(self, data):
        """An operator wants a switchover, or confirms that a host is off."""
        one, other = data.draw(st.permutations(self.names))[:2]
        if data.draw(st.booleans()):
            self.move("switchover", one, other)
        else:
            self.move("confirm-dead", one)

    @rule(data=st.data(), seconds=PAUSES)
    def agent_fails_between_two_lines(self, data, seconds):
        """An agent will die or be held up at a certain point."""
        point = data.draw(st.sampled_from(faults.POINTS))
        kind = data.draw(st.sampled_from(moves.FAULT_KINDS))
        self.move("arm-fault", self._node(data), point, kind, seconds)

    @rule(data=st.data(), seconds=st.sampled_from(moves.DELAYS_S))
    def message_goes_astray(self, data, seconds):
        """A message will be lost, answered to nobody, late, or there twice."""
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


@pytest.mark.parametrize(("number", "seed"), [(2, 11), (5, 11)])
def test_the_random_search_finds_planted_bugs(number: int, seed: int):
    """The search is no decoration: without a clause it breaks a promise within a few lives."""
    assert search(range(seed, seed + 5), clauses=PLANTED[number]) is not None
