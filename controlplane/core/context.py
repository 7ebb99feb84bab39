"""What the templates may see: frozen dataclasses with every computed value of one node.

Theory of operation. A template is layout: it loops and asks for truth, and computes nothing. So
whatever has to be decided is decided here, where it can be tested without a template: which
transport carries which route, who prefers which VIP, in which order tables are written.

One transport for each combination of TLS mode and "with credentials" (postconf(5) keeps TLS policy
per next hop, and credentials per sender): so two routes may share a next hop and differ in both,
and a password is known only to the deliveries of its own route.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Final

from controlplane.core.category_domains import ALIASES, category_domains
from controlplane.core.names import (
    Network,
    NextHop,
    parse_domain,
    parse_domain_pattern,
    parse_host_address,
    parse_milter,
    parse_network,
    parse_next_hop,
    parse_sender,
)
from controlplane.core.spec import (
    DEFAULT_REPLY_TEXT,
    ClusterSpec,
    InetProtocols,
    MilterDefault,
    MiltersSpec,
    NodeSpec,
    QueueSpec,
    RecipientDomain,
    SenderAction,
    SenderPolicy,
    SenderRoute,
    TlsMode,
    VipSpec,
)
from controlplane.core.topology import (
    has_ipv6,
    hostname_of,
    network_of,
    vip_priority,
    vrrp_group,
)
from nodeagent.policy.places import (
    HOLD_PORT,
    LIST_DOMAIN,
    LISTS_SOCKET,
    MILTER_SOCKET,
    SEND_PORT,
)

OWN_NETWORKS: Final = ("127.0.0.0/8", "::1/128")
NODE_ALIASES: Final = ("abuse", "postmaster", "root")
REPLY_CODE: Final = "550 5.7.1"
DEFAULT_TRANSPORT: Final = "relay"

Entry = tuple[str, str]


@dataclass(frozen=True)
class Transport:
    """One smtp(8) client of master.cf."""

    name: str
    tls_level: str
    is_verifying: bool
    has_credentials: bool

    @property
    def is_password_clear(self) -> bool:
        """Tell whether a password may go out without TLS: only where TLS was switched off."""
        return self.has_credentials and self.tls_level == TlsMode.NONE.value


@dataclass(frozen=True)
class FilterContext:
    """Which milters Postfix asks, and the policy hook's ways back into Postfix."""

    milters: tuple[str, ...]
    default_action: str
    local_action: str  # for clients on the node itself, keepalived's check among them
    has_policy: bool
    send_port: int
    hold_port: int
    list_domain: str


@dataclass(frozen=True)
class PostfixContext:
    """Everything that main.cf, master.cf and the tables of one node are made of."""

    hostname: str
    domain: str
    inet_protocols: str
    own_addresses: tuple[str, ...]
    has_postmaster: bool
    is_sender_default_blocked: bool
    sender_default_reply: str
    has_certificate: bool
    message_size_limit_bytes: int
    queue: QueueSpec
    filters: FilterContext
    transports: tuple[Transport, ...]
    trusted_networks: tuple[str, ...]
    node_aliases: tuple[Entry, ...]
    recipient_domains: tuple[Entry, ...]
    transport: tuple[Entry, ...]
    sender_policy: tuple[Entry, ...]
    sender_routes: tuple[Entry, ...]
    sender_credentials: tuple[Entry, ...]


@dataclass(frozen=True)
class VrrpInstance:
    """One VIP as one node sees it."""

    name: str
    interface: str
    virtual_router_id: int
    priority: int
    advert_int: str
    source: str
    peers: tuple[str, ...]
    address: str
    address_interface: str


@dataclass(frozen=True)
class KeepalivedContext:
    """Everything that keepalived.conf of one node is made of."""

    node: str
    instances: tuple[VrrpInstance, ...]


