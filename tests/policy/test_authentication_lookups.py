"""SPF, DKIM and DMARC against a DNS server on this host: results, faults, and hostile records."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from ipaddress import ip_address

import dkim
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from nacl.signing import SigningKey

from nodeagent.policy.document import AuthenticationCheck, PolicySettings
from nodeagent.policy.doors import dkim_check, spf_check
from nodeagent.policy.doors.authentication import Authenticator
from nodeagent.policy.doors.dkim_check import check_dkim
from nodeagent.policy.doors.dmarc_check import organization_of
from nodeagent.policy.doors.dns_client import DnsClient, DnsFailed, Lookup
from nodeagent.policy.doors.spf_check import check_spf
from nodeagent.policy.engine.authentication import (
    AuthenticationResults,
    DkimCheck,
    DmarcCheck,
    DmarcPolicy,
    Result,
    SpfCheck,
)
from nodeagent.policy.model import Client, Envelope, Message, Session
from nodeagent.policy.raw_message import from_bytes, to_bytes
from tests.fakes.dns_server import SERVFAIL, SILENCE, DnsServer, running_dns

ON = AuthenticationCheck(is_enabled=True)
ALL = PolicySettings(spf=ON, dkim=ON, dmarc=ON)
CLIENT = Client(ip_address("192.0.2.1"))
SESSION = Session(CLIENT, helo="mx.example.com")
ENVELOPE = Envelope("user@example.com", ("r@relay.example",))
MAIL = (
    b"From: User <user@example.com>\r\nSubject: Hi\r\n\tthere\r\n\r\n"
    b"One line. \r\n\r\nTwo  lines.\r\n"
)
GENEROUS_S = 30.0


@pytest.fixture
def dns_server() -> Iterator[DnsServer]:
    """Give a server with an empty zone."""
    with running_dns() as server:
        yield server


@pytest.fixture
def lookup(dns_server: DnsServer) -> Lookup:
    """Give a look-up at that server."""
    return lookup_at(dns_server)


def lookup_at(server: DnsServer, within_s: float = GENEROUS_S) -> Lookup:
    """Return a look-up with a deadline."""
    return Lookup(DnsClient([server.address]), time.monotonic() + within_s)


@cache
def key(bits: int = 1024, exponent: int = 65_537) -> rsa.RSAPrivateKey:
    """Return an RSA key."""
    return rsa.generate_private_key(public_exponent=exponent, key_size=bits)


def private(bits: int = 1024) -> bytes:
    """Return a private key as dkimpy wants it."""
    return key(bits).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )


def record(bits: int = 1024) -> str:
    """Return the key record of that key."""
    public = key(bits).public_key()
    der = public.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return f"v=DKIM1; k=rsa; p={base64.b64encode(der).decode()}"


def sign(raw: bytes = MAIL, domain: bytes = b"example.com", **how: object) -> bytes:
    """Return the mail with a signature of selector "s" on top."""
    how = {"canonicalize": (b"relaxed", b"relaxed"), "privkey": private()} | how
    return dkim.sign(raw, b"s", domain, **how) + raw


def results_of(raw: bytes, lookup: Lookup) -> list[Result]:
    """Return what the signatures of a mail give."""
    return [check.result for check in check_dkim(from_bytes(raw), lookup)]


def spf(lookup: Lookup, sender: str | None = "user@example.com", ip: str = "192.0.2.1") -> SpfCheck:
    """Check SPF of a client that says it is mx.example.com."""
    return check_spf(Client(ip_address(ip)), "mx.example.com", sender, lookup)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("v=spf1 ip4:192.0.2.0/24 -all", Result.PASS),
        ("v=spf1 -all", Result.FAIL),
        ("v=spf1 ~all", Result.SOFTFAIL),
        ("v=spf1 ?all", Result.NEUTRAL),
        ("v=spf1", Result.NEUTRAL),
        ("v=spf1 a -all", Result.PASS),
        ("v=spf1 mx -all", Result.PASS),
        ("v=spf1 ptr -all", Result.PASS),
        ("v=spf1 include:inc.example -all", Result.PASS),
        ("v=spf1 include:nothing.example -all", Result.PERMERROR),
        ("v=spf1 redirect=inc.example", Result.PASS),
        ("v=spf1 exists:%{ir}.%{d} -all", Result.PASS),
        ("v=spf1 a:broken.example -all", Result.TEMPERROR),
        ("v=spf1 nonsense -all", Result.PERMERROR),
        ("v=spf1 a:a.x a:b.x a:c.x a:d.x -all", Result.PERMERROR),
        ("v=spf1 include:example.com -all", Result.PERMERROR),
        ("v=spf1 ip4:192.0.2.0/99 -all", Result.PERMERROR),
        ("v=spf1 exists:%{x} -all", Result.PERMERROR),
        ("something else", Result.NONE),
    ],
)
def test_spf_of_the_sender(
    dns_server: DnsServer, lookup: Lookup, text: str, result: Result
) -> None:
    """Each mechanism is looked up at our server, and the result is a word of the RFC."""
    dns_server.txt("example.com", "token=1", text)
    dns_server.add("example.com", "A", "192.0.2.1")
    dns_server.add("example.com", "MX", "10 mx.example.com.")
    dns_server.add("mx.example.com", "A", "192.0.2.1")
    dns_server.add("1.2.0.192.in-addr.arpa", "PTR", "mx.example.com.")
    dns_server.add("1.2.0.192.example.com", "A", "127.0.0.2")
    dns_server.txt("inc.example", "v=spf1 ip4:192.0.2.1 -all")
    dns_server.zone["broken.example"] = SERVFAIL
    assert spf(lookup) == SpfCheck(result, "example.com")


def test_spf_knows_ipv6_and_mapped_addresses(dns_server: DnsServer, lookup: Lookup) -> None:
    """A client of a dual-stack socket is an IPv4 client."""
    dns_server.txt("example.com", "v=spf1 ip4:192.0.2.1 ip6:2001:db8::/32 a:six.example.com -all")
    dns_server.add("six.example.com", "AAAA", "2001:db9::1")
    for ip, result in (
        ("2001:db8::1", Result.PASS),
        ("::ffff:192.0.2.1", Result.PASS),
        ("2001:db9::1", Result.PASS),
        ("2001:dba::1", Result.FAIL),
    ):
        assert spf(lookup, ip=ip).result is result


def test_spf_of_the_null_sender_is_that_of_the_helo_name(
    dns_server: DnsServer, lookup: Lookup
) -> None:
    """RFC 7208, 2.4."""
    dns_server.txt("mx.example.com", "v=spf1 ip4:192.0.2.1 -all")
    assert spf(lookup, sender="") == SpfCheck(Result.PASS, "mx.example.com", is_of_helo=True)


@pytest.mark.parametrize("helo", [None, "", "localhost", "[192.0.2.1]", "bad name", "\udcff.x"])
def test_spf_of_no_name_is_none(lookup: Lookup, helo: str | None) -> None:
    """Nothing to look up is nothing known."""
    assert check_spf(CLIENT, helo, "", lookup).result is Result.NONE
    assert check_spf(Client(), "mx.example.com", "user@example.com", lookup).result is Result.NONE


@pytest.mark.parametrize(
    "sender", ['"a@b"@example.com', "ü@example.com", "a b@example.com", "x" * 300 + "@example.com"]
)
def test_spf_takes_odd_local_parts(dns_server: DnsServer, lookup: Lookup, sender: str) -> None:
    """Also where the record has the local part in a name."""
    dns_server.txt("example.com", "v=spf1 exists:%{l}.x.example ip4:192.0.2.1 -all")
    assert spf(lookup, sender) == SpfCheck(Result.PASS, "example.com")


@pytest.mark.parametrize(
    "text",
    [
        "v=spf1 a:" + "a" * 1900 + " -all",
        "v=spf1 a:" + "a" * 60_000 + " -all",
        "v=spf1 " + "ip4:192.0.2.9 " * 3000 + "-all",
        "v=spf1 " + "%{s" + "9" * 1900 + "} -all",
        "v=spf1 exists:%{l" + "9" * 1900 + "}.x -all",
        "v=spf1 ip4:192.0.2.0/" + "9" * 1900 + " -all",
        "v=spf1 exists:" + "%" * 1900 + " -all",
        "v=spf1 exists:" + "%{i}." * 300 + "x -all",
        "v=spf1 \u00ff -all",
    ],
)
def test_hostile_spf_records_are_answered(dns_server: DnsServer, lookup: Lookup, text: str) -> None:
    """None is a crash, none passes, and long ones are not even read."""
    dns_server.txt("example.com", text)
    assert spf(lookup).result in {Result.PERMERROR, Result.FAIL}


def test_what_pyspf_stumbles_over_is_permerror(
    dns_server: DnsServer, lookup: Lookup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record that breaks the library is the record's fault."""
    dns_server.txt("example.com", "v=spf1 -all")

    def stumble(*_: object) -> None:
        raise AssertionError("Too many levels of recursion")

    monkeypatch.setattr(spf_check._Query, "check0", stumble)
    assert spf(lookup).result is Result.PERMERROR


