"""Says what is wrong with a cluster spec, in one clear sentence a field, and changes nothing.

Theory of operation. `validate` runs every check; none of them stops the others, and a check that
needs a parsed value is skipped where that value is already at fault. What passes here can be
rendered, and no value of it can end a line, start a comment or add a word to a rendered file. The
rendering refuses the same again on its own (render.py), because a check that stands alone rots.

Mail settings (domains, senders, routes, queue) are checked in `mail_validation`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from ipaddress import IPv6Network
from typing import Final

from pydantic import BaseModel, SecretStr

from controlplane.core import mail_validation
from controlplane.core.certificate import is_pair, parse_chain, parse_key
from controlplane.core.findings import Findings, Problem, quoted
from controlplane.core.names import (
    UNPRINTABLE,
    Address,
    BadValue,
    Network,
    parse_domain,
    parse_host_address,
)
from controlplane.core.spec import (
    ClusterMode,
    ClusterSpec,
    InetProtocols,
    NodeSpec,
    TlsSpec,
    VipSpec,
)
from controlplane.core.topology import has_ipv6, hostname_of, network_of
from nodeagent.core.lease import check_timings
from nodeagent.core.names import NODE_NAME_PATTERN

PORTS: Final = (1, 65_535)
VRRP_PRIORITIES: Final = (1, 254)  # 255 is the address owner, 0 gives up (RFC 9568)
ROUTER_IDS: Final = (1, 255)
ADVERT_INT_S: Final = (0.01, 40.95)  # 12 bits of centiseconds (RFC 9568)
TIMINGS_S: Final = (0, 86_400)
RETIRED_KEEP_DAYS: Final = (1, 36_500)
PREFIX_LENS: Final = {4: (8, 32), 6: (16, 128)}
_NODE_NAME: Final = re.compile(NODE_NAME_PATTERN)
_INTERFACE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}")
_USER: Final = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_CLUSTER_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,62}")


def validate(spec: ClusterSpec) -> tuple[Problem, ...]:
    """Return every problem of the spec, at most one a field; empty when it can be rendered."""
    findings = Findings()
    _check_lines(spec, findings)
    _check_names(spec, findings)
    addresses = _check_nodes(spec, findings)
    _check_modes(spec, findings)
    vips = _check_vips(spec, addresses, findings)
    _check_protocols(spec, findings)
    _check_vrrp(spec, findings)
    _check_timings(spec, findings)
    if spec.tls is not None:
        _check_tls(spec.tls, findings)
    mail_validation.check(spec, {*addresses.values(), *vips}, findings)
    return findings.problems()


def _check_lines(spec: ClusterSpec, findings: Findings) -> None:
    """Refuse line breaks and control characters in every text of the spec but the PEM blocks."""
    for path in _unprintable(spec.model_copy(update={"tls": None})):
        findings.unprintable(path)


def _unprintable(value: object) -> list[str]:
    """Return the paths below `value` of all texts that could break out of their line.

    Paths are put together on the way back, so that a clean spec of 100,000 domains costs none.
    """
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, str):
        return [""] if UNPRINTABLE.search(value) else []
    members: Iterable[tuple[str | int, object]] = ()
    if isinstance(value, BaseModel):
        members = value.__dict__.items()
    elif isinstance(value, tuple):
        members = enumerate(value)
    return [
        f"{name}.{path}".rstrip(".") for name, member in members for path in _unprintable(member)
    ]


def _check_names(spec: ClusterSpec, findings: Findings) -> None:
    if not _CLUSTER_NAME.fullmatch(spec.name):
        findings.add("name", f"{quoted(spec.name)} is not a name of plain letters and digits.")
    findings.parsed("domain", spec.domain, parse_domain)


def _check_nodes(spec: ClusterSpec, findings: Findings) -> dict[str, Address]:
    """Check each node by itself and for doubles; return the usable addresses by field."""
    names: dict[str, str] = {}
    hostnames: dict[str, str] = {}
    seen: dict[Address, str] = {}
    addresses: dict[str, Address] = {}
    for index, node in enumerate(spec.nodes):
        at = f"nodes.{index}"
        _check_node(node, at, findings)
        findings.unique(f"{at}.name", node.name, names)
        address = findings.parsed(f"{at}.address", node.address, parse_host_address)
        if address is not None and findings.unique(f"{at}.address", address, seen):
            addresses[f"{at}.address"] = address
            _check_prefix_len(f"{at}.prefix_len", node.prefix_len, address, findings)
        try:
            findings.unique(f"{at}.hostname", hostname_of(spec, node), hostnames)
        except BadValue as bad:
            findings.add(f"{at}.hostname", f"{quoted(node.hostname or node.name)} {bad}.")
    return addresses


def _check_node(node: NodeSpec, at: str, findings: Findings) -> None:
    if not _NODE_NAME.fullmatch(node.name):
        findings.add(
            f"{at}.name",
            f"{quoted(node.name)} is not a node name: lower-case letters, digits and hyphens, "
            "at most 63.",
        )
    _check_interface(f"{at}.interface", node.interface, findings)
    findings.in_range(f"{at}.vrrp_priority", node.vrrp_priority, *VRRP_PRIORITIES)
    findings.in_range(f"{at}.ssh_port", node.ssh_port, *PORTS)
    if not _USER.fullmatch(node.ssh_user):
        findings.add(f"{at}.ssh_user", f"{quoted(node.ssh_user)} is not a user name.")


def _check_interface(field: str, interface: str, findings: Findings) -> None:
    if not _INTERFACE.fullmatch(interface):
        findings.add(
            field, f"{quoted(interface)} is not an interface name (letters, digits, at most 15)."
        )


def _check_prefix_len(
    field: str, prefix_len: int | None, address: Address, findings: Findings
) -> None:
    if prefix_len is not None:
        findings.in_range(field, prefix_len, *PREFIX_LENS[address.version])


def _check_modes(spec: ClusterSpec, findings: Findings) -> None:
    """Check that the nodes' modes and priorities say without doubt who takes a VIP."""
    priorities: dict[int, str] = {}
    masters: dict[ClusterMode, str] = {}
    standalone: list[str] = []
    highest = max((node.vrrp_priority for node in _group(spec)), default=0)
    for index, node in enumerate(spec.nodes):
        at = f"nodes.{index}"
        if node.cluster_mode is ClusterMode.STANDALONE:
            standalone.append(f"{at}.cluster_mode")
            continue
        first = priorities.setdefault(node.vrrp_priority, node.name)
        if first != node.name:
            findings.add(
                f"{at}.vrrp_priority",
                f"{node.name} has the same vrrp_priority {node.vrrp_priority} as {first}; "
                "give each node its own.",
            )
        if node.cluster_mode is not ClusterMode.MASTER:
            continue
        if masters.setdefault(node.cluster_mode, node.name) != node.name:
            findings.add(
                f"{at}.cluster_mode",
                f"{node.name} cannot be master: {masters[ClusterMode.MASTER]} is already.",
            )
        elif node.vrrp_priority < highest:
            findings.add(
                f"{at}.vrrp_priority",
                f"{node.name} is the master, so its vrrp_priority {node.vrrp_priority} must be "
                f"the highest; another node has {highest}.",
            )
    if spec.vips and len(standalone) == len(spec.nodes):
        for field in standalone[1:]:
            findings.add(
                field, "Only one node can be standalone, or each would hold the VIPs by itself."
            )


