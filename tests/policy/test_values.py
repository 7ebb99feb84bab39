"""Values of lists and addresses of strangers: which form they take, and what is refused why."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nodeagent.policy.engine.values import (
    canonical_address,
    canonical_domain,
    domain_of,
    list_value,
    lookup_address,
    lookup_domain,
    plain_ip,
)

HOSTILE = st.text() | st.text(alphabet='a@.*"\\[]:/-_ß\u0130\u3002:%<> \n1f', max_size=30)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("192.0.2.1", "192.0.2.1"),
        (" 192.0.2.1\n", "192.0.2.1"),
        ("192.0.2.1/32", "192.0.2.1"),
        ("192.0.2.0/24", "192.0.2.0/24"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("2001:DB8::/32", "2001:db8::/32"),
        ("2001:db8:0:0::1", "2001:db8::1"),
        ("::1/128", "::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("::/0", "::/0"),
        ("Example.COM", "example.com"),
        ("example.com.", "example.com"),
        ("under_score.example", "under_score.example"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("例え。テスト", "xn--r8jz45g.xn--zckzah"),
        ("*.Example.com", "*.example.com"),
        ("*.bücher.example", "*.xn--bcher-kva.example"),
        ("*.top", "*.top"),
        ("User@Example.com", "user@example.com"),
        ("*@Example.com", "*@example.com"),
        ("ÜBER@bücher.example", "über@xn--bcher-kva.example"),
        ("u\u0308ber@example.com", "über@example.com"),
        ('"john doe"@example.com', '"john doe"@example.com'),
        ('"John"@example.com', "john@example.com"),
        ('"a\\@b"@example.com', '"a@b"@example.com'),
        ("user@[192.0.2.1]", "user@[192.0.2.1]"),
        ("user@[IPv6:2001:DB8::1]", "user@[ipv6:2001:db8::1]"),
        ("user@[::ffff:192.0.2.1]", "user@[192.0.2.1]"),
        ("a..b@example.com", "a..b@example.com"),
        ("root@localhost", "root@localhost"),
    ],
)
def test_value_of_a_list_is_kept_in_one_form(text: str, kept: str) -> None:
    """However a value was typed, its kept form is the same, and is its own kept form."""
    assert list_value(text) == kept
    assert list_value(kept) == kept


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is empty"),
        ("  ", "is empty"),
        ("192.0.2.1/24", "host bits set; the network is 192.0.2.0/24"),
        ("::ffff:192.0.2.1/120", "host bits set; the network is 192.0.2.0/24"),
        ("2001:db8::1/32", "the network is 2001:db8::/32"),
        ("192.0.2.300", "not a valid IP address"),
        ("1.2.3", "not a valid IP address"),
        ("fe80::1%eth0", "zone"),
        ("192.0.2.0/33", "not a valid network"),
        ("192.0.2.0/", "not a network"),
        ("192.0.2.0/255.255.255.0", "not a network"),
        ("192.0.2.0/\u0662\u0664", "not a network"),
        ("http://example.com/", "not a network"),
        ("localhost", "no dot"),
        (".example.com", 'write "[*].example.com"'),
        ("*.", "no domain name"),
        ("*", "not a valid domain"),
        ("*.*", "no valid domain"),
        ("a*.example.com", "not a valid domain"),
        ("a b.example", "space"),
        ("a..example", "not a valid"),
        ("-a.example", "not a valid"),
        ("a" * 64 + ".example", "not a valid"),
        (".".join(["abcdefghi"] * 26), "not a valid"),
        ("xn--zzzzzz.example", "IDNA"),
        ("a\u2488.example", "IDNA"),
        ("example.123", "ends in a number"),
        ("@example.com", 'write "[*]@example.com"'),
        ("user@", "no domain"),
        ("*@", "no domain"),
        ("*@[nowhere]", "no IP address"),
        ("user@[fe80::1%25eth0]", "no IP address"),
        ('"*"@example.com', "all addresses"),
        ("a b@example.com", "quotes"),
        ("<user@example.com>", "quotes"),
        ("user@@example.com", "quotes"),
        ("a\x00b@example.com", "no address can have"),
        ('"a\nb"@example.com', "no address can have"),
        ("a" * 257 + "@example.com", "more than 256 bytes"),
        ("user@" + "b" * 400, "too long"),
        ("a" * 100 + "@" + ".".join(["b" * 60] * 4), "longer than 320"),
    ],
)
def test_what_is_no_value_is_refused_in_one_sentence(text: str, reason: str) -> None:
    """The sentence names the text, shortened, and what is wrong with it, on one line."""
    with pytest.raises(ValueError, match=reason) as raised:
        list_value(text)
    sentence = str(raised.value)
    assert sentence.isprintable()
    assert len(sentence) < 200


@given(HOSTILE)
def test_no_text_breaks_the_strict_readers(text: str) -> None:
    """Each gives a form that is its own form, or ValueError with one printable line."""
    for reader in (list_value, canonical_address, canonical_domain):
        try:
            kept, sentence = reader(text), ""
        except ValueError as error:
            kept, sentence = None, str(error)
        assert sentence.isprintable()
        assert kept is None or reader(kept) == kept


@example("..")
@given(HOSTILE)
def test_no_text_breaks_the_lookup_forms(text: str) -> None:
    """They never raise, and a second pass over a name changes nothing."""
    domain_of(text)
    lookup_address(text)
    assert lookup_domain(lookup_domain(text)) == lookup_domain(text)


@given(HOSTILE)
def test_whatever_the_strict_readers_take_is_looked_up_in_the_same_form(text: str) -> None:
    """An entry and a stranger's spelling of it meet."""
    try:
        kept = canonical_address(text)
    except ValueError:
        return
    assert lookup_address(text) == kept
    assert domain_of(text) == kept.rpartition("@")[2]


