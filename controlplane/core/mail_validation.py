"""The checks of everything that decides where mail comes from and goes to.

Each sentence names what Postfix would do with the value otherwise: transport(5), access(5),
postmap(1) and SASL_README say what their tables can hold.
"""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet
from typing import Final

from controlplane.core.findings import Findings
from controlplane.core.names import (
    Address,
    BadValue,
    NextHop,
    parse_address,
    parse_domain_pattern,
    parse_milter,
    parse_network,
    parse_next_hop,
    parse_sender,
)
from controlplane.core.spec import (
    ClusterSpec,
    QueueSpec,
    RecipientDomain,
    SenderRoute,
    TlsMode,
)
from controlplane.core.topology import hostname_of

PORTS: Final = (1, 65_535)
SMTP_PORT: Final = 25
MESSAGE_SIZES_BYTES: Final = (65_536, 2_147_483_647)
QUEUE_LIFETIMES_S: Final = (0, 8_640_000)  # up to 100 days; qmgr(8) ends at once with more
RETRY_TIMES_S: Final = (1, 2_147_483_647)  # and with any other of these
MAX_REPLY_LEN: Final = 400  # RFC 5321 4.5.3.1.5: 512 octets a line, less code and sender
MAX_CREDENTIAL_LEN: Final = 512
_REPLY: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")


def check(spec: ClusterSpec, own: AbstractSet[Address], findings: Findings) -> None:
    """Check all mail settings; `own` are the addresses of the cluster, which are no next hop."""
    hostnames = _hostnames(spec)
    _check_recipient_domains(spec, own, hostnames, findings)
    _check_policies(spec, findings)
    _check_routes(spec, own, hostnames, findings)
    _check_networks(spec, findings)
    _check_postmaster(spec, hostnames, findings)
    findings.in_range(
        "message_size_limit_bytes", spec.message_size_limit_bytes, *MESSAGE_SIZES_BYTES
    )
    _check_queue(spec, findings)
    for name in ("rspamd_address", "clamav_address"):
        findings.parsed(f"milters.{name}", getattr(spec.milters, name), parse_milter)


def _hostnames(spec: ClusterSpec) -> frozenset[str]:
    found = set()
    for node in spec.nodes:
        try:
            found.add(hostname_of(spec, node))
        except BadValue:
            continue
    return frozenset(found)


def _check_recipient_domains(
    spec: ClusterSpec, own: AbstractSet[Address], hostnames: AbstractSet[str], findings: Findings
) -> None:
    seen: dict[str, str] = {}
    for index, domain in enumerate(spec.recipient_domains):
        at = f"recipient_domains.{index}"
        name = findings.parsed(f"{at}.name", domain.name, parse_domain_pattern)
        if name is not None and findings.unique(f"{at}.name", name, seen) and name in hostnames:
            findings.add(f"{at}.name", f"{name} is the host name of a node, not a mail domain.")
        if domain.next_hop is not None:
            _check_next_hop(domain, domain.next_hop, at, own | hostnames, findings=findings)
        findings.in_range(f"{at}.port", domain.port, *PORTS)
        if domain.next_hop is None and domain.port != SMTP_PORT:
            findings.add(f"{at}.port", f"Port {domain.port} needs a next_hop to belong to.")


def _check_next_hop(
    item: RecipientDomain | SenderRoute,
    text: str,
    at: str,
    own: AbstractSet[Address | str],
    *,
    findings: Findings,
) -> None:
    hop = findings.parsed(f"{at}.next_hop", text, parse_next_hop)
    if hop is None:
        return
    problem = _next_hop_problem(hop, item, own)
    if problem:
        findings.add(f"{at}.next_hop", problem)


def _next_hop_problem(
    hop: NextHop, item: RecipientDomain | SenderRoute, own: AbstractSet[Address | str]
) -> str | None:
    identity = parse_address(hop.host) if hop.is_address else hop.host
    if identity in own:
        return f"{hop.host} belongs to this cluster; mail would go round in circles."
    if not hop.is_address:
        if hop.host == "localhost" and item.port == SMTP_PORT:
            return "localhost is the relay itself; mail would go round in circles."
        return None
    address = parse_address(hop.host)
    if address.is_unspecified or address.is_multicast:
        return f"{hop.host} is not the address of a host."
    if address.is_loopback and item.port == SMTP_PORT:
        return f"{hop.host} is the relay itself; mail would go round in circles."
    if item.tls_mode is TlsMode.VERIFY:
        return (
            f"tls_mode verify compares the certificate with a host name; {hop.host} is an address."
        )
    return None