@pytest.mark.parametrize("headers", [b"simple", b"relaxed"])
@pytest.mark.parametrize("body", [b"simple", b"relaxed"])
@pytest.mark.parametrize("end", [b"", b"\r\n\r\n", b" \t \r\n", b"no end", b"sp \t  ace \r\n \r\n"])
def test_signature_holds_in_each_form(
    dns_server: DnsServer, lookup: Lookup, headers: bytes, body: bytes, end: bytes
) -> None:
    """What dkimpy signs it also verifies behind our preparation; with one letter changed not."""
    dns_server.txt("s._domainkey.example.com", record())
    signed = sign(MAIL + end, canonicalize=(headers, body))
    assert check_dkim(from_bytes(signed), lookup) == (DkimCheck(Result.PASS, "example.com", "s"),)
    assert results_of(signed.replace(b"One", b"Own"), lookup) == [Result.FAIL]
    assert results_of(signed.replace(b"Hi", b"Ho"), lookup) == [Result.FAIL]
    bare = from_bytes(signed)
    bare = replace(bare, body=bare.body.replace(b"\r\n", b"\n"))
    assert check_dkim(bare, lookup)[0].result is Result.PASS


def test_ed25519_signature_holds(dns_server: DnsServer, lookup: Lookup) -> None:
    """RFC 8463."""
    signing = SigningKey.generate()
    public = base64.b64encode(bytes(signing.verify_key)).decode()
    dns_server.txt("s._domainkey.example.com", f"v=DKIM1; k=ed25519; p={public}")
    secret = base64.b64encode(bytes(signing))
    signed = sign(privkey=secret, signature_algorithm=b"ed25519-sha256")
    assert results_of(signed, lookup) == [Result.PASS]
    assert results_of(signed.replace(b"One", b"Own"), lookup) == [Result.FAIL]


