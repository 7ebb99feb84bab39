"""The agent's tick over its real adapters and a real guard, where the disk or a file fails it."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from controlplane.store.facts import ClusterFacts, NodeFacts
from nodeagent.adapters.event_spool import EventSpool
from nodeagent.adapters.host import Host
from nodeagent.adapters.identity import Identity
from nodeagent.adapters.ledger import Ledger
from nodeagent.adapters.mirrors import Mirrors
from nodeagent.adapters.peer import SshFiles
from nodeagent.adapters.peers import Peers
from nodeagent.adapters.promises import Promises
from nodeagent.adapters.push import Sender
from nodeagent.adapters.queue_watch import QueueWatch
from nodeagent.adapters.snapshot import Snapshots
from nodeagent.adapters.status_file import read_status
from nodeagent.core import contract as wire
from nodeagent.core.observation import Adoption, AdoptionStep
from nodeagent.core.ports import Ports
from nodeagent.errors import BrokenState, Unreachable
from nodeagent.execute import Executor
from nodeagent.loop import Agent
from nodeagent.observe import Sources
from nodeagent.settings import AgentSettings
from tests.contract.test_guard import GuardProcess
from tests.fakes.lease_twin import LeaseTwin, TwinReceipt
from tests.fakes.postfix_queue import PostfixQueue, message, queue_id

TIMINGS = wire.Timings(
    lease_duration_s=600, lease_margin_s=3, lease_renew_deadline_s=500, promise_s=600
)
FLOW = wire.MailFlow(accepted=5, delivered=4, deferrals=3, bounced=2, rejected=1)
DAY_S = 86400.0
NODES = (NodeFacts("node-a", "198.51.100.11"), NodeFacts("node-b", "198.51.100.12"))


class TwinClient:
    """The calls of one node to the twin that passes the store's contract; it may be cut off."""

    def __init__(self, twin: LeaseTwin, node: str) -> None:
        self.twin, self.node = twin, node
        self.is_cut = False
        self.heartbeats: list[wire.HeartbeatRequest] = []
        self.results: list[wire.SwitchoverResult] = []

    def _reach(self) -> None:
        if self.is_cut:
            raise Unreachable("The control plane is cut off.")

    def heartbeat(self, request: wire.HeartbeatRequest, _limit_s: float) -> wire.HeartbeatAnswer:
        """Report and renew, over JSON as the real one."""
        self._reach()
        self.heartbeats.append(request)
        wired = wire.HeartbeatRequest.model_validate_json(request.model_dump_json())
        return self.twin.heartbeat(self.node, wired)

    def reconcile(self, request: wire.ReconcileRequest) -> wire.ReconcileAnswer:
        """Acquire the own lease."""
        self._reach()
        return self.twin.reconcile(self.node, request)

    def no_errand(self, message: object) -> Any:
        """Fail: the twin asks for none."""
        raise AssertionError(message)

    route_test = report_route_test = peer_test = report_peer_test = given_key = no_errand

    def report_switchover(self, result: wire.SwitchoverResult) -> None:
        """Report how a switchover ended."""
        self._reach()
        self.results.append(result)
        self.twin.finish_switchover(self.node, result)


