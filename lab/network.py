"""The lab's network: one bridge in a namespace of its own, a cable to each host, and what is cut.

The bridge lives in a namespace, not on this machine, so that no packet filter of the machine (a
container engine's, say) sees its frames, and nothing on it can be forwarded anywhere. The machine
itself is one more host on the bridge, 198.51.100.1, for a browser or a mail client.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from lab.command import run, succeeds
from lab.errors import LabError
from lab.layout import (
    BRIDGE,
    HOSTS,
    MACHINE_ADDRESS,
    MACHINE_LINK,
    MACHINE_PORT,
    NETWORK_PREFIX_BITS,
    NFT_TABLE,
    SWITCH_NETNS,
    VIP,
    Host,
)

_RULES = f"""
table bridge {NFT_TABLE} {{
    chain cut {{ type filter hook forward priority 0; policy accept; }}
}}
"""


def _ip(lines: Iterable[str], netns: str | None = None) -> None:
    prefix = ["ip"] if netns is None else ["ip", "-n", netns]
    run([*prefix, "-batch", "-"], text="\n".join(lines) + "\n")


def _nft(text: str) -> str:
    return run(["ip", "netns", "exec", SWITCH_NETNS, "nft", "-f", "-"], text=text)


def _exists(netns: str) -> bool:
    return Path("/run/netns", netns).exists()


def create() -> None:
    """Make the bridge and this machine's own cable to it."""
    run(["ip", "netns", "add", SWITCH_NETNS])
    _ip(
        [
            f"link add {BRIDGE} type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
            f"link set {BRIDGE} addrgenmode none up",
        ],
        SWITCH_NETNS,
    )
    _ip(
        [
            f"link add {MACHINE_LINK} type veth peer name {MACHINE_PORT} netns {SWITCH_NETNS}",
            f"link set {MACHINE_LINK} addrgenmode none up",
            f"addr add {MACHINE_ADDRESS}/{NETWORK_PREFIX_BITS} dev {MACHINE_LINK}",
        ]
    )
    Path(f"/proc/sys/net/ipv4/conf/{MACHINE_LINK}/forwarding").write_text("0", encoding="ascii")
    _ip([f"link set {MACHINE_PORT} master {BRIDGE} addrgenmode none up"], SWITCH_NETNS)
    _nft(_RULES)


def remove() -> None:
    """Take away the bridge, all cables and all namespaces of the lab."""
    listed = json.loads(run(["ip", "-j", "netns", "list"]) or "[]")
    for name in [entry["name"] for entry in listed]:
        if name.startswith("relay-lab-"):
            run(["ip", "netns", "delete", name])
    succeeds(["ip", "link", "delete", MACHINE_LINK])


def plug(host: Host) -> None:
    """Give the host a fresh network namespace and a cable to the bridge."""
    unplug(host)
    run(["ip", "netns", "add", host.netns])
    _ip(
        [
            f"link add {host.port} type veth peer name eth0 netns {host.netns} address {host.mac}",
            f"link set {host.port} master {BRIDGE} addrgenmode none up",
        ],
        SWITCH_NETNS,
    )
    _ip(
        [
            "link set lo up",
            "link set eth0 addrgenmode none up",
            f"addr add {host.address}/{NETWORK_PREFIX_BITS} dev eth0",
        ],
        host.netns,
    )


def pull(host: Host) -> None:
    """Take the link down, as the first thing of a loss of power."""
    if _exists(SWITCH_NETNS):
        succeeds(["ip", "-n", SWITCH_NETNS, "link", "set", host.port, "down"])


def unplug(host: Host) -> None:
    """Take away the host's cable and namespace, with every address in it."""
    if _exists(SWITCH_NETNS):
        succeeds(["ip", "-n", SWITCH_NETNS, "link", "delete", host.port])
    if _exists(host.netns):
        run(["ip", "netns", "delete", host.netns])


def cut(one: Host, other: Host | None) -> None:
    """Drop every frame of `one`, or those between `one` and `other`; both directions."""
    if one == other:
        raise LabError(f"Between {one.name} and itself there is nothing to cut: name two hosts.")
    if other is None:
        matches = [f'iifname "{one.port}"', f'oifname "{one.port}"']
    else:
        matches = [
            f'iifname "{one.port}" oifname "{other.port}"',
            f'iifname "{other.port}" oifname "{one.port}"',
        ]
    _nft("".join(f"add rule bridge {NFT_TABLE} cut {match} drop\n" for match in matches))


def heal() -> None:
    """Undo every cut."""
    _nft(f"flush chain bridge {NFT_TABLE} cut\n")


def vip_holders() -> tuple[str, ...]:
    """Names of the hosts that have the VIP configured right now."""
    return tuple(name for name, host in HOSTS.items() if VIP in addresses(host))


def addresses(host: Host) -> tuple[str, ...]:
    """IPv4 addresses of the host's cable; none when it is off."""
    if not _exists(host.netns):
        return ()
    links = json.loads(run(["ip", "-n", host.netns, "-j", "-4", "addr", "show"]) or "[]")
    return tuple(
        info["local"]
        for link in links
        if link.get("ifname") != "lo"
        for info in link.get("addr_info", ())
    )
