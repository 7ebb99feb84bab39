"""What goes into each table of Postfix: one entry an item, in one form and one order."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from controlplane.core.context import PostfixContext, Transport, postfix_context
from controlplane.core.spec import (
    DEFAULT_REPLY_TEXT,
    RecipientDomain,
    SenderAction,
    SenderPolicy,
    SenderRoute,
    TlsMode,
    VipSpec,
)
from tests.render.specs import NODE_A, pair

ALLOWED, BLOCKED = SenderAction.ALLOWED, SenderAction.BLOCKED
TABLES = (
    "recipient_domains",
    "transport",
    "sender_policy",
    "sender_routes",
    "sender_credentials",
    "trusted_networks",
    "transports",
)


def context(**changes: Any) -> PostfixContext:
    """Return what the first node of the pair is rendered from."""
    return postfix_context(pair(**changes), NODE_A)


@pytest.mark.parametrize(
    ("policy", "entry"),
    [
        (SenderPolicy(domain="Ok.tld", action=ALLOWED), ("ok.tld", "OK")),
        (SenderPolicy(domain=".Ok.tld", action=ALLOWED, reply_text="x"), (".ok.tld", "OK")),
        (
            SenderPolicy(domain="no.tld", action=BLOCKED),
            ("no.tld", f"550 5.7.1 {DEFAULT_REPLY_TEXT}"),
        ),
        (
            SenderPolicy(domain="bücher.tld", action=BLOCKED, reply_text="Ask us."),
            ("xn--bcher-kva.tld", "550 5.7.1 Ask us."),
        ),
    ],
)
def test_a_policy_is_one_entry_of_access(policy: SenderPolicy, entry: tuple[str, str]) -> None:
    """What is allowed has no reply; what is refused is refused for good, with the user's words."""
    assert context(sender_policies=(policy,)).sender_policy == (*sorted([("<>", "DUNNO"), entry]),)


def test_bounces_are_never_refused_for_their_sender() -> None:
    """They have none; a refusal would lose the news that mail was lost."""
    assert context().sender_policy == (("<>", "DUNNO"),)


@pytest.mark.parametrize(("typed", "shown"), [("", DEFAULT_REPLY_TEXT), ("Ask us.", "Ask us.")])
def test_who_has_no_policy_gets_the_default_reply(typed: str, shown: str) -> None:
    """An empty one is the product's own: a refusal says something in any case."""
    found = context(sender_default=BLOCKED, sender_default_reply_text=typed)
    assert found.is_sender_default_blocked
    assert found.sender_default_reply == shown
    assert not context(sender_default=ALLOWED).is_sender_default_blocked


def test_mail_for_a_node_itself_goes_to_the_postmaster() -> None:
    """RFC 2142 and RFC 5321, 4.5.1: postmaster and abuse are always there; root is who cron is."""
    found = context(postmaster="Post@E.tld")
    assert found.has_postmaster
    assert found.node_aliases == (
        ("abuse@node-a.relay.internal", "post@e.tld"),
        ("postmaster@node-a.relay.internal", "post@e.tld"),
        ("root@node-a.relay.internal", "post@e.tld"),
    )
    assert (context().has_postmaster, context().node_aliases) == (False, ())


def test_own_ipv6_addresses_are_in_brackets() -> None:
    """postconf(5), proxy_interfaces; those of IPv4 are not."""
    vips = (VipSpec(address="2001:DB8:0::64", virtual_router_id=51),)
    assert context(vips=vips).own_addresses == (
        "[2001:db8::64]",
        "198.51.100.11",
        "198.51.100.12",
    )


@pytest.mark.parametrize(
    ("username", "password", "entries"),
    [
        ("u", "p", (("@e.tld", "u:p"),)),
        ("u", "a:b c", (("@e.tld", "u:a:b c"),)),
        ("u", None, ()),
        (None, "p", ()),
        (None, None, ()),
    ],
)
def test_credentials_are_a_user_and_a_password(
    username: str | None, password: str | None, entries: tuple[tuple[str, str], ...]
) -> None:
    """The first colon ends the user name, so a password may have some."""
    route = SenderRoute(
        sender="@E.tld",
        next_hop="mx.tld",
        username=username,
        password=None if password is None else SecretStr(password),
    )
    assert context(routes=(route,)).sender_credentials == entries


@pytest.mark.parametrize(
    ("transport", "is_clear"),
    [
        (Transport("relay-none-auth", "none", is_verifying=False, has_credentials=True), True),
        (Transport("relay-none", "none", is_verifying=False, has_credentials=False), False),
        (Transport("relay-may-auth", "may", is_verifying=False, has_credentials=True), False),
        (
            Transport("relay-encrypt-auth", "encrypt", is_verifying=False, has_credentials=True),
            False,
        ),
        (Transport("relay-verify-auth", "verify", is_verifying=True, has_credentials=True), False),
    ],
)
def test_a_password_is_sent_in_clear_only_by_wish(transport: Transport, is_clear: bool) -> None:
    """Where TLS is only tried, a next hop that offers none does not get the password."""
    assert transport.is_password_clear is is_clear


DOMAINS = st.lists(
    st.builds(
        RecipientDomain,
        name=st.sampled_from(("a.tld", "b.tld", ".c.tld", "d.tld")),
        next_hop=st.sampled_from((None, "mx.tld", "192.0.2.1")),
        tls_mode=st.sampled_from((TlsMode.MAY, TlsMode.ENCRYPT)),
    ),
    unique_by=lambda domain: domain.name,
)
POLICIES = st.lists(
    st.builds(
        SenderPolicy,
        domain=st.sampled_from(("a.tld", "b.tld", ".c.tld")),
        action=st.sampled_from(SenderAction),
    ),
    unique_by=lambda policy: policy.domain,
)
ROUTES = st.lists(
    st.builds(
        SenderRoute,
        sender=st.sampled_from(("@a.tld", "x@a.tld", "@b.tld")),
        next_hop=st.sampled_from(("mx.tld", "2001:db8::1")),
        tls_mode=st.sampled_from(TlsMode),
        username=st.just("u"),
        password=st.just(SecretStr("p")),
    ),
    unique_by=lambda route: route.sender,
)
NETWORKS = st.lists(st.sampled_from(("10.0.0.0/8", "192.0.2.0/24", "2001:db8::/32", "192.0.2.1")))


@given(DOMAINS, POLICIES, ROUTES, NETWORKS, st.randoms(use_true_random=False))
def test_the_order_in_which_items_were_made_changes_no_file(
    domains: list[Any], policies: list[Any], routes: list[Any], networks: list[str], random: Any
) -> None:
    """Or every import would look like a change, and make a new version of the configuration."""
    lists = (domains, policies, routes, networks)
    fields = ("recipient_domains", "sender_policies", "routes", "trusted_networks")
    one = context(**{field: tuple(items) for field, items in zip(fields, lists, strict=True)})
    shuffled = {
        field: tuple(random.sample(items, len(items)))
        for field, items in zip(fields, lists, strict=True)
    }
    other = context(**shuffled)
    assert [getattr(one, table) for table in TABLES] == [getattr(other, table) for table in TABLES]
    assert len(one.sender_policy) == len(policies) + 1
    assert len(one.sender_routes) == len(one.sender_credentials) == len(routes)
    assert len(one.recipient_domains) == len(domains)
