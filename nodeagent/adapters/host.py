"""This host as the executor's `HostPort`: Postfix, keepalived, addresses, files and events."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from nodeagent import __version__
from nodeagent.adapters.api_client import ControlPlaneClient
from nodeagent.adapters.clock import boot_time_s
from nodeagent.adapters.config_files import ConfigFiles
from nodeagent.adapters.event_spool import EventSpool
from nodeagent.adapters.fault_point import fault_point
from nodeagent.adapters.keepalived import Keepalived
from nodeagent.adapters.postfix import Postfix
from nodeagent.adapters.queue_counts import QueueCounter
from nodeagent.adapters.ssh_files import SshFiles, install_sshd_snippet
from nodeagent.adapters.vip import remove_addresses
from nodeagent.core.contract import PeerView, QueueCounts
from nodeagent.errors import Refused
from nodeagent.settings import AgentSettings


class Host:
    """One object for what actions do to this host; each effect lives in the adapter it calls."""

    version = __version__

    def __init__(
        self, settings: AgentSettings, control_plane: ControlPlaneClient, events: EventSpool
    ) -> None:
        self.settings = settings
        self.postfix = Postfix(settings.queue_directory)
        self.keepalived = Keepalived(settings.run_directory)
        self.ssh_files = SshFiles(settings.ssh_config_directory)
        self.config = ConfigFiles(
            settings.config_root, settings.state_directory, settings.queue_directory
        )
        self.events = events
        self._counter = QueueCounter(settings.queue_directory, settings.relay_directory)
        self._control_plane = control_plane
        self.boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()

    def prepare(self) -> None:
        """Make what daemons expect to find before the first tick."""
        self.keepalived.prepare()
        self.config.recover()
        install_sshd_snippet(self.settings.ssh_config_directory)

    def queue_counts(self) -> QueueCounts:
        """Return how many messages are where."""
        return self._counter.counts()

    def disk_space_bytes(self) -> tuple[int, int] | None:
        """Return what is free and what there is where the queue is (statvfs(3)), None: unknown."""
        try:
            usage = shutil.disk_usage(self.settings.queue_directory)
        except OSError:
            return None
        return usage.free, usage.total

    def disk_inodes(self) -> tuple[int, int] | None:
        """Return the inodes that are free and all; None: unknown, or made as they are needed."""
        try:
            found = os.statvfs(self.settings.queue_directory)
        except OSError:
            return None
        return (found.f_favail, found.f_files) if found.f_files else None

    def flush(self) -> None:
        """Have Postfix try all its mail now; without a running Postfix its start does that."""
        if self.postfix.master_pid() is not None:
            self.postfix.flush()

    def set_fault(self, *, is_fault: bool) -> None:
        """Put keepalived into FAULT by its track file, or let it out."""
        self.keepalived.set_fault(is_fault=is_fault)

    def drop_vips(self, vips: tuple[str, ...]) -> None:
        """Remove addresses that a dead keepalived left behind."""
        remove_addresses(vips)

    def write_ssh_files(self, peers: tuple[PeerView, ...]) -> None:
        """Write authorized_keys and known_hosts."""
        self.ssh_files.write(peers)

    def apply_config(self, version: int) -> None:
        """Fetch and apply; raises `Refused` with the reason when it stays off this node."""
        bundle = self._control_plane.config()
        if bundle.version != version:
            raise Refused(f"Config version {bundle.version} came instead of {version}.")
        self.config.apply(bundle)
        self.event("config", f"Config version {version} is live.")

    def event(self, kind: str, text: str) -> None:
        """Note an event; it reaches the control plane with a later heartbeat."""
        self.events.append(kind, text)

    def fault_point(self, name: str) -> None:
        """Die here if a test asked for it."""
        fault_point(name)

    def boot_time_s(self) -> float:
        """Return the protocol's clock."""
        return boot_time_s()


def process_id() -> str:
    """Return what tells this process from any other the host ever ran."""
    start = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    return f"{os.getpid()}-{start}"
