"""No value can add a line, a word or a comment to a file, whether validation saw it or not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jinja2 import UndefinedError
from pydantic import SecretStr

from controlplane.core import render as render_module
from controlplane.core.names import BadValue
from controlplane.core.render import UnsafeValue, render
from controlplane.core.spec import (
    ClusterSpec,
    NodeSpec,
    RecipientDomain,
    SenderAction,
    SenderPolicy,
    SenderRoute,
    VipSpec,
)
from controlplane.core.validation import validate
from nodeagent.core.contract import ConfigFile
from tests.render.specs import NODE_A, NODE_B, VIP, by_path, pair

NASTY = st.text(
    alphabet=st.sampled_from("ab.@-:/[]\n\r\t\x00\x85\u2028 #$%{}'\"\\;!&=,()<>üµ0127"), max_size=20
)
PLAUSIBLE = st.sampled_from(
    [
        "example.com",
        "@example.com",
        "a@example.com",
        "198.51.100.77",
        "2001:db8::7",
        "eth0",
        "node-a",
    ]
)
VALUE = st.one_of(NASTY, PLAUSIBLE, st.tuples(PLAUSIBLE, NASTY).map("".join), st.text(max_size=20))

PLAIN = pair(
    recipient_domains=(RecipientDomain(name="d.example", next_hop="198.51.100.20"),),
    sender_policies=(
        SenderPolicy(domain="p.example", action=SenderAction.BLOCKED, reply_text="reply"),
    ),
    sender_default=SenderAction.BLOCKED,
    sender_default_reply_text="default",
    routes=(SenderRoute(sender="@r.example", next_hop="smtp.example", username="u", password="p"),),
    trusted_networks=("198.51.100.0/24",),
    postmaster="ops@example.net",
)


@st.composite
def twisted(draw: st.DrawFn) -> ClusterSpec:
    """Draw the plain spec with nasty text in one to three of its fields."""
    places: dict[str, dict[str, Any]] = {}
    fields = [
        *(("top", name) for name in ("name", "domain", "sender_default_reply_text", "postmaster")),
        *(("nodes", name) for name in ("name", "address", "interface", "hostname", "ssh_user")),
        *(("vips", name) for name in ("address", "interface")),
        *(("recipient_domains", name) for name in ("name", "next_hop")),
        *(("sender_policies", name) for name in ("domain", "reply_text")),
        *(("routes", name) for name in ("sender", "next_hop", "username", "password")),
        ("trusted_networks", ""),
    ]
    for part, name in draw(st.lists(st.sampled_from(fields), min_size=1, max_size=3)):
        value: Any = draw(VALUE)
        places.setdefault(part, {})[name] = SecretStr(value) if name == "password" else value
    changes: dict[str, Any] = dict(places.pop("top", {}))
    for part, update in places.items():
        if part == "trusted_networks":
            changes[part] = (update[""],)
        else:
            first, *rest = getattr(PLAIN, part)
            changes[part] = (first.model_copy(update=update), *rest)
    return PLAIN.model_copy(update=changes)


def shape(files: tuple[ConfigFile, ...]) -> dict[str, list[str]]:
    """Return each file's lines reduced to what a value must not change.

    In a table an entry is two fields of which the second may hold spaces, so there it is the number
    of lines and their first characters; elsewhere it is the number of words in every line.
    """
    shapes: dict[str, list[str]] = {}
    for file in files:
        lines = file.content.split("\n")
        is_table = "/relay/" in file.path
        shapes[file.path] = [
            ("comment" if line.startswith("#") else "entry" if line.strip() else "empty")
            if is_table
            else str(len(line.split()))
            for line in lines
        ]
    return shapes


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(twisted())
def test_value_never_adds_a_line_or_word(spec: ClusterSpec) -> None:
    """Whatever stands in a text, the rendered files keep their shape, or nothing is rendered.

    A table of transports may get one more transport, so master.cf may differ when the validation
    accepts the spec; no other file may.
    """
    try:
        files = render(spec, spec.nodes[0].name)
    except (BadValue, UnsafeValue):
        return
    expected, got = shape(render(PLAIN, "node-a")), shape(files)
    got.pop("/etc/postfix/master.cf"), expected.pop("/etc/postfix/master.cf")
    assert got.keys() == expected.keys()
    for path, lines in got.items():
        if path.endswith(("sender_credentials.map", "master.cf")):
            assert len(lines) <= len(expected[path])
        else:
            assert lines == expected[path], path
    for file in files:
        assert all(ord(letter) >= 32 or letter == "\n" for letter in file.content)


@settings(max_examples=150, deadline=None)
@given(twisted())
def test_valid_spec_can_always_be_rendered(spec: ClusterSpec) -> None:
    """What validation accepts, rendering does not refuse."""
    if validate(spec) == ():
        for node in spec.nodes:
            assert render(spec, node.name)


@pytest.mark.parametrize(
    "value",
    [
        "a\nb",
        "a b",
        "a\tb",
        "",
        "$x",
        "a;b",
        "#a",
        "{a}",
        '"a"',
        "a\u2028b",
        "ü",
        "a\\",
        "!a",
        "a%b",
    ],
)
def test_configuration_files_take_single_harmless_words_only(value: str) -> None:
    """The second line of defence stands without the first."""
    with pytest.raises(UnsafeValue):
        render_module._one_word(value)


@pytest.mark.parametrize("value", ["a\nb", "a\rb", " a", "a ", "", "a\x00", "\u2028", "a\x85b"])
def test_tables_take_single_lines_only(value: str) -> None:
    """A table's value may hold spaces, but neither a line break nor spaces at its ends."""
    with pytest.raises(UnsafeValue):
        render_module._one_line(value)


