"""One agent process: the tick of `nodeagent.loop`, with the real `decide` and the real `Executor`.

Jobs run beside the ticks, one at a time, as in the real loop. At a *point* (each fault point of the
executor, and the twins' own between two messages) the world may kill the process, which unwinds its
stack by `Killed`, or let time pass: the call then returns late, or never if the process died.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nodeagent.core import actions as act
from nodeagent.core import contract as wire
from nodeagent.core.decision import Plan, decide
from nodeagent.core.observation import ConfigState, MirrorView, Observation
from nodeagent.core.ports import Ports
from nodeagent.errors import AgentError
from nodeagent.execute import Executor
from tests.sim.control_plane_twin import ControlPlanePort
from tests.sim.port_twins import SimHost, SimLedger
from tests.sim.promises_twin import SimPromises

if TYPE_CHECKING:
    from tests.sim.node import Node

WAKE_S = 0.02
SPAWN_S = 0.001


class Killed(BaseException):
    """The process was killed; nothing of it may catch this but the frame that began it."""


class AgentProcess:
    """The memory of one agent from its start to its end."""

    def __init__(self, node: Node, number: int) -> None:
        self.node, self.world = node, node.world
        self.id = f"{node.name}-{number}"
        bugs = self.world.bugs
        self.ledger = SimLedger(node)
        self.promises: SimPromises = bugs.promises(node)
        self.control_plane: ControlPlanePort = bugs.control_plane(self)
        self.peers = bugs.peers(self)
        self.executor = Executor(
            Ports(
                control_plane=self.control_plane,
                guard=GuardCalls(self),
                mirrors=bugs.mirrors(node),
                promises=self.promises,
                peers=self.peers,
                ledger=self.ledger,
                host=SimHost(self),
            )
        )
        self.view: wire.ClusterView | None = node.disk.ledger.view
        self.view_at_s: float | None = None
        self.job: act.Action | None = None
        self.is_in_tick = False
        self.paused_until_s = 0.0
        self.plan: Plan | None = None
        self.complaints: list[str] = []
        self.promises.start(self.timings.promise_s)

    @property
    def timings(self) -> wire.Timings:
        """The timings of the last view."""
        return self.view.timings if self.view is not None else wire.Timings()

    @property
    def is_current(self) -> bool:
        """Whether this process is still alive."""
        return self.node.is_up and self.node.agent is self

    def point(self, name: str, resend: Callable[[], Any] | None = None) -> None:
        """Let the world do here what it has armed; return only to a process that lives and runs."""
        effect = self.world.armed_at(self.node.name, name)
        if effect is not None:
            effect(self, resend)
        self.wait_until(self.paused_until_s)

    def wait_until(self, at_s: float) -> None:
        """Return once `at_s` has come and neither process nor host stands still any more."""
        wanted_s = max(at_s, self.paused_until_s, self.node.paused_until_s)
        while self.is_current and self.world.clock.now_s < wanted_s:
            self.world.clock.sleep_until(wanted_s)
            wanted_s = max(wanted_s, self.paused_until_s, self.node.paused_until_s)
        if not self.is_current:
            raise Killed

    def pause(self, seconds: float) -> None:
        """Stop this process (SIGSTOP) for a while; time goes on for everybody else."""
        self.paused_until_s = max(self.paused_until_s, self.world.clock.now_s + seconds)

    def tick(self) -> None:
        """Do one turn unless the process is stopped, busy with a turn, or gone."""
        is_stopped = self.world.clock.now_s < max(self.paused_until_s, self.node.paused_until_s)
        if not self.is_current or self.is_in_tick or is_stopped:
            return
        self.is_in_tick = True
        self.world.clock.start(self._turn)

    def _turn(self) -> None:
        try:
            self._observe_to_report()
        except Killed:
            return
        finally:
            self.is_in_tick = False

    def _observe_to_report(self) -> None:
        self.wait_until(self.node.guard.busy_until_s)
        observation = self.observe()
        if self.job is None:
            adoption = observation.adoption
            self.promises.keep_decision(None if adoption is None else adoption.queue)
        plan = self.plan = decide(observation, self.world.bugs.ownership)
        self.point("decided")
        for action in plan.actions:
            if action.is_job:
                self.job = action
                self.world.clock.after(SPAWN_S, self._job(action, observation))
            else:
                self._carry_out(action, observation)
        self._report(observation, plan)

    def _job(self, action: act.Action, observation: Observation) -> Callable[[], None]:
        def run() -> None:
            try:
                self.wait_until(0.0)
                if self._carry_out(action, observation) and not isinstance(action, act.Push):
                    self.world.clock.after(WAKE_S, self.tick)
            except Killed:
                return
            finally:
                self.job = None

        return lambda: self.world.clock.start(run)

    def _carry_out(self, action: act.Action, observation: Observation) -> bool:
        name = type(action).__name__
        self.point(f"begin-{name}")
        self.node.note("action", name)
        try:
            self.executor.execute(action, observation)
        except AgentError as error:
            self.complaints.append(f"{name}: {error}")
            self.node.note("failed", self.complaints[-1])
            return False
        if not action.is_job:
            self.world.clock.after(WAKE_S, self.tick)
        return True

    def observe(self) -> Observation:
        """Return what there is to see now."""
        node, view = self.node, self.view
        age_s = None if self.view_at_s is None else node.boot_time_s() - self.view_at_s
        peers = () if view is None else tuple(peer.name for peer in view.peers)
        return Observation(
            node=node.name,
            guard=node.guard.status(),
            view=view,
            view_age_s=age_s,
            holds_vips=(node.world.vip,) if node.holds_vip else (),
            mirrors=tuple(
                MirrorView(queue, len(mirror.ids), self.promises.promised_s(queue))
                for queue, mirror in sorted(node.disk.mirrors.items())
            ),
            adoption=self.ledger.adoption(),
            switchover=node.disk.ledger.switchover,
            start_grace_s=self.promises.start_grace_s(),
            push_age_s=self.peers.push_age_s(peers),
            is_job_running=self.job is not None,
            is_fault_set=node.run.is_fault_set,
            is_keepalived_running=node.is_keepalived_running,
            config=ConfigState(),
            is_instance_known=view is None or view.instance_id in node.disk.ledger.instances,
        )

    def _report(self, observation: Observation, plan: Plan) -> None:
        generation = observation.guard.generation if observation.guard is not None else 0
        report = wire.NodeReport(
            role=observation.role,
            holds_vips=observation.holds_vips,
            generation=generation,
            mirrors=tuple(
                wire.MirrorReport(queue=one.queue, generation=0, sequence=0, messages=one.messages)
                for one in observation.mirrors
            ),
        )
        request = wire.HeartbeatRequest(report=report, renew=plan.renew, generation=generation)
        sent_s = self.node.boot_time_s()
        try:
            answer = self.control_plane.heartbeat(request)
        except AgentError:
            return
        self.view, self.view_at_s = answer.view, sent_s
        self.node.disk.ledger.view = answer.view
        self.promises.note_length(answer.view.timings.promise_s)
        if answer.renewed:
            try:
                timed = replace(observation, view=answer.view)
                self.executor.bring_renewal(timed, sent_s, generation)
            except AgentError as error:
                self.node.note("failed", f"renewal: {error}")


class GuardCalls:
    """The agent's side of the guard's socket: a call waits while the guard is busy fencing."""

    def __init__(self, process: AgentProcess) -> None:
        self._process = process

    def __getattr__(self, name: str) -> Any:
        self._process.wait_until(self._process.node.guard.busy_until_s)
        return getattr(self._process.node.guard, name)