@pytest.mark.parametrize(
    ("records", "result"),
    [
        (None, Result.PERMERROR),
        (["v=DKIM1; k=rsa; p="], Result.PERMERROR),
        (["v=DKIM1; k=rsa"], Result.PERMERROR),
        (["v=DKIM1; k=rsa; p=!!!"], Result.PERMERROR),
        (["v=DKIM2; p=AAAA"], Result.PERMERROR),
        (["k=dsa; p=AAAA"], Result.PERMERROR),
        (["x" * 5000], Result.PERMERROR),
        (["no tags"], Result.PERMERROR),
        (["v=DKIM1; k=ed25519; p=AAAA"], Result.PERMERROR),
        ([""], Result.PERMERROR),
    ],
)
def test_key_that_is_none_is_permerror(
    dns_server: DnsServer, lookup: Lookup, records: list[str] | None, result: Result
) -> None:
    """Missing, revoked, broken and oversized keys."""
    if records is not None:
        dns_server.txt("s._domainkey.example.com", *records)
    assert results_of(sign(), lookup) == [result]


def test_key_of_another_is_fail(dns_server: DnsServer, lookup: Lookup) -> None:
    """A good key that did not sign this."""
    dns_server.txt("s._domainkey.example.com", record(1536))
    assert results_of(sign(), lookup) == [Result.FAIL]


