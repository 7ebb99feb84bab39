"""Who shares which VIP: networks, host names and VRRP priorities drawn from a spec.

The VRRP group is the nodes that are master or slave; in a cluster without any it is its one
standalone node. VIP number k prefers the k-th node of the group by priority, round and round: its
priorities are those of the group, rotated by k. So two VIPs on two nodes give two active hosts.
"""

from __future__ import annotations

from ipaddress import ip_interface

from controlplane.core.names import (
    BadValue,
    Network,
    parse_domain,
    parse_host_address,
    parse_next_hop,
)
from controlplane.core.spec import DEFAULT_PREFIX_LEN, ClusterMode, ClusterSpec, NodeSpec


def network_of(node: NodeSpec) -> Network:
    """Return the network of a node's own address; raises BadValue or ValueError."""
    address = parse_host_address(node.address)
    prefix_len = node.prefix_len
    if prefix_len is None:
        prefix_len = DEFAULT_PREFIX_LEN[address.version]
    return ip_interface(f"{address}/{prefix_len}").network


def hostname_of(spec: ClusterSpec, node: NodeSpec) -> str:
    """Return Postfix's myhostname of a node; raises BadValue."""
    return parse_domain(node.hostname or f"{node.name}.{spec.domain}")


def has_ipv6(spec: ClusterSpec) -> bool:
    """Tell whether a node, a VIP or a next hop has an IPv6 address."""
    hosts = [node.address for node in spec.nodes] + [vip.address for vip in spec.vips]
    hosts += [route.next_hop for route in spec.routes]
    hosts += [domain.next_hop for domain in spec.recipient_domains if domain.next_hop]
    return any(":" in host and _is_address(host) for host in hosts)


def _is_address(text: str) -> bool:
    try:
        return parse_next_hop(text).is_address
    except BadValue:
        return False


def vrrp_group(spec: ClusterSpec) -> tuple[NodeSpec, ...]:
    """Return the nodes that share the VIPs, the highest priority first."""
    group = [node for node in spec.nodes if node.cluster_mode is not ClusterMode.STANDALONE]
    if not group and len(spec.nodes) == 1:
        return spec.nodes
    return tuple(sorted(group, key=lambda node: (-node.vrrp_priority, node.name)))


def vip_priority(group: tuple[NodeSpec, ...], node: NodeSpec, vip_index: int) -> int:
    """Return the node's VRRP priority for one VIP: the group's priorities, rotated by its index."""
    rank = (group.index(node) - vip_index) % len(group)
    return group[rank].vrrp_priority
