"""Puts the agent together: settings in, a ready `Agent` out; the only place that knows all."""

from __future__ import annotations

from typing import Final

from nodeagent.adapters.api_client import ControlPlaneClient
from nodeagent.adapters.event_spool import EventSpool
from nodeagent.adapters.guard_client import GuardClient
from nodeagent.adapters.host import Host, process_id
from nodeagent.adapters.identity import Identity
from nodeagent.adapters.ledger import Ledger
from nodeagent.adapters.mail_log import MailLog
from nodeagent.adapters.mirrors import Mirrors
from nodeagent.adapters.peer import SshFiles
from nodeagent.adapters.peers import Peers
from nodeagent.adapters.promises import Promises
from nodeagent.adapters.push import Sender
from nodeagent.adapters.queue_watch import QueueWatch
from nodeagent.adapters.snapshot import Snapshots
from nodeagent.adapters.vip import watch_addresses
from nodeagent.core.contract import Timings
from nodeagent.core.ports import Ports
from nodeagent.execute import Executor
from nodeagent.loop import Agent
from nodeagent.observe import Sources
from nodeagent.settings import AgentSettings
from nodeagent.trace import Tracer

MIB: Final = 1024 * 1024


def build_peers(settings: AgentSettings, identity: Identity, host: Host) -> Peers:
    """Return the connections to the peers, over a fresh watch of the live queue."""
    watch = QueueWatch(settings.queue_directory)
    snapshots = Snapshots(settings.relay_directory / "snapshot", settings.queue_directory, watch)
    snapshots.remove_leftovers()
    return Peers(
        Sender(identity.node(), process_id()),
        SshFiles(identity.ssh_key.file, host.ssh_files.known_hosts, settings.run_directory),
        GuardClient(settings.run_directory / "guard.sock"),
        watch,
        snapshots,
    )


def build_tracer(settings: AgentSettings) -> Tracer:
    """Return the message trace of an enrolled host; raises `BrokenState`."""
    identity = Identity(settings.state_directory)
    return Tracer(
        MailLog(settings.mail_log),
        settings.state_directory / "trace.db",
        settings.trace_spool_mib * MIB,
        ControlPlaneClient(identity.url(), identity.ca_pem(), identity.token),
    )


def build_agent(settings: AgentSettings, tracer: Tracer) -> Agent:
    """Return the agent of an enrolled host, its watchers running; raises `BrokenState`."""
    settings.run_directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    identity = Identity(settings.state_directory)
    ca_pem = identity.ca_pem()
    control_plane = ControlPlaneClient(identity.url(), ca_pem, identity.token)
    events = EventSpool(settings.state_directory / "events")
    host = Host(settings, control_plane, events)
    host.prepare()
    ledger = Ledger(settings.state_directory)
    view = ledger.view()
    promises = Promises(settings.state_directory / "promises.json")
    promises.start((view.timings if view is not None else Timings()).promise_s)
    guard = GuardClient(settings.run_directory / "guard.sock")
    mirrors = Mirrors(settings.relay_directory / "mirror", events)
    peers = build_peers(settings, identity, host)
    ports = Ports(control_plane, guard, mirrors, promises, peers, ledger, host)
    sources = Sources(
        identity.node(), guard, host, ledger, mirrors, promises, peers, identity, tracer.flow
    )
    agent = Agent(sources, Executor(ports), control_plane)
    watch_addresses(agent.wake)
    host.keepalived.watch(agent.wake)
    return agent
