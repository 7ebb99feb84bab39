"""A real Postfix with the rendered files at the edges: open-relay tricks, precedence, passwords."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from controlplane.core.spec import ClusterSpec, RecipientDomain, SenderRoute, TlsMode
from tests.render.rendered_postfix import STRANGER, NextHop, RenderedPostfix, log_of, wait_for
from tests.render.specs import pair

pytestmark = pytest.mark.skipif(shutil.which("postfix") is None, reason="needs Postfix")

PASSWORD = "never-in-clear"
RELAYING_TRICKS = (
    "b%elsewhere.tld@example.com",
    '"b@elsewhere.tld"@example.com',
    '"b%elsewhere.tld"@example.com',
    "elsewhere.tld!b@example.com",
    "@example.com:b@elsewhere.tld",
    "b@elsewhere.tld@example.com",
    "b%elsewhere.tld@node-a.relay.internal",
    '"b@elsewhere.tld"@node-a.relay.internal',
    "b%elsewhere.tld@[127.0.0.1]",
    "b%elsewhere.tld@localhost",
    "b%elsewhere.tld",
    '"b@elsewhere.tld"',
    "elsewhere.tld!b",
    "b@[198.51.100.20]",
    "b@sub.example.com",
    "b@example.com.elsewhere.tld",
)
SENDERS = ("a@elsewhere.tld", "a@example.com", "root@node-a.relay.internal", "")


def world(provider: NextHop, mailstore: NextHop) -> ClusterSpec:
    """Describe two recipient domains, one without a next hop, and routes with passwords."""
    to_provider = {"next_hop": "127.0.0.1", "port": provider.port}
    return pair(
        recipient_domains=(
            RecipientDomain(name="example.com", next_hop="127.0.0.1", port=mailstore.port),
            RecipientDomain(name="by-mx.invalid"),
        ),
        routes=tuple(
            SenderRoute(
                sender=f"@{mode}.tld",
                tls_mode=mode,
                username=f"user-{mode}",
                password=PASSWORD,
                **to_provider,
            )
            for mode in (TlsMode.NONE, TlsMode.MAY, TlsMode.ENCRYPT)
        ),
    )


@pytest.fixture(scope="module")
def provider() -> Iterator[NextHop]:
    """Give a next hop that offers AUTH, but no TLS to protect it."""
    hop = NextHop()
    hop.start()
    yield hop
    hop.stop()


@pytest.fixture(scope="module")
def mailstore() -> Iterator[NextHop]:
    """Give the next hop of the recipient domain."""
    hop = NextHop()
    hop.start()
    yield hop
    hop.stop()


@pytest.fixture(scope="module")
def postfix(
    provider: NextHop, mailstore: NextHop, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RenderedPostfix]:
    """Give one running instance for the whole module."""
    root: Path = tmp_path_factory.mktemp("edges")
    instance = RenderedPostfix(root, spec=world(provider, mailstore))
    instance.start()
    yield instance
    instance.stop()


@pytest.mark.parametrize("recipient", RELAYING_TRICKS)
def test_no_way_of_writing_an_address_opens_the_relay(
    postfix: RenderedPostfix, recipient: str
) -> None:
    """Source routes, percent signs, bangs and quotes get a stranger nowhere, whoever he claims."""
    with postfix.connect(STRANGER) as client:
        client.helo("client.example")
        for sender in SENDERS:
            assert client.docmd("MAIL", f"FROM:<{sender}>")[0] == 250
            code, text = client.docmd("RCPT", f"TO:<{recipient}>")
            assert 500 <= code < 600, f"{sender} -> {recipient}: {code} {text!r}"
            client.rset()


def test_a_recipient_domain_without_next_hop_goes_to_its_mx_whatever_the_sender(
    postfix: RenderedPostfix, provider: NextHop
) -> None:
    """A sender's route is for domains that the relay does not serve itself."""
    postfix.submit("a@none.tld", "b@by-mx.invalid")
    said = "unable to look up host by-mx.invalid"
    wait_for(lambda: said in log_of(postfix), lambda: log_of(postfix)[-2000:])
    assert not [one for one in provider.deliveries if one.recipients == ("b@by-mx.invalid",)]


def test_a_password_goes_in_clear_only_where_tls_was_switched_off(
    postfix: RenderedPostfix, provider: NextHop
) -> None:
    """A next hop that stops offering STARTTLS, or somebody between, gets no password by that."""
    postfix.submit("a@none.tld", "b@elsewhere.tld")
    postfix.submit("a@may.tld", "b@elsewhere.tld")
    postfix.submit("a@encrypt.tld", "b@elsewhere.tld")
    kept = {"a@may.tld", "a@encrypt.tld"}  # beside what the test before may have left
    wait_for(lambda: kept <= postfix.deferred_senders(), lambda: log_of(postfix)[-2000:])
    wait_for(lambda: bool(provider.deliveries), lambda: log_of(postfix)[-2000:])
    assert {one.sender for one in provider.deliveries} == {"a@none.tld"}
    assert provider.logins == [("user-none", PASSWORD)]
