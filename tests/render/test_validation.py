"""Validation: each bad value gets one sentence at its own field, and a good spec gets none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import SecretStr

from controlplane.core.spec import (
    ClusterMode,
    ClusterSpec,
    InetProtocols,
    QueueSpec,
    RecipientDomain,
    SenderAction,
    SenderPolicy,
    SenderRoute,
    TlsMode,
    TlsSpec,
    VipSpec,
    VrrpSpec,
)
from controlplane.core.validation import validate
from nodeagent.core.contract import Timings
from tests.render.specs import (
    NODE_A,
    NODE_B,
    NODE_C,
    SECOND_VIP,
    VIP,
    certificate,
    certificate_pem,
    key_pem,
    new_key,
    pair,
    rich,
)


def found(spec: ClusterSpec) -> dict[str, str]:
    """Return the problems by field; each field appears once."""
    problems = validate(spec)
    assert len({problem.field for problem in problems}) == len(problems)
    return dict(problems)


def node_change(**changes: Any) -> ClusterSpec:
    """Return the pair with the first node changed."""
    return pair(nodes=(NODE_A.model_copy(update=changes), NODE_B))


def vip_change(**changes: Any) -> ClusterSpec:
    """Return the pair with its VIP changed."""
    return pair(vips=(VIP.model_copy(update=changes),))


@pytest.mark.parametrize("spec", [ClusterSpec(), pair(), rich()], ids=["empty", "pair", "rich"])
def test_good_spec_has_no_problem(spec: ClusterSpec) -> None:
    """An empty, a plain and a rich cluster are fine."""
    assert validate(spec) == ()


def test_three_nodes_and_two_vips_are_fine() -> None:
    """Nodes and VIPs are lists."""
    assert found(pair(nodes=(NODE_A, NODE_B, NODE_C), vips=(VIP, SECOND_VIP))) == {}


@pytest.mark.parametrize(
    ("changes", "field", "part"),
    [
        ({"name": "Node A"}, "name", "not a node name"),
        ({"name": "node-b"}, "name", None),
        ({"address": "198.51.100.300"}, "address", "not an IP address"),
        ({"address": "node-a"}, "address", "not an IP address"),
        ({"prefix_len": 40}, "prefix_len", "not between 8 and 32"),
        ({"interface": "eth0; reboot"}, "interface", "not an interface name"),
        ({"interface": "e" * 16}, "interface", "not an interface name"),
        ({"vrrp_priority": 0}, "vrrp_priority", "not between 1 and 254"),
        ({"vrrp_priority": 255}, "vrrp_priority", "not between 1 and 254"),
        ({"vrrp_priority": 100}, "vrrp_priority", None),
        ({"vrrp_priority": 50}, "vrrp_priority", "must be the highest"),
        ({"ssh_user": "root -oX"}, "ssh_user", "not a user name"),
        ({"ssh_port": 70000}, "ssh_port", "70000 is not between 1 and 65535"),
        ({"hostname": "node_a.example"}, "hostname", "not a valid domain name"),
    ],
)
def test_bad_node_field_gets_its_sentence(
    changes: Mapping[str, Any], field: str, part: str | None
) -> None:
    """A bad value of one node is named at that node's field."""
    problems = found(node_change(**changes))
    if part is None:  # a double: whichever comes second is at fault
        assert f"nodes.1.{field}" in problems
    else:
        assert part in problems[f"nodes.0.{field}"]


def test_two_nodes_with_one_address_are_refused() -> None:
    """The second user of an address is told who has it already."""
    problems = found(node_change(address=NODE_B.address))
    assert problems == {"nodes.1.address": "198.51.100.12 is already used by nodes.0.address."}


def test_two_masters_are_refused() -> None:
    """There is one master at most."""
    second = NODE_B.model_copy(update={"cluster_mode": ClusterMode.MASTER})
    assert "node-a is already" in found(pair(nodes=(NODE_A, second)))["nodes.1.cluster_mode"]