def test_keys_that_would_take_long_are_not_worked_with() -> None:
    """A modulus or an exponent of tens of thousands of bits is the stranger's choice."""

    def der(number: int) -> bytes:
        raw = number.to_bytes(number.bit_length() // 8 + 1, "big")
        return b"\x02\x82" + len(raw).to_bytes(2, "big") + raw

    for modulus_bits, exponent_bits, is_sane in (
        (2048, 17, True),
        (2048, 1000, False),
        (12_000, 17, False),
    ):
        pair = der((1 << modulus_bits) - 1) + der((1 << exponent_bits) - 1)
        body = b"\x30\x82" + len(pair).to_bytes(2, "big") + pair
        bits = b"\x00" + body
        algorithm = bytes.fromhex("300d06092a864886f70d0101010500")
        info = algorithm + b"\x03\x82" + len(bits).to_bytes(2, "big") + bits
        whole = b"\x30\x82" + len(info).to_bytes(2, "big") + info
        text = b"v=DKIM1; p=" + base64.b64encode(whole)
        assert dkim_check._is_of_sane_size(b"s._domainkey.x.", text) is is_sane


def test_short_keys_and_old_hashes_are_not_enough(dns_server: DnsServer, lookup: Lookup) -> None:
    """RFC 8301: no SHA-1, and keys of at least 1,024 bits."""
    dns_server.txt("s._domainkey.example.com", record())
    assert results_of(sign(signature_algorithm=b"rsa-sha1"), lookup) == [Result.PERMERROR]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dkim_check, "SHORTEST_KEY_BITS", 2048)
        assert results_of(sign(), lookup) == [Result.POLICY]


def test_signature_over_a_part_of_the_body(dns_server: DnsServer, lookup: Lookup) -> None:
    """What stands below the signed part may be anybody's: that is no pass."""
    dns_server.txt("s._domainkey.example.com", record())
    signed = sign(length=True)
    assert results_of(signed, lookup) == [Result.PASS]
    assert results_of(signed + b"Buy this\r\n", lookup) == [Result.POLICY]


def test_signature_that_does_not_cover_the_author_is_none(
    dns_server: DnsServer, lookup: Lookup
) -> None:
    """RFC 6376, 5.4: From is always signed."""
    dns_server.txt("s._domainkey.example.com", record())
    signed = sign().replace(b"h=from : ", b"h=", 1).replace(b": from;", b";")
    assert results_of(signed, lookup) == [Result.PERMERROR]


def test_dns_that_fails_is_temperror(dns_server: DnsServer, lookup: Lookup) -> None:
    """And no failure of the signature."""
    dns_server.zone["s._domainkey.example.com"] = SERVFAIL
    dns_server.zone["example.com"] = SERVFAIL
    assert results_of(sign(), lookup) == [Result.TEMPERROR]
    assert spf(lookup).result is Result.TEMPERROR


def test_body_that_was_cut_off_is_temperror(dns_server: DnsServer, lookup: Lookup) -> None:
    """Nobody knows whether the rest was signed."""
    dns_server.txt("s._domainkey.example.com", record())
    whole = from_bytes(sign())
    cut = replace(whole, body=whole.body[:10])
    assert check_dkim(cut, lookup)[0].result is Result.TEMPERROR


