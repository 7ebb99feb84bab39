"""The tick: observe, decide, execute, report; for ever, and at once when something moves.

What cannot be read or written here, as on a full disk, costs what needed it and never the
heartbeat: without its renewals a healthy node would be fenced.

The loop's own thread never does anything long. Jobs run in one worker thread, one at a time; while
one runs, the observation says so and the rules wait. The heartbeat is the report of a tick and the
control plane's part of the next observation: its answer holds the view, read in one transaction.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace

import structlog

from nodeagent.adapters.api_client import ControlPlaneClient
from nodeagent.adapters.clock import boot_time_s
from nodeagent.adapters.identity import ssh_host_keys
from nodeagent.adapters.precedence import take_precedence
from nodeagent.adapters.status_file import write_status
from nodeagent.core import actions as act
from nodeagent.core.contract import (
    ClusterView,
    EventReport,
    HeartbeatAnswer,
    HeartbeatRequest,
    Role,
)
from nodeagent.core.decision import Plan, decide
from nodeagent.core.event_kinds import HEARTBEAT_FAILED
from nodeagent.core.lease import heartbeat_limit_s
from nodeagent.core.observation import Observation
from nodeagent.errands import Errands
from nodeagent.errors import AgentError, BrokenState, Refused, Unreachable
from nodeagent.execute import Executor
from nodeagent.observe import Memory, Sources, observe, report_of

log = structlog.get_logger()


@dataclass
class Job:
    """What the worker is doing, and for which action."""

    action: act.Action
    future: Future[None]
    began_s: float


class Agent:
    """The agent's loop over its sources, its executor and its control plane."""

    def __init__(
        self, sources: Sources, executor: Executor, control_plane: ControlPlaneClient
    ) -> None:
        self._sources = sources
        self._executor = executor
        self._control_plane = control_plane
        view = sources.ledger.view()
        self._memory = Memory(view=view, noted_view=view)
        self._worker = ThreadPoolExecutor(
            max_workers=1, thread_name_prefix="job", initializer=take_precedence
        )
        self._job: Job | None = None
        self._wake = threading.Event()
        self._errands = Errands(control_plane, sources, self.wake)
        self._stopping = threading.Event()
        self._last_rule = ""
        self._last_role: Role | None = None
        self._last_complaint: dict[str, str] = {}

    def wake(self) -> None:
        """Have the next tick come now; may be called from any thread."""
        self._wake.set()

    def stop(self) -> None:
        """End `run` after the tick under way."""
        self._stopping.set()
        self._wake.set()

    def run(self, tick_s: float) -> None:
        """Tick until stopped; an error that nobody foresaw is logged and the next tick comes."""
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                self.tick()
            except Exception:
                log.exception("tick failed")
            self._wake.wait(tick_s)
        self._errands.stop()
        self._worker.shutdown(wait=True)

    def tick(self) -> None:
        """Do one whole turn."""
        self._collect_job()
        if self._job is None and self._memory.view is not None:
            self._sources.peers.follow(self._memory.view)
            with self._sparing_the_heartbeat():
                self._sources.promises.note_length(self._memory.view.timings.promise_s)
        observation = self.observe()
        if self._job is None:
            adoption = observation.adoption
            with self._sparing_the_heartbeat():
                self._sources.promises.keep_decision(None if adoption is None else adoption.queue)
        plan = decide(observation)
        self._log(plan, observation)
        self._note_role(observation.role)
        for action in plan.actions:
            self._start(action, observation)
        with self._sparing_the_heartbeat():
            write_status(self._sources.host.settings.run_directory, observation, plan)
        self._report(observation, plan)

    @contextmanager
    def _sparing_the_heartbeat(self) -> Iterator[None]:
        """Log what the disk refuses in the body once; it is only something to look at later."""
        try:
            yield
        except (OSError, AgentError) as error:
            if self._last_complaint.get("disk") != str(error):
                self._last_complaint["disk"] = str(error)
                log.warning("not written", reason=str(error))

    def observe(self) -> Observation:
        """Return what there is to see now."""
        return observe(self._sources, self._memory, is_job_running=self._job is not None)

    def _log(self, plan: Plan, observation: Observation) -> None:
        if plan.rule != self._last_rule and plan.rule not in {"idle", "push", "job-running"}:
            log.info("rule", rule=plan.rule, comment=plan.comment, role=observation.role.value)
        self._last_rule = plan.rule

    def _note_role(self, role: Role) -> None:
        """Report a change of role; what the disk refuses is noted with a later tick."""
        if role is self._last_role:
            return
        before = self._last_role
        began = "The agent has started" if before is None else f"No longer {before.value}"
        with self._sparing_the_heartbeat():
            self._sources.host.event("role", f"{began}: the role is {role.value}.")
            self._last_role = role

    def _start(self, action: act.Action, observation: Observation) -> None:
        if action.is_job:
            future = self._worker.submit(self._executor.execute, action, observation)
            self._job = Job(action, future, boot_time_s())
            if not isinstance(action, act.Push):
                future.add_done_callback(self._wake_on_success)
            return
        try:
            self._executor.execute(action, observation)
        except (AgentError, OSError) as error:
            self._fail(action, error)
        else:
            self._succeed(action)

    def _wake_on_success(self, future: Future[None]) -> None:
        if future.exception() is None:
            self.wake()

    def _collect_job(self) -> None:
        if self._job is None or not self._job.future.done():
            return
        job, self._job = self._job, None
        error = job.future.exception()
        if error is None:
            if not isinstance(job.action, act.Push):
                took_s = round(boot_time_s() - job.began_s, 3)
                log.info("job done", job=type(job.action).__name__, took_s=took_s)
            self._succeed(job.action)
        elif isinstance(error, AgentError | OSError):
            self._fail(job.action, error)
        else:
            raise error

    def _succeed(self, action: act.Action) -> None:
        self._last_complaint.pop(act.failure_kind(action), None)
        if isinstance(action, act.ApplyConfig):
            self._memory.failed_version, self._memory.failed_reason = None, None
        if not action.is_job:
            self.wake()

    def _fail(self, action: act.Action, error: AgentError | OSError) -> None:
        if isinstance(action, act.ApplyConfig) and isinstance(error, Refused | BrokenState):
            self._memory.failed_version, self._memory.failed_reason = action.version, str(error)
        self._complain(act.failure_kind(action), str(error))

    def _complain(self, kind: str, text: str) -> None:
        """Log and report a failure once, not at every repetition of it."""
        if self._last_complaint.get(kind) != text:
            self._last_complaint[kind] = text
            log.warning(kind, reason=text)
            with self._sparing_the_heartbeat():
                self._sources.host.event(kind, text)

    def _report(self, observation: Observation, plan: Plan) -> None:
        """Send the heartbeat; a renewal counts from before it was sent."""
        generation = observation.guard.generation if observation.guard is not None else 0
        ssh_key, next_ssh_key = self._sources.identity.ssh_key.shown()
        request = HeartbeatRequest(
            report=report_of(observation, self._sources, self._memory, plan.rule),
            events=self._waiting_events(),
            renew=plan.renew,
            generation=generation,
            ssh_public_key=ssh_key,
            ssh_next_public_key=next_ssh_key,
            ssh_host_keys=ssh_host_keys(),
            kept_receipts=self._sources.ledger.receipt_keys(observation.kept_receipts),
        )
        sent_s = boot_time_s()
        try:
            limit_s = heartbeat_limit_s(observation.timings)
            answer = self._control_plane.heartbeat(request, limit_s)
        except (Refused, Unreachable) as error:
            self._complain(HEARTBEAT_FAILED, str(error))
            return
        self._last_complaint.pop(HEARTBEAT_FAILED, None)
        self._take_in(answer, sent_s, observation, generation)

    def _waiting_events(self) -> tuple[EventReport, ...]:
        with self._sparing_the_heartbeat():
            return self._sources.host.events.read(200)
        return ()

    def _take_in(
        self, answer: HeartbeatAnswer, sent_s: float, observation: Observation, generation: int
    ) -> None:
        """Bring the renewal first: nothing that is noted beside it may cost it."""
        if answer.renewed:
            timed = replace(observation, view=answer.view)
            try:
                self._executor.bring_renewal(timed, sent_s, generation)
            except AgentError as error:
                log.warning("renewal not taken", reason=str(error))
        known, self._memory.view = self._memory.view, answer.view
        self._memory.view_at_s = sent_s
        self._memory.removable_receipts = answer.removable_receipts
        self._errands.follow(answer)
        if _is_news(known, answer.view):
            self.wake()
        with self._sparing_the_heartbeat():
            if _is_news(self._memory.noted_view, answer.view):
                self._sources.ledger.note_view(answer.view)
                self._memory.noted_view = answer.view
            self._sources.host.events.acknowledge(answer.acknowledged_events)


def _is_news(known: ClusterView | None, view: ClusterView) -> bool:
    """Tell whether a view says more than that time has passed."""
    return known is None or _timeless(known) != _timeless(view)


def _timeless(view: ClusterView) -> ClusterView:
    leases = tuple(
        lease.model_copy(update={"remaining_s": float(lease.remaining_s > 0)})
        for lease in view.leases
    )
    peers = tuple(peer.model_copy(update={"last_seen_s": None}) for peer in view.peers)
    return view.model_copy(update={"leases": leases, "peers": peers})
