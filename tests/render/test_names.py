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


@pytest.mark.parametrize(
    "text",
    [
        "2001:db8::%eth0/32",
        "2001:db8::%x y/32",
        "fe80::%eth0",
        "::ffff:192.0.2.0/120",
        "::ffff:0.0.0.0/96",
        "::ffff:0:0/96",
    ],
)
def test_a_trusted_network_has_no_zone_and_maps_no_other(text: str) -> None:
    """Postfix takes neither for a pattern; a zone may even hold a space, which ends one."""
    with pytest.raises(BadValue, match="write it plainly"):
        parse_network(text)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("2001::/16", "2001::/16"),
        ("192.0.2.0/255.255.255.0", "192.0.2.0/24"),
        ("2001:DB8:0::/48", "2001:db8::/48"),
        ("198.51.100.7/32", "198.51.100.7/32"),
    ],
)
def test_a_network_is_kept_in_one_form(text: str, kept: str) -> None:
    """As cidr_table(5) has it; the widest that is taken is what one owner can have."""
    assert str(parse_network(text)) == kept


@pytest.mark.parametrize("text", ["10.0.0.0/7", "2000::/15", "\u0661.0.0.0/8", "10.0.0.0/\u0668"])
def test_a_network_that_is_wider_or_in_other_digits_is_refused(text: str) -> None:
    """One bit more is too wide, whatever it is written with."""
    with pytest.raises(BadValue):
        parse_network(text)


IP_LIKE = st.from_regex(r"[0-9a-f.:]{1,12}(%[a-z ]{1,3})?(/[0-9.]{1,4})?", fullmatch=True)


@given(
    st.text()
    | IP_LIKE
    | st.ip_addresses().map(str)
    | st.tuples(st.ip_addresses(v=6), st.text(max_size=4)).map(lambda one: f"{one[0]}%{one[1]}/128")
)
def test_what_is_a_network_is_one_word_that_stays_itself(text: str) -> None:
    """Nothing else reaches a table: digits, colons, dots and one slash."""
    try:
        network = parse_network(text)
    except BadValue:
        return
    assert set(str(network)) <= set("0123456789abcdef.:/")
    assert parse_network(str(network)) == network


@pytest.mark.parametrize("text", ["192.0.2.1", "10.0.0.1", "2001:db8::1", "fd00::1", "4000::1"])
def test_an_address_that_a_host_can_have_is_kept(text: str) -> None:
    """Private ones are most of them; what the IETF may yet give out is not ours to refuse."""
    assert str(parse_host_address(text)) == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("240.0.0.1", "is not an address that a host in a network can be reached at"),
        ("0.0.0.0", "is not an address that a host in a network can be reached at"),
        ("ff02::12", "is not an address that a host in a network can be reached at"),
        ("::ffff:192.0.2.1", "write it plainly"),
        ("2001:db8::1%eth0", "write it plainly"),
        ("host", "is not an IP address"),
        ("\u0661.1.1.1", "is not an IP address"),
    ],
)
def test_a_refused_address_says_why(text: str, reason: str) -> None:
    """What is no address, and what is none for a host, are two mistakes."""
    with pytest.raises(BadValue, match=reason):
        parse_host_address(text)


LABEL = "a" * 63


@pytest.mark.parametrize("end", ["tld", "xn--p1ai"])
def test_a_domain_is_253_characters_long_at_most(end: str) -> None:
    """RFC 1035; with plain labels and with encoded ones."""
    room = 253 - 2 * (len(LABEL) + 1) - len(end) - 1
    longest = f"{LABEL}.{LABEL}.{'b' * 62}.{'c' * (room - 63)}.{end}"
    assert len(longest) == 253
    assert parse_domain(longest) == longest
    with pytest.raises(BadValue, match="is not a valid domain name"):
        parse_domain(longest.replace("c.", "cc."))


@pytest.mark.parametrize(
    "text", ["example.123", "bücher.123", "a.1.2", "bücher.example.", "ü_.tld"]
)
def test_what_another_program_reads_as_an_address_is_no_domain(text: str) -> None:
    """A last label of digits, an end in a dot, an underscore: also where IDNA lets them pass."""
    with pytest.raises(BadValue, match="is not a valid domain name"):
        parse_domain(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is not a host name or IP address"),
        ("[]", "is not a host name or IP address"),
        ("mx a", "is not a host name or IP address"),
        ("[mx.tld]:25", "contains a port; it has a field of its own"),
        ("mx:25", "contains a port; it has a field of its own"),
        ("192.0.2.1:25", "contains a port; it has a field of its own"),
        (":", "contains a port"),
        ("2001:db8::1:", "is not an IP address"),
        ("1.2.3", "is not an IP address"),
        ("[mx.tld", "is not a valid domain name"),
        ("mx.tld]", "is not a valid domain name"),
        ("mx_1", "is not a valid host name"),
        ("-", "is not a valid host name"),
    ],
)
def test_a_refused_next_hop_says_why(text: str, reason: str) -> None:
    """Who writes a port learns that it has a field; brackets are two or none."""
    with pytest.raises(BadValue, match=reason):
        parse_next_hop(text)


@given(st.text(max_size=30) | IP_LIKE)
def test_a_next_hop_is_one_word_that_stays_itself(text: str) -> None:
    """With brackets or without, what was understood once is understood so again."""
    try:
        hop = parse_next_hop(text)
    except BadValue:
        return
    assert not set(hop.host) - set("abcdefghijklmnopqrstuvwxyz0123456789.:-")
    assert parse_next_hop(hop.host) == parse_next_hop(f"[{hop.host}]") == hop


@given(st.text(max_size=30) | st.from_regex(r"([A-Za-z0-9-]{1,8}\.){1,2}Tld", fullmatch=True))
def test_a_pattern_is_a_domain_with_or_without_a_dot(text: str) -> None:
    """A sender's domain and a pattern's are kept in the same form."""
    try:
        domain = parse_domain(text)
    except BadValue:
        return
    assert parse_domain_pattern(text) == domain
    assert parse_domain_pattern(f".{text}") == f".{domain}"
    assert parse_sender(f"@{text}") == f"@{domain}"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("#a@e.tld", 'starts with "#", which makes it a comment in a lookup table'),
        ("e.tld", 'has no @; write "@example.com" for a domain or a full address'),
        ("a b@e.tld", "has a local part that cannot be used in a lookup table"),
        (f"{'x' * 65}@e.tld", "has a local part that cannot be used in a lookup table"),
        ("a@localhost", "is not a full domain name: it has no dot"),
        ("a@localhost.", "is not a full domain name: it has no dot"),
        ("2001:db8::1%\u00e9", "has no @"),
    ],
)
def test_a_refused_sender_says_why(text: str, reason: str) -> None:
    """Each of the mistakes that a table would punish in silence."""
    with pytest.raises(BadValue) as refused:
        parse_sender(text)
    assert reason in str(refused.value)
