"""Who wrote a mail: the one reader of From, for lists, categories, DMARC and threat rules alike.

Theory of operation. Comments (RFC 5322, 3.2.2) and quoted names may hold anything, also what looks
like an address, so both are left out before anything is looked for. Where angle brackets follow,
they hold the address and the words before them are a name. A From that is none, for a comment or a
quoted string never ends, names whoever may be meant: two readers would see two authors.

Nearly every From is `Name <a@b.example>` and is read in one step. The others take a step for each
of their quotes, parentheses and backslashes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from nodeagent.policy.model import Header

MOST_FROM_CHARS: Final = 4096
MOST_AUTHORS: Final = 20

_ATOM: Final = r'[^\s"()<>,;:@\\]++'
_PLAIN: Final = re.compile(
    rf'\s*+(?:(?:"[^"\\]*+"\s*+|[^"()<>,;:\\]*+)<({_ATOM}@{_ATOM})>|({_ATOM}@{_ATOM}))\s*+'
)
_PIECE: Final = re.compile(r'[^"()\\]++|["()]|\\.?', re.DOTALL)
_NO_LOCAL_PART: Final = re.compile(r'[\s<>()",;:@\[\]\\]|^\.|\.$')
# Its end may fail half-way, so it is not repeated possessively (gh-106052, before Python 3.11.5).
_MAILBOX: Final = re.compile(r"((?:[^<>,;:\[]|\[[^<>,;\]]*+\]?)*+)(?:<([^<>]*+)>)?")
_JOINTS: Final = re.compile(r" ?([@.]) ?")
_AROUND_ADDRESSES: Final = re.compile(r'[\s<>()",;:]+')


def authors(headers: Iterable[Header]) -> tuple[str, ...]:
    """Return the addresses in From as far as they can be made out, at most `MOST_AUTHORS`.

    Of all From headers together `MOST_FROM_CHARS` are read: there should be one.
    """
    found: list[str] = []
    left = MOST_FROM_CHARS
    for name, value in headers:
        if left > 0 and name.strip().lower() == "from":
            found += addresses_in(value[:left])
            left -= len(value)
    return tuple(found[:MOST_AUTHORS])


def addresses_in(value: str) -> list[str]:
    """Return the addresses that one From names; each has an "@" and no white space."""
    plain = _PLAIN.fullmatch(value)
    if plain is not None:
        return [plain[1] or plain[2]]
    text = _without_noise(value)
    if text is None:
        return [one for one in _AROUND_ADDRESSES.split(value) if "@" in one]
    found: list[str] = []
    for words, inside in _MAILBOX.findall(text):
        meant = inside if "@" in inside else words
        if "@" in meant:
            joined = _JOINTS.sub(r"\1", " ".join(meant.split()))
            found += [one for one in joined.split(" ") if "@" in one]
    return found


def _without_noise(value: str) -> str | None:
    """Return a From without comments and quoted names; None where one of them never ends.

    A quoted local part (RFC 5322, 3.2.4) stays where it could have been without quotes.
    """
    kept: list[str] = []
    depth, quoted = 0, None
    for piece in _PIECE.findall(value):
        if quoted is not None:
            if piece == '"':
                kept.append(" " if _NO_LOCAL_PART.search(quoted) else f" {quoted} ")
                quoted = None
            else:
                quoted += piece[1:] if piece[0] == "\\" else piece
        elif piece == "(":
            depth += 1
        elif piece == ")":
            depth = max(depth - 1, 0)
            kept.append(" ")
        elif depth:
            continue
        elif piece == '"':
            quoted = ""
        else:
            kept.append(piece)
    return None if depth or quoted is not None else "".join(kept)