def _group(spec: ClusterSpec) -> list[NodeSpec]:
    return [node for node in spec.nodes if node.cluster_mode is not ClusterMode.STANDALONE]


def _check_vips(
    spec: ClusterSpec, addresses: dict[str, Address], findings: Findings
) -> list[Address]:
    seen: dict[Address, str] = {address: field for field, address in addresses.items()}
    router_ids: dict[int, str] = {}
    vips: list[Address] = []
    for index, vip in enumerate(spec.vips):
        at = f"vips.{index}"
        if findings.in_range(f"{at}.virtual_router_id", vip.virtual_router_id, *ROUTER_IDS):
            findings.unique(f"{at}.virtual_router_id", vip.virtual_router_id, router_ids)
        if vip.interface is not None:
            _check_interface(f"{at}.interface", vip.interface, findings)
        address = findings.parsed(f"{at}.address", vip.address, parse_host_address)
        if address is None:
            continue
        _check_prefix_len(f"{at}.prefix_len", vip.prefix_len, address, findings)
        if findings.unique(f"{at}.address", address, seen):
            vips.append(address)
            _check_vip_network(spec, vip, f"{at}.address", address, findings=findings)
    return vips


def _check_vip_network(
    spec: ClusterSpec, vip: VipSpec, field: str, address: Address, *, findings: Findings
) -> None:
    """Check that every node can hold the VIP; on an interface of its own any network will do."""
    for node in spec.nodes:
        try:
            network = network_of(node)
        except (BadValue, ValueError):
            continue
        if network.version != address.version:
            findings.add(
                field,
                f"{address} is IPv{address.version}, but {node.name} has an "
                f"IPv{network.version} address.",
            )
        elif vip.interface in {None, node.interface} and address not in network:
            findings.add(field, f"{address} is outside the network {network} of {node.name}.")
        elif address in _reserved_addresses(network):
            findings.add(field, f"{address} is no host address of the network {network}.")


def _reserved_addresses(network: Network) -> set[Address]:
    """Return the network's first and last address where no host can have them (RFC 3021)."""
    if isinstance(network, IPv6Network) or network.prefixlen >= network.max_prefixlen - 1:
        return set()
    return {network.network_address, network.broadcast_address}


def _check_protocols(spec: ClusterSpec, findings: Findings) -> None:
    if spec.inet_protocols is InetProtocols.IPV4 and has_ipv6(spec):
        findings.add(
            "inet_protocols", 'The cluster has an IPv6 address; set inet_protocols to "all".'
        )


def _check_vrrp(spec: ClusterSpec, findings: Findings) -> None:
    field, value = "vrrp.advert_int_s", spec.vrrp.advert_int_s
    if findings.in_range(field, value, *ADVERT_INT_S) and not math.isclose(
        value * 100, round(value * 100), abs_tol=1e-6
    ):
        findings.add(
            field, f"advert_int_s {value} is not a whole number of hundredths of a second."
        )


def _check_timings(spec: ClusterSpec, findings: Findings) -> None:
    """Check that the timings are finite, which agents rely on, and fit together."""
    for name, value in spec.timings.model_dump().items():
        limits = RETIRED_KEEP_DAYS if name == "retired_keep_days" else TIMINGS_S
        findings.in_range(f"timings.{name}", value, *limits)
    for field, sentence in check_timings(spec.timings):
        findings.add(f"timings.{field}", sentence)


def _check_tls(tls: TlsSpec, findings: Findings) -> None:
    try:
        chain = parse_chain(tls.cert_pem)
    except BadValue as bad:
        findings.add("tls.cert_pem", str(bad))
        return
    try:
        key = parse_key(tls.key_pem.get_secret_value())
    except BadValue as bad:
        findings.add("tls.key_pem", str(bad))
        return
    if not is_pair(chain, key):
        findings.add("tls.key_pem", "The private key does not belong to the first certificate.")