class LoneNode:
    """node-a without Postfix, VIP and peers that answer, on a disk of its own."""

    def __init__(self, root: Path) -> None:
        root.chmod(0o755)
        self.queue = PostfixQueue(root / "queue")
        self.guard = GuardProcess(SimpleNamespace(queue=self.queue.root), root)
        self.guard.start()
        self.settings = AgentSettings(
            queue_directory=self.queue.root,
            relay_directory=self.guard.relay,
            state_directory=root / "state",
            run_directory=self.guard.run,
            config_root=root / "config",
            ssh_config_directory=root / "ssh",
        )
        identity = Identity(self.settings.state_directory)
        identity.make_keys()
        identity.save_enrolment("node-a", "https://198.51.100.10:8443", "pem")
        twin = LeaseTwin(time.monotonic, ClusterFacts((), TIMINGS, NODES))
        for node in NODES:
            twin.enrol(node.name)
        self.client = TwinClient(twin, "node-a")
        self.watch = QueueWatch(self.queue.root)
        self.agent = self._build(identity)

    def _build(self, identity: Identity) -> Agent:
        state, client = self.settings.state_directory, self.guard.client
        self.events = EventSpool(state / "events")
        self.ledger = Ledger(state)
        control_plane: Any = self.client
        host = Host(self.settings, control_plane, self.events)
        mirrors = Mirrors(self.guard.relay / "mirror", self.events)
        promises = Promises(state / "promises.json")
        promises.start(0.001)
        snapshots = Snapshots(self.guard.relay / "snapshot", self.queue.root, self.watch)
        files = SshFiles(identity.ssh_key.file, host.ssh_files.known_hosts, self.guard.run, 1)
        peers = Peers(Sender("node-a", "agent-1"), files, client, self.watch, snapshots)
        ports = Ports(control_plane, client, mirrors, promises, peers, self.ledger, host)
        sources = Sources(
            "node-a", client, host, self.ledger, mirrors, promises, peers, identity, lambda: FLOW
        )
        return Agent(sources, Executor(ports), control_plane)

    def settle(self) -> None:
        """Tick until the own lease is proved and nothing is pending."""
        until_s = time.monotonic() + 20
        while not self.agent.observe().is_settled:
            assert time.monotonic() < until_s, "it did not settle"
            self.agent.tick()
            time.sleep(0.02)

    def told(self, kind: str) -> list[str]:
        """Return the texts of one kind of event, sent or not; jobs note theirs at their end."""
        until_s = time.monotonic() + 20
        while True:
            sent = [event for beat in self.client.heartbeats for event in beat.events]
            told = {one.id: one for one in (*sent, *self.events.read())}
            found = [one.text for one in told.values() if one.kind == kind]
            if found or time.monotonic() > until_s:
                return found
            time.sleep(0.02)

    def renewals(self) -> int:
        """Tick three times; return how many heartbeats asked for a renewal meanwhile."""
        before = len(self.client.heartbeats)
        for _ in range(3):
            self.agent.tick()
            time.sleep(0.05)
        return sum(1 for request in self.client.heartbeats[before:] if request.renew)

    def close(self) -> None:
        """End the guard and the watch."""
        self.guard.kill()
        self.watch.close()


@pytest.fixture
def node(tmp_path) -> Iterator[LoneNode]:
    """Give a settled node."""
    lone = LoneNode(tmp_path)
    try:
        lone.settle()
        yield lone
    finally:
        lone.close()


def test_a_settled_node_renews_at_every_tick(node):
    """What the failures below must not change."""
    assert node.renewals() == 3
    assert node.agent.observe().is_settled


def test_a_decision_that_a_kill_left_without_an_adoption_ends(node):
    """Else its owner would be refused every promise, and be fenced once nobody else answers."""
    promises = Promises(node.settings.state_directory / "promises.json")
    promises.decide_to_adopt("node-b", skip_waiting=True)
    assert promises.promise("node-b", 5.0).refusal
    node.agent.tick()
    assert promises.promise("node-b", 5.0).for_s > 0


def test_the_decision_of_an_adoption_under_way_stays(node):
    """The control plane is away: nothing goes on, nothing is promised meanwhile either."""
    promises = Promises(node.settings.state_directory / "promises.json")
    promises.decide_to_adopt("node-b", skip_waiting=True)
    node.ledger.note_adoption(Adoption("node-b", AdoptionStep.LISTED, 7))
    node.client.is_cut = True
    node.agent.tick()
    assert promises.promise("node-b", 5.0).refusal == "This node has decided to adopt node-b."


def test_old_mail_comes_back_through_the_whole_agent(tmp_path):
    """Pending at the start: reconcile over the twin, take back by the real guard."""
    PostfixQueue(tmp_path / "queue").accept(1, 2)
    lone = LoneNode(tmp_path)
    try:
        assert len(lone.guard.client.pending_ids()) == 2
        lone.settle()
        assert {path.name for path in (lone.queue.root / "incoming").iterdir()} == {
            queue_id(1),
            queue_id(2),
        }
        assert lone.told("reconciled") == ["2 messages taken back, 0 retired."]
    finally:
        lone.close()


