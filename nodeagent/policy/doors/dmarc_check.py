"""DMARC of one mail (RFC 7489): looks the record up; the rest is `engine.dmarc`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from publicsuffixlist import PublicSuffixList

from nodeagent.policy.doors.dns_client import DnsFailed, Lookup
from nodeagent.policy.engine.authentication import DkimCheck, DmarcCheck, Result, SpfCheck
from nodeagent.policy.engine.dmarc import DmarcRecord, author_domain, judge_dmarc, parse_record
from nodeagent.policy.model import Message


@dataclass(frozen=True)
class Author:
    """The domain in From, and the records of it and its organization.

    `domain` is None for a mail with none, or with several; `records` where the DNS failed.
    """

    domain: str | None
    records: tuple[DmarcRecord | None, DmarcRecord | None] | None = None

    def may_speak(self, domain: str) -> bool:
        """Tell whether what SPF or DKIM says of another domain can be about the author."""
        return self.domain is not None and organization_of(domain) == organization_of(self.domain)

    def judge(self, spf: SpfCheck, signatures: tuple[DkimCheck, ...]) -> DmarcCheck:
        """Return what DMARC says; "permerror" where nobody, or nobody alone, is the author."""
        if self.domain is None:
            return DmarcCheck(Result.PERMERROR)
        if self.records is None:
            return DmarcCheck(Result.TEMPERROR, self.domain)
        return judge_dmarc(self.domain, self.records, spf, signatures, organization_of)


def find_author(message: Message, lookup: Lookup) -> Author:
    """Look up what is published for the author of a mail."""
    domain = author_domain(message.headers)
    if domain is None:
        return Author(None)
    organization = organization_of(domain)
    try:
        own = _record(domain, lookup)
        above = _record(organization, lookup) if own is None and organization != domain else None
    except DnsFailed:
        return Author(domain)
    return Author(domain, (own, above))


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
