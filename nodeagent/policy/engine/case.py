"""One question to the engine, with what several rules want to know of it, looked up once."""

from __future__ import annotations

from dataclasses import dataclass

from nodeagent.policy.document import Listing, RateRule
from nodeagent.policy.engine.authentication import AuthenticationResults, Result
from nodeagent.policy.engine.authors import authors
from nodeagent.policy.engine.content import Content
from nodeagent.policy.engine.lazily import lazily
from nodeagent.policy.engine.lists import BLOCKLIST, BOTH_LISTS, ListMatch
from nodeagent.policy.engine.mime import read_content
from nodeagent.policy.engine.policy import CompiledPolicy
from nodeagent.policy.engine.values import domain_of, lookup_address
from nodeagent.policy.model import Envelope, Message, Session, Stage


@dataclass(frozen=True)
class Given:
    """What the engine cannot know by itself: the time, the counts and the look-ups."""

    now_s: float = 0.0  # seconds since 1970, by the node's clock
    exceeded: tuple[RateRule, ...] = ()
    authentication: AuthenticationResults | None = None  # None: not looked up


@dataclass(frozen=True)
class Listed:
    """An entry of block- or allowlist that fits; `where` says what of the mail it fits."""

    where: str
    match: ListMatch
    value: str  # what was looked up: personal


@dataclass(frozen=True)
class Case:
    """Stage, session, envelope, message and policy; it computes, but it changes nothing."""

    stage: Stage
    session: Session
    envelope: Envelope
    message: Message | None
    policy: CompiledPolicy
    given: Given

    @lazily
    def is_trusted(self) -> bool:
        """Tell whether the client is in a trusted network or has logged in."""
        return self.policy.surroundings.is_trusted(self.session)

    @lazily
    def content(self) -> Content | None:
        """Return what the mail holds; None where there is none, or it is not to be looked at."""
        if self.message is None:
            return None
        if self.is_trusted and self.policy.settings.trusted_skip_content:
            return None
        return read_content(self.message)

    @lazily
    def judged_recipients(self) -> tuple[str, ...]:
        """Return the current recipient at RCPT, and all of them at DATA."""
        recipients = self.envelope.recipients
        return recipients[-1:] if self.stage is Stage.RCPT else recipients

    @lazily
    def authors(self) -> tuple[str, ...]:
        """Return the addresses in the mail's From."""
        return () if self.message is None else authors(self.message.headers)

    @lazily
    def client_listed(self) -> tuple[Listed, ...]:
        """Return the entries for the client's address and verified name."""
        client, now_s, found = self.session.client, self.given.now_s, []
        if client.ip is not None:
            match = self.policy.lists.find_ip(client.ip, now_s)
            if match is not None:
                found.append(Listed("the client's address", match, str(client.ip)))
        if client.name is not None:
            match = self.policy.lists.find_domain(client.name, now_s)
            if match is not None:
                found.append(Listed("the client's host name", match, client.name))
        return tuple(found)

    @lazily
    def login_listed(self) -> tuple[Listed, ...]:
        """Return the entry for the login, where that is an address."""
        login = self.session.login
        return () if login is None else self._listed("the login", (login,), BOTH_LISTS)

    @lazily
    def sender_listed(self) -> tuple[Listed, ...]:
        """Return the entry for the envelope sender; one of the blocklist where it is forged."""
        sender, listings = self.envelope.sender, BLOCKLIST if self.is_forged else BOTH_LISTS
        return () if sender is None else self._listed("the sender", (sender,), listings)

    @lazily
    def helo_listed(self) -> tuple[Listed, ...]:
        """Return the blocklist's entry for the HELO name, which anybody can choose."""
        helo, find = self.session.helo, self.policy.lists.find_domain
        match = find(helo, self.given.now_s, BLOCKLIST) if helo else None
        return () if helo is None or match is None else (Listed("the HELO name", match, helo),)

    @lazily
    def recipients_listed(self) -> tuple[Listed, ...]:
        """Return the blocklist's entries for the recipients, whom the sender chooses."""
        return self._listed("a recipient", self.judged_recipients, BLOCKLIST)

    @lazily
    def authors_listed(self) -> tuple[Listed, ...]:
        """Return the blocklist's entries for the addresses in From."""
        return self._listed("the author", self.authors, BLOCKLIST)

    @lazily
    def is_forged(self) -> bool:
        """Tell whether SPF says that somebody else wrote the envelope sender."""
        results = self.given.authentication
        spf = None if results is None or self.is_trusted else results.spf
        return spf is not None and spf.result is Result.FAIL and not spf.is_of_helo

    @lazily
    def allowing(self) -> tuple[Listed, ...]:
        """Return the entries of the allowlist that hold for this mail.

        An entry for the sender does not hold where SPF says that somebody else wrote the sender.
        """
        found = (*self.client_listed, *self.login_listed, *self.sender_listed)
        return tuple(one for one in found if one.match.listing is Listing.ALLOW)

    @lazily
    def posters(self) -> tuple[str, ...]:
        """Return who wrote this mail as far as it is said or proved, for a category's rules.

        The author counts where he is the only one and DMARC passed for his domain, and the
        envelope sender unless SPF says that somebody else wrote it.
        """
        results, login = self.given.authentication, self.session.login
        dmarc = None if results is None else results.dmarc
        proved = dmarc.domain if dmarc is not None and dmarc.result is Result.PASS else ""
        authors_domains = [domain_of(author) for author in self.authors]
        found = (
            *((self.envelope.sender,) if self.envelope.sender and not self.is_forged else ()),
            *((login,) if login is not None and "@" in login else ()),
            *(self.authors if proved and authors_domains == [proved] else ()),
        )
        return tuple(dict.fromkeys(map(lookup_address, found)))

    def _listed(
        self, where: str, addresses: tuple[str, ...], listings: tuple[Listing, ...]
    ) -> tuple[Listed, ...]:
        now_s, find = self.given.now_s, self.policy.lists.find_address
        found = ((one, find(one, now_s, listings)) for one in addresses if "@" in one)
        return tuple(Listed(where, match, address) for address, match in found if match)