def test_a_change_of_role_is_reported_once_with_both_roles(tmp_path):
    """From the start on; ticks in the same role report nothing more."""
    lone = LoneNode(tmp_path)
    try:
        lone.settle()
        lone.agent.tick()
        lone.agent.tick()
        assert lone.told("role") == [
            "The agent has started: the role is FENCED.",
            "No longer FENCED: the role is STANDBY.",
        ]
    finally:
        lone.close()


def test_a_report_says_what_time_it_is_and_how_full_the_disk(node):
    """By the node's own clock, of the filesystem that the queue is on."""
    report = node.client.heartbeats[-1].report
    assert report.clock is not None
    assert abs((report.clock - datetime.now(UTC)).total_seconds()) < 3600
    free_bytes, size_bytes = report.disk_space_bytes
    assert 0 < free_bytes <= size_bytes == shutil.disk_usage(node.queue.root).total
    counted = os.statvfs(node.queue.root).f_files
    assert (report.disk_inodes is None) == (counted == 0), "some file systems count no inodes"
    if report.disk_inodes is not None:
        assert 0 < report.disk_inodes[0] <= report.disk_inodes[1] == counted


def test_mail_under_a_short_id_does_not_keep_a_node_fenced(tmp_path):
    """It was in the queue before the relay was: no receipt can name it, so nobody is asked."""
    queue = PostfixQueue(tmp_path / "queue")
    queue.write("incoming", "3F2A14E8", message())
    lone = LoneNode(tmp_path)
    try:
        lone.settle()
        assert (lone.queue.root / "incoming/3F2A14E8").is_file()
    finally:
        lone.close()


def test_retired_mail_goes_when_the_days_have_passed_here_and_there(node):
    """From the fence over the receipt to the removal; before that, not one file is missing."""
    gone, kept = PostfixQueue(node.queue.root).accept(1, 2)
    receipt = TwinReceipt(1, "node-a", 5, "node-b", {gone})
    node.client.twin.state.receipts[1] = receipt
    node.guard.client.set_aside("a test")
    node.settle()
    retired = node.guard.relay / "retired/1"
    file = retired / "incoming" / gone
    assert (node.queue.root / "incoming" / kept).is_file()
    for age_days, done_days in ((0, 15), (15, None), (15, 13)):
        os.utime(retired, (time.time() - age_days * DAY_S,) * 2)
        receipt.done_at = None if done_days is None else time.monotonic() - done_days * DAY_S
        node.renewals()
        assert file.is_file()
    receipt.done_at = time.monotonic() - 15 * DAY_S
    node.client.is_cut = True
    node.renewals()
    assert file.is_file()
    node.client.is_cut = False
    until_s = time.monotonic() + 20
    while retired.exists():
        assert time.monotonic() < until_s, "it was not removed"
        node.renewals()
    node.renewals()
    told = [event for request in node.client.heartbeats for event in request.events]
    assert "retired-removed" in [event.kind for event in told]
    assert (node.queue.root / "incoming" / kept).is_file()


def in_the_way(path: Path) -> None:
    """Have a directory where a file is written, so that all writes fail as on a bad disk."""
    if path.is_file():
        path.unlink()
    path.mkdir()


@pytest.mark.parametrize("name", ["events", "view.json.new"])
def test_a_disk_that_refuses_a_note_costs_no_renewal(node, name):
    """Events and the last view are for later; the lease is for now."""
    in_the_way(node.settings.state_directory / name)
    node.client.twin.facts = ClusterFacts(("198.51.100.100",), TIMINGS, NODES)
    assert node.renewals() == 3
    assert node.guard.client.status()[0].is_proven


def test_a_view_that_could_not_be_noted_is_noted_later(node):
    """An agent that starts while nobody answers must know its peers."""
    in_the_way(node.settings.state_directory / "view.json.new")
    node.client.twin.facts = ClusterFacts(("198.51.100.100",), TIMINGS, NODES)
    node.renewals()
    (node.settings.state_directory / "view.json.new").rmdir()
    node.renewals()
    assert node.ledger.view().vips == ("198.51.100.100",)


def test_a_status_that_cannot_be_shown_costs_no_renewal(node):
    """`relay-agent status` is a convenience."""
    in_the_way(node.settings.run_directory / "status.json.new")
    assert node.renewals() == 3