def test_refusal_does_not_repeat_a_secret() -> None:
    """A password that cannot be written does not end up in a log instead."""
    route = SenderRoute(
        sender="@e.com", next_hop="smtp.example", username="u", password="s3cret\nx"
    )
    with pytest.raises(UnsafeValue) as refusal:
        render(pair(routes=(route,)), "node-a")
    assert "s3cret" not in str(refusal.value)


def test_line_break_in_an_unvalidated_interface_is_refused_by_the_rendering() -> None:
    """keepalived.conf gets no second line, even from a spec that nobody validated."""
    node = NodeSpec(name="node-a", address="198.51.100.11", interface="eth0\n}\nevil {")
    with pytest.raises(UnsafeValue):
        render(pair(nodes=(node,)), "node-a")


def test_forgotten_context_value_is_an_error() -> None:
    """A template that names what the context lacks fails instead of printing nothing."""
    environment = render_module._environment(render_module._one_word)
    with pytest.raises(UndefinedError):
        environment.from_string("{{ nothing }}").render()


def test_ampersands_and_quotes_are_not_escaped() -> None:
    """These are no HTML files."""
    policy = SenderPolicy(
        domain="e.com", action=SenderAction.BLOCKED, reply_text="a & b < 'c' \"d\""
    )
    files = by_path(render(pair(sender_policies=(policy,)), "node-a"))
    assert "a & b < 'c' \"d\"" in files["/etc/postfix/relay/sender_policy.map"].content


def test_rendering_is_deterministic() -> None:
    """The same state in another order of its lists gives the same bytes, so no empty version."""
    domains = tuple(RecipientDomain(name=f"d{number}.example") for number in range(20))
    networks = ("10.0.0.0/8", "192.0.2.0/24", "2001:db8::/32")
    one = pair(recipient_domains=domains, trusted_networks=networks)
    other = pair(recipient_domains=domains[::-1], trusted_networks=networks[::-1])
    assert render(one, "node-a") == render(other, "node-a")


def test_unknown_node_is_an_error() -> None:
    """There is nothing to render for a node that is not in the spec."""
    with pytest.raises(KeyError):
        render(pair(), "node-z")


def test_nodes_differ_only_where_they_are_different() -> None:
    """Two nodes of one cluster share every table but the one that holds their own names."""
    one, other = (by_path(render(pair(), name)) for name in ("node-a", "node-b"))
    assert {path for path in one if one[path] != other[path]} == {
        "/etc/keepalived/check_smtp",
        "/etc/keepalived/keepalived.conf",
        "/etc/postfix/main.cf",
        "/etc/postfix/master.cf",
    }


def test_vip_inside_a_wider_network_keeps_the_nodes_prefix() -> None:
    """A VIP without a prefix length of its own gets that of the nodes' network."""
    nodes = tuple(node.model_copy(update={"prefix_len": 16}) for node in (NODE_A, NODE_B))
    vips = (VIP, VipSpec(address="198.51.7.7", virtual_router_id=7, prefix_len=32))
    files = by_path(render(pair(nodes=nodes, vips=vips), "node-a"))
    text = files["/etc/keepalived/keepalived.conf"].content
    assert "198.51.100.100/16 dev eth0" in text
    assert "198.51.7.7/32 dev eth0" in text
