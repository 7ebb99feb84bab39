"""The policy as it travels from the control plane to the nodes: settings, and sections of entries.

Theory of operation. The settings are one small JSON document. Everything that may be long stands in
sections: JSON lines, one entry a line, packed by gzip, each named by the SHA-256 of its plain text.
A section never changes: an edit gives one section a new name, and a node fetches only the names
that it does not have. Entries of the lists keep their place by their number (`list_section`), so
one edit among a million touches one section of at most `ENTRIES_A_SECTION`.

What a user typed in is checked before it gets here (`nodeagent.policy.engine.checked_entries`), but
a node compiles into what it can and reports what it cannot.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field, StringConstraints

from nodeagent.core.contract import Wire
from nodeagent.policy.model import Severity, Stage, Verdict

ENTRIES_A_SECTION: Final = 65_536
INSPECTED_BYTES: Final = 4 * 1024 * 1024
SHA256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
EntryId = Annotated[int, Field(ge=1, lt=2**53)]
Value = Annotated[str, StringConstraints(min_length=1, max_length=320)]
Text = Annotated[str, StringConstraints(max_length=500)]


class Privacy(StrEnum):
    """What of addresses, subjects and IPs a log line may carry when it leaves the node."""

    FULL = "full"
    PSEUDONYMOUS = "pseudonymous"  # a keyed hash in their place: the same one for the same value
    REDACTED = "redacted"  # nothing in their place


class Listing(StrEnum):
    """Which list an entry is on; the allowlist wins."""

    BLOCK = "block"
    ALLOW = "allow"


class ListEntry(Wire):
    """One entry of block- or allowlist.

    `value` is an IP address, a CIDR network, "example.com", "*.example.com" (its subdomains, not
    itself), "user@example.com" or "*@example.com"; in lower case, domains in A-labels.
    """

    id: EntryId
    listing: Listing = Listing.BLOCK
    value: Value
    reason: Text = ""
    expires_at: float | None = None  # seconds since 1970, by the control plane's clock


class BadwordCategory(StrEnum):
    """What a bad word stands for."""

    SPAM = "spam"
    ADULT = "adult"
    PHISHING = "phishing"
    MALWARE = "malware"
    CUSTOM = "custom"


class Badword(Wire):
    """A word or phrase (found between word boundaries, in any case), or a regular expression."""

    id: EntryId
    pattern: Annotated[str, StringConstraints(min_length=1, max_length=1000)]
    is_regex: bool = False  # RE2's syntax, any case
    severity: Severity = Severity.MEDIUM
    category: BadwordCategory = BadwordCategory.CUSTOM
    is_enabled: bool = True


class RateSubject(StrEnum):
    """Whose mails are counted."""

    CLIENT = "client"  # the address; IPv6 by its /64
    SENDER = "sender"
    LOGIN = "login"
    RECIPIENT_DOMAIN = "recipient-domain"


class RateWindow(StrEnum):
    """How long back it is counted."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"


class RateRule(Wire):
    """At most `limit` messages (recipients, for RECIPIENT_DOMAIN) in any window of this length."""

    id: EntryId
    subject: RateSubject
    window: RateWindow
    limit: int = Field(ge=1, lt=2**31)
    verdict: Verdict = Verdict.TEMPFAIL
    is_enabled: bool = True


class ThreatSetting(Wire):
    """What an administrator set for one of the built-in threat rules, by its name."""

    rule: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,60}$")]
    is_enabled: bool = True
    score: float | None = Field(default=None, ge=0, le=1000)  # None: the rule's own


class Posting(StrEnum):
    """Who may write to a category."""

    SUBSCRIBERS = "subscribers"
    ALLOWED = "allowed"  # the category's `allowed_senders` alone
    ANYBODY = "anybody"


class Category(Wire):
    """An address that stands for its subscribers."""

    id: EntryId
    address: Value  # "news@example.com", in lower case
    name: Annotated[str, StringConstraints(max_length=100)] = ""
    posting: Posting = Posting.SUBSCRIBERS
    allowed_senders: tuple[Value, ...] = Field(default=(), max_length=1000)  # always may post
    is_enabled: bool = True


class Subscription(Wire):
    """One address that gets (and may write) what comes to a category."""

    id: EntryId
    category: EntryId
    address: Value
    token: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{16,64}$")]  # to unsubscribe


class SectionKind(StrEnum):
    """What a section's lines are."""

    LIST = "list"  # ListEntry
    BADWORDS = "badwords"  # Badword
    RATES = "rates"  # RateRule
    THREATS = "threats"  # ThreatSetting
    CATEGORIES = "categories"  # Category
    SUBSCRIPTIONS = "subscriptions"  # Subscription


class Section(Wire):
    """One section of a policy; `number` tells those of a kind apart."""

    kind: SectionKind
    number: int = Field(default=0, ge=0, lt=2**20)
    sha256: SHA256
    entries: int = Field(ge=0, le=ENTRIES_A_SECTION)


def list_section(entry_id: int) -> int:
    """Return the number of the section that the entry with this id stands in."""
    return entry_id // ENTRIES_A_SECTION