def _check_policies(spec: ClusterSpec, findings: Findings) -> None:
    seen: dict[str, str] = {}
    for index, policy in enumerate(spec.sender_policies):
        at = f"sender_policies.{index}"
        domain = findings.parsed(f"{at}.domain", policy.domain, parse_domain_pattern)
        if domain is not None:
            findings.unique(f"{at}.domain", domain, seen)
        _check_reply(f"{at}.reply_text", policy.reply_text, findings)
    _check_reply("sender_default_reply_text", spec.sender_default_reply_text, findings)


def _check_reply(field: str, text: str, findings: Findings) -> None:
    if text and (not _REPLY.fullmatch(text) or len(text) > MAX_REPLY_LEN):
        findings.add(
            field,
            f"An SMTP reply text is at most {MAX_REPLY_LEN} plain ASCII characters in one line, "
            "without spaces at its ends.",
        )


def _check_routes(
    spec: ClusterSpec, own: AbstractSet[Address], hostnames: AbstractSet[str], findings: Findings
) -> None:
    seen: dict[str, str] = {}
    for index, route in enumerate(spec.routes):
        at = f"routes.{index}"
        sender = findings.parsed(f"{at}.sender", route.sender, parse_sender)
        if sender is not None:
            findings.unique(f"{at}.sender", sender, seen)
        _check_next_hop(route, route.next_hop, at, own | hostnames, findings=findings)
        findings.in_range(f"{at}.port", route.port, *PORTS)
        _check_credentials(route, at, findings)


def _check_credentials(route: SenderRoute, at: str, findings: Findings) -> None:
    username = route.username or ""
    password = route.password.get_secret_value() if route.password is not None else ""
    if username and not password:
        findings.add(f"{at}.password", "A username needs a password.")
    if password and not username:
        findings.add(f"{at}.username", "A password needs a username.")
    if ":" in username:
        findings.add(f"{at}.username", 'A username must not contain ":", which ends it in the map.')
    for field, text in (("username", username), ("password", password)):
        if text != text.strip():
            findings.add(f"{at}.{field}", f"{field} must not start or end with a space.")
        if len(text) > MAX_CREDENTIAL_LEN:
            findings.add(
                f"{at}.{field}", f"{field} is longer than {MAX_CREDENTIAL_LEN} characters."
            )


def _check_networks(spec: ClusterSpec, findings: Findings) -> None:
    seen: dict[object, str] = {}
    for index, text in enumerate(spec.trusted_networks):
        at = f"trusted_networks.{index}"
        network = findings.parsed(at, text, parse_network)
        if network is not None:
            findings.unique(at, network, seen)


def _check_postmaster(spec: ClusterSpec, hostnames: AbstractSet[str], findings: Findings) -> None:
    if spec.postmaster is None:
        return
    address = findings.parsed("postmaster", spec.postmaster, parse_sender)
    if address is None:
        return
    local, _, domain = address.partition("@")
    if not local:
        findings.add("postmaster", f'"{address}" is not a mail address.')
    elif domain in hostnames:
        findings.add("postmaster", f"{address} is on a node of this cluster, which keeps no mail.")


def _check_queue(spec: ClusterSpec, findings: Findings) -> None:
    queue = spec.queue
    for name in ("maximal_queue_lifetime_s", "bounce_queue_lifetime_s"):
        findings.in_range(f"queue.{name}", getattr(queue, name), *QUEUE_LIFETIMES_S)
    for name in ("minimal_backoff_s", "maximal_backoff_s", "queue_run_delay_s"):
        findings.in_range(f"queue.{name}", getattr(queue, name), *RETRY_TIMES_S)
    _check_order(queue, "minimal_backoff_s", "maximal_backoff_s", findings)
    so_late = ", so mail would be tried later than asked for"
    _check_order(queue, "queue_run_delay_s", "minimal_backoff_s", findings, so_late)
    if queue.maximal_queue_lifetime_s > 0:
        _check_order(queue, "maximal_backoff_s", "maximal_queue_lifetime_s", findings)
    if queue.maximal_queue_lifetime_s >= 0:
        instead = ", which Postfix would use instead"
        lifetimes = ("bounce_queue_lifetime_s", "maximal_queue_lifetime_s")
        _check_order(queue, *lifetimes, findings, instead)


def _check_order(
    queue: QueueSpec, smaller: str, greater: str, findings: Findings, consequence: str = ""
) -> None:
    low, high = getattr(queue, smaller), getattr(queue, greater)
    if low > high:
        findings.add(
            f"queue.{smaller}", f"{smaller} {low} is greater than {greater} {high}{consequence}."
        )
