"""SPF of one mail (RFC 7208), by pyspf and our DNS client."""

from __future__ import annotations

from typing import Any, Final

import spf

from nodeagent.policy.doors.dns_client import STUMBLES, DnsFailed, Lookup
from nodeagent.policy.engine.authentication import Result, SpfCheck
from nodeagent.policy.engine.values import domain_of, lookup_domain
from nodeagent.policy.model import Client

LONGEST_RECORD_BYTES: Final = 2_048  # RFC 7208 hopes for 450; pyspf's time grows with the square


def check_spf(client: Client, helo: str | None, sender: str | None, lookup: Lookup) -> SpfCheck:
    """Return SPF of the sender's domain, or of the HELO name for the null sender.

    A DNS that does not answer is "temperror", whatever pyspf stumbles over "permerror".
    """
    domain = spf_domain(helo, sender)
    is_of_helo = not sender
    if client.ip is None or "." not in domain or domain.startswith("["):
        return SpfCheck(Result.NONE, domain, is_of_helo)
    local = (sender or "").rpartition("@")[0]
    is_plain = local.isascii() and local.isprintable() and "@" not in local
    address = f"{local if is_plain else ''}@{domain}"
    try:
        result = Result(_Query(lookup, str(client.ip), address, helo or domain).check()[0])
    except STUMBLES:
        result = Result.PERMERROR
    return SpfCheck(result, domain, is_of_helo)


def spf_domain(helo: str | None, sender: str | None) -> str:
    """Return the domain that SPF is about."""
    return domain_of(sender) if sender else lookup_domain(helo or "")


class _Query(spf.query):  # type: ignore[misc]  # pyspf has no types
    """A query of pyspf that asks our DNS client."""

    def __init__(self, lookup: Lookup, ip: str, sender: str, helo: str) -> None:
        super().__init__(i=ip, s=sender, h=helo)
        self._lookup = lookup

    def dns(
        self,
        name: str,
        qtype: str,
        cnames: object = None,  # noqa: ARG002 - our client follows them
        ignore_void: bool = False,
    ) -> list[Any]:
        """Return records as pyspf wants them; names without any are counted (RFC 7208, 4.6.4)."""
        try:
            found = [_as_pyspf(record, qtype) for record in self._lookup.ask(name, qtype)]
        except DnsFailed as error:
            raise spf.TempError(str(error)) from error
        if not found and not ignore_void:
            self.void_lookups += 1
            if self.void_lookups > spf.MAX_VOID_LOOKUPS:
                raise spf.PermError("too many names in the record do not exist")
        return found


def _as_pyspf(record: Any, kind: str) -> Any:
    if kind in {"A", "AAAA"}:
        return record.address
    if kind == "MX":
        return record.preference, record.exchange.to_text(omit_final_dot=True)
    if kind == "PTR":
        return record.target.to_text(omit_final_dot=True)
    if sum(map(len, record.strings)) <= LONGEST_RECORD_BYTES:
        return record.strings
    if spf.RE_SPF.match(b"".join(record.strings)):
        raise spf.PermError("the record is too long")
    return ()  # some other text of the name
