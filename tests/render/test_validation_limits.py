"""Validation at its limits: the last value that is fine, and the first that is not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from controlplane.core.spec import (
    ClusterMode,
    ClusterSpec,
    InetProtocols,
    NodeSpec,
    QueueSpec,
    RecipientDomain,
    SenderAction,
    SenderPolicy,
    SenderRoute,
    VipSpec,
    VrrpSpec,
)
from controlplane.core.validation import validate
from tests.render.specs import NODE_A, NODE_B, VIP, pair


def found(spec: ClusterSpec) -> dict[str, str]:
    """Return the problems by field."""
    return dict(validate(spec))


def node_with(**changes: Any) -> ClusterSpec:
    """Return the pair with its second node changed."""
    return pair(nodes=(NODE_A, NODE_B.model_copy(update=changes)))


def vip_with(**changes: Any) -> ClusterSpec:
    """Return the pair with its VIP changed."""
    return pair(vips=(VIP.model_copy(update=changes),))


def route_with(**changes: Any) -> ClusterSpec:
    """Return the pair with one route with credentials."""
    typed = {"username": "u", "password": SecretStr("p"), **changes}
    return pair(routes=(SenderRoute(sender="@e.tld", next_hop="mx.tld", **typed),))


def domain_with(**changes: Any) -> ClusterSpec:
    """Return the pair with one recipient domain."""
    return pair(recipient_domains=(RecipientDomain(name="e.tld", **changes),))


def reply(text: str) -> ClusterSpec:
    """Return the pair with one policy that replies so."""
    policy = SenderPolicy(domain="e.tld", action=SenderAction.BLOCKED, reply_text=text)
    return pair(sender_policies=(policy,))


LIMITS: list[tuple[str, ClusterSpec, ClusterSpec]] = [
    ("nodes.1.ssh_port", node_with(ssh_port=1), node_with(ssh_port=0)),
    ("nodes.1.ssh_port", node_with(ssh_port=65535), node_with(ssh_port=65536)),
    ("nodes.1.vrrp_priority", node_with(vrrp_priority=1), node_with(vrrp_priority=0)),
    ("nodes.1.interface", node_with(interface="e" * 15), node_with(interface="e" * 16)),
    ("nodes.1.name", node_with(name="n" * 63), node_with(name="n" * 64, hostname="n.tld")),
    ("nodes.1.ssh_user", node_with(ssh_user="u" * 32), node_with(ssh_user="u" * 33)),
    ("nodes.1.ssh_user", node_with(ssh_user="_x"), node_with(ssh_user="1x")),
    ("nodes.1.prefix_len", node_with(prefix_len=8), node_with(prefix_len=7)),
    (
        "nodes.1.prefix_len",
        node_with(prefix_len=32).model_copy(update={"vips": ()}),
        node_with(prefix_len=33),
    ),
    ("vips.0.virtual_router_id", vip_with(virtual_router_id=1), vip_with(virtual_router_id=0)),
    ("vips.0.virtual_router_id", vip_with(virtual_router_id=255), vip_with(virtual_router_id=256)),
    ("recipient_domains.0.port", domain_with(), domain_with(next_hop="mx.tld", port=0)),
    (
        "recipient_domains.0.port",
        domain_with(next_hop="mx.tld", port=65535),
        domain_with(next_hop="mx.tld", port=65536),
    ),
    ("routes.0.username", route_with(username="u" * 512), route_with(username="u" * 513)),
    (
        "routes.0.password",
        route_with(password=SecretStr("p" * 512)),
        route_with(password=SecretStr("p" * 513)),
    ),
    ("sender_policies.0.reply_text", reply("x" * 400), reply("x" * 401)),
    (
        "vrrp.advert_int_s",
        pair(vrrp=VrrpSpec(advert_int_s=0.01)),
        pair(vrrp=VrrpSpec(advert_int_s=0.009)),
    ),
    (
        "vrrp.advert_int_s",
        pair(vrrp=VrrpSpec(advert_int_s=40.95)),
        pair(vrrp=VrrpSpec(advert_int_s=40.96)),
    ),
    (
        "vrrp.advert_int_s",
        pair(vrrp=VrrpSpec(advert_int_s=0.29)),
        pair(vrrp=VrrpSpec(advert_int_s=0.295)),
    ),
    (
        "message_size_limit_bytes",
        pair(message_size_limit_bytes=65_536),
        pair(message_size_limit_bytes=65_535),
    ),
    (
        "message_size_limit_bytes",
        pair(message_size_limit_bytes=2_147_483_647),
        pair(message_size_limit_bytes=2_147_483_648),
    ),
    ("name", pair(name="n" * 63), pair(name="n" * 64)),
    ("name", pair(name="Relay 1 - ._"), pair(name=" Relay")),
    ("name", pair(name="0"), pair(name="Relay;")),
    ("name", pair(name="R"), pair(name="")),
]


@pytest.mark.parametrize(("field", "last", "first"), LIMITS)
def test_a_limit_is_where_it_is_said_to_be(
    field: str, last: ClusterSpec, first: ClusterSpec
) -> None:
    """The value at the limit is fine; the next one is refused, at its own field alone."""
    assert found(last) == {}
    assert set(found(first)) == {field}


@pytest.mark.parametrize(
    ("prefix_len", "address", "problem"),
    [
        (24, "198.51.100.254", None),
        (24, "198.51.100.255", "is no host address of the network 198.51.100.0/24"),
        (24, "198.51.100.0", "is no host address of the network 198.51.100.0/24"),
        (24, "198.51.101.1", "is outside the network 198.51.100.0/24"),
        (30, "198.51.100.14", None),
        (30, "198.51.100.15", "is no host address of the network 198.51.100.12/30"),
        (30, "198.51.100.12", "is no host address of the network 198.51.100.12/30"),
        (31, "198.51.100.12", None),
    ],
)
def test_a_vip_is_a_host_of_its_network(prefix_len: int, address: str, problem: str | None) -> None:
    """The first and the last address are hosts in a network of two (RFC 3021)."""
    node = NODE_A.model_copy(update={"address": "198.51.100.13", "prefix_len": prefix_len})
    vip = VipSpec(address=address, virtual_router_id=1)
    said = found(pair(nodes=(node,), vips=(vip,))).get("vips.0.address")
    assert (said is None) is (problem is None)
    assert (problem or "") in (said or "")


@pytest.mark.parametrize("last", ["2001:db8::", "2001:db8::ffff:ffff:ffff:ffff"])
def test_an_ipv6_network_keeps_no_address_for_itself(last: str) -> None:
    """There is no broadcast; the first address is the routers', not ours to refuse."""
    node = NodeSpec(name="node-a", address="2001:db8::1", interface="eth0")
    spec = ClusterSpec(nodes=(node,), vips=(VipSpec(address=last, virtual_router_id=1),))
    assert found(spec) == {}


