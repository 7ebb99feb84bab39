"""What templates are given: transports, priorities and addresses, computed without a template."""

from __future__ import annotations

import itertools

import pytest
from pydantic import SecretStr

from controlplane.core.context import keepalived_context, postfix_context
from controlplane.core.render import render
from controlplane.core.spec import (
    ClusterMode,
    ClusterSpec,
    InetProtocols,
    RecipientDomain,
    SenderRoute,
    TlsMode,
    VipSpec,
)
from controlplane.core.topology import vip_priority, vrrp_group
from controlplane.core.validation import validate
from tests.render.specs import NODE_A, NODE_B, NODE_C, SECOND_VIP, VIP, pair

MANY = 100_000


def routes(*modes_and_users: tuple[TlsMode, str | None]) -> tuple[SenderRoute, ...]:
    """Give routes of different senders to one next hop."""
    return tuple(
        SenderRoute(
            sender=f"s{number}@example.com",
            next_hop="smtp.example",
            tls_mode=mode,
            username=user,
            password=SecretStr("secret") if user else None,
        )
        for number, (mode, user) in enumerate(modes_and_users)
    )


def test_each_tls_mode_with_and_without_credentials_has_a_transport() -> None:
    """Eight kinds of route to one next hop use eight transports, one of them Postfix's own."""
    kinds = list(itertools.product(TlsMode, (None, "user")))
    context = postfix_context(pair(routes=routes(*kinds)), NODE_A)
    used = {value.partition(":")[0] for _, value in context.sender_routes}
    assert len(used) == 8
    assert used - {"relay"} == {transport.name for transport in context.transports}
    for transport in context.transports:
        assert transport.tls_level in transport.name
        assert transport.has_credentials is transport.name.endswith("-auth")
        assert transport.is_verifying is ("verify" in transport.name)


def test_only_used_transports_are_made() -> None:
    """A relay without special routes has no service of its own in master.cf."""
    assert postfix_context(pair(), NODE_A).transports == ()
    twice = pair(routes=routes((TlsMode.ENCRYPT, "a"), (TlsMode.ENCRYPT, "b")))
    assert [one.name for one in postfix_context(twice, NODE_A).transports] == ["relay-encrypt-auth"]


def test_credentials_exist_only_for_routes_that_have_them() -> None:
    """A route without user adds nothing to the secret table."""
    spec = pair(routes=routes((TlsMode.MAY, None), (TlsMode.MAY, "user")))
    entries = postfix_context(spec, NODE_A).sender_credentials
    assert entries == (("s1@example.com", "user:secret"),)


def test_domain_by_mx_needs_no_transport_entry() -> None:
    """100,000 domains that follow their MX leave the transport table empty."""
    domains = (
        RecipientDomain(name="mx.example"),
        RecipientDomain(name="tls.example", tls_mode=TlsMode.ENCRYPT),
        RecipientDomain(name="to.example", next_hop="[198.51.100.20]", port=2525),
    )
    context = postfix_context(pair(recipient_domains=domains), NODE_A)
    assert context.transport == (
        ("tls.example", "relay-encrypt:"),
        ("to.example", "relay:[198.51.100.20]:2525"),
    )
    assert [name for name, _ in context.recipient_domains] == [
        "mx.example",
        "tls.example",
        "to.example",
    ]


@pytest.mark.parametrize(
    ("wish", "vip", "expected"),
    [
        (InetProtocols.AUTO, "198.51.100.100", "ipv4"),
        (InetProtocols.ALL, "198.51.100.100", "all"),
        (InetProtocols.IPV4, "198.51.100.100", "ipv4"),
        (InetProtocols.AUTO, "2001:db8::100", "all"),
    ],
)
def test_inet_protocols_follow_the_addresses(wish: InetProtocols, vip: str, expected: str) -> None:
    """IPv6 is switched on where the cluster has an IPv6 address, or by wish."""
    spec = pair(vips=(VipSpec(address=vip, virtual_router_id=1),), inet_protocols=wish)
    assert postfix_context(spec, NODE_A).inet_protocols == expected


def test_own_addresses_hold_vips_and_every_node() -> None:
    """A mail that comes back to any address of the cluster is known to be a loop."""
    context = postfix_context(pair(vips=(VIP, SECOND_VIP)), NODE_B)
    assert context.own_addresses == (
        "198.51.100.100",
        "198.51.100.101",
        "198.51.100.11",
        "198.51.100.12",
    )


