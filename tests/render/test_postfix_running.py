"""A real Postfix with the rendered files does what the spec says: policy, routes, TLS, secrets."""

from __future__ import annotations

import shutil
import signal
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from controlplane.core.spec import (
    ClusterSpec,
    QueueSpec,
    RecipientDomain,
    SenderAction,
    SenderPolicy,
    SenderRoute,
    TlsMode,
    VipSpec,
)
from nodeagent.adapters.postfix import Postfix
from nodeagent.core.names import is_queue_id
from tests.render.rendered_postfix import (
    STRANGER,
    Delivery,
    NextHop,
    RenderedPostfix,
    complaints_of,
    log_of,
    wait_for,
)
from tests.render.specs import NODE_A, NODE_B, certificate, pair

pytestmark = pytest.mark.skipif(shutil.which("postfix") is None, reason="needs Postfix")

PASSWORD = 'p:a ss#"$x{}ü'


@pytest.fixture(scope="module")
def provider() -> Iterator[NextHop]:
    """Give the next hop of the sender routes."""
    yield from running_hop()


@pytest.fixture(scope="module")
def mailstore() -> Iterator[NextHop]:
    """Give the next hop of the recipient domain."""
    yield from running_hop()


def running_hop() -> Iterator[NextHop]:
    """Start and stop one next hop."""
    hop = NextHop()
    hop.start()
    yield hop
    hop.stop()


def world(provider: NextHop, mailstore: NextHop) -> ClusterSpec:
    """Describe a relay with one recipient domain, two policies and three routes to one host."""
    to_provider = {"next_hop": "127.0.0.1", "port": provider.port}
    return pair(
        recipient_domains=(
            RecipientDomain(name="example.com", next_hop="127.0.0.1", port=mailstore.port),
        ),
        sender_policies=(
            SenderPolicy(domain="allowed.tld", action=SenderAction.ALLOWED),
            SenderPolicy(domain="other.tld", action=SenderAction.ALLOWED),
            SenderPolicy(
                domain="blocked.tld", action=SenderAction.BLOCKED, reply_text="Not you; #1 $x {y}"
            ),
        ),
        sender_default=SenderAction.BLOCKED,
        sender_default_reply_text="Ask for $1 & more",
        routes=(
            SenderRoute(
                sender="@allowed.tld",
                tls_mode=TlsMode.NONE,
                username="relay-user",
                password=PASSWORD,
                **to_provider,
            ),
            SenderRoute(sender="open@allowed.tld", tls_mode=TlsMode.NONE, **to_provider),
            SenderRoute(sender="@other.tld", tls_mode=TlsMode.ENCRYPT, **to_provider),
        ),
        postmaster="ops@example.com",
        tls=certificate(),
    )


@pytest.fixture(scope="module")
def postfix(
    provider: NextHop, mailstore: NextHop, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RenderedPostfix]:
    """Give one running instance for the whole module."""
    root: Path = tmp_path_factory.mktemp("rendered")
    instance = RenderedPostfix(root, spec=world(provider, mailstore))
    instance.start()
    yield instance
    instance.stop()


def delivered(postfix: RenderedPostfix, hop: NextHop, sender: str, recipient: str) -> Delivery:
    """Submit one message and return it as the next hop got it."""
    before = len(hop.deliveries)
    postfix.submit(sender, recipient)
    wait_for(lambda: len(hop.deliveries) > before, lambda: log_of(postfix)[-2000:])
    return hop.deliveries[-1]


def test_stranger_may_send_to_recipient_domains_only(postfix: RenderedPostfix) -> None:
    """The relay is not open."""
    assert postfix.reply("a@allowed.tld", "b@example.com", STRANGER)[0] == 250
    code, text = postfix.reply("a@allowed.tld", "b@elsewhere.tld", STRANGER)
    assert (code, "Relay access denied" in text) == (554, True)
    assert postfix.reply("a@allowed.tld", "b@sub.example.com", STRANGER)[0] == 554


def test_trusted_network_may_send_anywhere(postfix: RenderedPostfix) -> None:
    """A trusted client is relayed to any domain."""
    assert postfix.reply("a@allowed.tld", "b@elsewhere.tld")[0] == 250


