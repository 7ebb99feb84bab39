"""Who shares which VIP: priorities that never tie, networks, and the names of hosts."""

from __future__ import annotations

import pytest

from controlplane.core.findings import SHOWN_CHARACTERS, Findings, Problem, quoted
from controlplane.core.names import BadValue, parse_domain, parse_host_address
from controlplane.core.spec import ClusterMode, NodeSpec, RecipientDomain, SenderRoute
from controlplane.core.topology import (
    has_ipv6,
    hostname_of,
    network_of,
    vip_priority,
    vrrp_group,
)
from tests.render.specs import NODE_A, NODE_B, NODE_C, pair

TRIO = pair(nodes=(NODE_C, NODE_A, NODE_B))


def alone(node: NodeSpec) -> NodeSpec:
    """Return the node as a standalone one."""
    return node.model_copy(update={"cluster_mode": ClusterMode.STANDALONE})


def test_the_group_stands_by_priority_however_it_is_listed() -> None:
    """Every node draws the same order from the same spec."""
    group = vrrp_group(TRIO)
    priorities = [node.vrrp_priority for node in group]
    assert priorities == sorted(priorities, reverse=True)
    assert vrrp_group(pair(nodes=tuple(reversed(TRIO.nodes)))) == group


def test_a_standalone_node_shares_nothing_unless_it_is_the_only_one() -> None:
    """Beside a pair it answers for itself; alone it is the whole group."""
    assert vrrp_group(pair(nodes=(NODE_A, NODE_B, alone(NODE_C)))) == vrrp_group(pair())
    assert vrrp_group(pair(nodes=(alone(NODE_A),))) == (alone(NODE_A),)
    assert vrrp_group(pair(nodes=(alone(NODE_A), alone(NODE_B)))) == ()
    assert vrrp_group(pair(nodes=())) == ()


@pytest.mark.parametrize("vip_index", range(7))
def test_no_two_nodes_want_a_vip_equally(vip_index: int) -> None:
    """The priorities of one VIP are those of the group, each once."""
    group = vrrp_group(TRIO)
    wanted = [vip_priority(group, node, vip_index) for node in group]
    assert sorted(wanted, reverse=True) == [node.vrrp_priority for node in group]


def test_the_vips_prefer_one_node_after_the_other() -> None:
    """Two VIPs on two nodes give two active hosts; a fourth on three begins again."""
    group = vrrp_group(TRIO)
    preferred = [
        max(group, key=lambda node, at=index: vip_priority(group, node, at)) for index in range(6)
    ]
    assert preferred == [*group, *group]


@pytest.mark.parametrize(
    ("address", "prefix_len", "network"),
    [
        ("198.51.100.11", None, "198.51.100.0/24"),
        ("198.51.100.11", 16, "198.51.0.0/16"),
        ("198.51.100.11", 32, "198.51.100.11/32"),
        ("2001:db8::11", None, "2001:db8::/64"),
        ("2001:db8::11", 48, "2001:db8::/48"),
    ],
)
def test_a_network_is_drawn_from_the_address(
    address: str, prefix_len: int | None, network: str
) -> None:
    """Without a prefix length a network is as wide as is usual."""
    node = NODE_A.model_copy(update={"address": address, "prefix_len": prefix_len})
    assert str(network_of(node)) == network


def test_a_host_is_named_in_the_clusters_domain_unless_it_has_a_name() -> None:
    """Postfix's myhostname, in lower case; a name that is none is refused."""
    assert hostname_of(pair(), NODE_A) == "node-a.relay.internal"
    named = NODE_A.model_copy(update={"hostname": "MX1.Example.com"})
    assert hostname_of(pair(), named) == "mx1.example.com"
    with pytest.raises(BadValue):
        hostname_of(pair(), NODE_A.model_copy(update={"hostname": "no domain"}))


@pytest.mark.parametrize(
    ("next_hop", "is_one"),
    [
        ("2001:db8::1", True),
        ("[IPv6:2001:db8::1]", True),
        ("198.51.100.20", False),
        ("smtp.example", False),
        ("smtp.example:25", False),
        (":::", False),
    ],
)
def test_ipv6_is_an_address_with_colons_and_nothing_else(next_hop: str, is_one: bool) -> None:
    """A port in the wrong place is a mistake of its own, not an address."""
    domain = RecipientDomain(name="example.com", next_hop=next_hop)
    route = SenderRoute(sender="@example.com", next_hop=next_hop)
    assert has_ipv6(pair(recipient_domains=(domain,))) is is_one
    assert has_ipv6(pair(routes=(route,))) is is_one
    assert not has_ipv6(pair(recipient_domains=(RecipientDomain(name="example.com"),)))


def test_ipv6_of_a_node_or_a_vip_counts() -> None:
    """Wherever it stands, IPv4 alone cannot reach it."""
    (vip,) = pair().vips
    sixth = {"address": "2001:db8::11"}
    assert not has_ipv6(pair())
    assert has_ipv6(pair(nodes=(NODE_A, NODE_B.model_copy(update=sixth))))
    assert has_ipv6(pair(vips=(vip.model_copy(update=sixth),)))


def test_the_first_sentence_on_a_field_stands() -> None:
    """A value that cannot be read at all is not told to be out of range as well."""
    findings = Findings()
    findings.add("b", "One.")
    findings.add("a", "Two.")
    findings.add("b", "Three.")
    assert findings.problems() == (Problem("b", "One."), Problem("a", "Two."))


def test_a_range_has_both_its_ends() -> None:
    """And no number that is none."""
    for value, is_in in [(0, False), (1, True), (5, True), (6, False), (float("nan"), False)]:
        findings = Findings()
        assert findings.in_range("nodes.0.port", value, 1, 5) is is_in
        said = () if is_in else (Problem("nodes.0.port", f"port {value} is not between 1 and 5."),)
        assert findings.problems() == said


def test_a_double_names_its_first_user() -> None:
    """The first keeps it, each later one is told."""
    findings, seen = Findings(), dict[str, str]()
    assert [findings.unique(field, "x", seen) for field in ("a", "b", "c")] == [True, False, False]
    assert findings.problems() == (
        Problem("b", "x is already used by a."),
        Problem("c", "x is already used by a."),
    )


@pytest.mark.parametrize(
    ("field", "sentence"),
    [
        ("nodes.0.name", "name must not contain line breaks or control characters."),
        (
            "trusted_networks.3",
            "trusted_networks.3 must not contain line breaks or control characters.",
        ),
    ],
)
def test_a_text_that_could_end_its_line_is_not_shown(field: str, sentence: str) -> None:
    """The field is named, in a list by its place; the value is not repeated, nor parsed."""
    findings = Findings()
    assert findings.parsed(field, "a\nb", parse_domain) is None
    assert findings.problems() == (Problem(field, sentence),)


def test_what_is_read_is_returned_and_what_is_not_is_quoted() -> None:
    """The sentence begins with the value as it was typed."""
    findings = Findings()
    assert findings.parsed("domain", "Example.COM", parse_domain) == "example.com"
    assert findings.parsed("address", "host", parse_host_address) is None
    assert findings.problems() == (Problem("address", '"host" is not an IP address.'),)


def test_a_long_value_is_shown_short() -> None:
    """A page is not made of somebody's pasted file."""
    longest = "x" * SHOWN_CHARACTERS
    assert quoted(longest) == f'"{longest}"'
    assert quoted(longest + "x") == f'"{longest[:-3]}..."'