def postfix_context(spec: ClusterSpec, node: NodeSpec) -> PostfixContext:
    """Compute what Postfix's files show; the spec is valid, or BadValue is raised."""
    hostname = hostname_of(spec, node)
    recipient_domains = {parse_domain_pattern(domain.name) for domain in spec.recipient_domains}
    of_categories = category_domains(spec, recipient_domains)
    return PostfixContext(
        hostname=hostname,
        domain=parse_domain(spec.domain),
        inet_protocols=_inet_protocols(spec),
        own_addresses=_own_addresses(spec),
        has_postmaster=spec.postmaster is not None,
        is_sender_default_blocked=spec.sender_default is SenderAction.BLOCKED,
        sender_default_reply=spec.sender_default_reply_text or DEFAULT_REPLY_TEXT,
        has_certificate=spec.tls is not None,
        message_size_limit_bytes=spec.message_size_limit_bytes,
        queue=spec.queue,
        filters=_filters(spec.milters),
        transports=_transports((*spec.recipient_domains, *spec.routes)),
        trusted_networks=_trusted_networks(spec),
        node_aliases=_aliases(spec.postmaster, hostname, of_categories),
        recipient_domains=_recipient_entries(recipient_domains, of_categories),
        transport=tuple(
            sorted((*_transport_entries(spec.recipient_domains), *_list_entries(spec.milters)))
        ),
        sender_policy=_policy_entries(spec.sender_policies),
        sender_routes=_route_entries(spec.routes),
        sender_credentials=_credential_entries(spec.routes),
    )


def keepalived_context(spec: ClusterSpec, node: NodeSpec) -> KeepalivedContext:
    """Compute what keepalived.conf shows; no instance for a node outside the VRRP group."""
    group = vrrp_group(spec)
    if node not in group:
        return KeepalivedContext(node.name, ())
    instances = tuple(
        _vrrp_instance(spec, group, node, vip, vip_priority(group, node, index))
        for index, vip in enumerate(spec.vips)
    )
    return KeepalivedContext(node.name, instances)


def _vrrp_instance(
    spec: ClusterSpec, group: tuple[NodeSpec, ...], node: NodeSpec, vip: VipSpec, priority: int
) -> VrrpInstance:
    prefix_len = vip.prefix_len
    if prefix_len is None:
        prefix_len = network_of(node).prefixlen
    return VrrpInstance(
        name=f"relay_{vip.virtual_router_id}",
        interface=node.interface,
        virtual_router_id=vip.virtual_router_id,
        priority=priority,
        advert_int=f"{spec.vrrp.advert_int_s:.2f}",
        source=_address(node.address),
        peers=tuple(_address(peer.address) for peer in group if peer != node),
        address=f"{_address(vip.address)}/{prefix_len}",
        address_interface=vip.interface or node.interface,
    )


def _address(text: str) -> str:
    return str(parse_host_address(text))


def _own_addresses(spec: ClusterSpec) -> tuple[str, ...]:
    """Return the addresses of all VIPs and nodes, as main.cf has them (IPv6 in brackets)."""
    texts = [*(vip.address for vip in spec.vips), *(node.address for node in spec.nodes)]
    found = [parse_host_address(text) for text in texts]
    return tuple(f"[{one}]" if isinstance(one, IPv6Address) else str(one) for one in found)


def _inet_protocols(spec: ClusterSpec) -> str:
    if spec.inet_protocols is not InetProtocols.AUTO:
        return spec.inet_protocols.value
    return InetProtocols.ALL.value if has_ipv6(spec) else InetProtocols.IPV4.value


def _aliases(
    postmaster: str | None, hostname: str, domains_of_categories: Iterable[str]
) -> tuple[Entry, ...]:
    if postmaster is None:
        return ()
    address = parse_sender(postmaster)
    names = [f"{name}@{hostname}" for name in NODE_ALIASES]
    names += [f"{name}@{domain}" for domain in domains_of_categories for name in ALIASES]
    return tuple((name, address) for name in names)


def _trusted_networks(spec: ClusterSpec) -> tuple[str, ...]:
    networks = [parse_network(text) for text in (*OWN_NETWORKS, *spec.trusted_networks)]
    return tuple(str(network) for network in sorted(set(networks), key=_network_order))


def _network_order(network: Network) -> tuple[int, int, int]:
    return (network.version, int(network.network_address), network.prefixlen)


