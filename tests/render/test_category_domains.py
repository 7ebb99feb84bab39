"""Categories in domains of their own: strangers reach them, as long as Postfix asks the hook."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.core.category_domains import category_domains
from controlplane.core.context import postfix_context
from controlplane.core.spec import (
    ClusterSpec,
    MilterDefault,
    MiltersSpec,
    RecipientDomain,
)
from nodeagent.policy.places import LIST_DOMAIN
from tests.render.rendered_postfix import STRANGER, RenderedPostfix
from tests.render.specs import pair

ASKING = MiltersSpec(policy=True, default_action=MilterDefault.ACCEPT)
LISTS = "lists.example.net"


def spec_of(*domains: str, **more: Any) -> ClusterSpec:
    """Give a pair whose policy has categories in these domains."""
    return pair(**{"milters": ASKING, "category_domains": domains, **more})


def test_they_are_accepted_in_order_beside_the_recipient_domains() -> None:
    """Also where they were typed in capitals or in another script."""
    given = (RecipientDomain(name="m.example"),)
    spec = spec_of("z.example", "Lists.EXAMPLE.net", "bücher.example", recipient_domains=given)
    accepted = postfix_context(spec, spec.nodes[0]).recipient_domains
    names = ("lists.example.net", "m.example", "xn--bcher-kva.example", "z.example")
    assert accepted == tuple((name, "relay") for name in names)


def test_nothing_is_accepted_for_them_while_postfix_does_not_ask() -> None:
    """Without the hook nobody knows which addresses there are."""
    spec = spec_of(LISTS, milters=MiltersSpec(rspamd=True), postmaster="post@example.com")
    context = postfix_context(spec, spec.nodes[0])
    assert context.recipient_domains == ()
    assert not [name for name, _ in context.node_aliases if name.endswith(LISTS)]


@pytest.mark.parametrize(
    ("domain", "patterns"),
    [
        ("example.com", {"example.com"}),
        ("lists.example.com", {".example.com"}),
        ("a.b.lists.example.com", {".example.com"}),
        ("node-a.relay.internal", set()),
        ("node-b.relay.internal", set()),
        ("localhost.relay.internal", set()),
        (LIST_DOMAIN, set()),
        ("[203.0.113.1]", set()),
        ("", set()),
    ],
)
def test_what_is_somebody_elses_or_no_name_is_left_out(domain: str, patterns: set[str]) -> None:
    """A recipient domain has its next hop, a node's name is no mail domain."""
    assert category_domains(spec_of(domain), patterns) == ()


@pytest.mark.parametrize("pattern", ["example.com", ".lists.example.com", ".ample.com"])
def test_a_neighbour_covers_nothing(pattern: str) -> None:
    """Postfix takes "example.com" for itself alone, and ".x" for what is below it."""
    assert category_domains(spec_of("lists.example.com"), {pattern}) == ("lists.example.com",)


def test_postmaster_and_abuse_are_the_clusters() -> None:
    """The hook lets them pass in every domain; root is no business of a mail domain."""
    spec = spec_of(LISTS, postmaster="post@example.com")
    aliases = dict(postfix_context(spec, spec.nodes[0]).node_aliases)
    there = {name: to for name, to in aliases.items() if name.endswith(f"@{LISTS}")}
    assert there == {f"{name}@{LISTS}": "post@example.com" for name in ("abuse", "postmaster")}


def test_a_real_postfix_takes_mail_of_strangers(tmp_path_factory: pytest.TempPathFactory) -> None:
    """For the domain of a category, and for no other; its postmaster is found."""
    spec = spec_of(LISTS, postmaster="post@example.com")
    postfix = RenderedPostfix(tmp_path_factory.mktemp("pf"), spec=spec)
    postfix.start()
    try:
        answers = {
            recipient: postfix.reply("a@x.example", recipient, STRANGER)[0]
            for recipient in (f"news@{LISTS}", f"postmaster@{LISTS}", f"news@sub.{LISTS}")
        }
    finally:
        postfix.stop()
    assert answers == {
        f"news@{LISTS}": 250,
        f"postmaster@{LISTS}": 250,
        f"news@sub.{LISTS}": 554,
    }