@pytest.mark.parametrize("source", ["127.0.0.1", STRANGER])
def test_blocked_sender_is_refused_with_its_text_for_everybody(
    postfix: RenderedPostfix, source: str
) -> None:
    """The policy binds trusted networks too, and its text arrives unchanged."""
    code, text = postfix.reply("A@Blocked.TLD", "b@example.com", source)
    assert code == 550
    assert text.startswith("5.7.1 ")
    assert text.endswith("Not you; #1 $x {y}")


def test_sender_without_policy_gets_the_default(postfix: RenderedPostfix) -> None:
    """With a blocked default a stranger's domain is refused, subdomains of allowed ones too."""
    for sender in ("a@nobody.tld", "a@sub.allowed.tld", "nodomain"):
        code, text = postfix.reply(sender, "b@example.com")
        assert (code, text.endswith("Ask for $1 & more")) == (550, True)


def test_bounces_pass_the_sender_policy(postfix: RenderedPostfix) -> None:
    """The null sender has no domain that could be blocked."""
    assert postfix.reply("<>", "b@example.com", STRANGER)[0] == 250


def test_starttls_is_offered_and_not_demanded(postfix: RenderedPostfix) -> None:
    """A client may use TLS, and need not."""
    context = ssl.create_default_context(cadata=certificate().cert_pem)
    context.check_hostname = False
    with postfix.connect() as client:
        assert client.ehlo()[0] == 250
        assert client.has_extn("starttls")
        client.starttls(context=context)
        assert client.ehlo()[0] == 250
    assert postfix.reply("a@allowed.tld", "b@example.com")[0] == 250


def test_node_keeps_no_mailboxes_but_has_a_postmaster(postfix: RenderedPostfix) -> None:
    """Mail to the node's own name is refused, unless it is for somebody who reads it."""
    host = "node-a.relay.internal"
    assert postfix.reply("a@allowed.tld", f"postmaster@{host}", STRANGER)[0] == 250
    assert postfix.reply("a@allowed.tld", f"daemon@{host}", STRANGER)[0] == 550


def test_vrfy_and_bare_envelopes_are_refused(postfix: RenderedPostfix) -> None:
    """Nobody can ask for addresses, or skip the greeting."""
    with postfix.connect() as client:
        assert client.docmd("MAIL", "FROM:<a@allowed.tld>")[0] == 503
        client.helo("client.example")
        assert client.docmd("VRFY", "root")[0] == 502


def test_banner_comes_at_once_without_a_resolver(postfix: RenderedPostfix) -> None:
    """No name lookup stands between a client and its banner."""
    begun_s = time.monotonic()
    with postfix.connect(STRANGER):
        assert time.monotonic() - begun_s < 4.5  # a resolver's first timeout is 5 s
    wait_for(lambda: "unknown[127.0.0.9]" in log_of(postfix), lambda: log_of(postfix)[-2000:])


def test_recipient_domain_goes_to_its_next_hop_without_credentials(
    postfix: RenderedPostfix, mailstore: NextHop
) -> None:
    """A next hop of a recipient never sees the password of the sender's route, though it asks."""
    got = delivered(postfix, mailstore, "a@allowed.tld", "b@example.com")
    assert got == Delivery("a@allowed.tld", ("b@example.com",), None, is_tls=False)
    assert mailstore.logins == []


def test_route_logs_in_at_its_next_hop(postfix: RenderedPostfix, provider: NextHop) -> None:
    """A password with every odd character arrives as it was typed."""
    got = delivered(postfix, provider, "a@allowed.tld", "b@elsewhere.tld")
    assert got.login == "relay-user"
    assert provider.logins[-1] == ("relay-user", PASSWORD)


def test_route_of_one_sender_does_not_use_the_domains_password(
    postfix: RenderedPostfix, provider: NextHop
) -> None:
    """A route without credentials sends none, even to the host that has them for the domain."""
    got = delivered(postfix, provider, "open@allowed.tld", "b@elsewhere.tld")
    assert got.login is None


