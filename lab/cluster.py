"""What the lab looks like right now: every host, who has the VIP, and whether the pair is ready."""

from __future__ import annotations

import json
import os
import socket
import stat
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lab import hosts, network
from lab.cgroups import HostGroup
from lab.errors import LabError
from lab.layout import CONTROL_PLANE_URL, HOSTS, NODES, VIP, Host
from lab.settings import load

_AGENT_LIMIT_S: Final = 15.0
_STATUS: Final = ("relay-agent", "status", "--json")
_SMTP_LIMIT_S: Final = 1.0
_POLL_S: Final = 0.3
_OWN_QUEUES: Final = ("maildrop", "incoming", "active", "deferred", "hold")


@dataclass(frozen=True)
class NodeState:
    """What a node's own agent says of it; `said` is empty where it says nothing."""

    name: str
    said: dict[str, Any]
    has_vip: bool

    @property
    def role(self) -> str | None:
        """ACTIVE, STANDBY, FENCED, or None."""
        role = self.said.get("role")
        return str(role) if role is not None else None


def queue_files(host: Host) -> list[Path]:
    """List the messages of the host's own queue, set aside or not, without a peer's mirror.

    A file that cleanup(8) has not made ready is no message; one that a power loss cut short stays.
    """
    directories = [host.spool / "postfix" / name for name in _OWN_QUEUES]
    pending = host.spool / "relay/pending"
    directories += [path for name in _OWN_QUEUES for path in pending.glob(f"*/{name}")]
    return [path for directory in directories for path in _messages_below(directory)]


def _messages_below(directory: Path) -> Iterator[Path]:
    for place, _, names in os.walk(directory):
        for path in (Path(place, name) for name in names):
            with suppress(FileNotFoundError):
                if path.stat().st_mode & stat.S_IXUSR:
                    yield path


def node_state(name: str, holders: tuple[str, ...]) -> NodeState:
    """Ask a node's agent for its state; a host that is off or stands still says nothing."""
    host = HOSTS[name]
    said: dict[str, Any] = {}
    if hosts.pid_of(host) is not None and not HostGroup(name).is_frozen:
        with suppress(LabError, ValueError):
            said = json.loads(hosts.run_inside(host, _STATUS, timeout_s=_AGENT_LIMIT_S))
    return NodeState(name, said, name in holders)


def node_states(holders: tuple[str, ...]) -> dict[str, NodeState]:
    """Ask both nodes' agents at the same time."""
    with ThreadPoolExecutor(len(NODES)) as pool:
        states = list(pool.map(lambda name: node_state(name, holders), NODES))
    return {state.name: state for state in states}


def status() -> dict[str, Any]:
    """Everything about the lab that a test or a person asks for."""
    settings = load()
    holders = network.vip_holders()
    states = node_states(holders)
    return {
        "vip": VIP,
        "control_plane_url": CONTROL_PLANE_URL,
        "admin": {"user": settings.admin_user, "password": settings.admin_password},
        "database": settings.database,
        "hosts": {
            name: _host_status(host, holders, states.get(name)) for name, host in HOSTS.items()
        },
    }


def _host_status(host: Host, holders: tuple[str, ...], state: NodeState | None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "address": host.address,
        "pid": hosts.pid_of(host),
        "is_paused": HostGroup(host.name).is_frozen,
        "role": None,
        "vip": host.name in holders,
        "generation": None,
        "queue": None,
    }
    if state is not None:
        found["role"] = state.role
        found["generation"] = state.said.get("generation")
        found["queue"] = len(queue_files(host))
    return found


def answers_smtp(address: str, port: int = 25) -> bool:
    """Tell whether a 220 is to be had there, as this machine's host on the bridge sees it."""
    try:
        with socket.create_connection((address, port), _SMTP_LIMIT_S) as connection:
            connection.settimeout(_SMTP_LIMIT_S)
            return connection.recv(3) == b"220"
    except OSError:
        return False


def what_is_not_ready() -> str:
    """Say what is still missing for a healthy pair; empty when nothing is.

    What costs least is looked at first: asking an agent starts a program on its host.
    """
    if missing := _what_hosts_lack():
        return missing
    holders = network.vip_holders()
    if len(holders) != 1 or holders[0] not in NODES:
        return f"the VIP is on {' and '.join(holders) or 'no host'}"
    if not answers_smtp(VIP):
        return "nothing answers with 220 on the VIP"
    states = list(node_states(holders).values())
    for state in states:
        if missing := _what_node_lacks(state):
            return f"{state.name} {missing}"
    versions = {state.said.get("config_version") for state in states}
    if len(versions) != 1:
        return "the nodes run different config versions"
    active = next(state for state in states if state.has_vip)
    standby = next(state for state in states if not state.has_vip)
    if active.name not in (standby.said.get("mirrors") or {}):
        return f"{standby.name} has no mirror of {active.name} yet"
    if active.said.get("push_age_s") is None:
        return f"{active.name} has not pushed its queue since it started"
    return ""


def _what_hosts_lack() -> str:
    for name, host in HOSTS.items():
        if hosts.pid_of(host) is None:
            return f"{name} is off"
        if HostGroup(name).is_frozen:
            return f"{name} stands still"
    return ""


def _what_node_lacks(state: NodeState) -> str:
    if not state.said:
        return "has no agent that answers"
    wanted = "ACTIVE" if state.has_vip else "STANDBY"
    if state.role != wanted:
        return f"is {state.role}, not {wanted}"
    if not state.said.get("is_proven"):
        return "does not hold its lease"
    if state.said.get("has_pending"):
        return "has mail set aside"
    if state.said.get("config_version") is None:
        error = state.said.get("config_error")
        return f"refused its config: {error}" if error else "has no config yet"
    return ""


def what_is_not_active(name: str) -> str:
    """Say what is still missing for this host to be the active one; empty when nothing is."""
    holders = network.vip_holders()
    if name not in holders:
        return f"the VIP is on {' and '.join(holders) or 'no host'}"
    if not answers_smtp(VIP):
        return "nothing answers with 220 on the VIP"
    state = node_state(name, holders)
    if state.role != "ACTIVE":
        return f"{name} is {state.role or 'without an agent that answers'}"
    return ""


def wait_until(missing: Callable[[], str], timeout_s: float) -> None:
    """Wait until `missing` has nothing to say any more."""
    deadline = time.monotonic() + timeout_s
    while reason := missing():
        if time.monotonic() > deadline:
            raise LabError(f"Not so within {timeout_s:g} s: {reason}.")
        time.sleep(_POLL_S)


def wait_for(condition: str, timeout_s: float) -> None:
    """Wait for `ready` or `active=HOST`."""
    load()
    if condition == "ready":
        wait_until(what_is_not_ready, timeout_s)
        return
    word, _, name = condition.partition("=")
    if word != "active" or name not in NODES:
        choices = " or ".join(f"active={node}" for node in NODES)
        raise LabError(f"Cannot wait for {condition!r}: say ready, {choices}.")
    wait_until(lambda: what_is_not_active(name), timeout_s)