def test_two_standalone_nodes_cannot_share_a_vip() -> None:
    """Without VRRP peers both would hold the address at once."""
    nodes = tuple(
        node.model_copy(update={"cluster_mode": ClusterMode.STANDALONE})
        for node in (NODE_A, NODE_B)
    )
    assert "standalone" in found(pair(nodes=nodes))["nodes.1.cluster_mode"]
    assert found(pair(nodes=nodes, vips=())) == {}
    assert found(pair(nodes=nodes[:1])) == {}


@pytest.mark.parametrize(
    ("changes", "field", "part"),
    [
        ({"address": "203.0.113.5"}, "address", "outside the network 198.51.100.0/24 of node-a"),
        ({"address": "198.51.100.11"}, "address", "already used by nodes.0.address"),
        ({"address": "198.51.100.0"}, "address", "no host address"),
        ({"address": "198.51.100.255"}, "address", "no host address"),
        ({"address": "2001:db8::1"}, "address", "is IPv6, but node-a has an IPv4"),
        ({"address": "vip"}, "address", "not an IP address"),
        ({"virtual_router_id": 0}, "virtual_router_id", "not between 1 and 255"),
        ({"virtual_router_id": 256}, "virtual_router_id", "not between 1 and 255"),
        ({"prefix_len": 3}, "prefix_len", "not between 8 and 32"),
        ({"interface": "eth 1"}, "interface", "not an interface name"),
    ],
)
def test_bad_vip_field_gets_its_sentence(changes: Mapping[str, Any], field: str, part: str) -> None:
    """A bad value of a VIP is named at the VIP's field."""
    assert part in found(vip_change(**changes))[f"vips.0.{field}"]


def test_vip_of_another_network_needs_an_interface_of_its_own() -> None:
    """An address outside the nodes' network is fine where another interface leads to it."""
    assert found(vip_change(address="203.0.113.5", interface="eth1", prefix_len=24)) == {}
    assert found(vip_change(address="203.0.113.5", interface="eth0")) != {}


def test_wider_network_of_the_nodes_takes_a_farther_vip() -> None:
    """The node's prefix length says how far its network reaches."""
    nodes = tuple(node.model_copy(update={"prefix_len": 16}) for node in (NODE_A, NODE_B))
    vips = (VipSpec(address="198.51.7.7", virtual_router_id=1),)
    assert found(pair(nodes=nodes, vips=vips)) == {}


def test_doubled_vips_and_router_ids_are_refused() -> None:
    """Two VIPs with one address or one router id would fight."""
    problems = found(pair(vips=(VIP, VIP)))
    assert set(problems) == {"vips.1.address", "vips.1.virtual_router_id"}


@pytest.mark.parametrize("advert_int_s", [0, 0.001, 0.125, 41, float("nan"), float("inf")])
def test_advert_interval_that_vrrp_cannot_carry_is_refused(advert_int_s: float) -> None:
    """VRRPv3 has 12 bits of centiseconds."""
    assert "vrrp.advert_int_s" in found(pair(vrrp=VrrpSpec(advert_int_s=advert_int_s)))


@pytest.mark.parametrize("advert_int_s", [0.01, 0.07, 0.1, 0.29, 1, 1.15, 40.95])
def test_advert_interval_in_centiseconds_is_fine(advert_int_s: float) -> None:
    """Binary fractions do not get in the way of decimal ones."""
    assert found(pair(vrrp=VrrpSpec(advert_int_s=advert_int_s))) == {}


def test_timings_that_do_not_fit_are_refused_at_their_field() -> None:
    """The lease's own rule is part of the validation."""
    problems = found(pair(timings=Timings(lease_duration_s=5, lease_renew_deadline_s=10)))
    assert "must be smaller" in problems["timings.lease_renew_deadline_s"]