def _transport_for(item: RecipientDomain | SenderRoute) -> Transport:
    """Return the transport that carries an item; plain opportunistic mail goes by the usual one."""
    has_credentials = isinstance(item, SenderRoute) and bool(item.username)
    mode = item.tls_mode
    suffix = "-auth" if has_credentials else ""
    is_default = mode is TlsMode.MAY and not has_credentials
    name = DEFAULT_TRANSPORT if is_default else f"relay-{mode.value}{suffix}"
    return Transport(name, mode.value, mode is TlsMode.VERIFY, has_credentials)


def _transports(items: Iterable[RecipientDomain | SenderRoute]) -> tuple[Transport, ...]:
    found = {_transport_for(item) for item in items}
    named = [transport for transport in found if transport.name != DEFAULT_TRANSPORT]
    return tuple(sorted(named, key=lambda transport: transport.name))


def _destination(hop: NextHop, port: int) -> str:
    """Return a next hop for transport(5): in brackets, so that no MX is looked up."""
    return f"[{hop.host}]:{port}"


def _recipient_entries(domains: Iterable[str], of_categories: Iterable[str]) -> tuple[Entry, ...]:
    return tuple(sorted((domain, DEFAULT_TRANSPORT) for domain in (*domains, *of_categories)))


def _transport_entries(domains: Iterable[RecipientDomain]) -> tuple[Entry, ...]:
    """Return the domains that do not simply go to their MX with opportunistic TLS."""
    entries = []
    for domain in domains:
        transport = _transport_for(domain).name
        if domain.next_hop is not None:
            hop = parse_next_hop(domain.next_hop)
            value = f"{transport}:{_destination(hop, domain.port)}"
        elif transport != DEFAULT_TRANSPORT:
            value = f"{transport}:"
        else:
            continue
        entries.append((parse_domain_pattern(domain.name), value))
    return tuple(sorted(entries))


def _filters(milters: MiltersSpec) -> FilterContext:
    asked = (
        (milters.policy, f"unix:{MILTER_SOCKET}"),
        (milters.rspamd, parse_milter(milters.rspamd_address)),
        (milters.clamav, parse_milter(milters.clamav_address)),
    )
    return FilterContext(
        milters=tuple(address for is_asked, address in asked if is_asked),
        default_action=milters.default_action.value,
        local_action=_local_action(milters.default_action).value,
        has_policy=milters.policy,
        send_port=SEND_PORT,
        hold_port=HOLD_PORT,
        list_domain=LIST_DOMAIN,
    )


def _local_action(chosen: MilterDefault) -> MilterDefault:
    """Return what is chosen, unless keepalived would hear a greeting that says no."""
    return MilterDefault.TEMPFAIL if chosen is MilterDefault.REJECT else chosen


def _list_entries(milters: MiltersSpec) -> tuple[Entry, ...]:
    """Return the way of a category's mail to the hook, which addresses each subscriber's copy."""
    return ((LIST_DOMAIN, f"lmtp:unix:{LISTS_SOCKET}"),) if milters.policy else ()


def _policy_entries(policies: Iterable[SenderPolicy]) -> tuple[Entry, ...]:
    """Return access(5) actions; bounces have no sender domain, so no policy refuses them."""
    entries = [("<>", "DUNNO")]
    for policy in policies:
        text = policy.reply_text or DEFAULT_REPLY_TEXT
        value = "OK" if policy.action is SenderAction.ALLOWED else f"{REPLY_CODE} {text}"
        entries.append((parse_domain_pattern(policy.domain), value))
    return tuple(sorted(entries))


def _route_entries(routes: Iterable[SenderRoute]) -> tuple[Entry, ...]:
    entries = []
    for route in routes:
        destination = _destination(parse_next_hop(route.next_hop), route.port)
        entries.append((parse_sender(route.sender), f"{_transport_for(route).name}:{destination}"))
    return tuple(sorted(entries))


def _credential_entries(routes: Iterable[SenderRoute]) -> tuple[Entry, ...]:
    entries = []
    for route in routes:
        if route.username and route.password is not None:
            secret = route.password.get_secret_value()
            entries.append((parse_sender(route.sender), f"{route.username}:{secret}"))
    return tuple(sorted(entries))
