"""The lab's fixed facts: hosts, addresses, names of kernel objects and where its files lie."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

NETWORK_PREFIX_BITS: Final = 24
MACHINE_ADDRESS: Final = "198.51.100.1"
VIP: Final = "198.51.100.100"
CONTROL_PLANE_URL: Final = "https://198.51.100.10:8443"

CGROUP_NAME: Final = os.environ.get("RELAY_LAB_CGROUP", "relay-lab")
SWITCH_NETNS: Final = "relay-lab-switch"
BRIDGE: Final = "lab"
MACHINE_LINK: Final = "relay-lab0"
MACHINE_PORT: Final = "rl-machine"
NFT_TABLE: Final = "relay_lab"

STATE_DIR: Final = Path(os.environ.get("RELAY_LAB_STATE_DIR", "/var/lib/relay-lab"))
LOG_DIR_IN_HOST: Final = Path("/var/log/relay-lab")
RUN_DIR_IN_HOST: Final = Path("/run/relay-lab")
REPOSITORY: Final = Path(__file__).resolve().parents[1]
POSTGRES_BIN: Final = Path("/usr/lib/postgresql/15/bin")
COMMANDS: Final = Path(sys.prefix) / "bin"
SEARCH_PATH: Final = f"{COMMANDS}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Host:
    """One host of the lab: what it is called and where its disk lies on this machine."""

    name: str
    address: str

    @property
    def netns(self) -> str:
        """Name of its network namespace, as `ip netns` lists it."""
        return f"relay-lab-{self.name}"

    @property
    def port(self) -> str:
        """Its port on the lab's bridge."""
        return f"rl-{self.name}"

    @property
    def mac(self) -> str:
        """A hardware address that stays the same over a reboot."""
        octets = (int(octet) for octet in self.address.split("."))
        return ":".join(["02", "00", *(f"{octet:02x}" for octet in octets)])

    @property
    def disk(self) -> Path:
        """Everything of this host that survives a loss of power."""
        return STATE_DIR / "hosts" / self.name

    @property
    def spool(self) -> Path:
        """The host's /var/spool, a plain directory: an overlay does not rename lower ones."""
        return self.disk / "spool"

    @property
    def logs(self) -> Path:
        """The host's /var/log/relay-lab, one file a service."""
        return self.disk / "log"

    @property
    def pid_file(self) -> Path:
        """Holds the host's PID 1 as this machine numbers it."""
        return self.disk / "pid"


HOSTS: Final = {
    host.name: host
    for host in (
        Host("cp", "198.51.100.10"),
        Host("node-a", "198.51.100.11"),
        Host("node-b", "198.51.100.12"),
        Host("sink", "198.51.100.20"),
        Host("client", "198.51.100.30"),
    )
}
NODES: Final = ("node-a", "node-b")