@pytest.mark.parametrize("break_", ["\n", "\r", "\x00", "\x0b", "\x85", "\u2028", "\x1b", "\x7f"])
def test_line_break_is_refused_in_every_text(break_: str) -> None:
    """A control character is refused wherever a text can stand."""
    bad = f"x{break_}y"
    node = NODE_A.model_copy(
        update=dict.fromkeys(("name", "address", "interface", "ssh_user", "hostname"), bad)
    )
    spec = ClusterSpec(
        name=bad,
        domain=bad,
        nodes=(node,),
        vips=(VipSpec(address=bad, virtual_router_id=1, interface=bad),),
        recipient_domains=(RecipientDomain(name=bad, next_hop=bad),),
        sender_policies=(SenderPolicy(domain=bad, action=SenderAction.BLOCKED, reply_text=bad),),
        sender_default_reply_text=bad,
        routes=(SenderRoute(sender=bad, next_hop=bad, username=bad, password=SecretStr(bad)),),
        trusted_networks=(bad,),
        postmaster=bad,
    )
    problems = found(spec)
    assert set(problems) == {
        *("name", "domain", "sender_default_reply_text", "postmaster", "trusted_networks.0"),
        *(f"nodes.0.{name}" for name in ("name", "address", "interface", "ssh_user", "hostname")),
        *("vips.0.address", "vips.0.interface"),
        *("recipient_domains.0.name", "recipient_domains.0.next_hop"),
        *("sender_policies.0.domain", "sender_policies.0.reply_text"),
        *(f"routes.0.{name}" for name in ("sender", "next_hop", "username", "password")),
    }
    for sentence in problems.values():
        assert "must not contain line breaks or control characters" in sentence
        assert break_ not in sentence


@pytest.mark.parametrize(
    ("changes", "field", "part"),
    [
        ({"name": "a b.com"}, "name", "contains a space"),
        ({"name": "example.com", "port": 70000}, "port", "70000 is not between 1 and 65535"),
        ({"name": "example.com", "port": 2525}, "port", "needs a next_hop"),
        ({"name": "node-a.relay.internal"}, "name", "host name of a node"),
        ({"name": "e.com", "next_hop": "198.51.100.100"}, "next_hop", "round in circles"),
        ({"name": "e.com", "next_hop": "198.51.100.12"}, "next_hop", "round in circles"),
        ({"name": "e.com", "next_hop": "[node-b.relay.internal]"}, "next_hop", "circles"),
        ({"name": "e.com", "next_hop": "127.0.0.1"}, "next_hop", "circles"),
        ({"name": "e.com", "next_hop": "localhost"}, "next_hop", "circles"),
        ({"name": "e.com", "next_hop": "0.0.0.0", "port": 2525}, "next_hop", "not the address"),
        ({"name": "e.com", "next_hop": "a b"}, "next_hop", "not a host name"),
        (
            {"name": "e.com", "next_hop": "198.51.100.20", "tls_mode": TlsMode.VERIFY},
            "next_hop",
            "tls_mode verify",
        ),
    ],
)
def test_bad_recipient_domain_gets_its_sentence(
    changes: Mapping[str, Any], field: str, part: str
) -> None:
    """A bad value of a recipient domain is named at its field."""
    spec = pair(recipient_domains=(RecipientDomain(**changes),))
    assert part in found(spec)[f"recipient_domains.0.{field}"]


def test_one_domain_in_two_spellings_is_a_double() -> None:
    """Capitals and A-labels do not hide a double."""
    names = ("bücher.example", "XN--Bcher-kva.example")
    spec = pair(recipient_domains=tuple(RecipientDomain(name=name) for name in names))
    assert "already used by recipient_domains.0.name" in found(spec)["recipient_domains.1.name"]


def test_local_content_filter_is_a_fine_next_hop() -> None:
    """Only port 25 of the loopback address is the relay itself."""
    domain = RecipientDomain(name="example.com", next_hop="127.0.0.1", port=10025)
    assert found(pair(recipient_domains=(domain,))) == {}


@pytest.mark.parametrize("text", ["ümlaut", " leading", "trailing ", "x" * 401, "tab\there"])
def test_reply_that_smtp_cannot_carry_is_refused(text: str) -> None:
    """A reply text is one short line of ASCII."""
    policy = SenderPolicy(domain="example.com", action=SenderAction.BLOCKED, reply_text=text)
    problems = found(pair(sender_policies=(policy,), sender_default_reply_text=text))
    assert set(problems) == {"sender_policies.0.reply_text", "sender_default_reply_text"}


def test_sender_with_two_policies_is_refused() -> None:
    """Allowed and blocked at once means nothing."""
    policies = tuple(SenderPolicy(domain="example.com", action=action) for action in SenderAction)
    assert set(found(pair(sender_policies=policies))) == {"sender_policies.1.domain"}


