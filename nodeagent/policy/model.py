"""The words of the policy hook: what is judged, and what is decided; both doors speak in them.

Theory of operation. A door turns what an MTA says into a `Session`, an `Envelope` and, at the end
of the message, a `Message`. The engine gives one `Decision` for each `Stage`. The door turns that
into the MTA's own words. Nothing here knows a wire format, a clock or a file.

Texts that came from a stranger keep every byte: they are UTF-8, and bytes that are not are kept as
surrogates ("surrogateescape"). Who matches or shows such a text replaces them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple

NULL_SENDER: Final = ""


class Stage(StrEnum):
    """When the MTA asks; DATA is the end of the message."""

    CONNECT = "connect"
    EHLO = "ehlo"
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"


class Verdict(StrEnum):
    """What becomes of the session (CONNECT, EHLO, AUTH), the recipient (RCPT) or the message."""

    ACCEPT = "accept"
    REJECT = "reject"
    TEMPFAIL = "tempfail"
    DISCARD = "discard"
    QUARANTINE = "quarantine"


STRENGTH: Final = (
    Verdict.ACCEPT,
    Verdict.QUARANTINE,
    Verdict.DISCARD,
    Verdict.TEMPFAIL,
    Verdict.REJECT,
)
"""Where several rules fire, the verdict that stands last here is taken."""


class Severity(StrEnum):
    """How bad a match is, mildest first."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class RuleKind(StrEnum):
    """Which part of the engine fired."""

    ALLOWLIST = "allowlist"
    BLOCKLIST = "blocklist"
    BADWORD = "badword"
    THREAT = "threat"
    ATTACHMENT = "attachment"
    RATE = "rate"
    HELO = "helo"
    SENDER = "sender"
    RECIPIENT = "recipient"
    AUTHENTICATION = "authentication"  # SPF, DKIM, DMARC
    CATEGORY = "category"
    PLUGIN = "plugin"
    FAULT = "fault"  # the hook itself could not judge


@dataclass(frozen=True)
class Client:
    """Who is connected; `ip` is None when the MTA does not say (a UNIX socket, a local pickup)."""

    ip: IPv4Address | IPv6Address | None = None
    port: int = 0
    name: str | None = None  # as the MTA verified it in the DNS


@dataclass(frozen=True)
class Session:
    """One SMTP session as far as it has come."""

    client: Client = Client()
    helo: str | None = None
    login: str | None = None  # SASL user
    is_encrypted: bool = False


@dataclass(frozen=True)
class Envelope:
    """Who the mail is from and to; addresses without angle brackets, as the client wrote them."""

    sender: str | None = None  # NULL_SENDER: a bounce; None: no MAIL yet
    recipients: tuple[str, ...] = ()  # at RCPT: those accepted so far, and the current one last


class Header(NamedTuple):
    """One header field; `value` is all behind the colon: folds as CR LF, no line end."""

    name: str
    value: str


@dataclass(frozen=True)
class Message:
    """A message at its end; `body` is cut off at the policy's limit, `size_bytes` is not."""

    headers: tuple[Header, ...] = ()
    body: bytes = b""
    size_bytes: int = 0
    queue_id: str | None = None  # the MTA's

    @property
    def is_whole(self) -> bool:
        """Tell whether nothing was cut off."""
        return len(self.body) >= self.size_bytes


@dataclass(frozen=True)
class Reply:
    """An SMTP reply: RFC 5321 code, RFC 3463 enhanced code, one line of printable ASCII."""

    code: int
    enhanced: str
    text: str


@dataclass(frozen=True)
class AddHeader:
    """Put a header below all others."""

    name: str
    value: str


@dataclass(frozen=True)
class ChangeHeader:
    """Replace the `index`th header of that name, from 1; an empty value deletes it."""

    name: str
    index: int
    value: str


@dataclass(frozen=True)
class AddRecipient:
    """Deliver to this address, too."""

    address: str


@dataclass(frozen=True)
class DeleteRecipient:
    """Do not deliver to this address."""

    address: str


@dataclass(frozen=True)
class ChangeSender:
    """Replace the envelope sender."""

    address: str


Change = AddHeader | ChangeHeader | AddRecipient | DeleteRecipient | ChangeSender
"""What an accepted or quarantined message is given on its way; only at DATA."""


@dataclass(frozen=True)
class Fired:
    """One rule that matched; `text` says why in a sentence that names no address and no subject."""

    kind: RuleKind
    rule: str  # "badword:17", "threat:sql-union": unique in the policy
    text: str
    verdict: Verdict = Verdict.ACCEPT  # what this rule alone would have done
    severity: Severity | None = None
    score: float = 0.0
    matched: str | None = None  # what of the mail it matched: personal, so it may be redacted


@dataclass(frozen=True)
class Decision:
    """What the engine decided; `reply` is given with REJECT and TEMPFAIL and then only."""

    verdict: Verdict = Verdict.ACCEPT
    reply: Reply | None = None
    changes: tuple[Change, ...] = ()
    fired: tuple[Fired, ...] = ()


ACCEPT: Final = Decision()
