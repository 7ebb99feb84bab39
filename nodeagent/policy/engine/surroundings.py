"""What the engine knows of its own side: trusted networks, own domains and names, exemptions."""

from __future__ import annotations

from dataclasses import dataclass

from nodeagent.policy.document import ListEntry, PolicySettings
from nodeagent.policy.engine.lists import Lists, ListSection
from nodeagent.policy.engine.values import domain_of, lookup_domain
from nodeagent.policy.model import Session

_ALWAYS = 0.0  # these entries do not expire, so any time will do
_UNNAMED = "mail-relay.invalid"


@dataclass(frozen=True)
class Surroundings:
    """The settings that are looked up for each session, compiled."""

    trusted: Lists
    exempt: Lists
    domains: frozenset[str]
    above: frozenset[str]  # "example.com" for ".example.com"
    names: frozenset[str]
    authserv_id: str  # RFC 8601: one for the cluster, so that a failover changes nothing
    problems: tuple[str, ...] = ()

    @classmethod
    def compile(cls, settings: PolicySettings) -> Surroundings:
        """Never raises; a value that is none is left out and is in `problems`."""
        trusted, problems = _lists("trusted_networks", settings.trusted_networks)
        exempt, more = _lists("rate_exempt", settings.rate_exempt)
        owned = [lookup_domain(name) for name in settings.own_domains]
        names = frozenset(map(lookup_domain, settings.own_names))
        return cls(
            trusted=trusted,
            exempt=exempt,
            domains=frozenset(name for name in owned if not name.startswith(".")),
            above=frozenset(name[1:] for name in owned if name.startswith(".")),
            names=names,
            authserv_id=min(names, default=_UNNAMED),
            problems=problems + more,
        )

    def is_trusted(self, session: Session) -> bool:
        """Tell whether the client is in a trusted network or has logged in.

        A client of which the MTA tells no address is a stranger: unknown is never permission.
        """
        if session.login is not None:
            return True
        ip = session.client.ip
        return ip is not None and self.trusted.find_ip(ip, _ALWAYS) is not None

    def is_exempt(self, session: Session) -> bool:
        """Tell whether no rate holds for this client, by its network or its login."""
        ip, login = session.client.ip, session.login
        if ip is not None and self.exempt.find_ip(ip, _ALWAYS) is not None:
            return True
        return login is not None and self.is_address_exempt(login)

    def is_address_exempt(self, address: str) -> bool:
        """Tell whether no rate of this address, or of its domain, holds."""
        return self.exempt.find_address(address, _ALWAYS) is not None

    def is_own_domain(self, name: str) -> bool:
        """Tell whether a domain is one of the cluster's recipient domains, or below one of them."""
        domain = lookup_domain(name)
        if domain in self.domains:
            return True
        while domain and self.above:
            domain = domain.partition(".")[2]
            if domain in self.above:
                return True
        return False

    def is_own_address(self, address: str) -> bool:
        """Tell whether an address is in one of the cluster's recipient domains."""
        return self.is_own_domain(domain_of(address))

    def is_own_name(self, name: str) -> bool:
        """Tell whether a host name is a node's or a recipient domain's own.

        Names below a recipient domain are not: its mail server may well be a stranger's host.
        """
        host = lookup_domain(name)
        return host in self.names or host in self.domains


def _lists(field: str, values: tuple[str, ...]) -> tuple[Lists, tuple[str, ...]]:
    section = ListSection.compile(
        ListEntry(id=number, value=value) for number, value in enumerate(values, start=1)
    )
    return Lists([section]), tuple(f"settings: {field}: {problem}" for problem in section.problems)
