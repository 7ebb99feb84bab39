"""The signs of a threat that take more than a pattern: what links lead to, who a form is sent to.

Each takes the evidence of one mail and returns what it found there, None for nothing.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Callable
from typing import Final

from nodeagent.policy.engine.content import ContentFault, Kind
from nodeagent.policy.engine.mime_text import MOST_HEADER_CHARS, decode_words
from nodeagent.policy.engine.threat_evidence import Evidence, host_of, registered_domain, source_of


def has_script(evidence: Evidence) -> str | None:
    """Return the beginning of the first script."""
    return next(iter(evidence.scripts), None)


def password_form(evidence: Evidence) -> str | None:
    """Return where a form that asks for a password is sent to, if that is not the sender's."""
    if not evidence.form_hosts or not any(map(_asks_for_password, evidence.markups)):
        return None
    own = evidence.sender_domain
    foreign = [host for host in evidence.form_hosts if host and registered_domain(host) != own]
    return foreign[0] if foreign else None


def _asks_for_password(markup: str) -> bool:
    """Tell whether the markup has a field for a password."""
    if "password" not in markup.lower():
        return False
    return any(_PASSWORD_TYPE.search(field[1]) for field in _INPUT.finditer(markup))


_INPUT: Final = re.compile(r"<[iI][nN][pP][uU][tT](?=[\s/])([^>]*+)>")
_PASSWORD_TYPE: Final = re.compile(r"(?i)\btype\s{0,9}=\s{0,9}[\"']?password")
_ACCOUNT: Final = re.compile(
    r"(?i)account|anmeld|auth|bank|billing|confirm|konto|log-?in|pay|secur|sign-?in|unlock|verif"
)


_FRAME: Final = re.compile(r"<[iI]?[fF][rR][aA][mM][eE](?=[\s/])([^>]*+)>")
_NO_BOX: Final = re.compile(
    r"(?i)\b(?:width|height)\s{0,9}=\s{0,9}[\"']?[01](?:px)?(?=[\"'\s/]|$)"
    r"|display\s{0,9}:\s{0,9}none|visibility\s{0,9}:\s{0,9}hidden"
)
_COUNTING_FRAMES: Final = frozenset({"doubleclick.net", "facebook.com", "googletagmanager.com"})


def hidden_frame(evidence: Evidence) -> str | None:
    """Return what a frame that nobody sees loads, but for the counters of the web."""
    for markup in evidence.markups:
        for frame in _FRAME.finditer(markup):
            if _NO_BOX.search(frame[1]) and (source := source_of(frame[1])):
                host = host_of(source)
                if registered_domain(host) not in _COUNTING_FRAMES:
                    return source
    return None


def mismatch(evidence: Evidence) -> str | None:
    """Return the first link that shows an address of another domain."""
    return next(iter(evidence.mismatches), None)


def account_mismatch(evidence: Evidence) -> str | None:
    """Return a link that shows where to log in, and leads elsewhere."""
    found = (one for one in evidence.mismatches if _ACCOUNT.search(one.partition(" -> ")[0]))
    return next(found, None)


def public_address(evidence: Evidence) -> str | None:
    """Return a link to an IP address that the whole internet can reach."""
    for host, href in evidence.hosts.items():
        if not host[-1:].isdigit() and not host.startswith("["):
            continue
        try:
            address = ipaddress.ip_address(host.strip("[]"))
        except ValueError:
            continue
        if not (address.is_private or address.is_loopback or address.is_link_local):
            return href
    return None


_LOOKALIKES: Final = {
    **dict.fromkeys("асԁеһіјӏорԛѕԝхуүѵмтнвкгпьч", "Cyrillic"),
    **dict.fromkeys("αγικνορτυωχεβηπ", "Greek"),
    **dict.fromkeys("ɑɡıɩɴʀʏꞌꜱʟ", "Latin"),
}
_STRANGE: Final = re.compile(r"[^\x00-\x7f]")


