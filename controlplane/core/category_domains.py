"""The domains that belong to categories alone, which Postfix takes mail for as well.

Theory of operation. A category may live in a domain that is no recipient domain. Strangers would
be refused there ("Relay access denied") before the policy hook is asked about anything, so Postfix
accepts these domains while it asks the hook. Which addresses exist in them only the hook knows: it
rejects the others at RCPT, and puts subscribers in the place of a category. Postmaster and abuse,
which it lets pass (RFC 5321 and 2142), are the cluster's postmaster.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Final

from controlplane.core.names import BadValue, parse_domain
from controlplane.core.spec import ClusterSpec
from controlplane.core.topology import hostname_of
from nodeagent.policy.places import LIST_DOMAIN

ALIASES: Final = ("abuse", "postmaster")


def category_domains(spec: ClusterSpec, recipient_domains: AbstractSet[str]) -> tuple[str, ...]:
    """Return them in their order, in A-labels; none while Postfix does not ask the hook.

    `recipient_domains` are as Postfix has them: "example.com", or ".example.com" for all below it.
    What is none of a name (an address literal), or a name of the cluster's own, is left out.
    """
    if not spec.milters.policy:
        return ()
    own = {hostname_of(spec, node) for node in spec.nodes} | {f"localhost.{spec.domain}"}
    return tuple(
        sorted(
            domain
            for domain in {*map(_parsed, spec.category_domains)} - own - {"", LIST_DOMAIN}
            if not _is_covered(domain, recipient_domains)
        )
    )


def _parsed(text: str) -> str:
    try:
        return parse_domain(text)
    except BadValue:
        return ""


def _is_covered(domain: str, patterns: AbstractSet[str]) -> bool:
    labels = domain.split(".")
    above = (f".{'.'.join(labels[start:])}" for start in range(1, len(labels)))
    return domain in patterns or any(pattern in patterns for pattern in above)
