"""What the threat rules look at, taken out of a mail once: links, scripts, URLs, headers, names.

Everything is bounded and linear: at most `MOST_LINKS` links and scripts, and every pattern here
either matches or fails within the distance to the next ">" of the markup, which is cut behind the
last one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, NamedTuple

from nodeagent.policy.engine.authors import MOST_FROM_CHARS, addresses_in
from nodeagent.policy.engine.content import Content
from nodeagent.policy.engine.html_text import decode_entities, visible_text
from nodeagent.policy.engine.lazily import lazily
from nodeagent.policy.engine.mime_text import decode_words, whole_unicode

MOST_LINKS: Final = 500
MOST_URLS: Final = 1000
_MOST_SHOWN_CHARS: Final = 400
_MOST_URL_CHARS: Final = 2000
_MOST_SCRIPT_CHARS: Final = 256 * 1024
_ANCHOR: Final = re.compile(r"<[aA](?=[\s/])([^>]*+)>")
_FORM: Final = re.compile(r"<[fF][oO][rR][mM](?=[\s/>])([^>]*+)>")
_SCRIPT: Final = re.compile(r"<[sS][cC][rR][iI][pP][tT](?=[\s/>])([^>]*+)>")
_SCRIPT_END: Final = re.compile(r"</[sS][cC][rR][iI][pP][tT]")
_HREF: Final = re.compile(r"(?i)\bhref\s{0,9}=\s{0,9}(?:\"([^\"]*+)|'([^']*+)|([^\s\"'>]++))")
_ACTION: Final = re.compile(r"(?i)\baction\s{0,9}=\s{0,9}(?:\"([^\"]*+)|'([^']*+)|([^\s\"'>]++))")
_SRC: Final = re.compile(r"(?i)\bsrc\s{0,9}=\s{0,9}(?:\"([^\"]*+)|'([^']*+)|([^\s\"'>]++))")
_TYPE: Final = re.compile(r"(?i)\b(?:type|language)\s{0,9}=\s{0,9}[\"']?([a-z0-9/+.-]{1,60}+)")
_URL: Final = re.compile(r"https?://[^\s<>\"'\]]++")
_SCRIPT_TYPES: Final = ("javascript", "ecmascript", "jscript", "module", "vbs")
_HOST: Final = re.compile(
    r"(?:[A-Za-z][A-Za-z0-9+.-]*+:)?//((?:[^/?#\\@]*+@)*(?:\[[^\]]*+\]|[^/?#\\:@]*+))"
)
_SHOWN_HOST: Final = re.compile(
    r"(?i)^(?:(https?)://)?((?:[a-z0-9\u0080-\uffff-]{1,63}\.){1,8}[a-z]{2,24})(?=[/?#:\s]|$)"
)
_NO_DOMAINS: Final = frozenset(  # endings of file names that a link's text may well be
    {"asp", "bat", "css", "doc", "exe", "gz", "htm", "html", "js", "json", "pdf", "php", "png"}
)
_GO_BETWEENS: Final = frozenset(
    (  # they put themselves into links that others wrote
        *(
            "awstrack.me",
            "cisco.com",
            "cudasvc.com",
            "google.com",
            "hubspotlinks.com",
            "list-manage.com",
        ),
        *("mailgun.org", "mandrillapp.com", "mimecast.com", "mimecastprotect.com", "outlook.com"),
        *(
            "proofpoint.com",
            "rs6.net",
            "sendgrid.net",
            "sophos.com",
            "symantec.com",
            "trendmicro.com",
        ),
        *("urldefense.com",),
    )
)
_SPACES: Final = re.compile(r"[\x00-\x20]+")
_SECOND_LEVELS: Final = frozenset({"ac", "co", "com", "edu", "gov", "gv", "net", "ne", "or", "org"})
_COUNTRY: Final = 2


class Link(NamedTuple):
    """One <a>: where it leads (entities decoded, no white space), and what the reader sees."""

    href: str
    host: str  # in lower case, "" for none
    shown: str  # where that has a dot, as addresses do


@dataclass(frozen=True)
class Evidence:
    """One mail, as the rules look at it; each part is worked out when it is first asked for."""

    content: Content

    @lazily
    def headers(self) -> str:
        """Return all headers as they came, a line each."""
        lines = (f"{name}:{value.replace(_CRLF, ' ')}" for name, value in self.content.headers)
        return whole_unicode("\n".join(lines))

    @lazily
    def markups(self) -> tuple[str, ...]:
        """Return the markup, each cut behind its last tag."""
        return tuple(one[: one.rfind(">") + 1] for one in self.content.markups)

    @lazily
    def links(self) -> tuple[Link, ...]:
        """Return the links of all markup."""
        return tuple(_links(self.markups))

    @lazily
    def hosts(self) -> dict[str, str]:
        """Return each host that links lead to, and the first link there."""
        return {link.host: link.href for link in reversed(self.links) if link.host}

    @lazily
    def mismatches(self) -> tuple[str, ...]:
        """Return the links that show an address of another domain than they lead to.

        An address of the sender's own domain is no sign: who counts clicks leaves it as it was.
        """
        found: list[str] = []
        for link in self.links:
            shown = _SHOWN_HOST.match(link.shown) if "." in link.shown and link.host else None
            if shown is None:
                continue
            host = shown[2].lower()
            if host.rpartition(".")[2] in _NO_DOMAINS and not shown[1]:
                continue
            leads_to = registered_domain(link.host)
            if registered_domain(host) not in {leads_to, self.sender_domain} and (
                leads_to not in _GO_BETWEENS
            ):
                found.append(f"{link.shown} -> {link.host}")
        return tuple(found)

    @lazily
    def form_hosts(self) -> tuple[str, ...]:
        """Return the host ("" for none) that each form is sent to."""
        found: list[str] = []
        for markup in self.markups:
            if "<f" not in markup and "<F" not in markup:
                continue
            for form, _ in zip(_FORM.finditer(markup), range(MOST_LINKS), strict=False):
                found.append(host_of(_attribute(_ACTION, form[1])))
        return tuple(found)

    @lazily
    def scripts(self) -> tuple[str, ...]:
        """Return the text of the elements that a browser runs (not, say, application/ld+json)."""
        found: list[str] = []
        for markup in self.markups:
            found.extend(_scripts(markup))
        return tuple(found)

    @lazily
    def urls(self) -> str:
        """Return the addresses of all links and those in the texts, a line each."""
        found = dict.fromkeys(link.href for link in self.links)
        for text in self.content.texts:
            if "http" in text:
                for url, _ in zip(_URL.finditer(text), range(MOST_URLS), strict=False):
                    found[url[0][:_MOST_URL_CHARS]] = None
        return "\n".join(found)

    @lazily
    def names(self) -> str:
        """Return the names of all attachments and of what is in archives, a line each."""
        names = [name for one in self.content.attachments for name in (one.name, *one.inner_names)]
        return "\n".join(names)

    @lazily
    def sender_domain(self) -> str:
        """Return the registered domain of the From header, "" for none."""
        for name, value in self.content.headers:
            if name.lower() == "from":
                found = addresses_in(value[:MOST_FROM_CHARS])[-1:]
                domain = "".join(found).rpartition("@")[2]
                return registered_domain(whole_unicode(domain).lower())
        return ""

    def header(self, name: str) -> str:
        """Return the first header of that name (in lower case), decoded."""
        values = (value for key, value in self.content.headers if key.lower() == name)
        return decode_words(next(values, ""))


_CRLF: Final = "\r\n"


def _attribute(pattern: re.Pattern[str], attributes: str) -> str:
    """Return an attribute's value as a browser takes it for an address."""
    found = pattern.search(attributes)
    return _address(found[found.lastindex or 0]) if found else ""