def route_problems(**changes: Any) -> dict[str, str]:
    """Return the problems of one route, by its own field names."""
    route = SenderRoute(**{"sender": "@e.com", "next_hop": "smtp.example", **changes})
    return {
        field.removeprefix("routes.0."): sentence
        for field, sentence in found(pair(routes=(route,))).items()
    }


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"sender": "example.com"}, "sender"),
        ({"next_hop": ""}, "next_hop"),
        ({"port": 0}, "port"),
        ({"next_hop": "198.51.100.20", "tls_mode": TlsMode.VERIFY}, "next_hop"),
        ({"next_hop": "198.51.100.100"}, "next_hop"),
        ({"username": "u"}, "password"),
        ({"password": "p"}, "username"),
        ({"username": "a:b", "password": "p"}, "username"),
        ({"username": " a", "password": "p"}, "username"),
        ({"username": "a", "password": "p "}, "password"),
        ({"username": "a", "password": "x" * 513}, "password"),
    ],
)
def test_bad_route_field_is_named(changes: Mapping[str, Any], field: str) -> None:
    """A bad value of a route, or credentials that the map cannot hold, are named."""
    assert set(route_problems(**changes)) == {field}


def test_password_never_appears_in_a_sentence() -> None:
    """Sentences go to logs and screens."""
    problems = route_problems(username="secret:user", password=" s3cr3t\n")
    assert problems
    assert "s3cr3t" not in " ".join(problems.values())


def test_odd_but_harmless_credentials_are_fine() -> None:
    """Colons, quotes, hashes, dollars and umlauts in a password need no escape."""
    assert route_problems(username="u@x", password="a:b #c\"d'e$f{g}\\üß") == {}


@pytest.mark.parametrize(
    "networks", [("0.0.0.0/0",), ("198.51.100.7/24",), ("10.0.0.0/8", "10.0.0.0/8")]
)
def test_bad_trusted_networks_are_refused(networks: tuple[str, ...]) -> None:
    """An open relay, host bits and doubles are refused at their place in the list."""
    field = f"trusted_networks.{len(networks) - 1}"
    assert set(found(pair(trusted_networks=networks))) == {field}


def queue_problems(**changes: int) -> dict[str, str]:
    """Return the problems of queue times, by their own names."""
    problems = found(pair(queue=QueueSpec(**changes)))
    return {field.removeprefix("queue."): sentence for field, sentence in problems.items()}


@pytest.mark.parametrize(
    ("changes", "field", "sentence"),
    [
        (
            {"minimal_backoff_s": 5000},
            "minimal_backoff_s",
            "minimal_backoff_s 5000 is greater than maximal_backoff_s 4000.",
        ),
        (
            {"queue_run_delay_s": 301},
            "queue_run_delay_s",
            (
                "queue_run_delay_s 301 is greater than minimal_backoff_s 300, "
                "so mail would be tried later than asked for."
            ),
        ),
        (
            {"maximal_queue_lifetime_s": 3600, "bounce_queue_lifetime_s": 3600},
            "maximal_backoff_s",
            "maximal_backoff_s 4000 is greater than maximal_queue_lifetime_s 3600.",
        ),
        (
            {"bounce_queue_lifetime_s": 432_001},
            "bounce_queue_lifetime_s",
            (
                "bounce_queue_lifetime_s 432001 is greater than maximal_queue_lifetime_s 432000, "
                "which Postfix would use instead."
            ),
        ),
        (
            {"maximal_queue_lifetime_s": -1},
            "maximal_queue_lifetime_s",
            "maximal_queue_lifetime_s -1 is not between 0 and 8640000.",
        ),
        (
            {"maximal_queue_lifetime_s": 8_640_001},
            "maximal_queue_lifetime_s",
            "maximal_queue_lifetime_s 8640001 is not between 0 and 8640000.",
        ),
        (
            {"minimal_backoff_s": 0, "queue_run_delay_s": 0},
            "minimal_backoff_s",
            "minimal_backoff_s 0 is not between 1 and 2147483647.",
        ),
        (
            {"queue_run_delay_s": 0},
            "queue_run_delay_s",
            "queue_run_delay_s 0 is not between 1 and 2147483647.",
        ),
    ],
)
def test_queue_times_get_one_sentence_each(
    changes: dict[str, int], field: str, sentence: str
) -> None:
    """What Postfix does not start with, and what does not fit together."""
    assert queue_problems(**changes)[field] == sentence


