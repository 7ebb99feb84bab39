"""Names and addresses: what is understood, in which form it is kept, and what is refused why."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.core.names import (
    BadValue,
    parse_domain,
    parse_domain_pattern,
    parse_host_address,
    parse_network,
    parse_next_hop,
    parse_sender,
)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("example.com", "example.com"),
        ("EXAMPLE.Com", "example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("1und1.de", "1und1.de"),
        ("a.b.c.d.e.example", "a.b.c.d.e.example"),
        ("例え.テスト", "xn--r8jz45g.xn--zckzah"),
    ],
)
def test_domain_is_kept_as_lower_case_a_labels(text: str, kept: str) -> None:
    """A domain is kept in one form, however it was typed."""
    assert parse_domain(text) == kept


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is empty"),
        ("a b.com", "space"),
        ("a\u00a0b.com", "space"),
        ("user@example.com", "@"),
        ("localhost", "no dot"),
        ("-a.example", "not a valid"),
        ("a-.example", "not a valid"),
        ("a..example", "not a valid"),
        ("example.com.", "not a valid"),
        ("under_score.example", "not a valid"),
        ("xn--zzzzzz.example", "not a valid"),
        ("a" * 64 + ".example", "not a valid"),
        (".".join(["abcdefghi"] * 26), "not a valid"),
        ("198.51.100.1", "not a valid"),
        ("example.com#x", "not a valid"),
        ("$mydomain.example", "not a valid"),
        ("a\n.example", "space"),
    ],
)
def test_bad_domain_is_refused_with_its_reason(text: str, reason: str) -> None:
    """What is no domain is refused, and the sentence says why."""
    with pytest.raises(BadValue, match=reason):
        parse_domain(text)


@given(st.text())
def test_domain_parser_gives_plain_ascii_or_refuses(text: str) -> None:
    """No text makes the parser fail otherwise, or give anything but letters, digits, . and -."""
    try:
        parsed = parse_domain(text)
    except BadValue:
        return
    assert set(parsed) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-")
    assert parse_domain(parsed) == parsed


def test_leading_dot_stands_for_subdomains() -> None:
    """A pattern may start with one dot, and only one."""
    assert parse_domain_pattern(".Example.com") == ".example.com"
    with pytest.raises(BadValue):
        parse_domain_pattern("..example.com")


def test_sender_is_a_domain_or_an_address_in_lower_case() -> None:
    """Postfix folds lookup keys, so senders are kept folded."""
    assert parse_sender("@Example.com") == "@example.com"
    assert parse_sender("First.Last+tag@Example.COM") == "first.last+tag@example.com"


@pytest.mark.parametrize(
    "text",
    [
        "example.com",
        "#a@example.com",
        "a b@example.com",
        '"a"@example.com',
        "a..b@example.com",
        "ü@example.com",
        "a@localhost",
        "x" * 65 + "@example.com",
        "@",
        "",
    ],
)
def test_sender_that_would_break_a_table_is_refused(text: str) -> None:
    """A key that postmap(1) would read as a comment, as two words or not at all is refused."""
    with pytest.raises(BadValue):
        parse_sender(text)


@pytest.mark.parametrize(
    ("text", "host", "is_address"),
    [
        ("smtp.example.com", "smtp.example.com", False),
        ("[SMTP.example.com]", "smtp.example.com", False),
        ("mailstore", "mailstore", False),
        ("198.51.100.20", "198.51.100.20", True),
        ("[198.51.100.20]", "198.51.100.20", True),
        ("2001:DB8:0::25", "2001:db8::25", True),
        ("[IPv6:2001:db8::25]", "2001:db8::25", True),
    ],
)
def test_next_hop_may_have_brackets(text: str, host: str, is_address: bool) -> None:
    """Brackets change nothing: a next hop is a host, never a domain whose MX is asked for."""
    hop = parse_next_hop(text)
    assert (hop.host, hop.is_address) == (host, is_address)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "a b",
        "host:25",
        "smtp.example.com:25",
        "1.2.3",
        "999.1.1.1",
        "[a",
        "a]",
        "a,b",
        "$x",
        "host;reboot",
        "fe80::1%eth0",
        "x" * 64,
    ],
)
def test_bad_next_hop_is_refused(text: str) -> None:
    """What is neither a host name nor an address is refused."""
    with pytest.raises(BadValue):
        parse_next_hop(text)


@pytest.mark.parametrize(
    "text",
    [
        "0.0.0.0",
        "127.0.0.1",
        "::1",
        "::",
        "224.0.0.18",
        "169.254.1.1",
        "fe80::1",
        "255.255.255.255",
        "198.51.100.256",
        "198.51.100.1/24",
        "010.0.0.1",
        "::ffff:198.51.100.1",
        "host",
        "",
        "\u0661.1.1.1",
    ],
)
def test_address_that_no_host_has_is_refused(text: str) -> None:
    """A node's or VIP's address is one that others can reach."""
    with pytest.raises(BadValue):
        parse_host_address(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0.0.0.0/0", "open relay"),
        ("128.0.0.0/1", "open relay"),
        ("::/0", "open relay"),
        ("198.51.100.7/24", "network is 198.51.100.0/24"),
        ("198.51.100.0/33", "not a network"),
        ("example.com", "not a network"),
        ("198.51.100.0 /24", "not a network"),
    ],
)
def test_bad_trusted_network_is_refused_with_its_reason(text: str, reason: str) -> None:
    """A network that is none, or would open the relay to half the world, is refused."""
    with pytest.raises(BadValue, match=reason):
        parse_network(text)


def test_single_address_is_a_network() -> None:
    """One trusted host needs no prefix length."""
    assert str(parse_network("198.51.100.7")) == "198.51.100.7/32"
    assert str(parse_network("2001:db8::/32")) == "2001:db8::/32"