def lookalike(evidence: Evidence) -> str | None:
    """Return a link to a domain that mixes alphabets, or is made of letters that look Latin."""
    for host, href in evidence.hosts.items():
        if "xn--" not in host and host.isascii():
            continue
        if any(_is_lookalike(_u_label(label)) for label in host.split(".")):
            return href
    return None


def _u_label(label: str) -> str:
    """Return a label of a domain as readers see it; of RFC 1035's length at most."""
    if not label.startswith("xn--") or len(label) > _LONGEST_LABEL:
        return label[:_LONGEST_LABEL]
    try:
        return label[4:].encode("ascii").decode("punycode")
    except UnicodeError:
        return label


_LONGEST_LABEL: Final = 63


def _is_lookalike(label: str) -> bool:
    """Tell whether its letters that are not ASCII pass for ASCII ones."""
    strange = _STRANGE.findall(unicodedata.normalize("NFC", label))
    if not strange:
        return False
    scripts = {_LOOKALIKES.get(one) for one in strange}
    has_latin = any("a" <= one <= "z" for one in label)
    if None not in scripts:
        return True
    names = {unicodedata.name(one, "").partition(" ")[0] for one in strange}
    return has_latin and not names.isdisjoint({"CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE"})


_LINE_ENDS: Final = re.compile(r"[\r\n]\s{0,9}[A-Za-z][A-Za-z-]{1,40}\s{0,3}:")


def decoded_header(evidence: Evidence) -> str | None:
    """Return a header whose encoded words hide a line end and another header.

    Of all headers together so much is decoded as of one header elsewhere.
    """
    left = MOST_HEADER_CHARS
    for _name, value in evidence.content.headers:
        if "=?" not in value:
            continue
        if found := _LINE_ENDS.search(decode_words(value[:left])):
            return found[0].strip()
        left -= len(value)
        if left <= 0:
            break
    return None


_ONLY_ONCE: Final = frozenset({"from", "sender", "subject", "date", "message-id", "reply-to"})


def doubled_header(evidence: Evidence) -> str | None:
    """Return the name of a header that may stand once (RFC 5322, 3.6) and does not."""
    seen: set[str] = set()
    for name, _value in evidence.content.headers:
        lower = name.lower()
        if lower in _ONLY_ONCE and lower in seen:
            return name
        seen.add(lower)
    return None


_SHOWN_ADDRESS: Final = re.compile(
    r"^[^<]*?[\w.+-]{1,64}@((?:[\w-]{1,63}\.){1,8}[A-Za-z]{2,24})\b[^<]*<"
)


def other_address(evidence: Evidence) -> str | None:
    """Return a From header whose name is an address of another domain."""
    value = evidence.header("from")
    found = _SHOWN_ADDRESS.match(value[:400])
    if found is None or " via " in value.lower():
        return None
    shown = registered_domain(found[1].lower())
    return value if shown != evidence.sender_domain else None


_PASSWORD: Final = re.compile(
    r"(?i)\b(?:passwor[dt]|passcode|kennwort|contraseña|mot de passe|пароль)\s{0,9}"
    r"(?:is|ist|lautet|=|:|-)\s{0,9}[\"'«„]?(\S{3,30})"
)


def given_password(evidence: Evidence) -> str | None:
    """Return the password of an encrypted archive that stands in the same mail."""
    if not any(one.is_encrypted for one in evidence.content.attachments):
        return None
    for text in evidence.content.texts:
        if found := _PASSWORD.search(text):
            return found[0]
    return None


def script_file(evidence: Evidence) -> str | None:
    """Return the name of an attached HTML file, where the mail has scripts as well."""
    if not evidence.scripts:
        return None
    for one in evidence.content.attachments:
        if one.kind is Kind.HTML or one.name.lower().endswith((".htm", ".html", ".svg", ".xhtml")):
            return one.name
    return None


def has_fault(*faults: ContentFault) -> Callable[[Evidence], str | None]:
    """Return a sign that is there when the mail has one of the faults."""

    def sign(evidence: Evidence) -> str | None:
        return next((one.value for one in faults if one in evidence.content.faults), None)

    return sign