def test_trusted_networks_always_hold_the_node_itself() -> None:
    """Programs on the node may send; the list is sorted and has no doubles."""
    spec = pair(trusted_networks=("198.51.100.0/24", "10.0.0.0/8", "127.0.0.0/8"))
    assert postfix_context(spec, NODE_A).trusted_networks == (
        "10.0.0.0/8",
        "127.0.0.0/8",
        "198.51.100.0/24",
        "::1/128",
    )


def test_host_name_is_the_nodes_own_where_given() -> None:
    """A node is named after the cluster's domain unless it has a name of its own."""
    named = NODE_A.model_copy(update={"hostname": "MX1.Example.COM"})
    assert postfix_context(pair(), NODE_A).hostname == "node-a.relay.internal"
    assert postfix_context(pair(nodes=(named, NODE_B)), named).hostname == "mx1.example.com"


def test_each_vip_prefers_another_node() -> None:
    """Three VIPs on three nodes: each node is first once, second once and third once."""
    nodes = (NODE_A, NODE_B, NODE_C)
    group = vrrp_group(pair(nodes=nodes))
    table = [[vip_priority(group, node, vip) for node in nodes] for vip in range(4)]
    assert table == [[150, 100, 50], [50, 150, 100], [100, 50, 150], [150, 100, 50]]


def test_priorities_of_one_vip_are_never_equal() -> None:
    """Equal priorities leave it to chance who is master."""
    group = vrrp_group(pair(nodes=(NODE_A, NODE_B, NODE_C)))
    for vip in range(5):
        assert len({vip_priority(group, node, vip) for node in group}) == len(group)


def test_peers_are_all_others_of_the_group() -> None:
    """Adverts go to each other node by unicast, from the node's own address."""
    spec = pair(nodes=(NODE_A, NODE_B, NODE_C), vips=(VIP, SECOND_VIP))
    context = keepalived_context(spec, NODE_B)
    assert [one.name for one in context.instances] == ["relay_51", "relay_52"]
    for instance in context.instances:
        assert instance.source == "198.51.100.12"
        assert instance.peers == ("198.51.100.11", "198.51.100.13")


def test_standalone_node_alone_holds_the_vip_without_peers() -> None:
    """Clients of a single relay use the address that they will keep."""
    alone = NODE_A.model_copy(update={"cluster_mode": ClusterMode.STANDALONE})
    (instance,) = keepalived_context(pair(nodes=(alone,)), alone).instances
    assert instance.peers == ()
    assert instance.address == "198.51.100.100/24"


def test_standalone_node_beside_a_master_takes_part_in_no_vip() -> None:
    """A node that is not in the pair cannot take the pair's address."""
    apart = NODE_C.model_copy(update={"cluster_mode": ClusterMode.STANDALONE})
    spec = pair(nodes=(NODE_A, NODE_B, apart))
    assert validate(spec) == ()
    assert keepalived_context(spec, apart).instances == ()
    assert keepalived_context(spec, NODE_A).instances[0].peers == ("198.51.100.12",)


def test_vip_may_have_an_interface_of_its_own() -> None:
    """VRRP speaks on the node's interface, the address goes where it belongs."""
    vip = VipSpec(address="203.0.113.5", virtual_router_id=9, prefix_len=28, interface="eth1")
    (instance,) = keepalived_context(pair(vips=(vip,)), NODE_A).instances
    assert (instance.interface, instance.address_interface) == ("eth0", "eth1")
    assert instance.address == "203.0.113.5/28"


@pytest.mark.parametrize(("interval", "text"), [(1, "1.00"), (0.1, "0.10"), (0.29, "0.29")])
def test_advert_interval_is_written_in_centiseconds(interval: float, text: str) -> None:
    """No binary fraction reaches keepalived.conf."""
    spec = pair()
    spec = spec.model_copy(update={"vrrp": spec.vrrp.model_copy(update={"advert_int_s": interval})})
    assert keepalived_context(spec, NODE_A).instances[0].advert_int == text


def test_hundred_thousand_domains_are_checked_and_rendered() -> None:
    """The largest cluster we promise is one valid spec and one line a domain."""
    domains = tuple(
        RecipientDomain(name=f"d{number}.example.com", next_hop="198.51.100.20")
        for number in range(MANY)
    )
    spec: ClusterSpec = pair(recipient_domains=domains)
    assert validate(spec) == ()
    files = {file.path: file for file in render(spec, "node-a")}
    for name in ("recipient_domains", "transport"):
        assert files[f"/etc/postfix/relay/{name}.map"].content.count("\n") == MANY + 1