class FaultAction(StrEnum):
    """What is done with mail that cannot be judged."""

    ACCEPT = "accept"
    REJECT = "reject"
    TEMPFAIL = "tempfail"
    QUARANTINE = "quarantine"


class HttpDoor(Wire):
    """The MTA hook over HTTP; without credentials it is closed."""

    is_enabled: bool = False
    address: Annotated[str, StringConstraints(max_length=45)] = "127.0.0.1"
    port: int = Field(default=3002, ge=1, le=65_535)
    stages: tuple[Stage, ...] = tuple(Stage)
    username: Annotated[str, StringConstraints(max_length=100)] | None = None  # Basic
    password_sha256: SHA256 | None = None  # of long random secrets that we make, never a user's
    token_sha256: SHA256 | None = None  # Bearer
    header_name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,60}$")] | None = None
    header_sha256: SHA256 | None = None  # of that header's value
    on_timeout: FaultAction = FaultAction.TEMPFAIL
    on_invalid: FaultAction = FaultAction.TEMPFAIL
    on_fault: FaultAction = FaultAction.TEMPFAIL


class SenderChecks(Wire):
    """HELO, sender and recipient checks, each by itself; REJECT where it fires.

    Trusted networks and logins are spared the HELO checks and `sender_is_not_ours`.
    """

    helo_is_valid: bool = True  # a host name or an address literal (RFC 5321, 4.1.3)
    helo_is_not_ours: bool = True  # no stranger is called as our own domains or nodes
    helo_is_qualified: bool = False  # has a dot
    sender_is_valid: bool = True  # an address with a domain; <> always is
    sender_is_not_ours: bool = False  # mail from our domains comes from trusted networks or logins
    recipient_is_valid: bool = True
    most_recipients: int = Field(default=1000, ge=1, le=100_000)
    null_sender_one_recipient: bool = False  # a bounce has one recipient


class AuthenticationCheck(Wire):
    """What one of SPF, DKIM and DMARC does when it says "fail"; trusted clients are not asked."""

    is_enabled: bool = False
    on_fail: Verdict = Verdict.ACCEPT  # ACCEPT: only noted in the headers


class PolicySettings(Wire):
    """Everything that is no list."""

    is_active: bool = False
    privacy: Privacy = Privacy.REDACTED
    stages: tuple[Stage, ...] = tuple(Stage)  # at which the milter judges
    trusted_skip_content: bool = False  # does not look into mail of trusted networks, logins
    trusted_networks: tuple[Value, ...] = ()  # the cluster's
    own_domains: tuple[Value, ...] = ()  # the cluster's recipient domains, ".x" for subdomains
    own_names: tuple[Value, ...] = ()  # host names of the nodes
    low: Verdict = Verdict.ACCEPT  # what a bad word of this severity does
    medium: Verdict = Verdict.QUARANTINE
    high: Verdict = Verdict.REJECT
    critical: Verdict = Verdict.REJECT
    has_threats: bool = True
    threat_quarantine_score: float = Field(default=5.0, gt=0, le=1000)
    threat_reject_score: float = Field(default=10.0, gt=0, le=1000)
    blocked_extensions: tuple[Annotated[str, StringConstraints(max_length=20)], ...] = (
        *("bat", "chm", "cmd", "com", "cpl", "exe", "hta", "iso", "jar", "js", "jse", "lnk"),
        *("msc", "msi", "ps1", "reg", "scr", "vbe", "vbs", "vhd", "wsf", "wsh"),
    )
    blocks_disguised: bool = True  # a program or shortcut under the name of something else
    blocks_encrypted: bool = False  # archives that hide their content from scanners
    attachment_verdict: Verdict = Verdict.REJECT
    rate_exempt: tuple[Value, ...] = ()  # addresses, "*@domain" and networks that are not limited
    checks: SenderChecks = SenderChecks()
    spf: AuthenticationCheck = AuthenticationCheck()
    dkim: AuthenticationCheck = AuthenticationCheck()
    dmarc: AuthenticationCheck = AuthenticationCheck()
    adds_headers: bool = True  # X-Relay-Policy and Authentication-Results
    unsubscribe_url: Annotated[str, StringConstraints(max_length=300)] | None = None
    pseudonym_key: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = None
    inspected_bytes: int = Field(default=INSPECTED_BYTES, ge=65_536, le=64 * 1024 * 1024)
    decision_timeout_s: float = Field(default=10.0, gt=0, le=60)
    http: HttpDoor = HttpDoor()

    def verdict_of(self, severity: Severity) -> Verdict:
        """Return what a match of this severity does."""
        return {
            Severity.LOW: self.low,
            Severity.MEDIUM: self.medium,
            Severity.HIGH: self.high,
            Severity.CRITICAL: self.critical,
        }[severity]


class Manifest(Wire):
    """One whole policy; `revision` rises with every edit of any kind."""

    revision: int = Field(ge=0, lt=2**53)
    settings: PolicySettings = PolicySettings()
    sections: tuple[Section, ...] = ()