def test_route_that_demands_tls_waits_for_it(postfix: RenderedPostfix, provider: NextHop) -> None:
    """The same next hop, another TLS mode: nothing is sent in clear, the message stays queued."""
    postfix.submit("a@other.tld", "b@elsewhere.tld")
    wait_for(lambda: bool(postfix.ids("deferred")), lambda: log_of(postfix)[-2000:])
    said = "TLS is required, but was not offered"
    wait_for(lambda: said in log_of(postfix), lambda: log_of(postfix)[-2000:])
    assert not [one for one in provider.deliveries if one.sender == "a@other.tld"]
    assert all(is_queue_id(name) for name in postfix.ids("deferred"))


def test_relay_with_ipv6_addresses_runs(
    mailstore: NextHop, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Postfix takes the cluster's IPv6 addresses for its own, and delivers."""
    nodes = tuple(
        node.model_copy(update={"address": f"2001:db8::{number}"})
        for number, node in enumerate((NODE_A, NODE_B), start=1)
    )
    vips = (VipSpec(address="2001:db8::100", virtual_router_id=6),)
    domain = RecipientDomain(name="example.com", next_hop="127.0.0.1", port=mailstore.port)
    spec = pair(nodes=nodes, vips=vips, recipient_domains=(domain,))
    instance = RenderedPostfix(tmp_path_factory.mktemp("pf"), spec=spec)
    instance.start()
    try:
        assert delivered(instance, mailstore, "a@six.tld", "b@example.com").sender == "a@six.tld"
        assert instance.reply("a@six.tld", "x@[IPv6:2001:db8::100]", STRANGER)[0] == 550
        assert complaints_of(instance) == []
    finally:
        instance.stop()


@pytest.mark.parametrize("limit_s", [1, 8_640_000])
def test_queue_manager_takes_the_limits_of_its_times(
    mailstore: NextHop, tmp_path_factory: pytest.TempPathFactory, limit_s: int
) -> None:
    """What validation lets through at either end starts, delivers, and is not adjusted."""
    times = QueueSpec(
        maximal_queue_lifetime_s=limit_s,
        bounce_queue_lifetime_s=limit_s,
        minimal_backoff_s=limit_s,
        maximal_backoff_s=limit_s,
        queue_run_delay_s=limit_s,
    )
    domain = RecipientDomain(name="example.com", next_hop="127.0.0.1", port=mailstore.port)
    spec = pair(recipient_domains=(domain,), queue=times)
    instance = RenderedPostfix(tmp_path_factory.mktemp("pf"), spec=spec)
    instance.start()
    try:
        assert delivered(instance, mailstore, "a@b.tld", "b@example.com").sender == "a@b.tld"
        log = log_of(instance)
    finally:
        instance.stop()
    assert "fatal:" not in log
    assert "adjusting" not in log


def test_killed_queue_manager_is_back_for_the_next_message(
    postfix: RenderedPostfix, provider: NextHop
) -> None:
    """After the guard's fence no minute passes until mail flows again."""
    kill_queue_manager(postfix)
    begun_s = time.monotonic()
    delivered(postfix, provider, "a@allowed.tld", "b@elsewhere.tld")
    assert time.monotonic() - begun_s < 30


def test_killed_queue_manager_comes_back_without_mail(postfix: RenderedPostfix) -> None:
    """Its own wakeup starts it again: old mail does not wait for new mail."""
    killed = kill_queue_manager(postfix)
    wait_for(lambda: not queue_managers(postfix) & killed, lambda: "it was not killed")
    wait_for(lambda: bool(queue_managers(postfix)), lambda: log_of(postfix)[-2000:])


def queue_managers(postfix: RenderedPostfix) -> set[int]:
    """Return the pid of the queue manager, if it runs."""
    running = Postfix(postfix.queue, postfix.config).deliverers()
    return {pid for pid, name in running if name == "qmgr"}


def kill_queue_manager(postfix: RenderedPostfix) -> set[int]:
    """Kill the queue manager as the lease guard does; return its pid."""
    before = queue_managers(postfix)
    assert before
    Postfix(postfix.queue, postfix.config).signal_deliverers(signal.SIGKILL, only="qmgr")
    return before


def test_nothing_was_logged_as_wrong(postfix: RenderedPostfix) -> None:
    """Postfix found nothing to warn about in all of this."""
    assert complaints_of(postfix, "killed by signal 9") == []