@given(st.ip_addresses())
def test_every_ip_address_is_a_value(address: IPv4Address | IPv6Address) -> None:
    """An address stands as ipaddress writes it, mapped ones as IPv4."""
    assert ip_address(list_value(str(address))) == plain_ip(address)


@given(st.ip_addresses(v=6), st.integers(min_value=0, max_value=128))
def test_networks_stand_as_ipaddress_writes_them(address: IPv6Address, prefix: int) -> None:
    """A network without host bits is kept as it is, one of mapped addresses apart."""
    network = ip_network(f"{address}/{prefix}", strict=False)
    if network.network_address.ipv4_mapped is None:
        assert ip_network(list_value(str(network))) == network


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("", ""),
        ("User@Example.com.", "user@example.com"),
        ("@a.example,@b.example:User@Example.com", "user@example.com"),
        ('"@odd:local"@example.com', '"@odd:local"@example.com'),
        ("SRS0=hash=tt=a.example=user@b.example", "srs0=hash=tt=a.example=user@b.example"),
        ("user@single", "user@single"),
    ],
)
def test_address_of_smtp_has_one_form(text: str, kept: str) -> None:
    """Null senders, source routes, quotes and dots at the end are read as RFC 5321 says."""
    assert canonical_address(text) == kept


@pytest.mark.parametrize("text", ["postmaster", "user@", "@", "a b@x.example", "a@b c", "a@-x"])
def test_what_is_no_address_is_refused(text: str) -> None:
    """An address has a local part, an @ and a domain."""
    with pytest.raises(ValueError, match=r'^"'):
        canonical_address(text)


@pytest.mark.parametrize(
    ("address", "domain"),
    [
        ("", ""),
        ("postmaster", ""),
        ("user@", ""),
        ("User@BÜCHER.example.", "xn--bcher-kva.example"),
        ("broken local@Example.com", "example.com"),
        ("a@b@Example.com", "example.com"),
        ('"x@y"@example.com', "example.com"),
        ("user@[IPv6:::FFFF:192.0.2.1]", "[192.0.2.1]"),
        ("user@[bad", "[bad"),
        ("\udcff@Example.com", "example.com"),
    ],
)
def test_domain_of_any_address_is_found(address: str, domain: str) -> None:
    """However broken the rest is, the domain behind the last @ is what lists are asked for."""
    assert domain_of(address) == domain


def test_a_name_that_is_too_long_is_not_worked_on() -> None:
    """A megabyte as a name costs no IDNA and stays in no cache."""
    name = "ü" * 1_000_000
    assert lookup_domain(name) == name


def test_a_local_part_that_is_too_long_is_not_normalized() -> None:
    """Hundreds of thousands of marks in a row would take minutes."""
    local = "A" + "\u0301\u0323" * 100_000
    assert lookup_address(f"{local}@Example.com") == f"{local.lower()}@example.com"
    with pytest.raises(ValueError, match="more than 256 bytes"):
        canonical_address(f"{local}@example.com")


def test_mapped_address_of_a_client_is_the_ipv4_address() -> None:
    """A dual-stack socket shows IPv4 clients as mapped ones."""
    assert plain_ip(ip_address("::ffff:192.0.2.1")) == ip_address("192.0.2.1")
    assert plain_ip(ip_address("2001:db8::1")) == ip_address("2001:db8::1")
