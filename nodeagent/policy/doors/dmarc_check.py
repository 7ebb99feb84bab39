"""DMARC of one mail (RFC 7489): looks the record up; the rest is `engine.dmarc`."""

from __future__ import annotations

from functools import cache

from publicsuffixlist import PublicSuffixList

from nodeagent.policy.doors.dns_client import DnsFailed, Lookup
from nodeagent.policy.engine.authentication import DkimCheck, DmarcCheck, Result, SpfCheck
from nodeagent.policy.engine.dmarc import DmarcRecord, author_domain, judge_dmarc, parse_record
from nodeagent.policy.model import Message


def check_dmarc(
    message: Message, spf: SpfCheck, signatures: tuple[DkimCheck, ...], lookup: Lookup
) -> DmarcCheck:
    """Return DMARC of the domain in From; "permerror" for a mail with none, or with several."""
    domain = author_domain(message.headers)
    if domain is None:
        return DmarcCheck(Result.PERMERROR)
    organization = organization_of(domain)
    try:
        own = _record(domain, lookup)
        above = _record(organization, lookup) if own is None and organization != domain else None
    except DnsFailed:
        return DmarcCheck(Result.TEMPERROR, domain)
    return judge_dmarc(domain, (own, above), spf, signatures, organization_of)


def organization_of(domain: str) -> str:
    """Return the registered domain that a name belongs to, or the name itself."""
    return _suffixes().privatesuffix(domain) or domain


def _record(domain: str, lookup: Lookup) -> DmarcRecord | None:
    return parse_record(
        text.decode("utf-8", "replace") for text in lookup.texts(f"_dmarc.{domain}")
    )


@cache
def _suffixes() -> PublicSuffixList:
    """Read the list when it is first needed: it takes 100 ms and some MiB."""
    return PublicSuffixList()