def test_the_heartbeat_says_how_much_mail_flowed(node):
    """As the message trace has counted it."""
    node.agent.tick()
    assert node.client.heartbeats[-1].report.flow == FLOW


def test_an_action_that_the_disk_refuses_is_reported_and_costs_no_renewal(node):
    """The track file of keepalived cannot be written: an event says so, once."""
    in_the_way(node.settings.run_directory / "fault")
    node.client.twin.facts = ClusterFacts(
        (), TIMINGS, (NodeFacts("node-a", "198.51.100.11", is_maintenance=True), NODES[1])
    )
    node.renewals()
    assert node.renewals() == 3
    told = [event for request in node.client.heartbeats for event in request.events]
    assert {event.kind for event in told} >= {"set-fault-failed"}
    assert len({event.id for event in told if event.kind == "set-fault-failed"}) == 1


def test_a_peers_broken_mirror_costs_no_renewal(node):
    """What a mirror says of itself cannot be read: it is not adopted, reported once, no more."""
    mirror = node.guard.relay / "mirror/node-b"
    mirror.mkdir(parents=True)
    (mirror / "state.json").write_text("{")
    assert node.renewals() == 3
    assert node.agent.observe().mirrors == ()
    kinds = [event.kind for request in node.client.heartbeats for event in request.events]
    assert "mirror-broken" in kinds


@pytest.mark.parametrize("content", ["{", "[]", '{"until_s": 5}'])
def test_broken_promises_permit_no_adoption_and_cost_no_renewal(node, content):
    """Whether something was promised is unknown: nothing may be adopted."""
    (node.settings.state_directory / "promises.json").write_text(content)
    assert node.renewals() == 3
    observation = node.agent.observe()
    assert observation.mirrors == ()
    assert observation.start_grace_s == TIMINGS.promise_s


@pytest.mark.parametrize("content", ["{", "[]", '{"queue": "node-b"}', '{"queue": 1, "step": "x"}'])
def test_an_adoption_that_cannot_be_read_stops_everything(node, content):
    """It may be committed: an agent that forgot it would keep its mail from ever being placed."""
    node.ledger.note_adoption(Adoption("node-b", AdoptionStep.COMMITTED, 5))
    (node.settings.state_directory / "adoption.json").write_text(content)
    with pytest.raises(BrokenState, match=r"adoption\.json"):
        node.agent.observe()


def test_an_event_from_a_hostile_name_goes_out(node):
    """Half of a UTF-16 pair is no text that any receiver takes."""
    node.events.append("push-refused", "node-b: \ud800 is no queue file.", peer="\udfff")
    node.renewals()
    told = [event for request in node.client.heartbeats for event in request.events]
    assert [event.text for event in told if event.kind == "push-refused"] == [
        "node-b: ? is no queue file."
    ]


def test_a_wish_whose_failure_was_not_heard_is_ended(node):
    """The report was lost: it is repeated, or nothing would ever be pushed again."""
    wish = wire.SwitchoverWish(id=4, source="node-a", destination="node-b")
    node.client.twin.state.switchover = wish
    node.ledger.note_switchover(4, "node-b", None)
    until_s = time.monotonic() + 10
    while not node.client.results:
        assert time.monotonic() < until_s
        node.agent.tick()
        time.sleep(0.02)
    assert [(result.id, result.ok) for result in node.client.results] == [(4, False)]
    assert "earlier attempt" in node.client.results[0].text
    assert node.client.twin.state.switchover is None


def test_the_agent_goes_on_after_the_control_plane_was_away(node):
    """One complaint, kept until somebody hears it."""
    node.client.is_cut = True
    assert node.renewals() == 0
    node.client.is_cut = False
    assert node.renewals() == 3
    told = [event for request in node.client.heartbeats for event in request.events]
    assert [event.text for event in told if event.kind == "heartbeat-failed"] == [
        "The control plane is cut off."
    ]


def test_the_status_shows_the_last_tick(node):
    """What `relay-agent explain` prints is what the rules saw."""
    node.renewals()
    shown = read_status(node.settings.run_directory)
    assert (shown["rule"], shown["role"], shown["plan"]) == ("idle", "STANDBY", [])
    assert shown["observation"]["guard"]["is_proven"] is True