def _href(attributes: str) -> str:
    """Return where an <a> leads; nearly all are written in the first of these ways."""
    start = attributes.find(' href="')
    end = attributes.find('"', start + 7) if start >= 0 else -1
    return _address(attributes[start + 7 : end]) if end >= 0 else _attribute(_HREF, attributes)


def _address(value: str) -> str:
    """Return an address from markup with its entities decoded, without white space."""
    value = value[:_MOST_URL_CHARS]
    if "&" in value:
        is_common = value.count("&") == value.count("&amp;")
        value = value.replace("&amp;", "&") if is_common else decode_entities(value)
    return value if value.isprintable() and " " not in value else _SPACES.sub("", value)


def _links(markups: tuple[str, ...]) -> list[Link]:
    """Return the links, with what is shown where that might be an address."""
    found: list[Link] = []
    for markup in markups:
        for anchor in _ANCHOR.finditer(markup) if "<a" in markup or "<A" in markup else ():
            if len(found) >= MOST_LINKS:
                return found
            start = anchor.end()
            end = markup.find("</a", start, start + _MOST_SHOWN_CHARS)
            if end < 0:
                end = markup.find("</A", start, start + _MOST_SHOWN_CHARS)
            inner = markup[start:end] if end >= 0 else ""
            href = _href(anchor[1])
            found.append(Link(href, host_of(href), visible_text(inner) if "." in inner else ""))
    return found


def _scripts(markup: str) -> list[str]:
    """Return what the script elements of one markup hold."""
    found: list[str] = []
    opened = _SCRIPT.search(markup)
    while opened is not None and len(found) < MOST_LINKS:
        closed = _SCRIPT_END.search(markup, opened.end())
        end = closed.start() if closed else len(markup)
        kind = _TYPE.search(opened[1])
        if kind is None or any(one in kind[1].lower() for one in _SCRIPT_TYPES):
            start = opened.end()
            code = markup[start : min(end, start + _MOST_SCRIPT_CHARS)]
            found.append(f"{opened[1]}\n{code}")
        opened = _SCRIPT.search(markup, end)
    return found


def source_of(attributes: str) -> str:
    """Return the address that an element loads, "" for none."""
    return _attribute(_SRC, attributes)


def host_of(url: str) -> str:
    """Return a URL's host in lower case, "" where it has none."""
    found = _HOST.match(url)
    return found[1].rpartition("@")[2].rstrip(".").lower() if found else ""


def registered_domain(host: str) -> str:
    """Return what somebody registered, near enough: two labels, three in "example.co.uk"."""
    labels = host.rsplit(".", 3)
    if len(labels) > _COUNTRY and len(labels[-1]) == _COUNTRY and labels[-2] in _SECOND_LEVELS:
        return ".".join(labels[-3:])
    return ".".join(labels[-2:])