@pytest.mark.parametrize(
    "signature",
    [
        b"",
        b"v=1",
        b"nonsense",
        b"v=1; v=1",
        b"v=1; a=rsa-sha256; b=AAAA; bh=AAAA; d=; h=from; s=s",
        b"v=1; a=rsa-sha256; b=AAAA; bh=AAAA; d=example.com; h=from; s=a\r\n b",
        b"v=1; a=rsa-sha256; b=AAAA; bh=AAAA; d=exa\xffmple.com; h=from; s=\xff",
        b"v=1; a=rsa-sha256; b=AAAA; bh=AAAA; d=example.com; h=from; s=s; t=" + b"9" * 5000,
        b"v=1; a=rsa-sha256; b=AAAA; bh=AAAA; d=example.com; h=from; s=s; l=-1",
        b"v=1; a=rsa-sha256; b=AAAA; bh=AAAA; d=example.com; h=from; s=s; c=x/y",
        b"v=1; a=rsa-sha256; b" + b" \r\n\t" * 5000 + b"; bh=AAAA; d=example.com; h=from; s=s",
        b"v=1; a=rsa-sha256; b=AAAA; bh=AAAA; d=example.com; s=s; h=from" + b":x" * 2000,
        b"v=1; a=rsa-sha256; b=AAAA; bh=AAAA; d=example.com; s=s; h=from; z=" + b"x" * 20_000,
    ],
)
def test_broken_signatures_are_answered(
    dns_server: DnsServer, lookup: Lookup, signature: bytes
) -> None:
    """None is a crash, none passes, none is looked at for long."""
    dns_server.txt("s._domainkey.example.com", record())
    raw = b"DKIM-Signature: " + signature + b"\r\n" + MAIL
    assert results_of(raw, lookup) in ([Result.PERMERROR], [Result.FAIL])


def test_only_the_first_signatures_are_looked_at(dns_server: DnsServer, lookup: Lookup) -> None:
    """A thousand of them are no thousand look-ups."""
    dns_server.txt("s._domainkey.example.com", record())
    head = sign()[: -len(MAIL)]
    assert results_of(head * 100 + MAIL, lookup) == [Result.PASS] * 5
    assert len(dns_server.asked) == 1
    assert results_of(MAIL, lookup) == []


@pytest.mark.parametrize("blank", [b" ", b"\t", b" \t"])
def test_white_space_is_relaxed_before_dkimpy_sees_it(blank: bytes) -> None:
    """A line of blanks would keep its regular expressions busy for the square of its length."""
    body = b"a" + blank * 500_000 + b"b" + blank * 500_000 + b"\r\nc" + blank * 500_000
    mail = dkim_check._Mail.of(Message((), body, len(body)))
    assert mail.relaxed == b"a b\r\nc "
    assert mail.body == body


ORGANIZATIONS = [
    ("a.b.example.com", "example.com"),
    ("example.com", "example.com"),
    ("a.example.co.uk", "example.co.uk"),
    ("co.uk", "co.uk"),
    ("a.b.github.io", "b.github.io"),
    ("localhost", "localhost"),
]


@pytest.mark.parametrize(("domain", "organization"), ORGANIZATIONS)
def test_organization_is_what_was_registered(domain: str, organization: str) -> None:
    """By the public suffix list; a suffix is its own."""
    assert organization_of(domain) == organization


def check(
    server: DnsServer,
    raw: bytes | None = None,
    settings: PolicySettings = ALL,
    envelope: Envelope = ENVELOPE,
    **how: float,
) -> AuthenticationResults:
    """Ask an authenticator about a mail, as the desk does."""
    authenticator = Authenticator(DnsClient([server.address]), **({"deadline_s": 20.0} | how))
    message = from_bytes(sign() if raw is None else raw)
    try:
        return asyncio.run(authenticator.check(SESSION, envelope, message, settings))
    finally:
        authenticator.close()


def honest(server: DnsServer) -> None:
    """Publish what an honest domain does."""
    server.txt("example.com", "v=spf1 ip4:192.0.2.1 -all")
    server.txt("s._domainkey.example.com", record())
    server.txt("_dmarc.example.com", "v=DMARC1; p=reject; sp=quarantine")


def test_honest_mail_passes_all_three(dns_server: DnsServer) -> None:
    """With the domain's own policy told."""
    honest(dns_server)
    assert check(dns_server) == AuthenticationResults(
        SpfCheck(Result.PASS, "example.com"),
        (DkimCheck(Result.PASS, "example.com", "s"),),
        DmarcCheck(Result.PASS, "example.com", DmarcPolicy.REJECT),
    )


