"""DMARC's records and alignment (RFC 7489): what a domain asks for, and who may speak for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from nodeagent.policy.engine.authentication import (
    DkimCheck,
    DmarcCheck,
    DmarcPolicy,
    Result,
    SpfCheck,
)
from nodeagent.policy.engine.authors import MOST_FROM_CHARS, addresses_in
from nodeagent.policy.engine.values import domain_of
from nodeagent.policy.model import Header

FULL_PERCENT: Final = 100
_VERSION: Final = "DMARC1"
_LOWER: Final = {
    DmarcPolicy.REJECT: DmarcPolicy.QUARANTINE,
    DmarcPolicy.QUARANTINE: DmarcPolicy.NONE,
    DmarcPolicy.NONE: DmarcPolicy.NONE,
}

OrganizationOf = Callable[[str], str]
"""Gives the domain that somebody registered for any name below it (a public suffix list)."""


@dataclass(frozen=True)
class DmarcRecord:
    """One record; `policy` is for the domain that has it, `subdomain_policy` for those below."""

    policy: DmarcPolicy
    subdomain_policy: DmarcPolicy
    is_dkim_strict: bool = False
    is_spf_strict: bool = False


def parse_record(texts: Iterable[str]) -> DmarcRecord | None:
    """Return the one DMARC record among TXT records; None where there is none, or more than one.

    A policy that is asked for on a part of the mails (pct) counts as the next milder one.
    """
    found = [tags for tags in map(_tags, texts) if tags]
    if len(found) != 1:
        return None
    tags = found[0]
    policy = _policy(tags.get("p"))
    if policy is None:
        if "rua" not in tags:
            return None
        policy = DmarcPolicy.NONE  # RFC 7489, 6.6.3
    below = _policy(tags.get("sp")) or policy
    percent = tags.get("pct", "")
    if percent.isdecimal() and int(percent[:4]) < FULL_PERCENT:
        policy, below = _LOWER[policy], _LOWER[below]
    return DmarcRecord(policy, below, tags.get("adkim") == "s", tags.get("aspf") == "s")


def author_domain(headers: Iterable[Header]) -> str | None:
    """Return the domain in From; None for a mail without one, with several, or with none we read.

    Which of two a reader sees is not known, so neither may speak for the mail.
    """
    values = [value for name, value in headers if name.strip().lower() == "from"]
    if len(values) != 1 or len(values[0]) > MOST_FROM_CHARS:
        return None
    domains = {domain_of(address) for address in addresses_in(values[0])}
    return domains.pop() or None if len(domains) == 1 else None


def judge_dmarc(
    domain: str,
    records: tuple[DmarcRecord | None, DmarcRecord | None],
    spf: SpfCheck,
    dkim: Iterable[DkimCheck],
    organization_of: OrganizationOf,
) -> DmarcCheck:
    """Return what DMARC says; `records` are the domain's own and its organization's."""
    own, above = records
    record = own or above
    if record is None:
        return DmarcCheck(Result.NONE, domain)
    policy = record.policy if own else record.subdomain_policy
    organization = organization_of(domain)

    def is_aligned(other: str, *, is_strict: bool) -> bool:
        return other == domain or (
            not is_strict and bool(other) and organization_of(other) == organization
        )

    results = [
        check.result for check in dkim if is_aligned(check.domain, is_strict=record.is_dkim_strict)
    ]
    if is_aligned(spf.domain, is_strict=record.is_spf_strict):
        results.append(spf.result)
    if Result.PASS in results:
        return DmarcCheck(Result.PASS, domain, policy)
    unknown = Result.TEMPERROR in results
    return DmarcCheck(Result.TEMPERROR if unknown else Result.FAIL, domain, policy)


def _tags(text: str) -> dict[str, str]:
    """Return the tags of a record, {} for a text that is none."""
    parts = [part.partition("=") for part in text.split(";")]
    tags = [(name.strip().lower(), value.strip()) for name, equals, value in parts if equals]
    if not tags or tags[0] != ("v", _VERSION):
        return {}
    return {name: value.lower() if name != "rua" else value for name, value in reversed(tags)}


def _policy(text: str | None) -> DmarcPolicy | None:
    try:
        return DmarcPolicy(text or "")
    except ValueError:
        return None