LOWEST_QUEUE_TIMES = QueueSpec(
    maximal_queue_lifetime_s=1,
    bounce_queue_lifetime_s=0,
    minimal_backoff_s=1,
    maximal_backoff_s=1,
    queue_run_delay_s=1,
)


@pytest.mark.parametrize(
    "queue",
    [
        LOWEST_QUEUE_TIMES,
        QueueSpec(maximal_queue_lifetime_s=0, bounce_queue_lifetime_s=0),
        QueueSpec(maximal_queue_lifetime_s=8_640_000, bounce_queue_lifetime_s=8_640_000),
        QueueSpec(
            maximal_queue_lifetime_s=8_640_000,
            minimal_backoff_s=8_640_000,
            maximal_backoff_s=8_640_000,
            queue_run_delay_s=8_640_000,
        ),
    ],
)
def test_every_queue_time_that_postfix_takes_is_fine(queue: QueueSpec) -> None:
    """From a second to a hundred days; a lifetime of 0 tries each message once."""
    assert found(pair(queue=queue)) == {}


@pytest.mark.parametrize("size", [0, -1, 65_535, 2_147_483_648])
def test_message_size_out_of_range_is_refused(size: int) -> None:
    """Zero, which Postfix takes for no limit, is refused too."""
    assert set(found(pair(message_size_limit_bytes=size))) == {"message_size_limit_bytes"}


@pytest.mark.parametrize("postmaster", ["ops", "@example.com", "root@node-a.relay.internal"])
def test_postmaster_that_reads_no_mail_is_refused(postmaster: str) -> None:
    """A postmaster is a full address outside the cluster."""
    assert set(found(pair(postmaster=postmaster))) == {"postmaster"}


def test_ipv6_needs_both_protocols() -> None:
    """IPv4 alone cannot reach an IPv6 next hop."""
    domain = RecipientDomain(name="example.com", next_hop="2001:db8::1")
    spec = pair(recipient_domains=(domain,), inet_protocols=InetProtocols.IPV4)
    assert set(found(spec)) == {"inet_protocols"}


def test_broken_certificates_are_refused_at_their_half() -> None:
    """Not PEM, an encrypted key and a key of another certificate are told apart."""
    key = new_key()
    good = certificate()
    assert set(found(pair(tls=TlsSpec(cert_pem="x", key_pem=good.key_pem)))) == {"tls.cert_pem"}
    broken = {
        "not valid PEM": "x",
        "encrypted": key_pem(key, b"passphrase"),
        "does not belong": key_pem(new_key()),
    }
    for part, text in broken.items():
        problems = found(pair(tls=TlsSpec(cert_pem=certificate_pem(key), key_pem=text)))
        assert part in problems["tls.key_pem"]


def test_several_problems_are_all_told() -> None:
    """One bad field does not hide another."""
    node = NODE_A.model_copy(update={"address": "x", "ssh_port": 0})
    policy = SenderPolicy(domain="a b", action=SenderAction.BLOCKED)
    problems = found(pair(nodes=(node, NODE_B), sender_policies=(policy,)))
    assert set(problems) == {"nodes.0.address", "nodes.0.ssh_port", "sender_policies.0.domain"}


@pytest.mark.parametrize(
    ("changes", "field", "sentence"),
    [
        (
            {"push_interval_s": 1e300},
            "push_interval_s",
            "push_interval_s 1e+300 is not between 0 and 86400.",
        ),
        ({"promise_s": 86_401}, "promise_s", "promise_s 86401.0 is not between 0 and 86400."),
        (
            {"retired_keep_days": 10**30},
            "retired_keep_days",
            f"retired_keep_days {10**30} is not between 1 and 36500.",
        ),
    ],
)
def test_timings_without_an_end_are_refused(
    changes: dict[str, Any], field: str, sentence: str
) -> None:
    """Infinity, which JSON does not have, is refused where it comes in; the rest here."""
    assert found(pair(timings=Timings(**changes)))[f"timings.{field}"] == sentence