def test_forged_author_fails_dmarc(dns_server: DnsServer) -> None:
    """Though SPF and DKIM of the forger's own domain pass."""
    honest(dns_server)
    forged = sign(MAIL.replace(b"<user@example.com>", b"<boss@mail.bank.example>"))
    dns_server.txt("_dmarc.bank.example", "v=DMARC1; p=reject; sp=quarantine")
    found = check(dns_server, forged)
    assert found.spf is not None
    assert found.spf.result is Result.PASS
    assert found.dkim_result is Result.PASS
    assert found.dmarc == DmarcCheck(Result.FAIL, "mail.bank.example", DmarcPolicy.QUARANTINE)


SLOW = Envelope("x@slow.example", ENVELOPE.recipients)
SIGNED_SLOWLY = (
    b"DKIM-Signature: v=1; a=rsa-sha256; d=slow.example; s=s; h=from; bh=AA==; b=AA==\r\n"
)
SIGNED_FALSELY = SIGNED_SLOWLY.replace(b"slow", b"bank")


@pytest.mark.parametrize("settings", [ALL, PolicySettings(dmarc=ON)])
@pytest.mark.parametrize("envelope", [ENVELOPE, SLOW])
@pytest.mark.parametrize("signed", [b"", SIGNED_SLOWLY * 3, SIGNED_SLOWLY * 3 + SIGNED_FALSELY])
def test_nobody_hides_a_policy_behind_names_without_an_answer(
    dns_server: DnsServer, settings: PolicySettings, envelope: Envelope, signed: bytes
) -> None:
    """What others publish is found whatever a stranger's own name server does not say."""
    dns_server.txt("example.com", "v=spf1 -all")
    dns_server.txt("_dmarc.bank.example", "v=DMARC1; p=reject")
    dns_server.zone["slow.example"] = SILENCE
    dns_server.zone["s._domainkey.slow.example"] = SILENCE
    forged = signed + MAIL.replace(b"<user@example.com>", b"<boss@bank.example>")
    found = check(dns_server, forged, settings, envelope, deadline_s=3.0)
    assert found.dmarc == DmarcCheck(Result.FAIL, "bank.example", DmarcPolicy.REJECT)


def test_dmarc_alone_asks_nothing_of_who_cannot_speak_for_the_author(
    dns_server: DnsServer,
) -> None:
    """Neither of the sender's domain nor of other signers; of a subdomain it does."""
    dns_server.txt("_dmarc.bank.example", "v=DMARC1; p=reject")
    mail = SIGNED_SLOWLY + SIGNED_FALSELY.replace(b"d=", b"d=mail.")
    forged = mail + MAIL.replace(b"<user@example.com>", b"<boss@bank.example>")
    check(dns_server, forged, PolicySettings(dmarc=ON), SLOW)
    asked = {name for name, _ in dns_server.asked}
    assert asked == {"_dmarc.bank.example", "s._domainkey.mail.bank.example"}


def test_results_of_signatures_stay_in_the_order_of_the_mail(
    dns_server: DnsServer, lookup: Lookup
) -> None:
    """Whichever were checked first."""
    dns_server.txt("s._domainkey.example.com", record())
    mail = from_bytes(SIGNED_SLOWLY + sign())
    found = check_dkim(mail, lookup, lambda domain: domain == "example.com")
    assert [one.domain for one in found] == ["slow.example", "example.com"]
    assert dns_server.asked[0][0] == "s._domainkey.example.com"
    alone = check_dkim(mail, lookup, lambda domain: domain == "example.com", has_others=False)
    assert [one.result for one in alone] == [Result.PASS]


@pytest.mark.parametrize("name", ["spf", "dkim", "dmarc"])
def test_each_is_asked_only_if_it_is_switched_on(dns_server: DnsServer, name: str) -> None:
    """DMARC asks the others for itself, and tells only its own."""
    honest(dns_server)
    found = check(dns_server, settings=PolicySettings.model_validate({name: ON}))
    told = {one for one in ("spf", "dkim", "dmarc") if getattr(found, one) is not None}
    assert told == {name}
    asked = {domain for domain, _ in dns_server.asked}
    assert ("_dmarc.example.com" in asked) is (name == "dmarc")
    assert ("example.com" in asked) is (name != "dkim")
    assert ("s._domainkey.example.com" in asked) is (name != "spf")


