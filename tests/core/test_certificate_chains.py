"""Certificates: which chain is complete, which names one is valid for, what is written of both."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from controlplane.core.certificate import (
    chain_file,
    chain_gap,
    chain_text,
    host_names,
    is_pair,
    is_valid_for,
    parse_chain,
    parse_key,
)
from controlplane.core.names import BadValue
from controlplane.core.spec import TlsSpec
from controlplane.issuing import make_ca, make_leaf
from tests.fakes.certificates import make_chain, make_pair
from tests.render.specs import key_pem, new_key

PARTS, KEY = make_chain(links=2)
LEAF, NEAR, FAR, ROOT = (parse_chain(part)[0] for part in PARTS)
STRANGER = parse_chain(make_chain(links=1)[0][-1])[0]


@pytest.mark.parametrize(
    ("sent", "trusted"),
    [
        ([LEAF, NEAR, FAR, ROOT], []),
        ([LEAF, NEAR, FAR], [ROOT]),
        ([LEAF, NEAR, FAR], [STRANGER, ROOT]),
        ([LEAF, NEAR], [FAR]),
        ([ROOT], []),
    ],
)
def test_a_chain_is_complete_up_to_a_root(
    sent: list[x509.Certificate], trusted: list[x509.Certificate]
) -> None:
    """The root itself may be left out where the client has it (RFC 8446, 4.4.2)."""
    assert chain_gap(sent, trusted) is None


@pytest.mark.parametrize(
    ("sent", "number"),
    [
        ([NEAR, LEAF, FAR], 2),
        ([LEAF, FAR, NEAR], 2),
        ([LEAF, NEAR, ROOT], 3),
        ([LEAF, NEAR, FAR, STRANGER], 4),
        ([LEAF, LEAF], 2),
        ([LEAF, NEAR, FAR, ROOT, STRANGER], 5),
    ],
)
def test_a_chain_out_of_order_names_the_first_that_does_not_fit(
    sent: list[x509.Certificate], number: int
) -> None:
    """Counted as the file has them, from 1, so that its reader finds the block."""
    assert chain_gap(sent, [ROOT]) == (
        f"Certificate {number} of the file has not issued the one before it; put the leaf first, "
        "then each issuer in turn."
    )


@pytest.mark.parametrize("sent", [[LEAF], [LEAF, NEAR], [LEAF, NEAR, FAR]])
def test_a_chain_that_ends_too_early_names_who_is_missing(sent: list[x509.Certificate]) -> None:
    """By the name that the last certificate gives its issuer."""
    missing = sent[-1].issuer.rfc4514_string()
    said = chain_gap(sent, [STRANGER])
    assert said == (
        f"The chain is not complete: add the certificate of {missing}, which issued the last one."
    )


def test_the_name_of_an_issuer_is_not_its_signature() -> None:
    """Two authorities of one name: only the one that signed will do."""
    one, other = make_ca(), make_ca()
    assert one.certificate.subject == other.certificate.subject
    leaf = make_leaf([x509.DNSName("a.tld")], one, 30).certificate
    assert chain_gap([leaf], [one.certificate]) is None
    assert chain_gap([leaf], [other.certificate]) is not None
    assert "has not issued" in (chain_gap([leaf, other.certificate], []) or "")


def leaf_for(*names: x509.GeneralName) -> x509.Certificate:
    """Return a certificate for these names."""
    return make_leaf(list(names), make_ca(), 30).certificate


@pytest.mark.parametrize(
    ("certified", "name", "is_valid"),
    [
        ("relay.tld", "relay.tld", True),
        ("Relay.TLD", "relay.tld", True),
        ("relay.tld", "a.relay.tld", False),
        ("relay.tld", "tld", False),
        ("*.relay.tld", "a.relay.tld", True),
        ("*.Relay.tld", "a.relay.tld", True),
        ("*.relay.tld", "a.b.relay.tld", False),
        ("*.relay.tld", "relay.tld", False),
        ("*.relay.tld", "*.relay.tld", True),
        ("a.relay.tld", "*.relay.tld", False),
        ("*.2.0.192", "1.2.0.192", False),
        ("*.", "localhost", False),
        ("localhost", "localhost", True),
    ],
)
def test_a_wildcard_stands_for_one_label(certified: str, name: str, is_valid: bool) -> None:
    """RFC 9525, 6.3; letters are compared without their case, an address never by a wildcard."""
    assert is_valid_for(leaf_for(x509.DNSName(certified)), name) is is_valid


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])
def test_an_address_has_to_be_certified_as_one(address: str) -> None:
    """A host name that looks like an address is none."""
    leaf = leaf_for(x509.DNSName("a.tld"), x509.IPAddress(ip_address(address)))
    assert host_names(leaf) == ["a.tld", address]
    assert is_valid_for(leaf, address)
    assert not is_valid_for(leaf_for(x509.DNSName("a.tld")), address)


def test_a_common_name_alone_certifies_nothing() -> None:
    """Clients have not looked at it for long (RFC 9525, 2)."""
    (leaf,) = parse_chain(make_pair("relay.tld", has_alternatives=False)[0])
    assert host_names(leaf) == []
    assert not is_valid_for(leaf, "relay.tld")


def test_a_key_belongs_to_the_first_certificate() -> None:
    """Whoever puts the root first gets a sentence instead of a Postfix that does not start."""
    key = parse_key(KEY)
    assert is_pair([LEAF, NEAR], key)
    assert not is_pair([NEAR, LEAF], key)
    assert not is_pair([LEAF], new_key())


NOISE = st.sampled_from(
    ["", "Bag Attributes\n  friendlyName: x\n", "smtpd_tls_key = /x\n", "# c\n"]
)


@given(st.lists(NOISE, min_size=4, max_size=4))
def test_only_blocks_of_pem_reach_a_file(noise: list[str]) -> None:
    """What stands between them is nobody's; key first, then the leaf, then its issuers."""
    typed = "".join(text + part for text, part in zip(noise, PARTS, strict=True))
    tls = TlsSpec(cert_pem=typed, key_pem=SecretStr(noise[0] + KEY))
    written = chain_file(tls)
    assert written == chain_text([LEAF, NEAR, FAR, ROOT], parse_key(KEY))
    assert all(line.startswith("-----") or " " not in line for line in written.splitlines())
    assert written.index("PRIVATE KEY") < written.index("CERTIFICATE")
    assert parse_chain(written) == [LEAF, NEAR, FAR, ROOT]
    assert is_pair(parse_chain(written), parse_key(written))


@pytest.mark.parametrize("text", ["", "x", "-----BEGIN CERTIFICATE-----\nAAAA\n", KEY])
def test_what_is_no_certificate_is_refused(text: str) -> None:
    """In one sentence, without a word of a library."""
    with pytest.raises(BadValue, match=r"^The certificate is not valid PEM\.$"):
        parse_chain(text)


@pytest.mark.parametrize("text", ["", "x", PARTS[0], "-----BEGIN PRIVATE KEY-----\nAAAA\n"])
def test_what_is_no_key_is_refused(text: str) -> None:
    """The sentence holds nothing of what was typed."""
    with pytest.raises(BadValue, match=r"^The private key is not valid PEM\.$"):
        parse_key(text)


def test_a_key_with_a_passphrase_says_what_to_do() -> None:
    """Nobody is there to type it when Postfix starts."""
    with pytest.raises(BadValue, match=r"is encrypted; supply it without a passphrase\.$"):
        parse_key(key_pem(new_key(), b"pass"))