@pytest.mark.parametrize(
    ("hop", "port", "words"),
    [
        ("0.0.0.0", 2525, "is not the address of a host"),
        ("224.0.0.1", 25, "is not the address of a host"),
        ("ff02::1", 25, "is not the address of a host"),
        ("127.0.0.1", 25, "is the relay itself"),
        ("127.8.8.8", 25, "is the relay itself"),
        ("::1", 25, "is the relay itself"),
        ("127.0.0.1", 2525, None),
        ("localhost", 25, "localhost is the relay itself"),
        ("localhost", 2525, None),
        ("198.51.100.99", 25, None),
        ("198.51.100.100", 2525, "belongs to this cluster"),
    ],
)
def test_mail_is_not_sent_round_in_circles(hop: str, port: int, words: str | None) -> None:
    """Another program on the host may be a next hop; the relay itself never is."""
    said = found(domain_with(next_hop=hop, port=port)).get("recipient_domains.0.next_hop")
    assert (said is None) is (words is None)
    assert (words or "") in (said or "")


SECONDS = st.integers(-1, 8_640_001) | st.sampled_from((0, 1, 300, 301, 432_000))


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(QueueSpec.model_fields, SECONDS)))
def test_a_queue_that_is_fine_has_its_times_in_order(changes: dict[str, int]) -> None:
    """Whatever is set: fine means that no time is tried later, or dropped earlier, than asked."""
    queue = QueueSpec(**changes)
    problems = found(pair(queue=queue))
    assert all(field.startswith("queue.") for field in problems)
    if not problems:
        assert 1 <= queue.queue_run_delay_s <= queue.minimal_backoff_s <= queue.maximal_backoff_s
        assert 0 <= queue.bounce_queue_lifetime_s <= queue.maximal_queue_lifetime_s <= 8_640_000
        is_tried_again = queue.maximal_queue_lifetime_s > 0
        assert not is_tried_again or queue.maximal_backoff_s <= queue.maximal_queue_lifetime_s


MODES = st.lists(st.tuples(st.sampled_from(ClusterMode), st.integers(1, 5)), min_size=1, max_size=4)


@given(MODES)
def test_modes_that_are_fine_leave_no_doubt_who_takes_a_vip(
    chosen: list[tuple[ClusterMode, int]],
) -> None:
    """One master at most, above all others; or one node that stands alone."""
    nodes = tuple(
        NodeSpec(
            name=f"node-{number}",
            address=f"198.51.100.{number}",
            interface="eth0",
            cluster_mode=mode,
            vrrp_priority=priority,
        )
        for number, (mode, priority) in enumerate(chosen, 11)
    )
    is_fine = found(pair(nodes=nodes)) == {}
    group = [(mode, priority) for mode, priority in chosen if mode is not ClusterMode.STANDALONE]
    priorities = [priority for _mode, priority in group]
    masters = [priority for mode, priority in group if mode is ClusterMode.MASTER]
    assert is_fine is (
        len(set(priorities)) == len(priorities)
        and len(masters) <= 1
        and all(priority == max(priorities) for priority in masters)
        and (bool(group) or len(chosen) == 1)
    )


def test_a_problem_is_said_in_whole_sentences() -> None:
    """With the value, what it is at odds with, and what to do."""
    same = found(node_with(vrrp_priority=NODE_A.vrrp_priority, cluster_mode=ClusterMode.SLAVE))
    assert same["nodes.1.vrrp_priority"] == (
        "node-b has the same vrrp_priority 150 as node-a; give each node its own."
    )
    six = pair(vips=(VIP, VipSpec(address="2001:db8::64", virtual_router_id=52)))
    six = six.model_copy(update={"inet_protocols": InetProtocols.IPV4})
    assert found(six)["inet_protocols"] == (
        'The cluster has an IPv6 address; set inet_protocols to "all".'
    )
    assert found(route_with(username="u" * 513))["routes.0.username"] == (
        "username is longer than 512 characters."
    )
    assert found(pair(name="Relay;"))["name"] == (
        '"Relay;" is not a name of plain letters and digits.'
    )