def test_without_switches_nothing_is_asked(dns_server: DnsServer) -> None:
    """The results are empty."""
    assert check(dns_server, settings=PolicySettings()) == AuthenticationResults()
    assert dns_server.asked == []


def test_before_the_mail_is_there_only_spf_is_asked(dns_server: DnsServer) -> None:
    """At MAIL or RCPT there is no message yet."""
    honest(dns_server)
    authenticator = Authenticator(DnsClient([dns_server.address]))
    found = asyncio.run(authenticator.check(SESSION, ENVELOPE, None, ALL))
    authenticator.close()
    assert found == AuthenticationResults(SpfCheck(Result.PASS, "example.com"))


def test_silent_dns_is_temperror_for_all(dns_server: DnsServer) -> None:
    """By the deadline, and never a fail."""
    for name in ("example.com", "s._domainkey.example.com", "_dmarc.example.com"):
        dns_server.zone[name] = SILENCE
    found = check(dns_server, deadline_s=0.5)
    assert found.spf is not None
    assert found.dmarc is not None
    assert {found.spf.result, found.dkim_result, found.dmarc.result} == {Result.TEMPERROR}


def test_mail_that_finds_no_thread_is_temperror(dns_server: DnsServer) -> None:
    """It waits for its own deadline, not for those of the mails before it."""
    dns_server.zone["example.com"] = SILENCE

    async def flood() -> list[AuthenticationResults]:
        client = DnsClient([dns_server.address])
        authenticator = Authenticator(client, deadline_s=0.5, threads=1)
        message = from_bytes(MAIL)
        settings = PolicySettings(spf=ON, dkim=ON, dmarc=ON)
        try:
            many = (authenticator.check(SESSION, ENVELOPE, message, settings) for _ in range(20))
            return await asyncio.gather(*many)
        finally:
            authenticator.close()

    for found in asyncio.run(flood()):
        assert found.spf is not None
        assert found.spf.result is Result.TEMPERROR
        assert found.dmarc is not None
        assert found.dmarc.result in {Result.TEMPERROR, Result.NONE}


def test_answers_are_remembered(dns_server: DnsServer) -> None:
    """Also that there is none."""
    client = DnsClient([dns_server.address])
    dns_server.txt("example.com", "one", "two")
    for _ in range(3):
        later = time.monotonic() + GENEROUS_S
        assert sorted(client.texts("Example.COM", later)) == [b"one", b"two"]
        assert client.texts("missing.example", later) == []
        assert client.ask("example.com", "AAAA", later) == []
    assert len(dns_server.asked) == 3


@pytest.mark.parametrize(
    "name", ["a..b", ".", "x" * 64 + ".example", "\udcff.x", "a." * 200, "\\300"]
)
def test_names_that_cannot_be_have_no_records(dns_server: DnsServer, name: str) -> None:
    """A stranger's name is no fault of the DNS."""
    client = DnsClient([dns_server.address])
    assert client.ask(name, "TXT", time.monotonic() + GENEROUS_S) == []


def test_deadline_in_the_past_is_no_question(dns_server: DnsServer) -> None:
    """Nothing is asked any more."""
    with pytest.raises(DnsFailed, match="no time left"):
        DnsClient([dns_server.address]).ask("example.com", "A", time.monotonic() - 1)
    assert dns_server.asked == []


def test_port_where_nobody_listens_is_a_failure() -> None:
    """Refused packets are no answer."""
    with running_dns() as server:
        address = server.address
    client = DnsClient([address])
    with pytest.raises(DnsFailed):
        client.ask("example.com", "A", time.monotonic() + 1)


def test_messages_come_to_dkimpy_as_they_were_sent() -> None:
    """What is signed as bytes is what our model gives back."""
    assert to_bytes(from_bytes(MAIL)) == MAIL
